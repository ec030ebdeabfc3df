// The page on which one trains a small network: the drawings and the buttons. train_here_worker.js computes, from files of this site.
// checks/train_app.py makes the files in ../web; train.json says what they are.
"use strict";
{
const {web: base, make, drawn, megabytes, axes, firm} = Book, workerAddress = new URL("train_here_worker.js", document.currentScript.src);
const at = id => document.getElementById(`th-${id}`);
const short = rate => rate === 0 ? "0" : `${+rate.toPrecision(2)}`;
function say(text, fault = false) { at("said").textContent = firm(text); at("said").classList.toggle("th-fault", fault); }

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

// ---- The network, and the address of a curve: train_here.html#start,peak,end,place,seed=2,plain
const NAMES = {small: "small", shortcuts: "deep, with shortcuts", plain: "deep, without"};
let network = "small";
function choose(name) {
  network = name;
  document.querySelector(`#th-networks [value="${name}"]`).checked = true;
  showCurve();
  showRuns();
  showVerdict();
}
const address = () => `#${curve.start},${curve.peak},${curve.end},${curve.place},seed=${seed}${network === "small" ? "" : `,${network}`}`;
function follow() {
  const found = /^#([\d.]+),([\d.]+),([\d.]+),([\d.]+)(?:,seed=(\d{1,6}))?(?:,(small|shortcuts|plain))?$/.exec(location.hash), numbers = found?.slice(1, 5).map(Number);
  if (!numbers?.every(Number.isFinite) || location.hash === address()) return;  // the last: the link of this page was clicked
  ["start", "peak", "end", "place"].forEach((part, k) => change(part, numbers[k]));
  seed = +(found[5] ?? 0);
  choose(found[6] ?? "small");
  buttons();
  say(`This link contains a curve: ${words(curve)}${network === "small" ? "" : `, for the network “${NAMES[network]}”`}. Press Train.`);
}

// ---- Files, and the worker that computes with them
let app = null, worker = null, asked = null, pictures = null;  // pictures: the pixels of the test images, one after the other
const taken = new Set();  // the graphs that the worker has
function ask(task, words, hear = null) {  // one task at a time; `hear` is told of each loss and each test
  if (!worker) {
    worker = new Worker(workerAddress);
    worker.onmessage = ({data}) => {
      if ("done" in data) asked.resolve(data.done);
      else if ("fault" in data) asked.reject(new Error(data.fault));
      else asked.hear(data);
    };
    worker.onerror = event => { worker = pictures = null; taken.clear(); verdicts.clear(); asked.reject(new Error(event.message || "its script could not be loaded")); };
  }
  return new Promise((resolve, reject) => { asked = {resolve, reject, hear}; worker.postMessage({task, ...words}); });
}
const sum = sizes => Object.values(sizes).reduce((a, b) => a + b);
let again = "";  // a browser never asks again for a module that it could not load, unless its address is another
async function load(network) {  // what is not here yet: at the first press, and at the first of a deep network
  const {sizes, graph} = app.networks[network];
  if (taken.has(graph)) return;
  say("Loading …");
  const all = sum(sizes) + (pictures ? 0 : sum(app.sizes)), more = n => { at("progress").value += n / all; };
  const own = name => Book.bytes(name, app.version, more);
  if (!pictures) {
    const [wasm, images] = await Promise.all([Book.bytes("ort.wasm.gz", app.runtime, more), own("images.webp")]);
    pictures = await ask("open", {about: app, address: new URL(`ort.js?${app.runtime}${again}`, base).href, wasm, images});
  }
  await ask("take", {graph, files: await Promise.all(Object.keys(sizes).map(own))});
  taken.add(graph);
  at("train").textContent = "Train";
}

// ---- WebGPU, where the browser has it and one asks for it. A step is timed on both, and the faster one trains.
const verdicts = new Map();  // by graph: whether WebGPU trains it, and why
const verdict = (own = network) => at("gpu").checked && verdicts.get(app.networks[own].graph);
async function offer() {
  at("webgpu").hidden = !await navigator.gpu?.requestAdapter().catch(() => null);
  showVerdict();
}
function showVerdict() {
  const load = taken.has("gpu") ? "The next run" : `The next run loads ${megabytes(sum(app.gpu))} more. It`;
  at("gpu-said").textContent = firm(!at("gpu").checked ? "" : verdict()?.why ?? `${load} measures how long one step takes on the processor (CPU) and with WebGPU. The faster one then trains.`);
}
async function compare(network) {
  const name = Object.keys(app.gpu).find(name => name.endsWith("wasm.gz")), {graph} = app.networks[network], ms = time => `${+time.toPrecision(2)} ms`;
  const decide = (gpu, why) => { verdicts.set(graph, {gpu, why: `${why} ${gpu ? "WebGPU" : "the processor"} trains this network.`}); showVerdict(); };
  try {
    say("Loading WebGPU …");
    at("progress").value = 0;
    const wasm = taken.has("gpu") ? null : await Book.bytes(name, app.runtime, n => { at("progress").value += n / app.gpu[name]; });
    if (halted) return;
    say("Measuring how long a step takes on the processor and with WebGPU …");
    const found = await ask("compare", {network, address: new URL(`ort.gpu.js?${app.runtime}${again}`, base).href, wasm});
    taken.add("gpu");
    if (!found) return;
    const {processor, gpu, agree} = found;
    if (agree) decide(gpu < processor, `One step took ${ms(processor)} on the processor and ${ms(gpu)} with WebGPU. So`);
    else decide(false, "One step gave numbers that differ by more than rounding explains. So");
  } catch (fault) {
    again += "&again";
    decide(false, `WebGPU did not work (${fault.message}). So`);
  }
}

// ---- Runs
const runs = [];
let busy = false, halted = false, running = null, seed = 0, made = 0, range = null, watched = 0;
const mean = values => values.reduce((a, b) => a + b, 0) / values.length;
async function work(task) {  // one at a time, with the network that is chosen now
  if (busy) { say("A run is under way. Stop it first."); return; }
  const own = network;
  busy = true;
  halted = false;
  at("progress").value = 0;
  at("progress").hidden = false;
  buttons();
  try {
    await load(own);
    if (at("gpu").checked && !verdict(own) && !halted) await compare(own);
  } catch (fault) {
    again += "&again";
    say(`The files could not be loaded (${fault.message}). Check your connection and try again.`, true);
    task = null;
  }
  if (task && halted) { say("Stopped."); task = null; }
  try { if (task) await task(own); } catch (fault) { say(`Something went wrong: ${fault.message}`, true); }
  running = null;
  busy = false;
  at("progress").hidden = true;
  buttons();
}
function buttons() {
  for (const id of ["train", "again", "find"]) at(id).setAttribute("aria-disabled", busy);
  if (!busy && document.activeElement === at("stop")) at("train").focus();
  at("stop").hidden = !busy;
  at("again").hidden = !runs.length;
  at("seed").textContent = runs.length ? `Train uses seed ${seed} again.` : "";
}
const perEpoch = () => Math.floor(app.train / app.batch);
let due = false;
function redraw() {  // at most once a frame
  if (!due) requestAnimationFrame(() => { due = false; showRuns(); showPlace(); if (range) showRange(); });
  due = true;
}
function lose(network, fault, steps) {  // WebGPU failed in the middle of a run, and the processor goes on
  verdicts.set(app.networks[network].graph, {gpu: false, why: `WebGPU failed (${fault}). So the processor trains this network.`});
  showVerdict();
  return `with WebGPU for ${steps} steps, then on the processor, because WebGPU failed`;
}
async function train(network) {
  const steps = perEpoch() * app.epochs, run = {number: ++made, network, seed, shape: {...curve}, losses: [], smooth: [], tests: [], end: "", by: verdict(network)?.gpu ? "with WebGPU" : ""};
  while (runs.length > 3) runs.shift();
  run.colour = [0, 1, 2, 3].find(c => runs.every(other => other.colour !== c));
  runs.push(run);
  running = run;
  showCurve();
  say(`Run ${run.number}, seed ${seed}: training …`);
  const started = performance.now(), rates = Array.from({length: steps}, (_, k) => rateAt(run.shape, k / perEpoch()));
  await ask("train", {network, seed, rates, tested: true, gpu: !!run.by}, ({loss, test, lost}) => {
    if (lost) run.by = lose(network, lost, run.losses.length);
    else if (test) {
      run.tests.push(test);
      if (run.losses.length) say(`Run ${run.number}, epoch ${run.tests.length - 1} of ${app.epochs}: loss ${run.smooth.at(-1).toFixed(2)}, test accuracy ${test.accuracy.toFixed(1)} %`);
      showFilm();
    } else if (!Number.isFinite(loss)) run.end = "the loss exploded";
    else {
      run.losses.push(loss);
      run.smooth.push(mean(run.losses.slice(-app.smooth)));
      at("progress").value = run.losses.length / steps;
    }
    redraw();
  });
  running = null;
  run.seconds = (performance.now() - started) / 1000;
  if (run.losses.length < steps && !run.end) run.end = `stopped after ${run.losses.length} steps`;
  const last = run.tests.at(-1)?.accuracy;
  say(run.end ? `Run ${run.number}: ${run.end}.` : `Run ${run.number} is done, in ${run.seconds.toFixed(0)} seconds: it is right on ${last.toFixed(1)} % of ${app.test} test images. ${beside(run.network, last)} Guessing gives 10 %.`);
  showRuns();
  showPlace();
  showFilm();
}
const DOUBT = 4;  // points: two standard errors of an accuracy near 30 % on 500 images
// Was it beaten? What three seeds of the best curve of chapter 04 got, or of the same deep network.
function beside(network, accuracy) {
  const best = network === "small" ? app.ways.reduce((a, b) => mean(b.accuracies) > mean(a.accuracies) ? b : a) : app.deep.find(one => one.name === network);
  const [low, high] = [Math.min(...best.accuracies), Math.max(...best.accuracies)], by = Math.max(accuracy - high, low - accuracy);
  return `${network === "small" ? `The best curve of chapter 04, ${best.name},` : `This network, recorded with one cycle to 0.3,`} got ${low.toFixed(1)} to ${high.toFixed(1)} % from three seeds: yours is `
    + (by <= 0 ? "in this range." : `${accuracy > high ? "above" : "below"} this range${by < DOUBT ? `, but by less than the ${DOUBT} points that ${app.test} images leave in doubt` : ""}.`);
}
// Are the differences between curves larger than those between seeds? A sentence, or nothing if there is nothing to compare.
function compared(runs) {
  const whole = runs.filter(run => !run.end && run.losses.length === perEpoch() * app.epochs), groups = {}, end = run => mean(run.losses.slice(-20));
  const setting = run => `${run.network} ${words(run.shape)}`, last = whole.at(-1);
  const twin = whole.find(run => run.by !== last.by && run.seed === last.seed && setting(run) === setting(last));
  if (twin) return `The same curve and the same seed, on the processor and with WebGPU: the final losses differ by ${Math.abs(end(twin) - end(last)).toFixed(3)}. The two round differently, and in many steps this adds up.`;
  for (const run of whole) (groups[setting(run)] ??= new Map()).set(run.seed, end(run));
  const ends = Object.values(groups).map(seeds => [...seeds.values()]), apart = values => Math.max(...values) - Math.min(...values), recorded = Math.max(...[...app.ways, ...app.deep].map(one => apart(one.ends)));
  if (whole.length < 2) return "";
  const between = apart(ends.map(mean)), within = Math.max(...ends.map(apart)), repeated = ends.some(values => values.length > 1);
  const what = new Set(whole.map(run => run.network)).size > 1 ? "settings" : "curves";
  if (ends.length === 1) return repeated ? `You trained one curve from ${ends[0].length} seeds: the final losses differ by up to ${within.toFixed(2)}, by chance alone. Now train a different curve.`
    : "The same curve from the same seed gives the same run.";
  if (!repeated) return `${ends.length} ${what}, one seed each: the final losses differ by up to ${between.toFixed(2)}. Three seeds of one recorded curve differ by up to ${recorded.toFixed(2)}${between > 2 * recorded ? ". This is more than twice as much, so chance alone hardly explains it" : ", so chance may do that too"}. Train one of them with another seed.`;
  const seen = `From one of your ${what} to another, the final losses differ by up to ${between.toFixed(2)} on average. From seed to seed of the same one, they differ by up to ${within.toFixed(2)}.`;
  return between > within ? `${seen} The difference is larger than chance made it here. With so few runs this is a hint, not a proof.`
    : `${seen} Chance alone does as much, so these runs do not show which is better.`;
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
async function find(network) {
  const own = range = {rates: [], losses: [], suggestion: null, done: false, by: verdict(network)?.gpu ? "with WebGPU" : ""};
  at("ranged").hidden = false;
  at("advice").textContent = "";
  say("Range test: the rate climbs …");
  const rates = Array.from({length: SPAN.steps}, (_, k) => SPAN.from * (SPAN.to / SPAN.from) ** (k / (SPAN.steps - 1)));
  await ask("train", {network, seed, rates, tested: false, gpu: !!own.by}, ({loss, lost}) => {
    const k = own.losses.length;
    if (lost) own.by = lose(network, lost, k);
    if (own.done || lost) return;
    own.rates.push(rates[k]);
    own.losses.push(k ? 0.05 * loss + 0.95 * own.losses[k - 1] : loss);
    at("progress").value = (k + 1) / SPAN.steps;
    if (!(own.losses[k] <= 5 * Math.min(...own.losses))) { own.done = true; worker.postMessage({task: "stop"}); }
    redraw();
  });
  if (halted) { say("The range test was stopped."); return; }
  const found = range.suggestion = suggest(range.rates, range.losses);
  range.done = true;
  showRange();
  if (found === null) { say("This range test suggests no rate. Try it with another seed."); return; }
  const peak = Math.min(MOST, found);
  Object.assign(curve, {start: +(peak / 100).toPrecision(2), peak: +peak.toPrecision(2), end: 0});
  showCurve();
  at("advice").textContent = `At a rate of ${short(found)}, the loss has made nine tenths of its fall. This rate is now the peak of your curve.${own.by && ` The steps were computed ${own.by}.`}`;
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
  const area = axes(svg, 180, epochs(), [0, top, [top / 2, top]], {name: "epoch"});
  for (const run of runs) area.line(corners(run.shape), {class: `run ghost th-run${run.colour}`, "stroke-dasharray": DASHES[run.colour]});
  area.line(corners(curve), {class: "curve"});
  const parts = ["start", "peak", "end"];
  corners(curve).forEach(([epoch, rate], k) => {
    const cx = area.X(epoch), cy = area.Y(rate);
    svg.append(drawn("circle", {class: "handle", cx, cy, r: 8}), drawn("circle", {class: "grip", cx, cy, r: 22, "data-part": parts[k]}));
  });
  svg.area = area;
  showPlace();
  at("link").href = address();
  svg.setAttribute("aria-label", `The learning rate over six epochs: ${words(curve)}`);
  for (const part of ["start", "peak", "end", "place"]) {
    const input = at(part), value = part === "place" ? curve.place : slider(curve[part]), text = part === "place" ? `${curve.place}` : short(curve[part]);
    if (document.activeElement !== input || Math.abs(input.value - value) > 1.5) input.value = value;
    input.setAttribute("aria-valuetext", text);
    input.nextElementSibling.textContent = text;
  }
}
function showPlace() {  // where the run that is under way has come to
  const {area} = at("rate"), epoch = running && running.losses.length / perEpoch();
  at("rate").querySelector(".now")?.remove();
  if (running) at("rate").append(drawn("circle", {class: `run now th-run${running.colour}`, cx: area.X(epoch), cy: area.Y(rateAt(running.shape, epoch)), r: 6}));
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
  const deep = network !== "small", grey = deep ? [{...app.ways.at(-1), name: "small"}, ...app.deep] : app.ways, ways = at("compare").checked ? grey : [];
  const seen = [...ways.map(way => way.losses), ...runs.map(run => run.smooth)].flat();
  const fifth = (round, v) => round(5 * v) / 5, low = fifth(Math.floor, Math.min(1.8, ...seen)), high = Math.min(3, fifth(Math.ceil, Math.max(2.4, ...seen)));
  const loss = axes(at("loss"), 260, epochs(), [low, high, [low, (low + high) / 2, high].map(v => +v.toFixed(1))], {name: "epoch"});
  ways.forEach((way, k) => loss.line(way.losses.map((v, i) => [(i + 1) * app.epochs / way.losses.length, v]), {class: "way", "stroke-dasharray": WAYS[k]}));
  ways.forEach((way, k) => {  // the key of the grey lines, at the top right
    const x = loss.right - 180, y = loss.top + 8 + 18 * k;
    at("loss").append(drawn("line", {class: "way", x1: x, y1: y, x2: x + 34, y2: y, "stroke-dasharray": WAYS[k]}), drawn("text", {x: x + 42, y: y + 4}, NAMES[way.name] ?? way.name));
  });
  for (const run of runs) loss.line(run.smooth.map((v, i) => [(i + 1) / perEpoch(), v]), {class: `run th-run${run.colour}`, "stroke-dasharray": DASHES[run.colour]});
  at("loss").setAttribute("aria-label", `Training loss over six epochs, mean of ${app.smooth} steps. `
    + (runs.filter(run => run.smooth.length).map(run => `Run ${run.number} ends at ${run.smooth.at(-1).toFixed(2)}.`).join(" ") || "No run yet."));
  at("greys").textContent = deep ? "Show the three networks, each recorded with one cycle to 0.3, in grey" : "Show the recorded runs of chapter 04 in grey";
  const spans = (part, places) => grey.map(one => `${NAMES[one.name] ?? one.name}: ${Math.min(...one[part]).toFixed(places)} to ${Math.max(...one[part]).toFixed(places)}`).join("; ");
  at("measured").textContent = deep ? `Recorded with one cycle to 0.3, three seeds each, loss of the last 20 steps: ${spans("ends", 2)}.` : "";
  at("accuracies").textContent = firm(`Counted on ${app.test} test images, so each value can be off by about ${DOUBT} points. The recorded runs were tested on 2,000. They got, in %, from three seeds each: ${spans("accuracies", 1)}.`);
  at("verdict").textContent = compared(runs);
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
    card.append(title, make("span", "", `${run.network === "small" ? "" : `${NAMES[run.network]}; `}${words(run.shape)}`),
      make("span", "", run.losses.length ? `loss ${mean(run.losses.slice(-20)).toFixed(3)} (last ${Math.min(20, run.losses.length)} steps)` : ""),
      make("span", "", firm(run.tests.length > 1 ? `test accuracy ${accuracies(run)} %` : "")));
    if (runs.some(one => one.by)) card.append(make("span", "", `trained ${run.by || "on the processor"}`));
    if (run.end) card.append(make("span", "", run.end));
    return card;
  }));
  showGhosts();
}
let ghosts = 0;  // the number of the last run whose curve was drawn
function showGhosts() { if (ghosts !== made) { ghosts = made; showCurve(); } }
const accuracies = run => run.tests.slice(1).map(one => one.accuracy.toFixed(1)).join(", ");

// One test image, before the last run and after each of its epochs; all maps on one scale.
const SIDE = 32, AREA = SIDE * SIDE;
function showFilm() {
  const run = runs.at(-1);
  at("watched").hidden = !run || !run.tests.length;
  if (at("watched").hidden) return;
  const image = pictures.subarray(4 * AREA * watched, 4 * AREA * (watched + 1));
  const label = app.labels[app.train + watched];
  const parts = run.tests.map(({maps, logits}) => ({map: maps.subarray(160 * watched + 16 * label, 160 * watched + 16 * label + 16).map(v => Math.max(0, v)), logits: logits.subarray(10 * watched, 10 * watched + 10)}));
  const most = Math.max(1e-9, ...parts.flatMap(({map}) => [...map]));
  const tile = (name, caption, fill) => {
    const canvas = make("canvas"), box = make("figure"), words = make("figcaption");
    fill(canvas);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", name);
    words.append(...caption);
    box.append(canvas, words);
    return box;
  };
  const picture = tile(`Test image ${watched}, ${app.classes[label]}`, [make("b", "", app.classes[label])], canvas => {
    canvas.width = canvas.height = SIDE;
    canvas.getContext("2d").putImageData(new ImageData(image.slice(), SIDE), 0, 0);
  });
  at("film").replaceChildren(picture, ...parts.map(({map, logits}, e) => {
    const powers = Array.from(logits, v => Math.exp(v - Math.max(...logits))), p = powers[label] / powers.reduce((a, b) => a + b), bar = make("i", "th-bar");
    bar.style.setProperty("--share", `${(100 * p).toFixed(1)}%`);
    const levels = Uint8Array.from({length: AREA}, (_, k) => Math.round(255 * between(map, k % SIDE, Math.floor(k / SIDE)) / most));
    return tile(`Map for ${app.classes[label]}, ${e ? `after epoch ${e}` : "before training"}`,
      [make("b", "", e ? `epoch ${e}` : "before"), bar, make("span", "", firm(`${app.classes[label]} ${(100 * p).toFixed(0)} %`)), make("span", "", `says ${app.classes[powers.indexOf(1)]}`)],
      canvas => Book.overlay(canvas, SIDE, image, levels, colours, 0.5));
  }));
  at("about-film").textContent = `Test image ${watched}, of class ${app.classes[label]}. The colours show where the network finds evidence for ${app.classes[label]}, from dark violet (none) to bright yellow (most), on one scale for the whole row. Beneath each map: the probability of ${app.classes[label]}, and what the network says.`;
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
  at("rate").addEventListener("touchstart", event => { if (event.target.dataset.part) event.preventDefault(); }, {passive: false});  // else the page moves under the finger
  at("rate").addEventListener("pointermove", event => { if (grip) drag(event); });
  for (const kind of ["pointerup", "pointercancel"]) at("rate").addEventListener(kind, () => { grip = null; showCurve(); });
  at("train").addEventListener("click", () => work(train));
  at("again").addEventListener("click", () => { if (!busy) seed++; work(train); });
  at("find").addEventListener("click", () => work(find));
  at("stop").addEventListener("click", () => { halted = true; worker?.postMessage({task: "stop"}); });
  at("more").addEventListener("toggle", offer, {once: true});
  at("gpu").addEventListener("change", () => { verdicts.clear(); showVerdict(); });
  at("networks").addEventListener("change", event => choose(event.target.value));
  at("link").addEventListener("click", () => navigator.clipboard?.writeText(at("link").href)
    .then(() => "The link is copied, and is in the address bar.", () => "The address bar now has the link to this curve.").then(text => say(text)));
  window.addEventListener("hashchange", follow);
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
  if (app.missing) { say(Book.absent("Training", app) + (app.lost ? "" : " Where it is, you press Train and watch the loss fall in your browser, and the map of a test image change after each epoch. The drawing shows three such runs.")); return; }
  colours = Book.bytesOf(app.colours);
  at("app").classList.add("th-on");
  at("work").hidden = at("results").hidden = false;
  const all = sum(app.sizes) + sum(app.networks.small.sizes), more = sum(app.networks.plain.sizes);
  watched = app.first;
  at("train").textContent = firm(`Train (loads ${megabytes(all)})`);
  at("about").textContent = firm(`The first run loads ${megabytes(all)}: the runtime (${app.runtime}), the images and two small graphs. The deep networks load ${(more / 1e6).toFixed(1)} MB more. `
    + `After that, the page also works offline.${app.source === "real" ? "" : " The images of this copy are synthetic, not CIFAR-10."}`);
  listen();
  showCurve();
  showRuns();
  follow();
  at("app").lab = {app, curve, runs, suggest, beside, compared, range: () => range, get network() { return network; }, get seed() { return seed; }, get busy() { return busy; }};  // for the console, and for the check
}
main();
}
