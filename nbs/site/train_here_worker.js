// What computes for the page on which one trains, beside it, so that the page stays smooth.
// A message asks for a task; the answer has `done` or `fault`. While it trains, each loss and each test is a message of its own.
"use strict";
const SIDE = 32, AREA = SIDE * SIDE;
let app = null, runtime = null, webgpu = null, halted = false;  // webgpu: a second runtime, if one asked for it
const graphs = {};  // by name: a step, its file, a test and, if it is the faster one, the step with WebGPU

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
function begin(beginnings, random) {  // the weights as torch draws them, momenta at zero
  const row = new Float32Array(beginnings.reduce((sum, part) => sum + part.length, 0));
  let k = 0;
  for (const {length, bound, value} of beginnings)
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
const placeOf = k => 4 * ((Math.floor(k / app.across) * SIDE * app.across + k % app.across) * SIDE);
async function readImages(file) {
  const bitmap = await createImageBitmap(new Blob([file], {type: "image/webp"}), {colorSpaceConversion: "none", premultiplyAlpha: "none"});
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", {willReadFrequently: true});
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

// ---- The two graphs of a network
const floats = (data, shape) => new runtime.Tensor("float32", data, shape);
async function step(graph, row, chosen, rate, random) {  // the loss of a batch, and the row of numbers after the update
  const images = new Float32Array(app.batch * 3 * AREA);
  chosen.forEach((k, j) => put(images, j, k, random));
  const {new_row, loss} = await graph.run({row: floats(row, [row.length]), images: floats(images, [app.batch, 3, SIDE, SIDE]),
    labels: new runtime.Tensor("int64", BigInt64Array.from(chosen, k => BigInt(app.labels[k])), [app.batch]), rate: floats([rate], [])});
  return {row: new_row.data, loss: loss.data[0]};
}
async function test(graph, row) {  // accuracy in %, and logits and maps of all test images
  const n = app.test, found = {logits: new Float32Array(10 * n), maps: new Float32Array(160 * n)};
  for (let first = 0; first < n; first += app.tested) {
    const images = new Float32Array(app.tested * 3 * AREA);
    for (let j = 0; j < app.tested; j++) put(images, j, app.train + first + j);
    const {logits, maps} = await graph.run({row: floats(row, [row.length]), images: floats(images, [app.tested, 3, SIDE, SIDE])});
    found.logits.set(logits.data, 10 * first);
    found.maps.set(maps.data, 160 * first);
  }
  let right = 0;
  for (let k = 0; k < n; k++) {
    const own = found.logits.subarray(10 * k, 10 * k + 10);
    right += own.indexOf(Math.max(...own)) === app.labels[app.train + k];
  }
  return {...found, accuracy: 100 * right / n};
}
// How far two rows are apart: for each part the distance as a share of the way from `before`, and of these the largest.
function apart(beginnings, before, row, other) {
  const far = (a, b, from, to) => { let sum = 0; for (let k = from; k < to; k++) sum += (a[k] - b[k]) ** 2; return Math.sqrt(sum); };
  let start = 0, most = 0;
  for (const {length} of beginnings) {
    const end = start + length, distance = far(row, other, start, end);
    if (distance !== 0) most = Math.max(most, distance / far(row, before, start, end));
    start = end;
  }
  return most;
}
// Between two steps it may hear a message. (A message of its own comes at once; a timer would wait.)
const channel = new MessageChannel(), waiting = [];
channel.port1.onmessage = () => waiting.shift()();
const pause = () => new Promise(done => { waiting.push(done); channel.port2.postMessage(0); });

const made = (runtime, file, provider) => runtime.InferenceSession.create(file, {executionProviders: [provider], logSeverityLevel: 3});

// ---- Tasks
const tasks = {
  async open({about, address, wasm, images}) {  // returns the pixels of the test images, one after the other
    app = about;
    await readImages(images);
    const ort = await import(address);
    ort.env.wasm.numThreads = 1;  // more threads would need headers that few servers send
    ort.env.wasm.wasmBinary = wasm;
    runtime = ort;
    const shown = new Uint8ClampedArray(4 * AREA * app.test);
    for (let k = 0; k < app.test; k++) for (let y = 0; y < SIDE; y++) {
      const from = placeOf(app.train + k) + 4 * SIDE * app.across * y;
      shown.set(pixels.subarray(from, from + 4 * SIDE), 4 * (AREA * k + SIDE * y));
    }
    return shown;
  },
  async take({graph, files}) {
    const [step, test] = [await made(runtime, files[0], "wasm"), await made(runtime, files[1], "wasm")];
    graphs[graph] = {step, test, file: files[0]};
  },
  // One step on the processor and with WebGPU, in turns: the milliseconds of each, and whether they agree. The faster one stays. Null if it was stopped.
  async compare({network, address, wasm}) {
    if (!webgpu) {
      webgpu = await import(address);
      webgpu.env.wasm.numThreads = 1;
      webgpu.env.wasm.wasmBinary = wasm;
    }
    const {beginnings, graph} = app.networks[network], own = graphs[graph], other = await made(webgpu, own.file, "webgpu");
    const row = begin(beginnings, chance(0)), chosen = Uint16Array.from({length: app.batch}, (_, k) => k), times = [[], []], found = [];
    for (let k = 0; k < 4; k++) for (const [which, session] of [own.step, other].entries()) {  // the first time it only warms up
      const started = performance.now();
      found[which] = await step(session, row, chosen, 0.1, chance(0));
      if (k) times[which].push(performance.now() - started);
      await pause();
      if (halted) { await other.release(); return null; }
    }
    const [processor, gpu] = times.map(three => three.sort((a, b) => a - b)[1]);
    // Rounding decides at a few ReLUs, and may move a part of a deep network by a hundredth of its step. A wrong operator moves more.
    const agree = Math.abs(found[0].loss - found[1].loss) < 1e-4 && apart(beginnings, row, found[0].row, found[1].row) < 0.1;
    if (agree && gpu < processor) own.gpu = other; else await other.release();
    return {processor, gpu, agree};
  },
  async train({network, seed, rates, tested, gpu}) {  // a step at each rate, from the beginning that the seed gives
    const random = chance(seed), perEpoch = Math.floor(app.train / app.batch), {beginnings, graph} = app.networks[network], own = graphs[graph];
    let row = begin(beginnings, random), order, session = gpu ? own.gpu : own.step;
    if (tested) postMessage({test: await test(own.test, row)});
    for (let k = 0; k < rates.length && !halted; k++) {
      const j = k % perEpoch;
      if (!j) order = shuffled(app.train, random);
      const go = () => step(session, row, order.subarray(j * app.batch, (j + 1) * app.batch), rates[k], random);
      const found = await go().catch(fault => {  // the graphics processor may go away
        if (session === own.step) throw fault;
        session = own.step;
        postMessage({lost: fault.message});
        return go();
      });
      row = found.row;
      postMessage({loss: found.loss});
      if (!Number.isFinite(found.loss)) return;
      if (tested && j === perEpoch - 1) postMessage({test: await test(own.test, row)});
      await pause();
    }
  },
};
onmessage = async ({data: {task, ...words}}) => {
  halted = task === "stop";
  if (halted) return;
  try { postMessage({done: await tasks[task](words)}); } catch (fault) { postMessage({fault: fault.message}); }
};
