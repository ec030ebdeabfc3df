"Chapter 04: drag a schedule; the nearest runs that were recorded."
import json
import re
from functools import cache

import numpy as np
import torch

from explorer import check_units, same

NOTEBOOK = "04_onecycle_training"
BOX = "document.querySelector('#try-one_cycle')"
SAID = BOX + ".querySelector('.try-said').textContent.replaceAll('\\u00a0', ' ')"
HEIGHT = BOX + ".querySelector('input[type=range]')"
POINTS = 101  # at which a schedule is kept, over the whole run
TRIALS = ("cifar_gradcam train --recipe reference --epochs 20 --max-lr-epoch 4 --batch-size 250 --max-lr 0.5 --matrix-lr 0.04 --final-lr 1e-4 "
          "--label-smoothing 0.1 --width 32 --limit 25000 --hold-out 5000, with one change a trial")


def shares(schedule, rise=0.25, final=1e-4, anneal="linear"):
    "A recorded schedule as the package makes it: the rate as a share of its peak, at evenly spread steps."
    from cifar_gradcam.train import advance, make_schedule
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1, momentum=0.9)
    options = dict(max_lr_epoch=1000 * rise, final_lr=final, anneal=anneal) if schedule == "OneCycle" else {}
    steps, found = 1000, []
    plan = make_schedule(schedule, optimizer, 1.0, steps, 1, **options)
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        advance(plan)
    return [round(found[round(k * (steps - 1) / (POINTS - 1))], 4) for k in range(POINTS)]


def shape_of(recipe):
    "What the rate of a recipe does, apart from its peak, and what makes it."
    if recipe.schedule != "OneCycle":
        return {"Constant": "is constant", "Step": "does not rise. It falls to a tenth after half of the run, and to a tenth of that after three quarters",
                "Cosine": "does not rise. It falls along a cosine to zero"}[recipe.schedule], dict(schedule=recipe.schedule)
    rise, wave = recipe.max_lr_epoch / recipe.epochs, " along a cosine" * (recipe.anneal == "cosine")
    name = f"rises{wave} for {100 * rise:g} % of the run, then falls{wave or ' in a straight line'} to {100 * recipe.final_lr:g} % of the peak"
    return name, dict(schedule="OneCycle", rise=rise, final=recipe.final_lr, anneal=recipe.anneal)


@cache
def sets():
    "The recorded runs that may stand beside each other: optimizer, length, what they are, command, and the runs by arm."
    from cifar_gradcam.lab.series import load_series
    first, tuned, wide = (load_series(name) for name in ("schedule-peaks", "schedules", "candidates-wide"))
    tuned.pop("OneCycle-momentum")  # the same rates as OneCycle
    original, reference, run = load_series("baselines"), load_series("reference"), "cifar_gradcam experiment "
    whole, half, quarter = "ResNet-18", "ResNet-18 with 32 channels in place of 64", "ResNet-18 with 16 channels in place of 64"
    return [
        ("SGD", "4 epochs", "ResNet-18 with 8 channels in place of 64", f"{run}schedule-peaks; {run}schedules", {**first, **tuned}),
        ("SGD", "2 epochs", quarter, f"{run}peaks-sgd", load_series("peaks-sgd")),
        ("SGD", "1 epoch", whole, f"{run}peaks-wide", load_series("peaks-wide")),
        ("SGD", "20 epochs, a quarter of the channels", f"{quarter}, on 30,000 training images", f"{run}peaks-long", load_series("peaks-long")),
        ("SGD", "20 epochs, the eleven lines", whole, f"{run}tutorial", load_series("tutorial")),
        ("SGD", "20 epochs", whole, f"{run}baselines", {"original": original["original_sgd"]}),
        ("Adam", "2 epochs", quarter, f"{run}peaks-adam", load_series("peaks-adam")),
        ("Adam", "20 epochs", whole, f"{run}baselines", {"original": original["original"]}),
        ("Muon", "2 epochs", quarter, f"{run}peaks-muon", load_series("peaks-muon")),
        ("Muon", "20 epochs, half the channels", f"{half}, on 20,000 training images", TRIALS, trials()),
        ("Muon", "20 epochs, 20,000 images", f"{whole} on 20,000 training images", f"{run}candidates-wide", {name: wide[name] for name in ("before", "floor")}),
        ("Muon", "20 epochs", whole, f"{run}reference", {"20-epochs": reference["20-epochs"]}),
    ]


def trials():
    "Of the trials of chapter 10 those that differ in nothing but their rates."
    from cifar_gradcam.engine.runs import History, load_recipe
    from cifar_gradcam.lab.series import RunRecord, shipped_records
    names, folder = ("first_recipe", "max_lr_0.5", "max_lr_2", "max_lr_0.5_max_lr_epoch_1", "anneal_cosine"), shipped_records("search")
    return {name: [RunRecord(load_recipe(folder / name), History.load(folder / name / "history.csv"),
                             json.loads((folder / name / "metrics.json").read_text()), None, None)] for name in names}


def peak_of(run): return run.range_test.suggestion if run.recipe.max_lr is None else run.recipe.max_lr


def curve(run):
    "Its accuracy after each epoch; after the last one as it was measured with the finished network."
    return [round(value, 2) for value in (*run.history.column("test_accuracy")[:-1], run.accuracy)]


def parts(folder):
    "For each set its schedules and its arms; for each run of an arm its peak and its accuracy after each epoch."
    found = []
    for optimizer, length, what, command, arms in sets():
        kept, shapes = [], {}
        for runs in arms.values():
            name, plan = shape_of(runs[0].recipe)
            shapes.setdefault(name, shares(**plan))
            chosen = [[run] for run in runs] if runs[0].recipe.max_lr is None else [runs]  # each range test finds a peak of its own
            kept += [{"shape": [*shapes].index(name), "peak": float(f"{peak_of(group[0]):.3g}"), "found": group[0].recipe.max_lr is None,
                      "held": group[0].recipe.hold_out, "runs": [curve(run) for run in group]}
                     for group in chosen]
        found.append({"optimizer": optimizer, "length": length, "what": what, "command": command, "arms": kept,
                      "epochs": runs[0].recipe.epochs, "shapes": [{"name": name, "shares": values} for name, values in shapes.items()]})
    return {"sets": found}


def check(browser):
    "By keyboard and by pointer: the nearest run is the one that Python finds, by the schedules of torch."
    knob = BOX + ".querySelector('[aria-label=\"{}\"]')"
    steps = "{0}.focus(); for (let k = 0; k < {1}; k++) {0}.dispatchEvent(new KeyboardEvent('keydown', {{key: '{2}', bubbles: true}}))"

    places = set()  # of the last drawing, whose handle one may hold while the text above it changes

    def choose(name): browser.run(f"[...{BOX}.querySelectorAll('.try-choice label')].find(l => l.textContent === {json.dumps(name)}).querySelector('input').click()")

    def value(name): return browser.run(knob.format(name) + ".getAttribute('aria-valuetext')")

    def as_said(optimizer, length, anneal="linear"):
        arms = next(arms for one, other, _, _, arms in sets() if (one, other) == (optimizer, length))
        epoch, epochs = (float(word) for word in value("Epoch of the peak").removeprefix("epoch ").split(" of "))
        final, peak = float(value("Final rate").split()[0]) / 100, float(value("Peak"))
        mine = np.array(shares("OneCycle", max(epoch / epochs, 1e-9), final, anneal))
        far = {name: np.abs(mine - shares(**shape_of(runs[0].recipe)[1])).mean() for name, runs in arms.items()}
        near = [run for name, runs in arms.items() for run in runs if np.isclose(far[name], min(far.values()))]
        nearest = min((peak_of(run) for run in near), key=lambda other: abs(np.log(other / peak)))
        by_images = {}
        for run in near:
            if np.isclose(peak_of(run), nearest, rtol=0.01): by_images.setdefault(run.recipe.hold_out, []).append(run.accuracy)
        said, apart = browser.run(SAID), min(far.values())
        same(browser.run(BOX + ".querySelector('.try-yours').textContent.replaceAll('\\u00a0', ' ')"), f"Yours: peak {value('Peak')} at epoch {epoch:g}, final rate {value('Final rate')[:-8]}it", "what is said to be dragged")
        same(browser.run(f"[{HEIGHT}.getAttribute('aria-valuetext'), {HEIGHT}.nextElementSibling.textContent]"), [value("Peak")] * 2, "the slider of the peak")
        nearby = shape_of(near[0].recipe)[0]
        if f" rate {nearby}." not in said: raise AssertionError(f"{said!r} should say that the rate {nearby}")
        if apart > 0.105 and "is far from yours" not in said or 0.01 < apart < 0.095 and "differs from yours" not in said: raise AssertionError(f"{said!r}: the schedules differ by {apart:.3f}")
        if not 0.095 < apart < 0.105: same(said.startswith("No recorded run is near yours."), bool(apart > 0.1 or max(nearest / peak, peak / nearest) > 3), f"the headline with {nearest} for {peak}")
        for held, reached in by_images.items():
            wanted = f"{round(np.mean(reached), 2):.1f} % of {f'{held:,} held-out training images' if held else 'the test images'} right"
            if wanted not in said: raise AssertionError(f"{optimizer}, {length}, peak {peak}, rise {epoch}, fall to {final}: {said!r} should say {wanted!r}")
        places.add(round(browser.run(f"(([first, , last]) => last.offsetTop - first.offsetTop)({BOX}.querySelectorAll('.try-stage'))")))
        if not re.search(rf"peak(?: of|,) {float(f'{nearest:.3g}'):g}\b", said): raise AssertionError(f"{said!r} should name the peak {nearest:.3g}")
        return epoch, final, peak
    same(as_said("SGD", "4 epochs"), (1, 1e-4, 0.1), "it begins with the schedule of chapter 04")
    browser.run(knob.format("Peak") + ".focus()")
    for _ in range(12): browser.press("ArrowRight")
    if not 0.25 < as_said("SGD", "4 epochs")[2] < 0.4: raise AssertionError("twelve steps by keyboard are half of a power of ten")
    browser.run(HEIGHT + ".focus()")
    for _ in range(12): browser.press("ArrowLeft")
    same(as_said("SGD", "4 epochs")[2], 0.1, "and back with the slider")
    browser.click(HEIGHT, 0.9)
    if not 2 < (found := as_said("SGD", "4 epochs")[2]) < 5: raise AssertionError(f"a click near the right end of the slider gives a peak of {found}")
    for name, key, count in (("Epoch of the peak", "Home", 1), ("Final rate", "End", 1), ("Final rate", "PageDown", 4)):
        browser.run(steps.format(knob.format(name), count, key))
        as_said("SGD", "4 epochs")
    same((value("Epoch of the peak"), value("Final rate")), ("epoch 0 of 4", "60 % of the peak"), "to the ends and back by keyboard")
    browser.run(steps.format(knob.format("Epoch of the peak"), 20, "ArrowRight"))
    choose("along a cosine")
    browser.run(steps.format(knob.format("Final rate"), 1, "Home"))
    as_said("SGD", "4 epochs", "cosine")
    choose("straight")
    for optimizer, length in (("SGD", "2 epochs"), ("SGD", "1 epoch"), ("SGD", "20 epochs, a quarter of the channels"), ("Adam", "2 epochs"), ("Muon", "20 epochs, half the channels"), ("Muon", "20 epochs, 20,000 images")):
        choose(optimizer)
        choose(length)
        for x in (0.2, 0.5, 0.8):
            browser.click(f"{BOX}.querySelectorAll('.try-stage')[2]", x, 0.4)
            as_said(optimizer, length)
    before = as_said("Muon", "20 epochs, 20,000 images")
    x, y = browser.run(f"(() => {{ const r = {knob.format('Final rate')}.getBoundingClientRect(); return [r.x + 22, r.y + 22]; }})()")
    for kind, up in (("mousePressed", 0), ("mouseMoved", 10), ("mouseMoved", 20), ("mouseReleased", 20)):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y - up, button="left", buttons=1, clickCount=1)
    after = as_said("Muon", "20 epochs, 20,000 images")
    if not before[1] == 1e-4 < 0.05 < after[1] < 0.2: raise AssertionError(f"dragged up by 20 pixels, the final rate goes from {before[1]} to {after[1]}")
    if max(places) - min(places) > 2: raise AssertionError(f"places of the last drawing: {sorted(places)}")
    check_units(browser, BOX)
    browser.size(390, 844)
    browser.until(f"(svg => svg.clientWidth < 390 && svg.viewBox.baseVal.width === svg.clientWidth)({BOX}.querySelector('svg'))")
    same(browser.run(f"{BOX}.querySelector('details').open"), False, "on a phone the choices are folded")
    if (top := browser.run(f"{BOX}.querySelector('.try-stage').getBoundingClientRect().top - {BOX}.getBoundingClientRect().top")) > 330: raise AssertionError(f"on a phone the drawing begins {top} pixels below the top of the box")
    browser.click(f"{BOX}.querySelector('summary')")
    same(browser.run(f"{BOX}.querySelector('fieldset').checkVisibility()"), True, "and come when one asks")
    browser.size(1440, 900)
