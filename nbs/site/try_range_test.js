// Chapter 03: a rate to drag along a range test, its smoothing, and the test accuracy at the nearest recorded peak. checks/tries/range_test.py makes the data.
"use strict";
Book.attempt("range_test", {still: "fig-full-size"}, (box, data, redraw) => {
  const {make, drawn, firm, axes, percents, slider, choice, stage, mark} = Book, shares = [0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1];
  const three = v => `${+v.toPrecision(3)}`, mean = values => values.reduce((a, b) => a + b) / values.length, lowest = v => v.indexOf(Math.min(...v));
  let set = data.sets[0], test = set.tests[0], f = 0.05, rate = 0;

  function smooth(raw) {
    const found = [raw[0]];
    for (const loss of raw.slice(1)) found.push(f * loss + (1 - f) * found.at(-1));
    return found;
  }
  // As `suggest_lr` of this chapter: the steps of nine tenths of the fall and of its steepest point, or why there are none.
  function read(losses) {
    const after = losses.slice(10), low = lowest(after), fall = after.slice(0, low + 1);
    if (!(after[low] < 0.99 * after[0])) return {none: "the curve has no clear fall"};
    if (low === after.length - 1) return {none: "the curve still falls at its highest rate"};
    const slope = fall.map((v, k) => k === 0 ? fall[1] - v : k === low ? v - fall[k - 1] : (fall[k + 1] - fall[k - 1]) / 2);
    return {tenths: 10 + fall.findIndex(v => v <= fall[0] - 0.9 * (fall[0] - fall[low])), steepest: 10 + lowest(slope)};
  }
  const svg = drawn("svg", {role: "img"}), below = drawn("svg", {role: "img"}), curve = stage(svg), trained = stage(below), said = make("div", "try-said"), key = make("p", "try-quiet");
  const move = k => { rate = test.lrs[k]; show(); };
  const knob = curve.handle({name: "Your rate", values: test.lrs, words: three}, move), again = trained.handle({name: "Your rate, as a peak", values: test.lrs, words: three}, move);
  again.classList.add("grip");
  curve.style.margin = "10px 0 26px";  // names above, and the row of marks below

  function show() {
    const losses = smooth(test.raw), found = read(losses), at = test.lrs.indexOf(rate), all = set.tests.flatMap(one => [one.lrs[0], one.lrs.at(-1)]);
    const narrow = box.clientWidth < 560, tens = [-4, -3, -2, -1, 0, 1].map(e => +(10 ** e).toPrecision(1));
    const x = [Math.min(...all), Math.max(...all), tens.filter((v, k) => v > Math.min(...all) * 1.01 && (!narrow || k % 2))];
    const curves = set.tests.map(one => smooth(one.raw)), low = Math.min(...test.raw, ...curves.flat()) - 0.1, highest = Math.max(...test.raw), high = Math.ceil(10 * Math.min(highest, 1.6 * test.raw[0]) + 1) / 10;
    const area = axes(svg, 300, x, [low, high, [1, 2, [Math.log(10), "guess"], 3, 4, [high, high.toFixed(1)]].filter((v, k, all) => [v].flat()[0] > low && (k === all.length - 1 || [v].flat()[0] < high - 0.08 * (high - low)))], {place: Math.log, name: "Rate"});
    const frame = drawn("clipPath", {id: "range-test-frame"});  // lines leave it at the top
    frame.append(drawn("rect", {x: area.left, y: area.top, width: area.right - area.left, height: area.bottom - area.top}));
    svg.append(frame);
    const leaves = (points, looks) => svg.append(drawn("polyline", {"clip-path": "url(#range-test-frame)",
      points: points.map(([a, v]) => `${area.X(a).toFixed(1)},${(area.bottom - (v - low) * (area.bottom - area.top) / (high - low)).toFixed(1)}`).join(" "), ...looks}));
    const rates = [];
    for (const [k, one] of set.tests.entries()) {
      const own = curves[k], read_ = read(own);
      if (one !== test) leaves(own.map((v, k) => [one.lrs[k], v]), {class: "quiet", "stroke-opacity": set.tests.length > 9 ? 0.15 : 0.3});
      if (read_.none) continue;
      rates.push(one.lrs[read_.tenths]);
      svg.append(drawn("path", {class: "quiet", d: `M${area.X(rates.at(-1))} ${area.bottom}v-8`}));
    }
    area.line([[x[0], Math.log(10)], [x[1], Math.log(10)]], {class: "quiet", "stroke-dasharray": "2 4"});
    test.raw.forEach((v, k) => svg.append(v > high ? drawn("path", {class: "cut", d: `M${area.X(test.lrs[k])} ${area.top - 4}l4 7h-8Z`, style: "fill: var(--under); stroke: var(--quiet); stroke-width: 1.4"})
      : drawn("circle", {cx: area.X(test.lrs[k]), cy: area.Y(v), r: 2.2, style: "fill: var(--quiet)"})));
    leaves(losses.map((v, k) => [test.lrs[k], v]), {class: "one", style: "stroke-width: 3"});
    const marked = found.none ? [] : [[found.steepest, "steepest", "four"], [found.tenths, "nine tenths", "three"]].sort(([a], [b]) => a - b);
    for (const [k, [step, name, colour]] of marked.entries()) {
      const [X, Y] = [area.X(test.lrs[step]), area.Y(losses[step])];
      svg.append(drawn("path", {class: colour, "stroke-dasharray": "5 4", d: `M${X} ${Y}V${area.bottom}`}), drawn("circle", {cx: X, cy: Y, r: 5, style: `fill: var(--${colour})`}),
        drawn("path", {d: `M${X} ${area.bottom + 24}l5 9h-10Z`, style: `fill: var(--${colour}); stroke: none`}), drawn("text", {class: k ? "named" : "r named", x: k ? Math.min(X + 9, area.right - 44) : X - 9, y: area.bottom + 34}, name));  // in a row of its own
    }
    area.line([[rate, low], [rate, high]], {class: "two"});
    knob.values = again.values = test.lrs;
    svg.append(drawn("text", {x: area.left + 6, y: 4}, "loss"));
    knob.put(at, area.X, area.Y(losses[at]));

    const under = axes(below, 200, x, percents(set.trained.flatMap(one => one.reached)), {place: Math.log, name: "Peak"});
    const far = one => Math.abs(Math.log(one.peak / rate)), nearest = set.trained.reduce((a, b) => far(b) < far(a) ? b : a);
    under.line([[rate, -1e9], [rate, 1e9]], {class: "two"});
    for (const one of [...set.trained.filter(own => own !== nearest), nearest]) for (const value of one.reached)
      below.append(mark(one.found ? "triangle" : "circle", under.X(one.peak), under.Y(value), one === nearest));
    below.append(drawn("text", {x: under.left + 6, y: 4}, "test accuracy"));
    again.put(at, under.X, under.bottom);

    const tried = set.trained.filter(one => !one.found), best = tried.reduce((a, b) => mean(b.reached) > mean(a.reached) ? b : a);
    const reached = one => `${mean(one.reached).toFixed(1)} %`, seeds = one => one.reached.length > 1 ? ` (seeds ${Math.min(...one.reached).toFixed(1)} to ${Math.max(...one.reached).toFixed(1)})` : "";
    const ratio = found.none ? 0 : rate / test.lrs[found.tenths], times = v => v < 10 ? v.toFixed(1) : Math.round(v);
    const none = set.tests.length - rates.length, words = [`Test accuracy ${reached(nearest)} with a peak of ${nearest.peak}${seeds(nearest)}.`,
      `That is the recorded peak nearest to your rate of ${three(rate)}. ${nearest.found ? "A range test found this peak. " : ""}Of the ${tried.length} peaks not found by a range test, the best is ${best.peak}, with ${reached(best)}.`,
      found.none ? `This test suggests no rate: ${found.none}.`
        : `This test suggests ${three(test.lrs[found.tenths])}${Math.abs(ratio - 1) < 0.01 ? ", which is your rate" : ratio > 1 ? `. Your rate is ${times(ratio)} times as high` : `, ${times(1 / ratio)} times your rate`}. At the suggested rate the loss has made nine tenths of its fall. The fall is steepest at ${three(test.lrs[found.steepest])}.`,
      rates.length ? `${none ? `${rates.length} of the` : "All"} ${set.tests.length} tests of this network suggest ${three(Math.min(...rates))} to ${three(Math.max(...rates))}${none ? `; the other ${none > 1 ? `${none} suggest` : "one suggests"} no rate` : ""}.` : ""];
    said.replaceChildren(...words.filter(Boolean).map((text, k) => make("p", k ? "" : "try-figure", firm(text))));
    svg.setAttribute("aria-label", `Training loss against learning rate. The range test is ${test.words}. ${words[2]}`);
    below.setAttribute("aria-label", `Test accuracy against the peak of the training. ${words[0]}`);
    key.textContent = `Dots: the loss of each batch${highest > high ? `; triangles at the top: losses above ${high.toFixed(1)}, up to ${highest.toFixed(1)}` : ""}. Blue line: their running average, in which each new loss has weight f; the smaller f, the smoother. Dotted: the loss of a random guess, ln 10. Grey lines: the other tests, with a mark at the rate that each suggests. Below: runs of ${set.length}${set.trained.some(one => one.found) ? "; triangles: peaks that a range test found, one seed each" : ""}. The test shown is ${test.words}. ${set.where} `;
    key.append(make("code", "", set.command), ".");
  }
  function begin(own) {  // with the first test of a network, at its suggestion
    [set, test] = [own, own.tests[0]];
    rate = test.lrs[read(smooth(test.raw)).tenths ?? 50];
  }
  const tests = slider({name: "Test", min: 1, max: set.tests.length, step: 1, value: 1, words: k => `${k} of ${set.tests.length}`}, k => {
    test = set.tests[k - 1];
    rate = test.lrs.reduce((best, lr) => Math.abs(Math.log(lr / rate)) < Math.abs(Math.log(best / rate)) ? lr : best);
    show();
  });
  const smoothing = slider({name: "Weight f", min: 0, max: shares.length - 1, step: 1, value: 2, words: k => shares[k]}, k => { f = shares[k]; show(); });
  const controls = make("div", "try-row");
  controls.append(smoothing, tests);
  controls.style.columnGap = "4rem";
  for (const output of controls.querySelectorAll("output")) output.style.textAlign = "left";  // a value belongs to the slider before it
  begin(set);
  said.setAttribute("aria-live", "polite");
  box.append(choice({name: "Network", options: data.sets.map(own => [own, own.name]), value: set}, own => {
    begin(own);
    tests.input.max = set.tests.length;
    tests.set(1);
    tests.querySelector("output").textContent = `1 of ${set.tests.length}`;
    show();
  }), controls, curve, trained, said, key);
  redraw(show);
});
