// The page on which one trains a small network. The browser computes everything, from files of this site.
// checks/train_app.py makes the files in ../web; train.json says what they are.
"use strict";
{
const {web: base, make, drawn, megabytes, axes} = Book;
const at = id => document.getElementById(`th-${id}`);
const short = rate => rate === 0 ? "0" : `${+rate.toPrecision(2)}`;
function say(text, fault = false) { at("said").textContent = text; at("said").classList.toggle("th-fault", fault); }

// ---- The curve: the rate at the start, at the peak and at the end, and the epoch of the peak
const MOST = 3, TOPS = [0.5, 1, 3];  // the highest rate that one can draw; the ends that the axis can have
const curve = {start: 0.003, peak: 0.3, end: 0, place: 1.5};
function rateAt(shape, epoch) {
  const {start, peak, end, place} = shape;
  return epoch < place ? start + (peak - start) * epoch / place : peak + (end - peak) * (epoch - place) / (app.epochs - place);
}
const words = ({start, peak, end, place}) => start === peak && peak === end ? `constant ${short(peak)}`
  : `from ${short(start)} to ${short(peak)} at epoch ${place}, then to ${short(end)}`;
function change(part, value) {
  if (part === "place") curve.place = Math.min(app.epochs - 0.25, Math.max(0.25, Math.round(4 * value) / 4));
  else curve[part] = Math.min(MOST, Math.max(0, +value.toPrecision(2)));
  showCurve();
}

// ---- Chance. One seed gives the first weights, the orders and the changes of the images.
function chance(seed) {  // numbers from 0 to 1: mulberry32
  let a = Math.imul(seed + 1, 0x9E3779B1) >>> 0;
  return () => {
    a = (a + 0x6D2B79F5) >>> 0;
    let t = Math.imul(a ^ a >>> 15, 1 | a);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  };
}
function begin(random) {  // the weights as torch draws them, momenta at zero
  const row = new Float32Array(app.beginnings.reduce((sum, part) => sum + part.length, 0));
  let k = 0;
  for (const {length, bound, value} of app.beginnings)
    for (const end = k + length; k < end; k++) row[k] = bound === undefined ? value : bound * (2 * random() - 1);
  return row;
}
function shuffled(n, random) {
  const order = Uint16Array.from({length: n}, (_, k) => k);
  for (let k = n - 1; k > 0; k--) {
    const other = Math.floor(random() * (k + 1));
    [order[k], order[other]] = [order[other], order[k]];
  }
  return order;
}

// ---- Images
let pixels = null, scaled = null;  // all images side by side, RGBA; what a byte of each colour is to the network
const SIDE = 32, AREA = SIDE * SIDE;
const placeOf = k => 4 * ((Math.floor(k / app.across) * SIDE * app.across + k % app.across) * SIDE);
async function readImages(file) {
  const bitmap = await createImageBitmap(new Blob([file], {type: "image/webp"}), {colorSpaceConversion: "none", premultiplyAlpha: "none"});
  const canvas = make("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  pixels = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  bitmap.close();
  let sum = 0;
  for (let k = 0; k < pixels.length; k += 4) sum += pixels[k] + pixels[k + 1] + pixels[k + 2];
  if (sum !== app.sum) throw new Error("this browser changes the pixels that a page reads; please allow canvas access for this site");
  scaled = app.mean.map((mean, c) => Float32Array.from({length: 256}, (_, v) => (v / 255 - mean) / app.std[c]));
}
// Image k into place j of a batch; to train, it is cropped from a reflected border of 4, mirrored by a coin, and a square of 16 is cut out.
function put(batch, j, k, random = null) {
  const below = n => Math.floor(random() * n), from = placeOf(k), across = 4 * SIDE * app.across;
  const [top, left, mirrored, cutTop, cutLeft] = random ? [below(9) - 4, below(9) - 4, below(2), below(17), below(17)] : [0, 0, 0, SIDE, SIDE];
  const inside = i => i < 0 ? -i : i >= SIDE ? 2 * SIDE - 2 - i : i;
  for (let y = 0, to = j * 3 * AREA; y < SIDE; y++) for (let x = 0; x < SIDE; x++, to++) {
    const cut = y >= cutTop && y < cutTop + 16 && x >= cutLeft && x < cutLeft + 16;
    const p = from + inside(y + top) * across + 4 * inside((mirrored ? SIDE - 1 - x : x) + left);
    for (let c = 0; c < 3; c++) batch[to + c * AREA] = cut ? 0 : scaled[c][pixels[p + c]];
  }
}

// ---- The two graphs
let app = null, runtime = null, stepGraph = null, testGraph = null;
async function bytes(name, version, more) {  // of a file; `more` hears the length of each part as it arrives
  const answer = await fetch(new URL(`${name}?${version}`, base)), parts = [];
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  for (const reader = answer.body.getReader();;) {
    const {done, value} = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    more(value.length);
  }
}
async function load() {  // once, at the first press
  if (stepGraph) return;
  say("Loading …");
  const all = Object.values(app.sizes).reduce((a, b) => a + b), more = n => { at("progress").value += n / all; };
  const own = name => bytes(name, app.version, more);
  const [ort, wasm, step, test, images] = await Promise.all([import(new URL(`ort.js?${app.runtime_version}`, base)),
    bytes("ort.wasm", app.runtime_version, more), own("step.onnx"), own("test.onnx"), own("images.webp")]);
  await readImages(images);
  ort.env.wasm.numThreads = 1;  // more threads would need headers that few servers send
  ort.env.wasm.wasmBinary = wasm;
  const open = model => ort.InferenceSession.create(model, {executionProviders: ["wasm"]});
  testGraph = await open(test);
  stepGraph = await open(step);
  runtime = ort;
  at("train").textContent = "Train";
}
const floats = (data, shape) => new runtime.Tensor("float32", data, shape);
async function step(row, chosen, rate, random) {  // the loss of a batch, and the row of numbers after the update
  const images = new Float32Array(app.batch * 3 * AREA);
  chosen.forEach((k, j) => put(images, j, k, random));
  const {new_row, loss} = await stepGraph.run({row: floats(row, [row.length]), images: floats(images, [app.batch, 3, SIDE, SIDE]),
    labels: new runtime.Tensor("int64", BigInt64Array.from(chosen, k => BigInt(app.labels[k])), [app.batch]), rate: floats([rate], [])});
  return {row: new_row.data, loss: loss.data[0]};
}
async function test(row) {  // accuracy in %, and logits and maps of all test images
  const n = app.test, found = {right: 0, logits: new Float32Array(10 * n), maps: new Float32Array(160 * n)};
  for (let first = 0; first < n; first += app.tested) {
    const images = new Float32Array(app.tested * 3 * AREA);
    for (let j = 0; j < app.tested; j++) put(images, j, app.train + first + j);
    const {logits, maps} = await testGraph.run({row: floats(row, [row.length]), images: floats(images, [app.tested, 3, SIDE, SIDE])});
    found.logits.set(logits.data, 10 * first);
    found.maps.set(maps.data, 160 * first);
    await pause();
  }
  for (let k = 0; k < n; k++) {
    const own = found.logits.subarray(10 * k, 10 * k + 10);
    found.right += own.indexOf(Math.max(...own)) === app.labels[app.train + k];
  }
  return {...found, accuracy: 100 * found.right / n};
}
// Between two steps the page may draw and listen. (A message comes at once; a timer would wait, long in a hidden tab.)
const channel = new MessageChannel(), waiting = [];
channel.port1.onmessage = () => waiting.shift()();
const pause = () => new Promise(done => { waiting.push(done); channel.port2.postMessage(0); });

// ---- Runs
const runs = [];
let busy = false, halted = false, seed = 0, made = 0, range = null, watched = 0;
const mean = values => values.reduce((a, b) => a + b, 0) / values.length;
async function work(task) {  // one at a time
  if (busy) { say("A run is under way. Stop it first."); return; }
  busy = true;
  halted = false;
  at("progress").value = 0;
  at("progress").hidden = false;
  buttons();
  try { await load(); } catch (fault) {
    say(`It could not be loaded (${fault.message}). Check your connection and try again.`, true);
    task = null;
  }
  try { if (task) await task(); } catch (fault) { say(`Something went wrong: ${fault.message}`, true); }
  busy = false;
  at("progress").hidden = true;
  buttons();
}
function buttons() {
  for (const id of ["train", "again", "find"]) at(id).setAttribute("aria-disabled", busy);
  at("stop").setAttribute("aria-disabled", !busy);
  at("seed").textContent = runs.length ? `Train uses seed ${seed} again.` : "";
}
async function train() {
  const shape = {...curve}, random = chance(seed), perEpoch = Math.floor(app.train / app.batch), steps = perEpoch * app.epochs;
  const run = {number: ++made, seed, shape, losses: [], smooth: [], tests: [], end: ""};
  while (runs.length > 3) runs.shift();
  run.colour = [0, 1, 2, 3].find(c => runs.every(other => other.colour !== c));
  runs.push(run);
  say(`Run ${run.number}, seed ${seed}: training …`);
  let row = begin(random), order;
  run.tests.push(await test(row));
  const started = performance.now();
  while (run.losses.length < steps && !halted) {
    const k = run.losses.length, j = k % perEpoch;
    if (!j) order = shuffled(app.train, random);
    const found = await step(row, order.subarray(j * app.batch, (j + 1) * app.batch), rateAt(shape, k / perEpoch), random);
    row = found.row;
    if (!Number.isFinite(found.loss)) { run.end = "the loss exploded"; break; }
    run.losses.push(found.loss);
    run.smooth.push(mean(run.losses.slice(-app.smooth)));
    at("progress").value = run.losses.length / steps;
    if (j === perEpoch - 1) {
      const found = await test(row);
      run.tests.push(found);
      say(`Run ${run.number}, epoch ${run.tests.length - 1} of ${app.epochs}: loss ${run.smooth.at(-1).toFixed(2)}, test accuracy ${found.accuracy.toFixed(1)} %`);
      showFilm();
    }
    showRuns();
    await pause();
  }
  run.seconds = (performance.now() - started) / 1000;
  if (run.losses.length < steps && !run.end) run.end = `stopped after ${run.losses.length} steps`;
  const last = run.tests.at(-1).accuracy.toFixed(1);
  say(run.end ? `Run ${run.number}: ${run.end}.` : `Run ${run.number} is done: test accuracy ${last} %, in ${run.seconds.toFixed(0)} seconds.`);
  showRuns();
  showFilm();
}

// ---- The range test of chapter 03
const SPAN = {from: 1e-4, to: 10, steps: 100};
// As `suggest_lr` does: where nine tenths of the fall are done, without the first ten steps. Null if there is no clear fall.
function suggest(rates, losses, skip = 10) {
  if (losses.length < 2 * skip) return null;
  const curve = losses.slice(skip).map(loss => Number.isFinite(loss) ? loss : Infinity), lowest = curve.indexOf(Math.min(...curve));
  if (!(curve[lowest] < 0.99 * curve[0]) || lowest === curve.length - 1) return null;
  return rates[skip + curve.findIndex(loss => loss <= curve[0] - 0.9 * (curve[0] - curve[lowest]))];
}
async function find() {
  const random = chance(seed), perEpoch = Math.floor(app.train / app.batch);
  range = {rates: [], losses: [], suggestion: null, done: false};
  at("ranged").hidden = false;
  at("advice").textContent = "";
  say("Range test: the rate climbs …");
  let row = begin(random), order;
  for (let k = 0; k < SPAN.steps && !halted; k++) {
    const j = k % perEpoch, rate = SPAN.from * (SPAN.to / SPAN.from) ** (k / (SPAN.steps - 1));
    if (!j) order = shuffled(app.train, random);
    const found = await step(row, order.subarray(j * app.batch, (j + 1) * app.batch), rate, random);
    row = found.row;
    range.rates.push(rate);
    range.losses.push(k ? 0.05 * found.loss + 0.95 * range.losses[k - 1] : found.loss);
    at("progress").value = (k + 1) / SPAN.steps;
    showRange();
    if (!(range.losses[k] <= 5 * Math.min(...range.losses))) break;
    await pause();
  }
  if (halted) { say("The range test was stopped."); return; }
  const found = range.suggestion = suggest(range.rates, range.losses);
  range.done = true;
  showRange();
  if (found === null) { say("This range test suggests no rate. Try it with another seed."); return; }
  const peak = Math.min(MOST, found);
  Object.assign(curve, {start: +(peak / 100).toPrecision(2), peak: +peak.toPrecision(2), end: 0});
  showCurve();
  at("advice").textContent = `Nine tenths of the fall are done at a rate of ${short(found)}. It is now the peak of your curve.`;
  say(`The range test suggests a peak of ${short(found)}. It is on your curve now; press Train.`);
}

// ---- Drawings
const DASHES = ["none", "9 4", "3 3", "12 4 2 4"], WAYS = ["9 5", "2 4", "none"];
const epochs = () => [0, app.epochs, [...Array(app.epochs + 1).keys()]];
const corners = ({start, peak, end, place}) => [[0, start], [place, peak], [app.epochs, end]];
const slider = rate => 100 * Math.cbrt(rate / MOST);  // fine steps where rates are small
let grip = null, top = TOPS[0];  // the part of the curve that is being dragged; where the axis ends
function showCurve() {
  const svg = at("rate"), highest = Math.max(...[curve, ...runs.map(run => run.shape)].flatMap(({start, peak, end}) => [start, peak, end]));
  if (!grip) top = TOPS.find(end => highest <= end);  // not while a handle is in the hand
  const area = axes(svg, 220, epochs(), [0, top, [0, top / 2, top]], {name: "epoch"});
  for (const run of runs) area.line(corners(run.shape), {class: `run ghost th-run${run.colour}`, "stroke-dasharray": DASHES[run.colour]});
  area.line(corners(curve), {class: "curve"});
  const parts = ["start", "peak", "end"];
  corners(curve).forEach(([epoch, rate], k) => {
    const cx = area.X(epoch), cy = area.Y(rate);
    svg.append(drawn("circle", {class: "handle", cx, cy, r: 9}), drawn("circle", {class: "grip", cx, cy, r: 22, "data-part": parts[k]}));
  });
  svg.area = area;
  svg.setAttribute("aria-label", `The learning rate over six epochs: ${words(curve)}`);
  for (const part of ["start", "peak", "end", "place"]) {
    const input = at(part), value = part === "place" ? curve.place : slider(curve[part]), text = part === "place" ? `${curve.place}` : short(curve[part]);
    if (document.activeElement !== input || Math.abs(input.value - value) > 0.5) input.value = value;
    input.setAttribute("aria-valuetext", text);
    input.nextElementSibling.textContent = text;
  }
}
function drag(event) {
  const box = at("rate").getBoundingClientRect(), {area} = at("rate"), {left, right, bottom} = area;
  if (grip === "peak") change("place", app.epochs * (event.clientX - box.left - left) / (right - left));
  const share = (bottom - (event.clientY - box.top)) / (bottom - area.top);  // above 1: beyond the axis, which then grows
  change(grip, Math.round(1000 * top * Math.min(share, 1.3)) / 1000);
}
function showRange() {
  const {rates, losses, suggestion} = range, high = Math.min(4, Math.max(2.6, ...losses.filter(Number.isFinite)));
  const low = Math.floor(5 * Math.min(2, ...losses)) / 5, ticks = [low, (low + high) / 2, high].map(v => +v.toFixed(1));
  const area = axes(at("range"), 180, [SPAN.from, SPAN.to, [0.0001, 0.001, 0.01, 0.1, 1, 10]], [low, high, ticks], {place: Math.log10});
  area.line(rates.map((rate, k) => [rate, losses[k]]), {class: "curve"});
  if (suggestion) at("range").append(drawn("path", {"stroke-dasharray": "4 4", d: `M${area.X(suggestion)} ${area.top}V${area.bottom}`}),
    drawn("text", {x: area.X(suggestion) + 6, y: area.top + 10}, short(suggestion)));
  at("range").setAttribute("aria-label", `Loss of the range test over ${rates.length} steps${suggestion ? `; suggestion ${short(suggestion)}` : ""}`);
}
function showRuns() {
  const ways = at("compare").checked ? app.ways : [], seen = [...ways.map(way => way.losses), ...runs.map(run => run.smooth)].flat();
  const fifth = (round, v) => round(5 * v) / 5, low = fifth(Math.floor, Math.min(1.8, ...seen)), high = Math.min(3, fifth(Math.ceil, Math.max(2.4, ...seen)));
  const loss = axes(at("loss"), 260, epochs(), [low, high, [low, (low + high) / 2, high].map(v => +v.toFixed(1))], {name: "epoch"}), perEpoch = Math.floor(app.train / app.batch);
  ways.forEach((way, k) => loss.line(way.losses.map((v, i) => [(i + 1) * app.epochs / way.losses.length, v]), {class: "way", "stroke-dasharray": WAYS[k]}));
  ways.forEach((way, k) => {  // the key of the grey lines, at the top right
    const x = loss.right - 165, y = loss.top + 8 + 18 * k;
    at("loss").append(drawn("line", {class: "way", x1: x, y1: y, x2: x + 34, y2: y, "stroke-dasharray": WAYS[k]}), drawn("text", {x: x + 42, y: y + 4}, way.name));
  });
  for (const run of runs) loss.line(run.smooth.map((v, i) => [(i + 1) / perEpoch, v]), {class: `run th-run${run.colour}`, "stroke-dasharray": DASHES[run.colour]});
  at("loss").setAttribute("aria-label", `Training loss over six epochs, mean of ${app.smooth} steps. `
    + (runs.map(run => `Run ${run.number} ends at ${run.smooth.at(-1)?.toFixed(2)}.`).join(" ") || "No run yet."));
  at("tested").hidden = !runs.length;
  if (runs.length) {
    const most = Math.ceil(Math.max(40, ...runs.flatMap(run => run.tests.map(one => one.accuracy))) / 10) * 10;
    const area = axes(at("accuracy"), 180, epochs(), [0, most, [0, most / 2, most]], {name: "epoch"});
    for (const run of runs) {
      area.line(run.tests.map((one, e) => [e, one.accuracy]), {class: `run th-run${run.colour}`, "stroke-dasharray": DASHES[run.colour]});
      at("accuracy").append(...run.tests.map((one, e) => drawn("circle", {class: `run th-run${run.colour}`, cx: area.X(e), cy: area.Y(one.accuracy), r: 3.5})));
    }
    at("accuracy").setAttribute("aria-label", `Test accuracy before and after each epoch. ${runs.map(run => `Run ${run.number}: ${accuracies(run)}.`).join(" ")}`);
  }
  at("runs").replaceChildren(...runs.map(run => {
    const card = make("li", `th-run${run.colour}`);
    const title = make("b", "", ` Run ${run.number}, seed ${run.seed}`), key = drawn("svg", {viewBox: "0 0 34 8", "aria-hidden": "true"});
    key.append(drawn("line", {class: "run", x1: 0, y1: 4, x2: 34, y2: 4, "stroke-dasharray": DASHES[run.colour]}));
    title.prepend(key);
    card.append(title, make("span", "", words(run.shape)),
      make("span", "", run.losses.length ? `loss ${mean(run.losses.slice(-20)).toFixed(3)} (last 20 steps)` : ""),
      make("span", "", run.tests.length > 1 ? `test accuracy ${accuracies(run)} %` : ""));
    if (run.end) card.append(make("span", "", run.end));
    return card;
  }));
  showGhosts();
}
let ghosts = 0;  // the number of the last run whose curve was drawn
function showGhosts() { if (ghosts !== made) { ghosts = made; showCurve(); } }
const accuracies = run => run.tests.slice(1).map(one => one.accuracy.toFixed(1)).join(", ");

// One test image, before the last run and after each of its epochs; all maps on one scale.
function showFilm() {
  const run = runs.at(-1);
  at("watched").hidden = !run || !run.tests.length;
  if (at("watched").hidden) return;
  const label = app.labels[app.train + watched];
  const parts = run.tests.map(({maps, logits}) => ({map: maps.subarray(160 * watched + 16 * label, 160 * watched + 16 * label + 16).map(v => Math.max(0, v)), logits: logits.subarray(10 * watched, 10 * watched + 10)}));
  const most = Math.max(1e-9, ...parts.flatMap(({map}) => [...map]));
  at("film").replaceChildren(...parts.map(({map, logits}, e) => {
    const powers = Array.from(logits, v => Math.exp(v - Math.max(...logits))), p = powers[label] / powers.reduce((a, b) => a + b);
    const canvas = make("canvas"), box = make("figure"), answer = app.classes[powers.indexOf(1)];
    canvas.width = canvas.height = SIDE;
    const out = new ImageData(SIDE, SIDE), from = placeOf(app.train + watched);
    for (let y = 0; y < SIDE; y++) for (let x = 0; x < SIDE; x++) {
      const p = from + 4 * (y * SIDE * app.across + x), to = 4 * (y * SIDE + x), grey = 0.299 * pixels[p] + 0.587 * pixels[p + 1] + 0.114 * pixels[p + 2];
      const level = Math.round(255 * between(map, x, y) / most);
      for (let c = 0; c < 3; c++) out.data[to + c] = 0.5 * grey + 0.5 * colours[3 * level + c];
      out.data[to + 3] = 255;
    }
    canvas.getContext("2d").putImageData(out, 0, 0);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Map for ${app.classes[label]}, ${e ? `after epoch ${e}` : "before training"}`);
    const caption = make("figcaption");
    caption.append(make("b", "", e ? `epoch ${e}` : "before"), make("span", "", `says ${answer}`), make("span", "", `${app.classes[label]} ${(100 * p).toFixed(0)} %`));
    box.append(canvas, caption);
    return box;
  }));
  at("about-film").textContent = `Test image ${watched}, of class ${app.classes[label]}. The colours show where the network finds evidence for ${app.classes[label]}, from dark violet (none) to bright yellow (most), on one scale for the whole row. Beneath each map: what the network says, and the probability of ${app.classes[label]}.`;
}
function between(map, x, y) {  // the 4 × 4 values, bilinearly
  const [fx, fy] = [x, y].map(v => Math.min(3, Math.max(0, (v + 0.5) / 8 - 0.5))), [i, j] = [Math.min(2, Math.floor(fx)), Math.min(2, Math.floor(fy))];
  const a = fx - i, b = fy - j, k = 4 * j + i;
  return (1 - b) * ((1 - a) * map[k] + a * map[k + 1]) + b * ((1 - a) * map[k + 4] + a * map[k + 5]);
}
let colours = null;

// ---- Everything together
function listen() {
  for (const part of ["start", "peak", "end"]) at(part).addEventListener("input", () => change(part, MOST * (at(part).value / 100) ** 3));
  at("place").addEventListener("input", () => change("place", +at("place").value));
  at("rate").addEventListener("pointerdown", event => {
    grip = event.target.dataset?.part || null;
    if (!grip) return;
    at("rate").setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  at("rate").addEventListener("pointermove", event => { if (grip) drag(event); });
  for (const kind of ["pointerup", "pointercancel"]) at("rate").addEventListener(kind, () => { grip = null; showCurve(); });
  at("train").addEventListener("click", () => work(train));
  at("again").addEventListener("click", () => { if (!busy && runs.length) seed++; work(train); });
  at("find").addEventListener("click", () => work(find));
  at("stop").addEventListener("click", () => { if (busy) halted = true; else say("There is nothing to stop."); });
  at("compare").addEventListener("change", showRuns);
  for (const [id, by] of [["before", -1], ["next", 1]])
    at(id).addEventListener("click", () => { watched = (watched + by + app.test) % app.test; showFilm(); });
  at("ways").append(...app.ways.map(({name, shape}) => {
    const button = make("button", "", name);
    button.type = "button";
    button.addEventListener("click", () => { [curve.start, curve.peak, curve.end, curve.place] = shape; showCurve(); say(`The curve is now: ${words(curve)}.`); });
    return button;
  }));
  let width = 0;
  new ResizeObserver(() => {
    if (at("work").clientWidth === width) return;
    width = at("work").clientWidth;
    showCurve();
    showRuns();
    if (range) showRange();
  }).observe(at("work"));
}
async function main() {
  app = await Book.parts("train.json");
  document.querySelector("#th-still .th-script").hidden = true;
  if (app.missing) { say(`Training is not in this copy of the site: it ${app.missing}.`); return; }
  colours = Book.bytesOf(app.colours);
  at("app").classList.add("th-on");
  at("work").hidden = at("results").hidden = false;
  const all = Object.values(app.sizes).reduce((a, b) => a + b);
  at("train").textContent = `Train (loads ${megabytes(all)})`;
  at("about").textContent = `The first press loads ${megabytes(all)}: the runtime (${app.runtime}), the images and two small graphs. `
    + `After that, the page also works offline.${app.source === "real" ? "" : " The images of this copy are synthetic, not CIFAR-10."}`;
  listen();
  showCurve();
  showRuns();
  at("app").lab = {app, curve, runs, suggest, rateAt, range: () => range, put, step, begin, chance, get busy() { return busy; }};  // for the console, and for the check
}
main();
}
