// The page for your own picture. The browser computes everything, from files of this site.
// checks/picture_app.py makes the files in ../web; app.json lists them.
"use strict";
{
const {web: base, make, megabytes} = Book;
const at = id => document.getElementById(`yp-${id}`);
const percent = p => p < 0.0005 && p > 0 ? "< 0.1 %" : p >= 0.9995 && p < 1 ? "> 99.9 %" : `${(100 * p).toFixed(1)} %`;
function say(text, fault = false) { at("said").textContent = text; at("said").classList.toggle("yp-fault", fault); }

// ---- Numbers. This code rounds and resamples exactly as Python and Pillow do.
function even(x) {  // to the nearest whole number, halves to the even one
  const whole = Math.floor(x), rest = x - whole;
  return rest > 0.5 || (rest === 0.5 && whole % 2) ? whole + 1 : whole;
}
const BOX = {reach: 0.5, weight: x => x > -0.5 && x <= 0.5 ? 1 : 0};
const BILINEAR = {reach: 1, weight: x => Math.max(0, 1 - Math.abs(x))};

const FINE = 2 ** 22;  // Pillow stores weights in steps of 1 / FINE, so values half-way between two bytes are rounded alike

// A row of `from` pixels becomes `to` pixels: for each new pixel, the first old one that it uses, and the weights.
function taps(from, to, filter) {
  const scale = from / to, wide = Math.max(scale, 1), reach = filter.reach * wide;
  return Array.from({length: to}, (_, k) => {
    const centre = (k + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5)), end = Math.min(from, Math.trunc(centre + reach + 0.5));
    const weights = Array.from({length: end - first}, (_, i) => filter.weight((first + i - centre + 0.5) / wide));
    const sum = weights.reduce((a, b) => a + b, 0);
    return {first, weights: weights.map(w => Math.floor(w / sum * FINE + 0.5) / FINE)};
  });
}
const exact = x => x, byte = x => Math.floor(x + 0.5);

// Resize a map from w × h to W × H, first across, then down. In between, values are rounded as in Pillow.
function resize(values, w, h, W, H, round = exact) {
  const across = taps(w, W, BILINEAR), down = taps(h, H, BILINEAR);
  const between = new Float32Array(W * h), out = new Float32Array(W * H);
  const sum = (from, start, step, {first, weights}) => {
    let total = 0;
    for (let i = 0; i < weights.length; i++) total += weights[i] * from[start + step * (first + i)];
    return round(total);
  };
  for (let y = 0; y < h; y++) for (let x = 0; x < W; x++) between[y * W + x] = sum(values, y * w, 1, across[x]);
  for (let y = 0; y < H; y++) for (let x = 0; x < W; x++) out[y * W + x] = sum(between, x, W, down[y]);
  return out;
}
function stretch(values) {  // to the range from 0 to 1; a constant map becomes 0
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  return values.map(v => (v - low) / (high > low ? high - low : 1));
}
function softmax(logits) {
  const most = Math.max(...logits), powers = Array.from(logits, v => Math.exp(v - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map(p => p / sum);
}

// ---- Pictures
// Upright, as EXIF says. The colours as they are stored, as Python reads them.
const read = blob => createImageBitmap(blob, {imageOrientation: "from-image", colorSpaceConversion: "none"});

function sheet(width, height) {  // a canvas to read from, white
  const canvas = make("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingEnabled = false;
  context.fillStyle = "white";
  return context;
}
function pictureWindow(width, height) {  // where the whole picture lies in the square that the network sees
  const [w, h] = [width, height].map(side => Math.max(1, even(app.size * side / Math.max(width, height))));
  return {w, h, left: Math.floor((app.size - w) / 2), top: Math.floor((app.size - h) / 2)};
}
// The picture as the network sees it, averaged over boxes as in `to_network`. It is drawn in bands, one for each row
// of the result, because a whole photo may be larger than a phone's canvas can be.
function toNetwork(bitmap) {
  const {width, height} = bitmap, {w, h, left, top} = pictureWindow(width, height), area = app.size ** 2;
  const across = taps(width, w, BOX), down = taps(height, h, BOX);
  const context = sheet(width, Math.max(...down.map(tap => tap.weights.length)));
  const input = new Float32Array(3 * area);
  for (let c = 0; c < 3; c++)  // around the picture: the mean colour, as a whole grey value
    input.fill((Math.round(255 * app.mean[c]) / 255 - app.mean[c]) / app.std[c], c * area, (c + 1) * area);
  down.forEach((rows, y) => {
    const n = rows.weights.length;
    context.fillRect(0, 0, width, n);
    context.drawImage(bitmap, 0, rows.first, width, n, 0, 0, width, n);
    const pixels = context.getImageData(0, 0, width, n).data;
    across.forEach((columns, x) => {
      for (let c = 0; c < 3; c++) {
        let mean = 0;
        for (let r = 0; r < n; r++) {
          let along = 0;
          for (let i = 0, p = 4 * (r * width + columns.first) + c; i < columns.weights.length; i++, p += 4)
            along += columns.weights[i] * pixels[p];
          mean += rows.weights[r] * byte(along);
        }
        input[c * area + (top + y) * app.size + left + x] = (byte(mean) / 255 - app.mean[c]) / app.std[c];
      }
    });
  });
  return input;
}
// For the screen: a small picture enlarged, its pixels crisp, a photo no larger than a screen shows.
const MOST = 1024, LEAST = 320;
function toScreen(bitmap) {
  const longest = Math.max(bitmap.width, bitmap.height);
  const factor = longest > MOST ? MOST / longest : Math.max(1, Math.floor(LEAST / longest));
  const [width, height] = [bitmap.width, bitmap.height].map(side => Math.max(1, Math.round(side * factor)));
  const context = sheet(width, height);
  context.imageSmoothingEnabled = longest > MOST;
  context.imageSmoothingQuality = "high";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}
// Some browsers return noise instead of what a page has drawn. Every answer would then be about the noise.
function canvasIsTrue() {
  const context = sheet(16, 16);
  for (let k = 0; k < 16; k++) { context.fillStyle = `rgb(${16 * k}, ${255 - 16 * k}, 99)`; context.fillRect(k, 0, 1, 16); }
  const pixels = context.getImageData(0, 0, 16, 16).data;
  return pixels.every((value, i) => value === [16 * (i / 4 % 16 | 0), 255 - 16 * (i / 4 % 16 | 0), 99, 255][i % 4]);
}

// ---- The network
let app = null, session = null, Tensor = null;
const address = name => new URL(`${name}?${app.version}`, base);
async function bytes(name, more) {  // of a file; `more` hears the length of each part as it arrives
  const answer = await fetch(address(name)), parts = [];
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  for (const reader = answer.body.getReader();;) {
    const {done, value} = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    more(value.length);
  }
}
async function load() {
  const bar = at("progress"), all = Object.values(app.sizes).reduce((a, b) => a + b), quarter = () => Math.floor(4 * bar.value);
  at("load").disabled = true;
  bar.hidden = false;
  bar.value = 0;
  say("Loading …");
  const more = n => {
    const before = quarter();
    bar.value += n / all;
    if (quarter() > before) say(`Loading … ${25 * quarter()} %`);  // not at each step: screen readers read it out
  };
  try {
    const [runtime, wasm, model] = await Promise.all([import(address("ort.js")), bytes("ort.wasm", more), bytes("model.onnx", more)]);
    runtime.env.wasm.numThreads = 1;  // more threads would need headers that few servers send
    runtime.env.wasm.wasmBinary = wasm;
    session = await runtime.InferenceSession.create(model, {executionProviders: ["wasm"]});
    Tensor = runtime.Tensor;
  } catch (fault) {
    say(`The network could not be loaded (${fault.message}). Check your connection and try again.`, true);
    at("load").disabled = false;
    bar.hidden = true;
    return;
  }
  at("start").hidden = true;
  at("choose").hidden = false;
  say("The network is loaded. Choose a picture.");
  at("file").focus();
}
async function ask(input) {
  const images = new Tensor("float32", input, [1, 3, app.size, app.size]), {logits, maps} = await session.run({images});
  return {input, logits: logits.data, maps: maps.data, h: maps.dims[2], w: maps.dims[3]};
}

// ---- From a picture to an answer
let answer = null, queue = Promise.resolve();
function choose(bringing, name, tile = null) {  // a promise of a blob; the network answers one picture at a time
  if (!session) { say("Load the network first.", true); at("load").focus(); return; }
  queue = queue.then(() => answerFor(bringing, name, tile)).catch(fault => say(`Something went wrong: ${fault.message}`, true));
}
async function answerFor(bringing, name, tile) {
  let bitmap;
  say(`Looking at ${name} …`);
  if (!canvasIsTrue()) {
    say("This browser does not let the page read pixels, so the network cannot see your picture. Please allow canvas access for this site.", true);
    return;
  }
  try { bitmap = await read(await bringing); } catch {
    say(`This browser cannot read ${name} as a picture. Try JPEG, PNG or WebP. Safari also reads HEIC.`, true);
    return;
  }
  const found = await ask(toNetwork(bitmap)), {width, height} = bitmap;
  answer = {...found, name, width, height, screen: toScreen(bitmap), window: pictureWindow(width, height), probabilities: softmax(found.logits)};
  bitmap.close();
  const order = [...app.classes.keys()].sort((a, b) => answer.probabilities[b] - answer.probabilities[a]);
  [answer.first, answer.second] = order;
  at("app").answer = answer;  // for the console, and for the check
  for (const button of at("pictures").querySelectorAll("button")) button.setAttribute("aria-pressed", button === tile);
  at("answer").hidden = false;
  showPicture();
  showBars(order);
  showMaps();
  say(`${name}: ${order.slice(0, 3).map(c => `${app.classes[c]} ${percent(answer.probabilities[c])}`).join(", ")}`);
  if (at("answer").getBoundingClientRect().top > innerHeight / 2) at("answer").scrollIntoView();
}

// The map of a class, or of one class rather than another, as `explain` in chapter 05 makes it: cut off below zero,
// stretch, enlarge to the square that the network sees, and stretch again.
function evidence(c, against = null) {
  const {maps, w, h} = answer, area = w * h, value = (k, i) => maps[k * area + i];
  const grid = Float32Array.from({length: area}, (_, i) => Math.max(0, value(c, i) - (against === null ? 0 : value(against, i))));
  return {heat: stretch(resize(stretch(grid), w, h, app.size, app.size)), amount: grid.reduce((a, b) => a + b, 0)};
}
function levelsOf(heat) {  // of the part of the square that holds the picture: 256 steps, at the size of the picture on the screen
  const {w, h, left, top} = answer.window, {width, height} = answer.screen, part = new Float32Array(w * h);
  for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) part[y * w + x] = even(255 * heat[(top + y) * app.size + left + x]);
  return resize(part, w, h, width, height, byte);
}
function placeOfMost(heat) {  // in words
  const k = heat.indexOf(Math.max(...heat)), {w, h, left, top} = answer.window;
  const third = (x, n) => Math.max(0, Math.min(2, Math.floor(3 * x / n)));
  const row = third(Math.floor(k / app.size) - top, h), column = third(k % app.size - left, w);
  return row === 1 && column === 1 ? "in the middle" : `${["at the top", "half-way down", "at the bottom"][row]}, ${["left", "middle", "right"][column]}`;
}

// ---- What is shown
let drawn = [];  // the maps on show: canvas and levels
function put(canvas, image) {
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.classList.toggle("yp-crisp", answer.screen.width > answer.width);
  canvas.getContext("2d").putImageData(image, 0, 0);
}
function showPicture() {
  put(at("own"), answer.screen);
  at("own").setAttribute("aria-label", `The picture: ${answer.name}`);
  const area = app.size ** 2, seen = new ImageData(app.size, app.size);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) seen.data[4 * i + c] = 255 * (answer.input[c * area + i] * app.std[c] + app.mean[c]);
    seen.data[4 * i + 3] = 255;
  }
  put(at("seen"), seen);
}
function showBars(order) {  // the whole table is made here, because Quarto restyles tables that stand in the page
  const table = make("table"), body = make("tbody");
  table.append(make("caption", "", "Probability of each class"), body);
  at("bars").replaceChildren(table);
  body.append(...order.map(c => {
    const row = make("tr"), name = make("th", "", app.classes[c]), bar = make("td"), strip = make("i"), p = answer.probabilities[c];
    name.scope = "row";
    row.dataset.c = c;
    strip.style.width = `${100 * p}%`;
    bar.append(strip);
    bar.setAttribute("aria-hidden", "true");
    row.append(name, bar, make("td", "", percent(p)));
    return row;
  }));
}
function showMaps() {
  const {first, second, logits} = answer, [a, b] = [first, second].map(c => app.classes[c]);
  at("first").value = first;
  at("second").value = second;
  for (const row of at("bars").querySelectorAll("tr")) row.className = {[first]: "yp-first", [second]: "yp-second"}[row.dataset.c] || "";
  const logit = c => `logit ${logits[c].toFixed(1)}`;
  drawn = [
    ["yp-first", evidence(first), `evidence for ${a}`, logit(first)],
    ["yp-second", evidence(second), `evidence for ${b}`, logit(second)],
    ["yp-contrast", evidence(first, second), `evidence for ${a} rather than ${b}`, `the logits differ by ${(logits[first] - logits[second]).toFixed(1)}`],
  ].map(([kind, {heat, amount}, about, score]) => {
    const box = make("figure", kind), canvas = make("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", amount ? `Map of the ${about}, strongest ${placeOfMost(heat)}` : `Map of the ${about}: empty`);
    box.append(canvas, make("figcaption", "", amount ? `${about}: ${amount.toFixed(1)} (${score})` : `no ${about} (${score})`));
    return {box, canvas, heat, levels: levelsOf(heat)};
  });
  at("maps").replaceChildren(...drawn.map(map => map.box));
  answer.heats = drawn.map(map => map.heat);
  paint();
}
function paint() {  // as `lay_over` in chapter 18: the colours of the map over the picture in grey
  const {width, height, data} = answer.screen, a = at("opacity").value / 100;
  for (const {canvas, levels} of drawn) {
    const out = new ImageData(width, height), o = out.data;
    for (let i = 0, k = 0; i < levels.length; i++, k += 4) {
      const grey = (1 - a) * (0.299 * data[k] + 0.587 * data[k + 1] + 0.114 * data[k + 2]), colour = 3 * levels[i];
      for (let c = 0; c < 3; c++) o[k + c] = grey + a * colours[colour + c];
      o[k + 3] = 255;
    }
    put(canvas, out);
  }
}
let colours = null;

// ---- Everything together
function chosen(which) {  // the same class twice has no contrast, so the two change places
  const other = which === "first" ? "second" : "first", before = answer[which];
  answer[which] = +at(which).value;
  if (answer[other] === answer[which]) answer[other] = before;
  showMaps();
  const [a, b] = [answer.first, answer.second].map(c => app.classes[c]);
  say(`Maps for ${a}, for ${b}, and for ${a} rather than ${b}.`);
}
const fileOf = list => [...list].find(file => file.type.startsWith("image/")) || list[0];
function takeFile(file) { if (file) choose(file, file.name || "the picture"); }
function listen() {
  at("load").addEventListener("click", load);
  for (const input of [at("file"), at("camera")])
    input.addEventListener("change", () => { takeFile(fileOf(input.files)); input.value = ""; });  // so that the same file can be chosen again
  const over = on => event => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();  // otherwise the browser leaves the page and opens the file
    at("drop").classList.toggle("yp-over", on);
  };
  at("app").addEventListener("dragover", over(true));
  at("app").addEventListener("dragleave", over(false));
  at("app").addEventListener("drop", event => { over(false)(event); takeFile(fileOf(event.dataTransfer.files)); });
  document.addEventListener("paste", event => {
    if (event.clipboardData.files.length) { event.preventDefault(); takeFile(fileOf(event.clipboardData.files)); }
  });
  for (const which of ["first", "second"]) {
    at(which).append(...app.classes.map((name, c) => new Option(name, c)));
    at(which).addEventListener("change", () => chosen(which));
  }
  at("opacity").addEventListener("input", () => {
    at("opacity").nextElementSibling.textContent = `${at("opacity").value} %`;
    paint();
  });
}
function showPictures() {
  at("pictures").hidden = !app.pictures.length;
  at("pictures").querySelector(".yp-tiles").append(...app.pictures.map(({file, index, label}) => {
    const button = make("button"), image = make("img"), name = `test image ${index}, ${/^[aeiou]/.test(label) ? "an" : "a"} ${label}`;
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    image.src = new URL(file, base);
    image.alt = name;
    image.title = name;
    button.append(image);
    button.addEventListener("click", () => choose(fetch(image.src).then(found => found.blob()), name, button));
    return button;
  }));
}
function about() {  // the size of the network, and what smaller weights cost, if that was measured on these weights
  const {chosen, precisions, images} = app.record, precision = chosen === "half" ? "in half precision" : `in ${chosen}`;
  const file = `The network is ${megabytes(app.sizes["model.onnx"])}, with its weights ${precision}. The runtime (${app.runtime}) is ${megabytes(app.sizes["ort.wasm"])}.`;
  if (!precisions) return file;
  const share = name => `${precisions[name].accuracy.toFixed(2)} %`, {bytes, maps_moved_in_99_percent_at_most: moved} = precisions["8 bits"];
  return `${file} This network is right on ${share(chosen)} of ${images.toLocaleString("en")} test images; in float32 it is right on ${share("float32")}.`
    + (chosen === "8 bits" ? "" : ` With 8 bits per weight it would be ${megabytes(bytes)} and right on ${share("8 bits")}, `
    + `but in one image of a hundred, some place in the map would change by more than ${moved}, on a range from 0 to 1.`);
}
async function main() {
  app = await Book.parts("app.json");
  if (app.missing) { say(`The network is not in this copy of the site: it ${app.missing}.`); return; }
  colours = Book.bytesOf(app.colours);
  const all = Object.values(app.sizes).reduce((a, b) => a + b);
  at("load").textContent = `Load the network (${megabytes(all)})`;
  at("start").hidden = false;
  at("about").textContent = about();
  at("about").hidden = false;
  listen();
  showPictures();
}
main();
}
