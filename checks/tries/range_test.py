"Chapter 03: drag a rate along recorded range tests, and their smoothing; the test accuracy at the nearest recorded peak."
import json
from functools import cache

import numpy as np

from explorer import check_units, same

NOTEBOOK = "03_lr_finder"
STILL = "fig-full-size"
BOX = "document.querySelector('#try-range_test')"
SAID = BOX + ".querySelector('.try-said').textContent.replaceAll('\\u00a0', ' ')"
CROSSED = f"""(box => [...box.querySelectorAll('svg .named')].filter(name => {{
  const a = name.getBoundingClientRect(), all = [...box.querySelectorAll('svg')[0].querySelectorAll('text, circle, polyline, .axis')];
  return a.left < box.getBoundingClientRect().left || a.right > box.getBoundingClientRect().right
    || all.map(one => [one, one.getBoundingClientRect()]).some(([one, b]) => one !== name && a.left < b.right && b.left < a.right && a.top < b.bottom - 3 && b.top + 3 < a.bottom);
}}).map(name => name.textContent))({BOX})"""
PEAKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4)  # of the small network: chapter 10a


def unsmooth(losses, f=0.05): return np.r_[losses[0], (np.asarray(losses[1:]) - (1 - f) * np.asarray(losses[:-1])) / f]


def smooth(losses, f):
    found = [losses[0]]
    for loss in losses[1:]: found.append(f * loss + (1 - f) * found[-1])
    return np.array(found)


@cache
def sets():
    "By network: its name, its tests as (words, rates, losses), and what training reached, as (peak, accuracies, found by a range test)."
    from cifar_gradcam.lab.series import load_series, records_folder
    stored = {name: json.loads((records_folder() / f"{name}.json").read_text()) for name in ("range_tests", "small_network", "ten-epochs/range_test")}
    found, whole, ladder = {}, stored["ten-epochs/range_test"], np.geomspace(1e-4, 10, 100).tolist()
    for name, series in (("ResNet-18", "wide"), ("16 channels", "sgd"), ("16 channels, Adam", "adam")):
        arms = load_series(f"peaks-{series}")
        own = arms.pop("range-test")
        tests = [(f"the one before the run with seed {run.recipe.seed}", run.range_test.lrs, run.range_test.losses) for run in own]
        trained = [(float(peak), [run.accuracy for run in runs], False) for peak, runs in arms.items()]
        trained += [(run.range_test.suggestion, [run.accuracy], True) for run in own]
        found[name] = (tests, trained, "one epoch, one seed each" if series == "wide" else "two epochs, three seeds each", "To repeat the runs below:", f"cifar_gradcam experiment peaks-{series}")
    found["ResNet-18"][0][:0] = [("the one of this chapter", whole["lrs"], whole["losses"]),
                                 *((f"one that begins at a rate of {r['start_lr']:g}, with seed {r['seed']}", r["lrs"], r["losses"]) for r in stored["range_tests"])]
    small = stored["small_network"]
    found["small network"] = ([(f"number {k % 10 + 1} of ten with the weights of seed {k // 10}", ladder[:len(losses)], losses) for k, losses in enumerate(small["losses"])],
                              [(peak, reached, False) for peak, reached in zip(PEAKS, small["accuracies"])], "four epochs of 2,000 images, three seeds each", "To repeat the tests and the runs, set in chapter 10a", "again\u00a0=\u00a0True")
    return found


def parts(folder):
    "Per network: raw losses of each test, and the accuracies of each trained peak."
    return {"sets": [{"name": name, "tests": [{"words": words, "lrs": [float(f"{lr:.6g}") for lr in lrs], "raw": np.round(unsmooth(losses), 5).tolist()}
                                              for words, lrs, losses in tests],
                      "trained": [{"peak": float(f"{peak:.3g}"), "reached": np.round(reached, 2).tolist(), "found": by_test} for peak, reached, by_test in trained],
                      "length": length, "where": where, "command": command} for name, (tests, trained, length, where, command) in sets().items()]}


def suggestion(lrs, losses):
    from cifar_gradcam.lr_finder import NoPeak, suggest_lr
    try: return suggest_lr(lrs, losses)
    except NoPeak: return None


def check(browser):
    "By keyboard and by pointer: the suggestions are those of `suggest_lr`, and the nearest peak is the one on record."
    from cifar_gradcam.lr_finder import NoPeak, suggest_lr
    recorded, rate = sets(), BOX + ".querySelector('[role=slider]')"
    inputs = {name: f"{BOX}.querySelectorAll('input[type=range]')[{k}]" for k, name in enumerate(("f", "test"))}

    def put(name, value): browser.run(f"{{const i = {inputs[name]}; i.value = {value}; i.dispatchEvent(new Event('input', {{bubbles: true}}))}}")

    def as_said(network):
        tests, trained, *_ = recorded[network]
        f, test = (browser.run(inputs[name] + ".nextElementSibling.textContent") for name in ("f", "test"))
        words, lrs, losses = tests[int(test.split(" of ")[0]) - 1]
        same((test.split(" of ")[1], words in browser.run(BOX + ".textContent")), (str(len(tests)), True), "the test that is shown")
        at, said = float(browser.run(rate + ".getAttribute('aria-valuetext')")), browser.run(SAID)
        peak, reached, _ = min(trained, key=lambda one: abs(np.log(one[0] / at)))
        if abs(float(said.removeprefix("Test accuracy ").split()[0]) - np.mean(reached)) > 0.051: raise AssertionError(f"{network}, rate {at}: {said!r} should begin with {np.mean(reached):.1f} %")
        wanted = [f"% with a peak of {float(f'{peak:.3g}'):g}"]
        curve = smooth(unsmooth(losses), float(f))
        try: wanted += [f"suggests {suggest_lr(lrs, curve):.3g}".replace("e-05", "e-5"), f"steepest at {suggest_lr(lrs, curve, rule='steepest'):.3g}"]
        except NoPeak: wanted.append("suggests no rate")
        for words in wanted:
            if words not in said: raise AssertionError(f"{network}, {test}, f {f}, rate {at}: {said!r} should say {words!r}")
        raw = unsmooth(losses)
        high = np.ceil(10 * min(raw.max(), 1.6 * raw[0]) + 1) / 10
        same(browser.run(f"[{BOX}.querySelectorAll('.cut').length, [...{BOX}.querySelectorAll('svg .r')].some(t => t.textContent === '{high:.1f}')]"), [int((raw > high).sum()), True], f"marks of losses above the axis, and its end: {network}, {test}")
        suggested = [one for _, lrs, losses in tests if (one := suggestion(lrs, smooth(unsmooth(losses), float(f))))]
        missing = len(tests) - len(suggested)
        if suggested:
            wanted = f"{f'{len(suggested)} of the' if missing else 'All'} {len(tests)} tests of this network suggest {min(suggested):.3g} to {max(suggested):.3g}" + ("" if not missing else "; the other one suggests no rate" if missing == 1 else f"; the other {missing} suggest no rate")
            if wanted.replace("e-05", "e-5") + "." not in said: raise AssertionError(f"{said!r} should say {wanted!r}")
        same(browser.run(CROSSED), [], f"names that something crosses: {network}, {test}, f {f}")
        return at, said
    same(as_said("ResNet-18")[0], 0.0167, "it begins with the suggestion of the chapter")
    for network in recorded:
        browser.run(f"[...{BOX}.querySelectorAll('.try-choice label')].find(l => l.textContent === {json.dumps(network)}).querySelector('input').click()")
        for f in (2, 0, 5, 9):  # 0.05, 0.02, 0.15, none
            put("f", f)
            for test in (1, 2, len(recorded[network][0])):
                put("test", test)
                as_said(network)
            browser.size(390, 844)
            browser.until(f"(svg => svg.clientWidth < 390 && svg.viewBox.baseVal.width === svg.clientWidth)({BOX}.querySelector('svg'))")
            as_said(network)
            browser.size(1440, 900)
            browser.until(f"(svg => svg.clientWidth > 390 && svg.viewBox.baseVal.width === svg.clientWidth)({BOX}.querySelector('svg'))")
    put("f", 2)
    before = as_said("small network")[0]
    browser.run(rate + ".focus()")
    for _ in range(10): browser.press("ArrowLeft")
    if not 0.3 < as_said("small network")[0] / before < 0.33: raise AssertionError("ten steps of 12 % down, by keyboard")
    for drawing, x in ((0, 0.9), (1, 0.3)):
        browser.click(f"{BOX}.querySelectorAll('.try-stage')[{drawing}]", x, 0.4)
        after = as_said("small network")[0]
        if not (0.5 < after < 10 if x > 0.5 else 0.0005 < after < 0.01): raise AssertionError(f"a click at {x} of the width gives {after}")
    same(browser.run("document.querySelector('a[href=\"#fig-full-size\"]')"), None, "links to the still figure lead to the box")
    check_units(browser, BOX)
