// Chapter 08: pixels go in the order of a map, and the answer is watched. checks/tries/removal.py makes the data.
"use strict";
{
// ---- What stands in the place of removed pixels. A plane holds one colour of a picture, row by row.
const SIDE = 32, AREA = SIDE * SIDE;
// Each number by the middle weight, and its neighbours by the others, first along the rows, then along the columns; `inside` says where a place outside lies, if anywhere.
function weighed(plane, weights, inside) {
  const reach = weights.length >> 1;
  const pass = (from, along, across) => {
    const to = new Float64Array(AREA);
    for (let i = 0; i < AREA; i++) for (let k = 0; k < weights.length; k++) {
      const place = inside((along === 1 ? i % SIDE : Math.floor(i / SIDE)) + k - reach);
      if (place >= 0) to[i] += weights[k] * from[along === 1 ? i - i % SIDE + place : place * SIDE + i % SIDE];
    }
    return to;
  };
  return pass(pass(plane, 1), SIDE);
}
const nowhere = place => place < SIDE ? place : -1, mirrored = place => place < 0 ? -place : place < SIDE ? place : 2 * SIDE - 2 - place;
const around = plane => weighed(plane, [1, 2, 1], nowhere).map((v, i) => v / 12 - plane[i] / 3);  // 1/6 of direct neighbours, 1/12 of diagonal ones
const bell = Array.from({length: 25}, (_, k) => Math.exp(-((k - 12) ** 2) / 32)), sum = bell.reduce((a, b) => a + b);
const blurred = plane => weighed(plane, bell.map(v => v / sum), mirrored);
const total = around(new Float64Array(AREA).fill(1));
function continued(plane, gone) {  // every removed pixel becomes the weighted mean of its neighbours: conjugate gradients, as `impute` in chapter 08
  const dot = (a, b) => a.reduce((so_far, v, i) => so_far + v * b[i], 0);
  const known = Float64Array.from(plane, (v, i) => gone[i] ? 0 : v), x = new Float64Array(AREA);
  const residual = around(known).map((v, i) => gone[i] ? v : 0);
  let direction = residual.slice(), size = dot(residual, residual);
  for (let step = 0; step < 1000 && size > 1e-4; step++) {
    const near = around(direction), moved = near.map((v, i) => gone[i] ? total[i] * direction[i] - v : 0), length = size / dot(direction, moved);
    for (let i = 0; i < AREA; i++) { x[i] += length * direction[i]; residual[i] -= length * moved[i]; }
    const before = size;
    size = dot(residual, residual);
    direction = direction.map((v, i) => residual[i] + size / before * v);
  }
  return x.map((v, i) => v + known[i]);
}

Book.attempt("removal", {}, (box, data, redraw) => {
  const {make, drawn, axes, slider, choice, overlay, bytesOf} = Book, colours = bytesOf(data.colours);
  const names = Object.keys(data.orders), stroke = name => ["one", "two", "three", "four", "quiet"][names.indexOf(name)];
  const cent = share => `${share}\u00a0%`, wholes = p => cent(Math.round(p / 100)), signed = v => `${v <= -0.05 ? "−" : v >= 0.05 ? "+" : ""}${Math.abs(v).toFixed(1)}`;
  const state = {image: data.images[0], order: names[0], filling: "neighbours", step: 4};  // step: how many shares are gone, 0: nothing
  const FIRST = {most: "first", least: "last"}, class_of = k => data.classes[k];
  const gone = (image, first) => Uint8Array.from(image[first][state.order], own => own < state.step);
  const levels = (image, order) => bytesOf(data.maps[order] ?? (order === "another" ? data.images[image.other].maps["gradcam layer4"] : image.maps[order]));
  const answers = (filling, order, first) => state.image.answers[filling][order].map(kind => kind[first === "most" ? 0 : 1]);  // of the said class, the first answer, its probability
  const road = (filling, order) => {
    const [most, least] = ["most", "least"].map(first => answers(filling, order, first)[0]);
    return [20, 40, 60, 80].map(share => data.shares.indexOf(share)).reduce((total, k) => total + (least[k] - most[k]) / 800, 0);
  };
  for (const one of data.images) one.pixels = bytesOf(one.picture);

  function paint(canvas, image, holes) {
    [canvas.width, canvas.height] = [SIDE, SIDE];
    const out = new ImageData(SIDE, SIDE);
    for (let c = 0; c < 3; c++) {
      const plane = Float64Array.from({length: AREA}, (_, i) => image.pixels[3 * i + c]);
      const other = !holes?.includes(1) ? plane : state.filling === "neighbours" ? continued(plane, holes) : state.filling === "blur" ? blurred(plane) : plane.map(() => 255 * data.mean[c]);
      for (let i = 0; i < AREA; i++) { out.data[4 * i + c] = Math.round(holes?.[i] ? other[i] : plane[i]); out.data[4 * i + 3] = 255; }
    }
    canvas.getContext("2d").putImageData(out, 0, 0);
    return out.data;
  }
  const edge = holes => {  // around the removed pixels
    let path = "";
    for (let i = 0; i < AREA; i++) {
      const x = i % SIDE, y = Math.floor(i / SIDE);
      if (x && holes[i] !== holes[i - 1]) path += `M${x} ${y}v1`;
      if (y && holes[i] !== holes[i - SIDE]) path += `M${x} ${y}h1`;
    }
    return path;
  };

  // ---- The parts of the box
  const figure = () => {
    const one = make("figure"), canvas = make("canvas"), words = make("figcaption");
    canvas.setAttribute("role", "img");
    one.append(canvas, words);
    return Object.assign(one, {canvas, words});
  };
  const shown = {map: figure(), most: figure(), least: figure()}, rim = drawn("svg", {viewBox: `0 0 ${SIDE} ${SIDE}`, "aria-hidden": "true"});
  const about = make("p", "rm-about"), said = make("p", "try-said"), more = make("p", "rm-more"), key = make("p", "try-quiet");
  const plots = Object.keys(FIRST).map(first => ({first, figure: make("figure"), svg: drawn("svg", {role: "img"}), words: make("figcaption")}));
  const scores = {figure: make("figure"), svg: drawn("svg", {role: "img"}), words: make("figcaption")};
  for (const one of [...plots, scores]) one.figure.append(one.words, one.svg);
  shown.map.append(rim);

  function showPictures() {
    const {image, order, step} = state, share = step ? data.shares[step - 1] : 0, answer = class_of(image.said);
    const pixels = paint(shown.map.canvas, image), holes = gone(image, "most");
    overlay(shown.map.canvas, SIDE, pixels, levels(image, order), colours, 0.5);
    rim.replaceChildren(...order === "random pixels" ? [] : [drawn("path", {class: "rm-under", d: edge(holes)}), drawn("path", {class: "rm-over", d: edge(holes)})]);  // of random pixels it would be a maze
    shown.map.words.textContent = step && rim.firstChild ? `Order: ${data.orders[order]}. Outlined: the first ${cent(share)}` : `Order: ${data.orders[order]}`;
    shown.map.canvas.setAttribute("aria-label", `The picture in grey, in colours the order: ${data.orders[order]}`);
    for (const first of Object.keys(FIRST)) {
      paint(shown[first].canvas, image, gone(image, first));
      const [p, top, most] = step ? answers(state.filling, order, first).map(kind => kind[step - 1]) : [image.start, image.said, image.start];
      const {words, canvas} = shown[first], bar = make("span", "rm-bar"), strong = make("b", "", `${wholes(p)} ${answer}`);
      bar.style.setProperty("--part", `${p / 100}%`);
      bar.style.setProperty("--colour", `var(--${stroke(order)})`);
      words.replaceChildren(step ? `The ${FIRST[first]} ${cent(share)} removed` : "Nothing removed", bar, strong, top === image.said ? "" : `, now ${wholes(most)} ${class_of(top)}`);
      canvas.setAttribute("aria-label", `The picture, ${words.textContent}`);
    }
  }
  function showCurves() {
    const {image, step} = state, at = step ? data.shares[step - 1] : 0;
    for (const {first, svg, words} of plots) {
      const area = axes(svg, 190, [0, 90, [0, 20, 40, 60, [80, "80 %"]]], [0, 1e4, [0, [5000, "50"], [1e4, "100 %"]]]);
      words.textContent = `${class_of(image.said)}, with the ${FIRST[first]} pixels removed`;
      svg.append(drawn("path", {class: "quiet", d: `M${area.X(at)} ${area.top}V${area.bottom}`}));
      for (const name of [...names.filter(own => own !== state.order), state.order]) {
        const points = [[0, image.start], ...answers(state.filling, name, first)[0].map((p, k) => [data.shares[k], p])], chosen = name === state.order;
        area.line(points, {class: stroke(name), style: chosen ? "stroke-width:4" : "stroke-width:1.4; opacity:.75"});
        svg.append(drawn("circle", {class: `rm-dot ${stroke(name)}`, cx: area.X(at), cy: area.Y(points[step][1]), r: chosen ? 6 : 3.5}));
      }
      svg.setAttribute("aria-label", `Probability of ${class_of(image.said)} as the ${FIRST[first]} pixels are removed, a line for each order. At ${cent(at)}: ` +
        names.map(name => `${data.orders[name]} ${wholes(step ? answers(state.filling, name, first)[0][step - 1] : image.start)}`).join(", "));
    }
    const right = +(image.label === image.said), {svg, words} = scores, width = Math.max(svg.clientWidth, 200), low = -26, high = 46;
    const X = v => 8 + (width - 16) * (Math.min(high, Math.max(low, v)) - low) / (high - low), line = 36, height = line * names.length + 28;
    words.textContent = `ROAD in points, here and on ${data.counts[right]} ${right ? "right answers" : "mistakes"}`;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.style.height = `${height}px`;
    svg.replaceChildren(...[-20, 0, 20, 40].map(v => drawn("text", {class: "m", x: X(v), y: height - 6}, v < 0 ? `−${-v}` : v)));
    names.forEach((name, k) => {
      const y = line * k + 28, own = road("neighbours", name), mean = data.means[name]?.[right];
      svg.append(drawn("path", {class: "quiet", d: `M${X(0)} ${y - 8}v16`}), drawn("text", {x: 0, y: y - 12, class: name === state.order ? "rm-chosen" : ""}, data.orders[name]));
      if (mean) svg.append(drawn("path", {class: "axis rm-spread", d: `M${X(mean[3])} ${y}H${X(mean[4])}`}), drawn("path", {class: "rm-mean", d: `M${X(mean[1])} ${y}H${X(mean[2])}`}));
      svg.append(drawn("circle", {class: `rm-dot ${stroke(name)}`, cx: X(own), cy: y, r: name === state.order ? 6.5 : 4.5}));
    });
    svg.setAttribute("aria-label", "ROAD of each order on this picture: " + names.map(name => `${data.orders[name]} ${signed(road("neighbours", name))}`).join(", "));
  }
  function say() {
    const {image, order, step, filling} = state, answer = class_of(image.said), right = +(image.label === image.said), share = data.shares[step - 1];
    about.textContent = `Test image ${image.index}: ${/^a/.test(class_of(image.label)) ? "an" : "a"} ${class_of(image.label)}; the network says ${answer} (${wholes(image.start)}).`;
    if (step) {
      const [most, least] = ["most", "least"].map(first => answers(filling, order, first)[0][step - 1]);
      said.textContent = `Without the first ${cent(share)} of the pixels, ${answer} gets ${wholes(most)}. Without the last ${cent(share)}, it gets ${wholes(least)}. ` +
        (Math.abs(least - most) < 500 ? "Both matter about equally." : order === "random pixels" ? "The order is random, so such a difference is chance." : `The ${least > most ? "first" : "last"} pixels matter more.`);
    } else said.textContent = `Nothing is removed: ${answer} gets ${wholes(image.start)}.`;
    const kind = `${data.counts[right]} ${right ? "right answers" : "mistakes"}`, mean = data.means[order]?.[right], own = signed(road("neighbours", order));
    more.textContent = (filling === "neighbours" ? `ROAD of this order on this picture: ${own}\u00a0points (${signed(image.quiet[order])} without the faint noise that ROAD adds to the filling). `
      : `With the ${data.fillings[filling]} as filling, the score of this order is ${signed(road(filling, order))}\u00a0points; filled from the neighbours, as ROAD does, it is ${own}. `) +
      (mean ? `One picture proves nothing. On ${kind} the mean is ${signed(mean[0])} (95\u00a0% interval ${signed(mean[1])} to ${signed(mean[2])}). A tenth of them score below ${signed(mean[3])}, and a tenth above ${signed(mean[4])}.`
        : `One picture proves nothing. This order was not measured on all ${right ? "right answers" : "mistakes"}.`);
  }
  const show = () => { showPictures(); showCurves(); say(); };

  // ---- What one moves
  const pick = choice({name: "Picture", value: 0, options: data.images.map((one, k) => [k, `Test image ${one.index}, ${class_of(one.label)}, ${one.label === one.said ? "answered correctly" : `called ${class_of(one.said)}`}`])},
    k => { state.image = data.images[k]; show(); });
  pick.classList.add("rm-pick");
  pick.querySelectorAll("span").forEach((span, k) => {
    const canvas = make("canvas");
    paint(canvas, data.images[k]);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", span.textContent);
    span.replaceChildren(canvas);
    if (data.images[k].label === data.images[k].said) span.append(make("i", "", "✓"));
  });
  const order = choice({name: "Order", value: state.order, options: Object.entries(data.orders)}, name => { state.order = name; show(); });
  order.classList.add("rm-order");
  const filling = choice({name: "Fill with", value: state.filling, options: Object.entries(data.fillings)}, name => { state.filling = name; show(); });
  const much = slider({name: "Removed", min: 0, max: data.shares.length, step: 1, value: state.step, words: k => cent(k ? data.shares[k - 1] : 0)}, k => { state.step = k; show(); });
  const folded = make("details", "rm-folded"), wide = matchMedia("(min-width: 601px)"), fold = () => { folded.open = wide.matches; };
  folded.append(make("summary", "", "More choices"), order, filling);
  wide.addEventListener("change", fold);  // on a phone the pictures come first
  fold();
  const pictures = make("div", "rm-pictures"), curves = make("div", "rm-curves");
  pictures.append(...Object.values(shown));
  curves.append(...plots.map(one => one.figure), scores.figure);
  said.setAttribute("aria-live", "polite");
  key.textContent = `The colours of the lines are those of the orders. ROAD: the dot is this picture, the short bar the 95\u00a0% interval of the mean over all pictures counted in the title, and the long bar the middle 80\u00a0% of them. “Another mistake’s map” was measured only on the pictures shown here. The mistakes here, after the first, are spread evenly from the highest ROAD of Grad-CAM to the lowest; ✓ marks right answers. The noise has a standard deviation of less than one grey level of 255, and it is not drawn.`;
  box.append(make("style", "", STYLE), pick, about, folded, much, pictures, said, more, curves, key);
  redraw(show);
});

const STYLE = `
.rm-pick span { padding: 2px !important; min-height: 0 !important; position: relative; }
.rm-pick { gap: .25rem !important; } .rm-pick legend { position: absolute; width: 1px !important; height: 1px; overflow: hidden; clip-path: inset(50%); }
.rm-pick canvas { width: 40px; height: 40px; }
.rm-pick i { position: absolute; right: 2px; bottom: 2px; padding: 0 3px; font: 700 13px/1.2 system-ui; color: #fff; background: #00795a; border-radius: 3px; }
#try-removal .try-choice { font-size: .92rem; } #try-removal .rm-order { font-size: .82rem; gap: .25rem; } #try-removal .rm-order span { padding: .3rem .4rem; }
.rm-about { margin: .2rem 0 .4rem; font-weight: 600; }
.rm-folded summary { min-height: 32px; padding: .2rem 0; color: inherit; } #try-removal .try-said { min-height: 3em; } .rm-pictures figcaption { min-height: 3.4rem; }
@media (min-width: 601px) { .rm-folded summary { display: none; } }
.rm-order label:nth-of-type(1) span { border-bottom: 4px solid var(--one); } .rm-order label:nth-of-type(2) span { border-bottom: 4px solid var(--two); }
.rm-order label:nth-of-type(3) span { border-bottom: 4px solid var(--three); } .rm-order label:nth-of-type(4) span { border-bottom: 4px solid var(--four); }
.rm-order label:nth-of-type(5) span { border-bottom: 4px solid var(--quiet); }
.rm-pictures { display: grid; grid-template-columns: repeat(3, 1fr); gap: .6rem; margin: .4rem 0; }
.rm-pictures figure, .rm-curves figure { margin: 0; position: relative; min-width: 0; }
.rm-pictures figure > svg { position: absolute; left: 0; top: 0; width: 100%; aspect-ratio: 1; }
.rm-pictures path { vector-effect: non-scaling-stroke; } .rm-pictures .rm-under { stroke: #000; stroke-width: 4; opacity: .55; } .rm-pictures .rm-over { stroke: #fff; stroke-width: 2; }
.rm-pictures figcaption, .rm-curves figcaption { font-size: .85rem; margin: .3rem 0 0; color: inherit; text-align: left; }
.rm-bar { display: block; height: 10px; margin: .25rem 0; border: 1px solid var(--line); border-radius: 3px; background: linear-gradient(90deg, var(--colour) var(--part), transparent 0); }
.rm-curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: .4rem 1rem; margin: .8rem 0 .4rem; }
@media (max-width: 500px) { #try-removal .rm-pick { display: grid; grid-template-columns: repeat(8, 1fr); } .rm-pick span, .rm-pick label { display: block; } .rm-pick canvas { width: 100%; height: auto; } .rm-about { min-height: 3em; font-size: .95rem; } #try-removal .try-said { min-height: 6em; } .rm-pictures { grid-template-columns: 1fr 1fr; } .rm-pictures figure:first-child { grid-column: 1 / -1; display: grid; grid-template-columns: 110px 1fr; gap: .6rem; } .rm-pictures figure:first-child > svg { width: 110px; } }
.rm-more { margin: .3rem 0 0; }
.rm-dot { stroke: none; fill: currentColor; } .rm-dot.one { fill: var(--one); } .rm-dot.two { fill: var(--two); } .rm-dot.three { fill: var(--three); } .rm-dot.four { fill: var(--four); } .rm-dot.quiet { fill: var(--quiet); }
.try svg .rm-spread { stroke-width: 8; } .try svg .rm-mean { stroke-width: 8; } .try svg .rm-chosen { font-weight: 700; }
`;
}
