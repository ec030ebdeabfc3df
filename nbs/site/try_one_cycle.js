// Chapter 04: a schedule to drag, and the nearest recorded runs. checks/tries/one_cycle.py makes the data.
"use strict";
Book.attempt("one_cycle", {}, (box, data, redraw) => {
  const {make, drawn, firm, axes, percents, slider, choice, stage} = Book, points = data.sets[0].shapes[0].shares.length - 1;
  const decade = [1, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2, 2.2, 2.4, 2.7, 3, 3.3, 3.6, 4, 4.3, 4.6, 5, 5.5, 6, 6.8, 7.5, 8.2, 9];
  const peaks = (low, high) => [-5, -4, -3, -2, -1, 0].flatMap(e => decade.map(m => +(m * 10 ** e).toPrecision(2))).filter(p => p >= low && p <= high);
  const ranges = {SGD: [0.004, 6], Adam: [0.00005, 0.1], Muon: [0.004, 6]}, start = {SGD: 0.1, Adam: 0.005, Muon: 0.5};
  const hundred = [...Array(101).keys()].map(k => k / 100), finals = [1e-4, ...hundred.slice(1)], percent = share => `${share < 0.005 ? +(100 * share).toFixed(2) : Math.round(100 * share)} %`, one = v => v.toFixed(1);
  const counts = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], count = n => counts[n] || `${n}`;
  let set = data.sets[0], fall = "straight", rise = 0.25, final = finals[0], peak = 0.1;

  // What was dragged, as shares of the peak at the places at which the recorded schedules are kept.
  function dragged() {
    const wave = fall === "along a cosine" ? t => (1 - Math.cos(Math.PI * t)) / 2 : t => t;
    return [...Array(points + 1).keys()].map(k => k / points).map(t => t < rise ? 0.01 + 0.99 * wave(t / rise)
      : fall === "in steps" ? [1, Math.sqrt(final), final][(t >= 0.5) + (t >= 0.75)]
      : rise === 1 ? 1 : 1 + (final - 1) * wave((t - rise) / (1 - rise)));
  }
  const apart = (a, b) => a.reduce((sum, v, k) => sum + Math.abs(v - b[k]), 0) / a.length;
  const ratio = arm => Math.abs(Math.log(arm.peak / peak));
  const mean = values => values.reduce((a, b) => a + b) / values.length, ends = arm => arm.runs.map(run => run.at(-1));
  const shape = arm => arm.found ? "triangle" : arm.held ? "square" : "circle";
  const on = arm => arm.held ? `${arm.held.toLocaleString("en")} held-out training images` : "the test images";
  const seeds = arm => arm.runs.length === 1 ? "one seed" : `${count(arm.runs.length)} seeds, ${one(Math.min(...ends(arm)))} to ${one(Math.max(...ends(arm)))}`;
  const reached = arm => `${one(mean(ends(arm)))} % of ${on(arm)} right (${seeds(arm)})`;
  function compared(p, their) {
    const r = p / peak, times = v => v < 10 ? one(v) : Math.round(v);
    return Math.abs(r - 1) < 0.03 ? `${their} peak, ${p}, is the same as yours` : r > 1 ? `${their} peak of ${p} is ${times(r)} times yours` : `Your peak is ${times(1 / r)} times ${their.toLowerCase()} peak of ${p}`;
  }
  const area = {}, svg = {}, said = make("div", "try-said"), key = make("p", "try-quiet"), yours = make("p", "try-yours"), folded = make("details", "try-folded"), grid = make("div", "try-cycle");
  for (const name of ["rate", "curves", "strip"]) { svg[name] = drawn("svg", {role: "img"}); area[name] = stage(svg[name]); }
  const knobs = {
    rise: area.rate.handle({name: "Epoch of the peak", values: hundred.slice(0, 91), words: v => `epoch ${+(v * set.epochs).toFixed(2)} of ${set.epochs}`}, k => { rise = hundred[k]; show(); }),
    final: area.rate.handle({name: "Final rate", values: finals, up: true, words: v => `${percent(v)} of the peak`}, k => { final = finals[k]; show(); }),
    peak: area.strip.handle({name: "Peak", values: [], words: String}, k => { peak = knobs.peak.values[k]; show(); })};
  knobs.peak.classList.add("grip");

  function show() {
    const mine = dragged(), far = set.shapes.map(shape => apart(mine, shape.shares)), near = far.indexOf(Math.min(...far));
    const arms = set.arms.filter(arm => arm.shape === near), own = arms.reduce((best, arm) => ratio(arm) < ratio(best) ? arm : best).peak;
    const nearest = arms.filter(arm => arm.peak === own).sort((a, b) => a.held - b.held), epochs = set.epochs, y = percents(set.arms.flatMap(arm => arm.runs.flat()));
    const ticks = [...Array(epochs + 1).keys()].filter(e => epochs < 10 || e % 5 === 0), x = [0, epochs, ticks];
    const over = axes(svg.rate, 250, x, [-0.08, 1, [[0, "0"], [0.5, "half"], [1, "peak"]]], {name: "Epoch"});
    const at = shares => shares.map((share, k) => [k / points * epochs, share]), place = shares => at(shares).map(([a, b]) => `${over.X(a).toFixed(1)} ${over.Y(b).toFixed(1)}`).join("L");
    svg.rate.append(drawn("path", {d: `M${over.left} ${over.Y(0)}L${place(mine)}V${over.Y(0)}Z`, style: "fill: var(--two); fill-opacity: .14; stroke: none"}));
    set.shapes.forEach((shape, k) => { if (k !== near) over.line(at(shape.shares), {class: "quiet", "stroke-opacity": 0.5}); });
    over.line(at(set.shapes[near].shares), {class: "one", "stroke-width": 3, "stroke-dasharray": "7 5"});
    over.line(at(mine), {class: "two", style: "stroke-width: 3"});
    knobs.rise.put(Math.round(100 * rise), v => over.X(v * epochs), over.Y(1));
    knobs.final.put(finals.indexOf(final), over.Y, over.right);

    const below = axes(svg.curves, 270, x, y, {name: "Epoch"});
    const curve = run => run.map((value, k) => [k + 1, value]);
    for (const arm of arms) if (!nearest.includes(arm)) for (const run of arm.runs) below.line(curve(run), {class: "quiet", "stroke-opacity": 0.5});
    for (const arm of nearest) for (const run of arm.runs) {
      below.line(curve(run), {class: "one"});
      for (const [a, b] of curve(run)) svg.curves.append(Book.mark(shape(arm), below.X(a), below.Y(b), true, 1, epochs > 5 ? 2 : 4));
    }
    svg.curves.append(drawn("text", {x: below.left + 6, y: 4}, "accuracy after each epoch"));

    const [lowest, highest] = ranges[set.optimizer], tens = [-4, -3, -2, -1, 0].map(e => +(10 ** e).toPrecision(1)).filter(v => v >= lowest && v <= highest);
    const beside = axes(svg.strip, 270, [lowest, highest, tens], percents(set.arms.flatMap(ends)), {place: Math.log, name: "Peak"});
    beside.line([[peak, -1e9], [peak, 1e9]], {class: "two"});
    for (const arm of [...set.arms.filter(arm => arm.shape !== near), ...arms.filter(arm => !nearest.includes(arm)), ...nearest])
      for (const end of ends(arm)) svg.strip.append(Book.mark(shape(arm), beside.X(arm.peak), beside.Y(end), nearest.includes(arm), arm.shape === near ? 1 : 0.35));
    svg.strip.append(drawn("text", {x: beside.left + 6, y: 4}, "accuracy at the end"));
    knobs.peak.put(knobs.peak.values.indexOf(peak), beside.X, beside.bottom);
    height.set(knobs.peak.values.indexOf(peak));
    yours.textContent = firm(`Yours: peak ${peak} at epoch ${+(rise * epochs).toFixed(2)}, final rate ${percent(final)} of it`);

    const groups = [0, ...new Set(arms.map(arm => arm.held))].map(held => arms.filter(arm => !arm.found && arm.held === held));
    const alike = groups.reduce((a, b) => new Set(b.map(arm => arm.peak)).size > new Set(a.map(arm => arm.peak)).size ? b : a);
    const best = alike.reduce((a, b) => mean(ends(b)) > mean(ends(a)) ? b : a);
    const [they, their, s] = nearest[0].runs.length > 1 ? ["They have", "Their", "s"] : ["It has", "Its", ""], alikeShape = far[near] < 0.006, alikePeak = Math.abs(own / peak - 1) < 0.03, otherShape = far[near] > 0.1, isFar = otherShape || own / peak > 3 || peak / own > 3;
    const words = [isFar ? "No recorded run is near yours." : `${reached(nearest[0])}.`,
      `${isFar ? `The nearest got ${reached(nearest[0])}.` : `This is the result of the nearest recorded run${s}.`} ${alikeShape && alikePeak ? `${they} your peak of ${own} and your schedule` : compared(own, their)}. `
        + (nearest[0].found ? "A range test found this peak. " : "")
        + (alikeShape ? alikePeak ? "" : `${their} schedule is yours. `
          : `${their} schedule ${otherShape ? `is far from yours: the two differ by ${percent(far[near])} of the peak on average` : `differs from yours, by ${percent(far[near])} of the peak on average`}. `)
        + `${their} rate ${set.shapes[near].name}.`
        + (nearest[1] ? ` Another run with the same rates got ${reached(nearest[1])}.` : ""),
      alike.length > 1 ? `Of the ${count(alike.length)} peaks tried with this schedule, the best on ${on(best)} is ${best.peak}, with ${one(mean(ends(best)))} %.` : "",
      [alike.length > 1 ? "" : "No other peak", set.shapes.length > 1 ? "" : "no other schedule"].filter(Boolean).join(" and ").replace(/^n/, "N")];
    if (words[3]) words[3] += ` was recorded with ${set.optimizer} at this length.`;
    said.replaceChildren(...words.filter(Boolean).map((text, k) => make("p", k ? "" : "try-figure", firm(text))));
    key.textContent = `Blue: the nearest runs on record, a line or mark for each seed, and their schedule, dashed. Grey: the other runs with this optimizer and length. Under “accuracy at the end”, dark grey marks have the schedule of the nearest runs, and light grey ones another. Nothing is interpolated. `
      + (set.arms.some(arm => arm.held) && set.arms.some(arm => !arm.held) ? "Squares: measured on held-out training images. " : "")
      + (set.arms.some(arm => arm.found) ? "Triangles: peaks that a range test found. " : "") + `The network: ${set.what}. The records: `;
    key.append(make("code", "", set.command));
    svg.rate.setAttribute("aria-label", `The learning rate over the run: it reaches the peak of ${peak} at epoch ${+(rise * epochs).toFixed(2)} and falls ${fall === "straight" ? "in a straight line" : fall} to ${percent(final)} of it.`);
    svg.curves.setAttribute("aria-label", `Accuracy after each epoch. ${words[0]}`);
    svg.strip.setAttribute("aria-label", `Accuracy at the end against the peak, for ${set.arms.length} recorded peaks and schedules.`);
  }
  function lengths() {
    const options = data.sets.filter(own => own.optimizer === set.optimizer).map(own => [own, own.length]);
    return choice({name: "Length", options, value: set}, own => { set = own; show(); });
  }
  function take(optimizer) {
    set = data.sets.find(own => own.optimizer === optimizer);
    knobs.peak.values = peaks(...ranges[optimizer]);
    height.input.max = knobs.peak.values.length - 1;
    peak = start[optimizer];
    const old = folded.children[2], made = lengths();
    old.replaceWith(made);
    show();
  }
  const named = [...new Set(data.sets.map(own => own.optimizer))].map(name => [name, name]);
  knobs.peak.values = peaks(...ranges.SGD);
  const height = slider({name: "Peak rate", min: 0, max: knobs.peak.values.length - 1, step: 1, value: 0, words: k => `${knobs.peak.values[k]}`}, k => { peak = knobs.peak.values[k]; show(); });
  const wide = matchMedia("(min-width: 601px)"), fold = () => { folded.open = wide.matches; };
  folded.append(make("summary", "", "More choices: optimizer, length, fall"), choice({name: "Optimizer", options: named, value: "SGD"}, take), lengths(),
    choice({name: "Fall", options: ["straight", "along a cosine", "in steps"].map(name => [name, name]), value: fall},
      name => { fall = name; if (name === "in steps" && final < 0.01) final = 0.01; show(); }));
  wide.addEventListener("change", fold);  // on a phone the drawing comes first
  fold();
  said.setAttribute("aria-live", "polite");
  grid.append(area.rate, said, area.curves, area.strip, key);
  box.append(folded, height, yours, grid);
  redraw(show);
});
