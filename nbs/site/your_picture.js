// The page for your own picture. The browser computes everything, from files of this site.
// checks/picture_app.py makes the files in ../web; app.json lists them.
"use strict";
{
const {web: base, make, megabytes} = Book;
const at = id => document.getElementById(`yp-${id}`);
const percent = p => p < 0.0005 && p > 0 ? "< 0.1 %" : p >= 0.9995 && p < 1 ? "> 99.9 %" : `${(100 * p).toFixed(1)} %`;
function say(text, more = "", kind = "") { at("said").replaceChildren(make("b", kind, text), more && ` ${more}`); }
const refuse = (text, more) => say(text, more, "yp-fault");

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
function softmax(logits) {
  const most = Math.max(...logits), powers = Array.from(logits, v => Math.exp(v - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map(p => p / sum);
}

// ---- Pictures
// Upright, as EXIF says. The colours as they are stored, as Python reads them.
const read = blob => createImageBitmap(blob, {colorSpaceConversion: "none"});

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

// ---- The network, loaded with the first picture of one's own
let app = null, network = null, queue = Promise.resolve(), tries = 0;  // a browser never asks again for a module that it could not load, unless its address is another
async function open() {
  const bar = at("progress"), all = Object.values(app.sizes).reduce((a, b) => a + b), more = n => { bar.value += n / all; };
  bar.value = 0;
  const [ort, wasm, model] = await Promise.all([import(new URL(`ort.js?${app.runtime}${"&again".repeat(tries++)}`, base)),
    Book.bytes("ort.wasm.gz", app.runtime, more), Book.bytes("model.onnx.gz", app.version, more)]);
  ort.env.wasm.numThreads = 1;  // more threads would need headers that few servers send
  ort.env.wasm.wasmBinary = wasm;
  const session = await ort.InferenceSession.create(model, {executionProviders: ["wasm"]});
  at("size").textContent = "The network is loaded.";
  bar.value = 1;  // a sum of shares may stop short of it
  return async input => {
    const {logits, maps} = await session.run({images: new ort.Tensor("float32", input, [1, 3, app.size, app.size])});
    return {logits: logits.data, maps: maps.data};
  };
}
function ask(input) {  // the network answers one picture at a time
  network ||= open();
  return queue = queue.then(() => network).then(run => run(input));
}

// ---- From a picture to an answer. The picture is shown at once, and its answer as soon as there is one.
let picture = null, answer = null, latest = 0;
async function choose(bringing, name, {tile = null, own = null} = {}) {  // a promise of a blob; `own`: a test image, with its stored answer
  const mine = ++latest;
  if (!canvasIsTrue()) {
    refuse("The colours of a picture cannot be read here.", "Your browser's fingerprinting protection hides them. Allow canvas access for this site, and choose the picture again.");
    return;
  }
  let bitmap;
  try { bitmap = await read(await bringing); } catch {
    if (own) refuse(`${name} could not be loaded.`, "Check your connection, and choose it again.");
    else refuse(`${name} could not be opened as a picture.`, "Please choose a JPEG, PNG, WebP, GIF, AVIF or BMP file.");
    return;
  }
  if (mine !== latest) return;  // another one was chosen since
  const {width, height} = bitmap;
  picture = {name, own, width, height, screen: toScreen(bitmap), window: pictureWindow(width, height), input: toNetwork(bitmap)};
  bitmap.close();
  for (const button of at("pictures").querySelectorAll("button")) button.setAttribute("aria-pressed", button === tile);
  at("wait").hidden = at("answer").hidden = false;
  at("bars").hidden = at("evidence").hidden = at("again").hidden = true;
  showPicture();
  if (own) showAnswer(own);
  else {
    if (at("answer").getBoundingClientRect().top > innerHeight / 2) at("answer").scrollIntoView();
    answerFor(picture);
  }
}
async function answerFor(mine) {
  say(`${mine.name} is ready.`, at("progress").value < 1 ? `Loading the network (${megabytes(size())}); the answer will follow.` : "The network is looking at it.");
  at("again").hidden = true;
  at("progress").hidden = false;
  try {
    const found = await ask(mine.input);
    if (mine === picture) showAnswer(found);
  } catch (fault) {
    [network, queue] = [null, Promise.resolve()];
    if (mine !== picture) return;
    refuse(`The network could not be loaded (${fault.message}).`, `${mine.name} is kept here. Try again when there is a connection.`);
    at("progress").hidden = true;
    at("again").hidden = false;
    at("again").focus();
  }
}
function showAnswer({logits, maps}) {
  const side = Math.sqrt(maps.length / app.classes.length);
  answer = {...picture, logits, maps, w: side, h: side, probabilities: softmax(logits)};
  const order = [...app.classes.keys()].sort((a, b) => answer.probabilities[b] - answer.probabilities[a]);
  const label = answer.own && answer.own.label, right = label ? app.classes.indexOf(label) : order[0];
  [answer.first, answer.second] = [order[0], right === order[0] ? order[1] : right];
  at("app").answer = answer;  // for the console, and for the check
  at("wait").hidden = true;
  at("bars").hidden = at("evidence").hidden = false;
  showBars(order);
  showMaps();
  const [a, b] = [answer.first, answer.second].map(c => `${app.classes[c]} (${percent(answer.probabilities[c])})`);
  say(`${answer.name}: the network says ${a}${label ? right === order[0] ? ", and it is right" : ", and it is wrong" : ""}.`,
    `${right === order[0] ? `The runner-up is ${b}.` : `The right class is ${b}.`} ${inWords()}`);
}

// The map of a class, or of one class rather than another, as in chapter 05: cut off below zero, and enlarged to the square
// that the network sees. Maps that stand side by side share one scale, from 0 to the largest value of all.
function evidence(c, against = null) {
  const {maps, w, h} = answer, area = w * h, value = (k, i) => maps[k * area + i];
  const grid = Float32Array.from({length: area}, (_, i) => Math.max(0, value(c, i) - (against === null ? 0 : value(against, i))));
  return {heat: resize(grid, w, h, app.size, app.size), amount: grid.reduce((a, b) => a + b, 0)};
}
function levelsOf(heat) {  // of the part of the square that holds the picture: 256 steps, at the size of the picture on the screen
  const {w, h, left, top} = answer.window, {width, height} = answer.screen, part = new Float32Array(w * h);
  for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) part[y * w + x] = even(255 * heat[(top + y) * app.size + left + x]);
  return resize(part, w, h, width, height, byte);
}
function inWords() {  // where the contrast on show is strongest
  const {heat, empty} = drawn[2], [a, b] = [answer.first, answer.second].map(c => app.classes[c]);
  return empty ? `Nothing counts for ${a} rather than ${b}.` : `What counts for ${a} rather than ${b} is strongest ${placeOfMost(heat)}.`;
}
function placeOfMost(heat) {  // in words
  const k = heat.indexOf(Math.max(...heat)), {w, h, left, top} = answer.window;
  const third = (x, n) => Math.max(0, Math.min(2, Math.floor(3 * x / n)));
  const row = third(Math.floor(k / app.size) - top, h), column = third(k % app.size - left, w);
  return row === 1 && column === 1 ? "in the middle" : `${["at the top", "half-way down", "at the bottom"][row]}, ${["on the left", "in the middle", "on the right"][column]}`;
}

// ---- What is shown
let drawn = [];  // the maps on show: canvas and levels
function put(canvas, image) {
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.classList.toggle("yp-crisp", picture.screen.width > picture.width);
  canvas.getContext("2d").putImageData(image, 0, 0);
}
function showPicture() {
  put(at("own"), picture.screen);
  at("own").setAttribute("aria-label", `The picture: ${picture.name}`);
  at("own").nextElementSibling.textContent = picture.name;
  const area = app.size ** 2, seen = new ImageData(app.size, app.size);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) seen.data[4 * i + c] = 255 * (picture.input[c * area + i] * app.std[c] + app.mean[c]);
    seen.data[4 * i + 3] = 255;
  }
  put(at("seen"), seen);
  at("seen").parentElement.hidden = Boolean(picture.own);  // it would be the same picture, smaller
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
  const {first, second} = answer, [a, b] = [first, second].map(c => app.classes[c]);
  at("first").value = first;
  at("second").value = second;
  for (const row of at("bars").querySelectorAll("tr")) row.className = {[first]: "yp-first", [second]: "yp-second"}[row.dataset.c] || "";
  const found = [
    ["yp-first", evidence(first), `evidence for ${a}`],
    ["yp-second", evidence(second), `evidence for ${b}`],
    ["yp-contrast", evidence(first, second), `evidence for ${a} rather than ${b}`],
  ], most = Math.max(...found.map(([, {heat}]) => heat.reduce((a, b) => Math.max(a, b)))) || 1;
  drawn = found.map(([kind, {heat: values, amount}, about]) => {
    const box = make("figure", kind), canvas = make("canvas"), caption = make("figcaption"), heat = values.map(v => v / most);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", amount ? `Map of the ${about}, strongest ${placeOfMost(heat)}` : `Map of the ${about}: empty`);
    caption.append(make("i", "yp-mark"), amount ? `${about}: ${amount.toFixed(1)}` : `no ${about}: the map is grey`);
    box.append(canvas, caption);
    return {box, canvas, heat, empty: !amount, levels: levelsOf(heat)};
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
  say(inWords());
}
const fileOf = list => [...list].find(file => file.type.startsWith("image/")) || list[0];
function take(file) { choose(file, file.name || "the picture"); }
function taken(data) {  // of a drop or of the clipboard
  if (data.files.length) take(fileOf(data.files));
  else refuse("That was a link or a text.", "This page needs an image file. Save the picture and drop its file, or copy the picture and paste it.");
}
const inField = event => event.target.closest?.("input:not([type=file]), textarea, [contenteditable]");
function listen() {
  for (const input of [at("file"), at("camera")])
    input.addEventListener("change", () => { if (input.files.length) take(fileOf(input.files)); input.value = ""; });  // so that the same file can be chosen again
  // A drop counts wherever it falls. Otherwise the browser would leave the page and open what was dropped.
  const over = on => event => {
    if (inField(event)) return;
    event.preventDefault();
    document.body.classList.toggle("yp-over", on && event.dataTransfer.types.includes("Files"));
  };
  document.addEventListener("dragover", over(true));
  document.addEventListener("dragleave", event => { if (!event.relatedTarget) over(false)(event); });
  document.addEventListener("drop", event => { over(false)(event); if (event.defaultPrevented) taken(event.dataTransfer); });
  document.addEventListener("paste", event => { if (!inField(event)) { event.preventDefault(); taken(event.clipboardData); } });
  at("again").addEventListener("click", () => answerFor(picture));
  for (const which of ["first", "second"]) {
    at(which).append(...app.classes.map((name, c) => new Option(name, c)));
    at(which).addEventListener("change", () => chosen(which));
  }
  at("opacity").addEventListener("input", () => {
    at("opacity").nextElementSibling.textContent = `${at("opacity").value} %`;
    paint();
  });
}
function showPictures() {
  at("pictures").hidden = !app.pictures.length;
  at("pictures").querySelector(".yp-tiles").append(...app.pictures.map(own => {
    const {file, index, label} = own, button = make("button"), image = make("img"), name = `Test image ${index}, ${/^[aeiou]/.test(label) ? "an" : "a"} ${label}`;
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    Object.assign(image, {src: new URL(file, base), alt: name, title: name, draggable: false});
    button.append(image);
    button.addEventListener("click", () => choose(fetch(image.src).then(found => found.blob()), name, {tile: button, own}));
    return button;
  }));
  at("pictures").querySelector("button")?.click();
}
const size = () => Object.values(app.sizes).reduce((a, b) => a + b);
function about() {  // the size of the network, and what smaller weights cost, if that was measured on these weights
  const {chosen, precisions, images} = app.record, precision = chosen === "half" ? "its weights in half precision" : `most of its weights in ${chosen.replace(" ", "\u00a0")}`;
  const file = `The network is ${megabytes(app.sizes["model.onnx.gz"])}, with ${precision}. The runtime (${app.runtime}) is ${megabytes(app.sizes["ort.wasm.gz"])}.`;
  if (!precisions) return file;
  const share = name => `${precisions[name].accuracy.toFixed(2)}\u00a0%`, moved = 255 * precisions[chosen].maps_moved_in_99_percent_at_most;
  return `${file} The network is right on ${share(chosen)} of ${images.toLocaleString("en")} test images, ${share(chosen) === share("float32") ? "as in float32" : `in float32 on ${share("float32")}`}. `
    + `In 99 of 100 images, the rounded weights change no part of the map by more than ${moved.toFixed(1)} of 256 colour steps.`;
}
async function main() {
  app = await Book.parts("app.json");
  if (app.missing) { say(Book.absent("The network", app)); return; }
  colours = Book.bytesOf(app.colours);
  const steps = [0, 64, 128, 192, 255].map(k => `rgb(${colours.slice(3 * k, 3 * k + 3).join()})`);
  at("scale").style.background = `linear-gradient(to right, ${steps.join()})`;
  at("size").textContent = `The first picture of your own loads the network, ${megabytes(size())}.`;
  at("about").textContent = about();
  at("choose").hidden = at("about").hidden = false;
  listen();
  showPictures();
}
main();
}
