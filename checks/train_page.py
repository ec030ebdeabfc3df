"""The page on which one trains, in a real browser, by keyboard and by pointer: `python checks/train_page.py`.

Where there is no Chromium or Chrome, no npm or no onnx it says so and ends well.
"""
import base64
import json
import re
from pathlib import Path

import numpy as np
import torch

from cifar_gradcam.data import CIFAR10_MEAN, CIFAR10_STD
from cifar_gradcam.engine.batches import Changes, change_batch, crop_windows
from cifar_gradcam.engine.datasets import cifar10
from cifar_gradcam.lr_finder import NoPeak, suggest_lr
from explorer import same
from pages import check_in_browser, check_screen, keep_pictures
from train_app import BATCH, build_alone, NETWORKS, RECORD
from train_judge import apart, torch_step, with_decisions

SAID = "document.querySelector('#th-said').textContent.replaceAll('\\u00a0', ' ')"
APP = "document.querySelector('#th-app')"
LAB = APP + ".lab"


def button(name): return f"document.querySelector('#th-{name}')"


def open_page(browser, address, curve=""):
    browser.call("Page.navigate", url="about:blank")  # else a new curve behind # loads nothing
    browser.call("Page.navigate", url=f"{address}train_here.html{curve}")
    browser.until("document.readyState === 'complete'")
    browser.until(f"!!{LAB}")


def press(browser, name, key="Enter"):
    browser.run(button(name) + ".focus()")
    browser.press(key)


def curve(browser): return browser.run(f"({{...{LAB}.curve}})")


def done(browser): browser.until(f"!{LAB}.busy")


def drag(browser, part, x, y, touch=False):
    "Pull a handle by the mouse or by a finger to an epoch and a rate."
    found = browser.run(f"(s => {{ s.scrollIntoView({{block: 'center', behavior: 'instant'}}); const b = s.getBoundingClientRect(), g = s.querySelector('[data-part={part}]'), "
                        "r = g.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2, "
                        f"b.x + s.area.X({x}), b.y + s.area.bottom - {y} * (s.area.bottom - s.area.Y(0.25)) / 0.25]; }})({button('rate')})")
    places = [found[:2], np.mean([found[:2], found[2:]], axis=0).tolist(), found[2:]]
    if touch:
        for kind, place in zip(("touchStart", "touchMove", "touchMove"), places):
            browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": place[0], "y": place[1]}])
        browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        return
    for kind, place in zip(("mousePressed", "mouseMoved", "mouseMoved", "mouseReleased"), [*places, places[-1]]):
        browser.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", buttons=1, clickCount=1)


def pull_all(browser, touch):
    drag(browser, "peak", 3, 0.6, touch)  # beyond the top of the axis, which grows then
    same(browser.run(f"{button('rate')}.textContent.includes('0.25')"), False, "the axis has grown")
    drag(browser, "peak", 3, 0.8, touch)
    drag(browser, "start", 0, 0.25, touch)
    drag(browser, "end", 6, 0.1, touch)
    found, by = curve(browser), "finger" if touch else "mouse"
    same(found["place"], 3, f"epoch of the peak, by {by}")
    for part, wanted in (("start", 0.25), ("peak", 0.8), ("end", 0.1)):
        if abs(found[part] - wanted) > 0.01: raise AssertionError(f"{part} by {by}: {found[part]}, wanted {wanted}")
    return found


def check_touch(browser, address):
    "On a phone a finger draws the curve, and the page stays where it is."
    browser.size(390, 844)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    open_page(browser, address)
    browser.run(f"{button('rate')}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    before = browser.run("scrollY")
    pull_all(browser, touch=True)
    same(browser.run("scrollY"), before, "the page under the finger")
    browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
    browser.size(1440, 900)


def check_link(browser, address):
    "An address brings a curve, a seed and a network, and the page gives such an address."
    given = {"start": 0.1, "peak": 0.2, "end": 0.05, "place": 3}
    open_page(browser, address, "#0.1,0.2,0.05,3,seed=7,plain")
    same((curve(browser), browser.run(f"[{LAB}.seed, {LAB}.network]")), (given, [7, "plain"]), "by an address")
    same(browser.run("document.querySelector('#th-networks :checked').value"), "plain", "and the choice shows it")
    for wrong in ("#how", "#1,2,3", "#0.1,0.2,0..5,3"):
        browser.run(f"location.hash = '{wrong}'")
        same(curve(browser), given, f"{wrong} changes nothing")
    browser.run("location.hash = '#9,0.3,0,99'")
    browser.until(f"{LAB}.seed === 0")
    same(curve(browser), {"start": 3, "peak": 0.3, "end": 0, "place": 5.75}, "numbers beyond the axes")
    browser.click(button("more") + ".querySelector('summary')")
    press(browser, "peak", "ArrowRight")
    browser.click(button("link"))
    after = curve(browser)
    same(browser.run("location.hash"), f"#{after['start']},{after['peak']},{after['end']},{after['place']},seed=0", "the address of the page")
    browser.until(f"{SAID}.includes('address bar')")


def check_curve(browser):
    "The curve follows the mouse and the keys, and nothing was loaded for that."
    same(curve(browser), {"start": 0.003, "peak": 0.3, "end": 0, "place": 1.5}, "it begins with one cycle")
    found = pull_all(browser, touch=False)
    press(browser, "more > summary")
    for part, key, more in (("start", "ArrowRight", True), ("peak", "ArrowLeft", False), ("place", "ArrowRight", True), ("end", "ArrowLeft", False)):
        for _ in range(4): press(browser, part, key)
        after = curve(browser)[part]
        same((after > found[part], after < found[part]), (more, not more), f"{part} by keyboard")
        same(browser.run(f"{button(part)}.getAttribute('aria-valuetext')"), browser.run(f"{button(part)}.nextElementSibling.textContent"), "its value in words")
    for part, key, last in (("peak", "ArrowRight", 3), ("end", "ArrowLeft", 0)):
        for _ in range(205): press(browser, part, key)
        same(curve(browser)[part], last, f"{part}: the key held down reaches the end")
    same([url for url in browser.requested if "/ort." in url or ".onnx" in url or "images.webp" in url], [], "loaded before it was asked for")
    browser.click(f"[...{button('ways')}.querySelectorAll('button')].at(-1)")
    same(curve(browser), {"start": 0.003, "peak": 0.3, "end": 0, "place": 1.5}, "one cycle again")


def check_failure(browser):
    "What does not come, and comes at the second try."
    browser.call("Network.setBlockedURLs", urls=["*step.onnx*"])  # of the page: what its worker asks for cannot be blocked so
    browser.click(button("train"))
    browser.until(f"{SAID}.startsWith('The files could not be loaded')")
    done(browser)
    browser.call("Network.setBlockedURLs", urls=[])
    browser.logged.clear()  # the browser's own word about that


def check_step(browser, folder, name, seed=5, runtime="runtime", provider="wasm"):
    "One step in the browser is torch's step: same images, same changes, same weights, same decisions at the ReLUs."
    done(browser)
    graph = base64.b64encode(with_decisions(folder / "web" / f"{NETWORKS[name]}-step.onnx")).decode()
    found = browser.run(f"""(async () => {{
      const row = begin(app.networks.{name}.beginnings, chance({seed})), chosen = Uint16Array.from({{length: app.batch}}, (_, k) => 31 * k);
      const drawn = [], random = chance(9), found = await step(await made({runtime}, graphs[app.networks.{name}.graph].file, "{provider}"), row, chosen, 0.2, () => {{ const x = random(); drawn.push(x); return x; }});
      const open = await made({runtime}, Uint8Array.from(atob("{graph}"), c => c.charCodeAt(0)), "{provider}"), passed = [];
      const again = await step({{run: async given => {{
        const {{new_row, loss, ...values}} = await open.run(given);
        for (const {{data}} of open.outputNames.slice(2).map(name => values[name])) {{
          const bits = new Uint8Array(data.length / 8);
          data.forEach((v, k) => {{ bits[k >> 3] |= (v > 0) << (k & 7); }});
          passed.push([...bits]);
        }}
        return {{new_row, loss}};
      }}}}, row, chosen, 0.2, chance(9));
      await open.release();
      const whole = new Float32Array(3072); put(whole, 0, app.train + 7);
      return {{row: [...row], after: [...found.row], loss: found.loss, drawn, whole: [...whole], passed, same: again.row.every((v, k) => v === found.row[k])}}; }})()""", browser.workers[-1])
    same(found["same"], True, "a graph that tells its decisions takes the same step")
    data, chosen = cifar10(train=True), 31 * torch.arange(BATCH)
    drawn = np.array(found["drawn"]).reshape(BATCH, 5)
    top, left, mirrored, cut_top, cut_left = (torch.tensor(np.floor(drawn[:, k] * n).astype(int)) for k, n in enumerate((9, 9, 2, 17, 17)))
    images = change_batch(crop_windows(data.data[:2000], 4), chosen, Changes(top, left, mirrored.bool(), cut_top, cut_left), 16)
    passed = [torch.tensor(np.unpackbits(np.uint8(bits), bitorder="little").astype(bool)) for bits in found["passed"]]
    wanted, loss, otherwise = torch_step(name, torch.tensor(found["row"]), images, torch.tensor(np.array(data.targets))[chosen], 0.2, passed)
    if abs(loss - found["loss"]) > 1e-5: raise AssertionError(f"{name}, loss: {found['loss']}, torch {loss}")
    at_most, share = apart(name, torch.tensor(found["after"]), wanted)
    if at_most > 1e-5 or share > 2e-5: raise AssertionError(f"{name}: after a step, numbers are {at_most:.2g} apart from torch's, a part of the gradient {share:.2g} of its length")
    if len(otherwise) > 9 or max(map(abs, otherwise), default=0) > 1e-5: raise AssertionError(f"{name}: these values pass a ReLU otherwise than in torch: {otherwise}")
    whole = (cifar10(train=False).data[7] / 255 - np.array(CIFAR10_MEAN)) / np.array(CIFAR10_STD)
    if abs(np.array(found["whole"]).reshape(3, 32, 32) - whole.transpose(2, 0, 1)).max() > 1e-5: raise AssertionError("a test image is not what it should be")


def check_deep(browser, folder):
    "The deep networks: loaded when they are chosen, the recorded runs behind them, and their steps."
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    ends = [record["ways"]["one cycle to 0.3"]["ends"], *(record["networks"][name]["ends"] for name in list(NETWORKS)[1:])]
    if not min(ends[2]) > max(*ends[0], *ends[1]): raise AssertionError(f"the page says that depth without shortcuts did worse: {ends}")
    same([url for url in browser.requested if "deep-" in url], [], "deep networks, before one was chosen")
    for name in list(NETWORKS)[1:]:
        browser.click(f"document.querySelector('#th-networks [value={name}]')")
        for one in ends: same(f"{min(one):.2f} to {max(one):.2f}" in browser.run(f"{button('measured')}.textContent"), True, "what was recorded, in words")
        same(browser.run("[...document.querySelectorAll('#th-loss text')].map(t => t.textContent).slice(-3)"), ["small", "deep, with shortcuts", "deep, without"], "the grey lines")
        press(browser, "train")
        browser.until(f"{LAB}.runs.at(-1)?.network === '{name}' && {LAB}.runs.at(-1).losses.length > 1")
        press(browser, "stop")
        done(browser)
        for seed in range(2): check_step(browser, folder, name, seed)
    browser.run("document.querySelector('#th-networks :checked').focus()")
    browser.press("ArrowDown")
    same(browser.run(f"{LAB}.network"), "small", "after the last, the first again, by keyboard")


def check_compared(browser):
    "The sentence that compares runs: Python finds the same differences."
    length = browser.run(f"{LAB}.app.epochs * Math.floor({LAB}.app.train / {LAB}.app.batch)")

    def said(*given):  # curve, seed, loss
        return browser.run(f"{LAB}.compared({json.dumps([{'end': '', 'network': 'small', 'shape': {'start': peak, 'peak': peak, 'end': peak, 'place': 1}, 'seed': seed, 'losses': [loss] * length, 'by': ''.join(by)} for peak, seed, loss, *by in given])})")
    same(said((1, 0, 2.0)), "", "one run")
    same("same run" in said((1, 0, 2.0), (1, 0, 2.0)), True, "the same run twice")
    same("2 seeds: the final losses differ by up to 0.10" in said((1, 0, 2.0), (1, 1, 1.9), (1, 1, 1.9)), True, "two seeds")
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    chance = max(np.ptp(one["ends"]) for one in (*record["ways"].values(), *record["networks"].values()))
    for other in (1.7, 1.85, 1.95):
        found = said((1, 0, 2.0), (2, 0, other))
        for part in (f"2 curves, one seed each: the final losses differ by up to {2 - other:.2f}.", f"Three seeds of one recorded curve differ by up to {chance:.2f}{'. This is more than twice as much, so chance alone hardly explains it' if 2 - other > 2 * chance else ', so chance may do that too'}."):
            same(part in found, True, f"two curves, {other}: {found}")
    same("same seed, on the processor and with WebGPU: the final losses differ by 0.030" in said((1, 0, 2.0), (1, 1, 1.9), (1, 0, 1.97, "with WebGPU")), True, "one run in two ways")
    same("2 seeds: the final losses differ by up to 0.10" in said((1, 0, 2.0), (1, 1, 1.9, "with WebGPU")), True, "two seeds, in two ways")
    for runs, word in ((((1, 0, 2.0), (1, 1, 1.9), (2, 0, 1.7), (2, 1, 1.62)), "a hint, not a proof"), (((1, 0, 2.0), (1, 1, 1.7), (2, 0, 1.8)), "do not show which")):
        by = {peak: [loss for other, _, loss in runs if other == peak] for peak, *_ in runs}
        between, within = np.ptp([np.mean(v) for v in by.values()]), max(np.ptp(v) for v in by.values())
        same((f"up to {between:.2f} on average" in said(*runs), f"up to {within:.2f}." in said(*runs), word in said(*runs), between > within), (True, True, True, "hint" in word), "curves and seeds")


def check_beside(browser):
    "Below, in and above what three recorded seeds got, in words."
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    best = max(record["ways"], key=lambda way: np.mean(record["ways"][way]["accuracies"]))
    for network, got, name in (("small", record["ways"][best]["accuracies"], best), *((name, one["accuracies"], "This network") for name, one in record["networks"].items())):
        for shift, words in ((-5, "below this range."), (-1, "below this range, but by less"), (0, "in this range."), (1, "above this range, but by less"), (5, "above this range.")):
            found = browser.run(f"{LAB}.beside('{network}', {max(got) + shift if shift > 0 else min(got) + shift})")
            for part in (name, f"{min(got):.1f} to {max(got):.1f} %", words): same(part in found, True, f"{network}, {shift} points beyond the record: {found!r} says {part!r}")


def busy(browser):
    "Seconds of the processor that the page itself has used, without its worker."
    return next(one["value"] for one in browser.call("Performance.getMetrics")["metrics"] if one["name"] == "TaskDuration")


def check_runs(browser):
    "Train, stop, another seed; four runs are kept."
    browser.call("Performance.enable", timeDomain="threadTicks")
    before = busy(browser)
    press(browser, "train")
    browser.until(f"{LAB}.runs.length === 1 && {LAB}.runs[0].losses.length > 40")
    browser.click(button("train"))
    same(browser.run(SAID), "A run is under way. Stop it first.", "one at a time")
    done(browser)
    one = browser.run(f"(r => ({{seed: r.seed, n: r.losses.length, tests: r.tests.map(t => t.accuracy), first: r.losses[0], last: r.smooth.at(-1), end: r.end}}))({LAB}.runs[0])")
    same((one["seed"], one["n"], len(one["tests"]), one["end"]), (0, 186, 7, ""), "a whole run")
    if not (2 < one["first"] < 3 and one["last"] < one["first"] - 0.3): raise AssertionError(f"it did not learn: {one}")
    same((browser.run(f"{SAID}.includes({LAB}.beside('small', {one['tests'][-1]}))"), browser.run("/\\d (%|seconds)/.test(document.querySelector('#th-said').textContent)")), (True, False), "the result beside the record; numbers and their units on one line")
    for way, about in json.loads(RECORD.read_text(encoding="utf-8"))["ways"].items():
        same(f"{way}: {min(about['accuracies']):.1f} to {max(about['accuracies']):.1f}" in browser.run(f"{button('accuracies')}.textContent"), True, "what the recorded runs got")
    same(browser.run("document.querySelectorAll('#th-film canvas').length"), 8, "the picture, a map before training and after each epoch")
    per_step = (busy(browser) - before) / 186
    if per_step > 0.02: raise AssertionError(f"the page itself needed {1000 * per_step:.0f} ms of the processor a step; it is to draw, and no more")
    same(len(browser.workers), 1, "a worker computes")
    before = browser.run(f"{button('about-film')}.textContent")
    press(browser, "next")
    same(browser.run(f"{button('about-film')}.textContent") != before, True, "another image")
    browser.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    browser.click(button("train"))
    browser.until(f"{LAB}.runs.length === 2 && {LAB}.runs[1].losses.length > 3")
    browser.click(button("stop"))
    done(browser)
    same(browser.run(f"{LAB}.runs[1].end.startsWith('stopped after')"), True, "stopped by mouse")
    same(browser.run(f"{LAB}.runs[1].losses.slice(0, 3)"), browser.run(f"{LAB}.runs[0].losses.slice(0, 3)"), "same seed, same curve: same run")
    for k in range(3):
        press(browser, "again", " ")
        browser.until(f"{LAB}.runs.at(-1).seed === {k + 1} && {LAB}.runs.at(-1).losses.length > 2")
        press(browser, "stop")
        done(browser)
    browser.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    same(browser.run(f"{LAB}.runs.map(r => r.number)"), [2, 3, 4, 5], "the last four are kept")
    same(browser.run(f"new Set({LAB}.runs.map(r => r.colour)).size"), 4, "each with its own colour")
    same(browser.run("document.querySelectorAll('#th-runs li').length"), 4, "and its card")


def check_range(browser):
    "The range test suggests what Python reads off the same curve, and the suggestion is the peak."
    press(browser, "find")
    browser.until(f"!!{LAB}.range()")
    done(browser)
    found = browser.run(f"{LAB}.range()")
    wanted = suggest_lr(found["rates"], found["losses"])
    if abs(found["suggestion"] / wanted - 1) > 1e-9: raise AssertionError(f"it suggests {found['suggestion']}, Python {wanted}")
    same(curve(browser)["peak"], float(f"{min(3, wanted):.2g}"), "the suggestion lands on the curve")
    rates = np.geomspace(1e-4, 10, 100).tolist()
    record = json.loads((Path(__file__).parents[1] / "cifar_gradcam" / "records" / "small_network.json").read_text(encoding="utf-8"))
    for losses in [*record["losses"][:12], list(np.linspace(2, 1, 100)), [2.0] * 100]:
        try: wanted = suggest_lr(rates[:len(losses)], losses)
        except NoPeak: wanted = None
        got = browser.run(f"{LAB}.suggest({json.dumps(rates[:len(losses)])}, {json.dumps(losses)})")
        same(got if got is None else round(got, 9), wanted if wanted is None else round(wanted, 9), "a recorded curve, read as Python does")


def train_a_little(browser, steps=3):
    "Press Train, and stop after a few steps: the run, and what stands on its card."
    made = browser.run(f"{LAB}.runs.at(-1)?.number ?? 0")
    press(browser, "train")
    browser.until(f"!{LAB}.busy || {LAB}.runs.at(-1)?.number > {made} && {LAB}.runs.at(-1).losses.length >= {steps}")
    press(browser, "stop")
    done(browser)
    same(browser.run(f"{LAB}.runs.at(-1).number"), made + 1, "a run")
    return browser.run(f"(({{losses, by}}) => ({{losses, by, card: document.querySelector('#th-runs li:last-child').textContent}}))({LAB}.runs.at(-1))")


def try_webgpu(browser, change=""):
    "Ask for WebGPU again after a change in the worker, and train a little: the run, and what the page says of WebGPU."
    if change: browser.run(change + "; 0", browser.workers[-1])
    while not browser.run(f"{button('gpu')}.checked") or change:
        press(browser, "gpu", " ")
        if browser.run(f"{button('gpu')}.checked"): break
    run = train_a_little(browser, 6)
    return run, browser.run(f"{button('gpu-said')}.textContent")


def check_webgpu(browser, folder, address, screenshots=None):
    "In a browser with WebGPU, where a program is the graphics processor: it comes when one asks, its steps are torch's, and only a faster one that agrees trains."
    browser.size(1440, 900)
    open_page(browser, address)
    press(browser, "more > summary")
    browser.until(f"{button('webgpu')}.checkVisibility()")
    alone = train_a_little(browser, 6)
    asked = "[...new Set(performance.getEntriesByType('resource').map(e => e.name))].filter(name => name.includes('ort.gpu')).length"
    same((browser.run(asked), alone["by"], "trained" in alone["card"]), (0, "", False), "WebGPU, before one asked")
    press(browser, "gpu", " ")
    size = sum((folder / "web" / name).stat().st_size for name in ("ort.gpu.js", "ort.gpu.wasm.gz"))
    same(f"loads {size / 1e6:.0f} MB" in browser.run(f"{button('gpu-said')}.textContent.replace('\\u00a0', ' ')"), True, "what it would load")
    # The first steps: both are timed, the program is the slower one, about a hundred times. A stopwatch tells them apart, even on a busy machine.
    run, said = try_webgpu(browser)
    figures = re.fullmatch(r"One step took ([\d.]+)\sms on the processor and ([\d.]+)\sms with WebGPU. So the processor trains this network.", said)
    if not figures: raise AssertionError(f"the page says: {said}")
    processor, gpu = map(float, figures.groups())
    same((run["by"], run["losses"][:6]), ("", alone["losses"][:6]), "the slower one does not train")
    timed = browser.run("""(async () => {
      const found = [], row = begin(app.networks.small.beginnings, chance(0)), chosen = Uint16Array.from({length: app.batch}, (_, k) => k);
      for (const session of [graphs.small.step, await made(webgpu, graphs.small.file, "webgpu")]) {
        const times = [];
        for (let k = 0; k < 5; k++) {
          const started = Date.now();
          await step(session, row, chosen, 0.1, chance(0));
          times.push(Date.now() - started);
        }
        found.push(Math.min(...times));
      }
      return found; })()""", browser.workers[-1])
    for one, other in zip((processor, gpu), timed):
        if not 1 / 50 < one / other < 50: raise AssertionError(f"the page says {processor} and {gpu} ms, a stopwatch {timed}")
    if screenshots: keep_pictures(browser, screenshots, "webgpu-slower-")
    check_step(browser, folder, "small", 5, "webgpu", "webgpu")
    # A processor that waits: now WebGPU is the faster one, and trains the same run but for rounding.
    browser.run(f"globalThis.kept = graphs.small.step; globalThis.calls = 0; graphs.small.step = {{run: async given => {{ calls++; await new Promise(done => setTimeout(done, {3 * gpu})); return kept.run(given); }}}}; 0", browser.workers[-1])
    run, said = try_webgpu(browser, "0")
    same((said.endswith("ms with WebGPU. So WebGPU trains this network."), run["by"], "trained with WebGPU" in run["card"]), (True, "with WebGPU", True), "the faster one trains")
    same(browser.run("calls", browser.workers[-1]), 4, "steps on the processor, all of them to compare")
    gap = np.abs(np.subtract(run["losses"][:6], alone["losses"][:6])).max()
    if not 0 < gap < 1e-3: raise AssertionError(f"losses of the same run on the processor and with WebGPU: {alone['losses']}, {run['losses']}")
    same(browser.run("document.querySelector('#th-runs li').textContent.includes('trained on the processor')"), True, "and the others say what trained them")
    if screenshots: keep_pictures(browser, screenshots, "webgpu-faster-")
    check_own_screen(browser)
    # WebGPU that is wrong, that does not come and that goes away. Here the processor's own session plays it, with the fault.
    browser.run("graphs.small.step = {run: async given => { await new Promise(done => setTimeout(done, 200)); return kept.run(given); }}; 0", browser.workers[-1])
    play = "webgpu.InferenceSession.create = async () => ({release() {}, run: async given => { const found = await kept.run(given), row = found.new_row.data.slice(); %s }})"
    parts = browser.run(f"{LAB}.app.networks.small.beginnings.map(part => part.length)")
    same(parts[13], 16, "the momenta of the 16 biases of the first batch norm")
    for wrong in ("row[row.length - 1] += 1; return {...found, new_row: {data: row}};", f"row.fill(0, {sum(parts[:13])}, {sum(parts[:14])}); return {{...found, new_row: {{data: row}}}};", "return {...found, loss: {data: [found.loss.data[0] + 0.001]}};"):
        run, said = try_webgpu(browser, play % wrong)
        same((said, run["by"]), ("One step gave numbers that differ by more than rounding explains. So the processor trains this network.", ""), wrong)
    run, said = try_webgpu(browser, "webgpu.InferenceSession.create = async () => { throw new Error('no device'); }")
    same((said, run["by"], run["losses"][:6]), ("WebGPU did not work (no device). So the processor trains this network.", "", alone["losses"][:6]), "without a device")
    run, said = try_webgpu(browser, play % "return found;")
    same((said.endswith("So WebGPU trains this network."), run["by"], run["losses"][:6]), (True, "with WebGPU", alone["losses"][:6]), "a session that is right")
    press(browser, "find")
    browser.until(f"!!{LAB}.range()")
    done(browser)
    same(browser.run(f"{button('advice')}.textContent.endsWith('The steps were computed with WebGPU.')"), True, "what computed a range test")
    browser.click(f"[...{button('ways')}.querySelectorAll('button')].at(-1)")
    browser.run("globalThis.calls = 0; 0", browser.workers[-1])
    run, said = try_webgpu(browser, play % "if (++calls > 7) throw new Error('the device is lost'); return found;")
    same((said, run["by"], run["losses"][:3]), ("WebGPU failed (the device is lost). So the processor trains this network.",
         "with WebGPU for 3 steps, then on the processor, because WebGPU failed", alone["losses"][:3]), "a device that goes away")
    open_page(browser, address)
    press(browser, "more > summary")
    browser.until(f"{button('webgpu')}.checkVisibility()")
    browser.call("Network.setBlockedURLs", urls=["*ort.gpu.wasm*"])
    run, said = try_webgpu(browser)
    same((said, run["by"]), ("WebGPU did not work (Failed to fetch). So the processor trains this network.", ""), "a file that does not come")
    browser.call("Network.setBlockedURLs", urls=[])
    same([one for one in browser.logged if "ort.gpu.wasm" not in str(one)], [], "logged as error or warning")
    same([url for url in browser.requested if not url.startswith(address) and not url.startswith("blob:")], [], "asked of another server")


def check_own_screen(browser):
    check_screen(browser, APP)
    same(browser.run(f"[...{APP}.querySelectorAll('canvas, svg:not([aria-hidden])')].filter(c => c.checkVisibility()).every(c => c.getAttribute('aria-label'))"), True, "names of the drawings")
    same(browser.run("document.querySelector('#th-said').getAttribute('aria-live')"), "polite", "what is said is announced")


def check_still(browser, address):
    "On paper and without a script, the three ways stand as a drawing."
    seen = "[document.querySelector('#th-figure').checkVisibility(), document.querySelector('#th-work').checkVisibility()]"
    same(browser.run(seen), [False, True], "with a script")
    browser.call("Emulation.setEmulatedMedia", media="print")
    same(browser.run(seen), [True, False], "on paper")
    browser.call("Emulation.setEmulatedMedia", media="")
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.call("Page.navigate", url=address + "train_here.html")
    browser.until("document.readyState === 'complete'")
    same(browser.run(seen), [True, False], "without a script")
    browser.call("Emulation.setScriptExecutionDisabled", value=False)


def check_missing(browser, folder, address):
    kept = (folder / "web" / "train.json").read_text(encoding="utf-8")
    (folder / "web" / "train.json").write_text(json.dumps({"missing": "needs npm"}), encoding="utf-8")
    browser.call("Network.setCacheDisabled", cacheDisabled=True)
    browser.call("Page.navigate", url=address + "train_here.html")
    browser.until(f"document.readyState === 'complete' && {SAID} !== ''")
    same(browser.run(f"{SAID}.startsWith('Training is not in this copy of the site: it needs npm. Where it is, you press Train')"), True, "a site without it")
    same(browser.run(f"{button('figure')}.checkVisibility()"), True, "the still figure stays")
    (folder / "web" / "train.json").write_text(kept, encoding="utf-8")


def keep_screenshots(browser, folder, address):
    "A page with four runs and a range test, at both widths and in both themes."
    browser.size(1440, 900)
    open_page(browser, address)
    browser.run(f"{button('more')}.open = true")
    for k in range(3):
        browser.click(f"{button('ways')}.querySelectorAll('button')[{k}]")
        browser.click(button("train"))
        browser.until(f"{LAB}.runs.length === {k + 1}")
        done(browser)
    browser.click(button("find"))
    browser.until(f"!!{LAB}.range()")
    done(browser)
    browser.click(button("again"))
    browser.until(f"{LAB}.runs.length === 4")
    done(browser)
    keep_pictures(browser, folder)


def check_page(browser, folder, address, screenshots=None):
    "All of it on a page that is served; `folder` is where its files are."
    browser.size(1440, 900)
    open_page(browser, address)
    check_curve(browser)
    check_failure(browser)
    check_runs(browser)
    check_step(browser, folder, "small")
    check_range(browser)
    check_deep(browser, folder)
    check_compared(browser)
    check_beside(browser)
    check_own_screen(browser)
    check_touch(browser, address)
    check_link(browser, address)
    if screenshots: keep_screenshots(browser, screenshots, address)
    check_still(browser, address)
    same(([url for url in browser.requested if "ort.gpu" in url], browser.run(f"{button('webgpu')}.checkVisibility()")), ([], False), "WebGPU, in a browser without it")
    same([one for one in browser.logged if one.get("text") != "No available adapters."], [], "logged as error or warning")
    same([url for url in browser.requested if not url.startswith(address) and not url.startswith("blob:")], [], "asked of another server")
    check_missing(browser, folder, address)


if __name__ == "__main__": check_in_browser("the page on which one trains", build_alone, "train.json", (check_page,), (check_webgpu, "--enable-unsafe-webgpu"))
