// What the scripts of this site share. A script that uses it stands after it in the page.
"use strict";
window.Book = (() => {
const web = new URL("../web/", document.currentScript.src);  // files that checks/ makes when the site is built
const make = (tag, className = "", text = "") => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
};
const drawn = (tag, attributes, text = "") => {  // a part of a drawing
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
};
const megabytes = bytes => `${Math.round(bytes / 1e6)}\u00a0MB`;
const firm = text => text.replace(/(\d) (?=(?:%|MB|ms|points?|seconds?)(?!\w))/g, "$1\u00a0");  // a number and its unit stay on one line
const bytesOf = hex => new Uint8Array(hex.match(/../g).map(pair => parseInt(pair, 16)));
async function parts(name) {  // of a page: the JSON file about them, in which `missing` says why there are none, or `lost` that they did not arrive
  try {
    const found = await fetch(new URL(name, web));
    return found.ok ? await found.json() : {missing: "needs `make docs`"};
  } catch {
    const missing = "needs a server: run `python -m http.server` in the folder of the site";
    return {missing, lost: location.protocol !== "file:"};
  }
}
const absent = (what, {missing, lost}) => lost ? `${what} could not be loaded. Check your connection, and load this page again.`
  : `${what} is not in this copy of the site: it ${missing}.`;
async function bytes(name, version, more) {  // of a file, unpacked if it is packed by gzip; `more` hears the length of each part as it arrives
  const answer = await fetch(new URL(`${name}?${version}`, web)), parts = [];
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  for (const reader = answer.body.getReader();;) {
    const {done, value} = await reader.read();
    if (done) break;
    parts.push(value);
    more(value.length);
  }
  const all = new Blob(parts), start = new Uint8Array(await all.slice(0, 2).arrayBuffer());
  const packed = start[0] === 0x1f && start[1] === 0x8b;  // some servers unpack it on the way
  return new Uint8Array(await new Response(packed ? all.stream().pipeThrough(new DecompressionStream("gzip")) : all).arrayBuffer());
}
// Empty a drawing and give it axes; x and y are [low, high, ticks], ticks are numbers or [number, text].
// Returns the functions from numbers to places. A pixel of the drawing is a pixel of the page, so text keeps its size on a phone.
function axes(svg, height, x, y, {place = value => value, name = ""} = {}) {
  const width = Math.max(svg.clientWidth, 200), [left, right, top, bottom] = [54, width - 14, 12, height - 24];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.height = `${height}px`;
  const X = v => left + (right - left) * (place(v) - place(x[0])) / (place(x[1]) - place(x[0]));
  const Y = v => bottom - (bottom - top) * (Math.min(y[1], Math.max(y[0], v)) - y[0]) / (y[1] - y[0]);
  svg.replaceChildren(drawn("path", {class: "axis", d: `M${left} ${top}V${bottom}H${right}`}),
    ...x[2].map(v => [v].flat()).map(([v, text = v]) => drawn("text", {class: "m", x: X(v), y: height - 6}, text)),
    drawn("text", {x: 0, y: height - 6}, name),
    ...y[2].map(v => [v].flat()).map(([v, text = v]) => drawn("text", {class: "r", x: left - 8, y: Y(v) + 4}, text)));
  return {X, Y, left, right, top, bottom, line: (points, attributes) =>
    svg.append(drawn("polyline", {points: points.map(([a, b]) => `${X(a).toFixed(1)},${Y(b).toFixed(1)}`).join(" "), ...attributes}))};
}
// A drawing with handles over it. `stage.handle({name, values, words, up}, moved)` adds one that takes one of `values`, along x or, if `up`, along y:
// dragged, moved by the arrow keys, or by a click into the drawing, which moves the nearest one. `put(k, place, across)` puts it at `place(values[k])`.
function stage(svg) {
  const area = make("div", "try-stage"), knobs = [];
  const at = event => { const box = area.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  area.append(svg);
  area.addEventListener("click", event => {
    if (event.target.closest(".try-handle")) return;
    const [x, y] = at(event), far = knob => Math.hypot(knob.offsetLeft + 22 - x, knob.offsetTop + 22 - y);
    const [nearest] = knobs.filter(knob => !knob.hidden).sort((a, b) => far(a) - far(b));
    if (!nearest) return;
    nearest.to(x, y);
    nearest.focus({preventScroll: true});
  });
  area.handle = ({name, values, words = String, up = false}, moved) => {
    const knob = make("span", "try-handle"), steps = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -1e9, End: 1e9};
    let now = 0, place = Number;
    const go = k => { k = Math.min(knob.values.length - 1, Math.max(0, k)); if (k !== now) moved(k); };
    const to = (x, y) => go(knob.values.reduce((best, v, k) => Math.abs(place(v) - (up ? y : x)) < Math.abs(place(knob.values[best]) - (up ? y : x)) ? k : best, 0));
    const said = {role: "slider", tabindex: 0, "aria-label": name, "aria-orientation": up ? "vertical" : "horizontal", "aria-valuemin": 0};
    for (const [attribute, value] of Object.entries(said)) knob.setAttribute(attribute, value);
    knob.addEventListener("keydown", event => { if (event.key in steps && !held(event)) { event.preventDefault(); go(now + steps[event.key]); } });
    knob.addEventListener("pointerdown", event => { knob.setPointerCapture(event.pointerId); knob.focus({preventScroll: true}); });
    knob.addEventListener("pointermove", event => { if (knob.hasPointerCapture(event.pointerId)) to(...at(event)); });
    knobs.push(knob);
    area.append(knob);
    return Object.assign(knob, {values, to, put(k, where, across) {
      [now, place] = [k, where];
      const along = place(knob.values[k]);
      [knob.style.left, knob.style.top] = (up ? [across, along] : [along, across]).map(v => `${v}px`);
      knob.setAttribute("aria-valuemax", knob.values.length - 1);
      knob.setAttribute("aria-valuenow", k);
      knob.setAttribute("aria-valuetext", words(knob.values[k]));
    }});
  };
  return area;
}
// An axis in per cent that holds all `values`, for `axes`.
function percents(values) {
  const span = Math.max(...values) - Math.min(...values), unit = span > 8 ? 10 : 2, step = span > 35 ? 20 : unit;
  const low = unit * Math.floor(Math.min(...values) / unit), high = Math.min(100, unit * Math.ceil(Math.max(...values) / unit));
  return [low, high, [...Array(101).keys()].filter(v => v >= low && v <= high && v % step === 0).map(v => [v, `${v} %`])];
}
// The mark of a run in a drawing: a circle, a square or a triangle, filled if it is the one in question.
function mark(shape, x, y, filled, opacity = 1, r = 4.5) {
  const looks = {style: `fill: ${filled ? "var(--one)" : "none"}; stroke: var(${filled ? "--one" : "--quiet"}); stroke-width: 1.5; opacity: ${opacity}`};
  return shape === "triangle" ? drawn("path", {d: `M${x} ${y - r - 1}l${r + 1} ${2 * r}h${-2 * r - 2}Z`, ...looks})
    : shape === "square" ? drawn("rect", {x: x - r, y: y - r, width: 2 * r, height: 2 * r, ...looks}) : drawn("circle", {cx: x, cy: y, r, ...looks});
}
// A slider with its name before it and its value in words after it.
function slider({name, min, max, step, value, words = String}, moved) {
  const label = make("label", "try-slider", `${name} `), input = make("input"), output = make("output");
  Object.assign(input, {type: "range", min, max, step, value});
  const show = () => { output.textContent = words(+input.value); input.setAttribute("aria-valuetext", output.textContent); };
  input.addEventListener("input", () => { show(); moved(+input.value); });
  label.append(input, output);
  show();
  return Object.assign(label, {input, set(number) { input.value = number; show(); }});
}
// One of several, as buttons in a row; `options` are [value, text].
function choice({name, options, value}, chosen) {
  const group = make("fieldset", "try-choice"), id = `choice-${name.replace(/\W+/g, "-")}-${document.querySelectorAll(".try-choice").length}`;
  group.append(make("legend", "", name), ...options.map(([own, text]) => {
    const label = make("label", "", ""), input = make("input");
    Object.assign(input, {type: "radio", name: id, value: own, checked: own === value});
    input.addEventListener("change", () => chosen(own));
    label.append(input, make("span", "", text));
    return label;
  }));
  return group;
}
// One of several pictures, which stand side by side in the file `sheet`; `options` are [value, name].
function pictures({name, sheet, options, value}, chosen) {
  const group = choice({name, options, value}, chosen);
  group.classList.add("try-pictures");
  group.querySelectorAll("label").forEach(({firstChild: input, lastChild: span}, k) => {
    input.setAttribute("aria-label", span.textContent);
    input.title = span.textContent;
    span.textContent = "";
    span.style.background = `url("${sheet}") ${100 * k / (options.length - 1)}% 0 / ${100 * options.length}% 100%`;
  });
  return group;
}
const held = event => event.altKey || event.ctrlKey || event.metaKey;  // such keys are the browser's
// Elements in rows are one stop of the Tab key; the arrow keys move among them.
function byArrows(elements) {
  elements.forEach((element, k) => {
    element.tabIndex = k ? -1 : 0;
    element.addEventListener("focus", () => elements.forEach(one => { one.tabIndex = one === element ? 0 : -1; }));
    element.addEventListener("keydown", event => {
      const columns = elements.filter(one => one.offsetTop === elements[0].offsetTop).length, column = k % columns, step = {ArrowLeft: column ? -1 : 0, ArrowRight: column < columns - 1 ? 1 : 0, ArrowUp: -columns, ArrowDown: columns}[event.key];
      if (step === undefined || held(event)) return;
      event.preventDefault();
      elements[k + step]?.focus({preventScroll: true});
    });
  });
}
// A map in colours over a picture in grey, on a canvas of `size` pixels a side. `levels`: a byte a pixel, `colours`: 3 bytes a level.
function overlay(canvas, size, picture, levels, colours, opacity) {
  [canvas.width, canvas.height] = [size, size];
  const out = new ImageData(size, size), o = out.data;
  for (let i = 0, k = 0; i < size * size; i++, k += 4) {
    const grey = (1 - opacity) * (0.299 * picture[k] + 0.587 * picture[k + 1] + 0.114 * picture[k + 2]);
    for (let c = 0; c < 3; c++) o[k + c] = grey + opacity * colours[3 * levels[i] + c];
    o[k + 3] = 255;
  }
  canvas.getContext("2d").putImageData(out, 0, 0);
}
// A figure to try: `build(box, data, redraw)` fills the box as soon as it comes near the window; `redraw(f)` calls f now and at each new width.
// `still` names the figure of the chapter that stands in its place without a script and on paper.
function attempt(name, {still = ""} = {}, build) {
  const box = document.getElementById(`try-${name}`), figure = still && document.getElementById(still);
  if (!box) return;
  const work = make("div", "try-work"), begin = async () => {
    const data = await parts(`try-${name}.json`);
    if (data.missing) { box.append(make("p", "try-quiet", absent("What one could try here", data))); return; }
    box.append(work);
    try { await build(work, data, draw => {
      let width = 0;
      new ResizeObserver(() => { if (work.clientWidth && work.clientWidth !== width) { width = work.clientWidth; draw(); } }).observe(work);
      draw();
    }); } catch (fault) {
      work.replaceChildren(make("p", "try-quiet", `What one could try here could not be shown (${fault.message}). Load this page again.`));
      throw fault;
    }
    if (figure) {  // links to it lead here
      figure.classList.add("try-still");
      for (const link of document.querySelectorAll(`a[href="#${still}"]`)) link.setAttribute("href", `#${box.id}`);
    }
    box.dataset.ready = "";
  };
  new IntersectionObserver((seen, watcher) => { if (seen.some(one => one.isIntersecting)) { watcher.disconnect(); begin(); } }, {rootMargin: "800px"}).observe(box);
}
return {web, make, drawn, firm, megabytes, bytesOf, parts, absent, bytes, axes, percents, mark, slider, choice, stage, pictures, byArrows, overlay, attempt};
})();
