"Chapter 16: bets on recorded comparisons, and the reader's own calibration."
import re

import numpy as np
from scipy.stats import binom, binomtest

from explorer import check_units, same

NOTEBOOK = "16_experiments"
BOX = "document.querySelector('#try-bets')"
SAID = f"[...{BOX}.querySelectorAll('[aria-live]')].map(one => one.textContent).join(' ').replaceAll('\\u00a0', ' ')"
CROSSED = f"""[...{BOX}.querySelectorAll('svg [stroke-dasharray]')].flatMap(line => [...line.ownerSVGElement.querySelectorAll('text')].filter(text => {{
  const [a, b] = [line, text].map(one => one.getBoundingClientRect());
  return a.left < b.right && b.left < a.right + 1 && a.top < b.bottom - 3 && b.top + 3 < a.bottom;
}}).map(text => text.textContent))"""
QUARTER = "ResNet-18 with a quarter of its channels, four epochs"
SMALL = f"{QUARTER}, Muon"
NARROW = "ResNet-18 with an eighth of its channels, four epochs, SGD"
SHORT = "ResNet-18 with a quarter of its channels, two epochs"
PLAIN = "He et al.’s narrow networks, 20 epochs, SGD"
FEW = "ResNet-18 with a quarter of its channels, 24 epochs of 10,000 images"
# A name, the question, the two arms with their words, the series, and the setting.
QUESTIONS = [
    ("flip", "How much does the flip add? It mirrors each image in every other epoch.", ("all", "with the flip"), ("no-flip", "without it"), "ingredients", SMALL),
    ("one cycle", "How much better is one cycle than a constant rate, each with the peak that suited it best?", ("OneCycle", "with one cycle"), ("Constant", "with a constant rate"), "schedules", NARROW),
    ("crop, few images", "How much does the random crop add, if the network sees the same 10,000 images 24 times?", ("crop", "with the crop"), ("none", "without it"), "augmentation", FEW),
    ("cutout", "How much does cutout add in a short run?", ("all", "with cutout"), ("no-cutout", "without it"), "ingredients", SMALL),
    ("twice as long", "How much better are 40 epochs than 20, in this book’s reference recipe?", ("40-epochs", "of 40 epochs"), ("20-epochs", "of 20 epochs"), "reference", "ResNet-18, Muon"),
    ("Muon", "How much better is Muon than SGD, with nothing retuned?", ("all", "with Muon"), ("SGD", "with SGD"), "ingredients", QUARTER),
    ("shortcuts, 20 layers", "How much do the shortcuts add in a network of 20 layers?", ("residual-20", "with shortcuts"), ("plain-20", "without shortcuts"), "degradation", PLAIN),
    ("label smoothing", "How much does label smoothing add in a short run?", ("all", "with label smoothing"), ("no-smoothing", "without it"), "ingredients", SMALL),
    ("peak of 0.5", "How much better is a peak of 0.5 than one of 0.05?", ("0.5", "with a peak of 0.5"), ("0.05", "with a peak of 0.05"), "peaks-sgd", f"{SHORT}, SGD"),
    ("depth, plain", "How much better are 56 layers than 20, without shortcuts?", ("plain-56", "of 56 layers"), ("plain-20", "of 20 layers"), "degradation", PLAIN),
    ("average", "How much does averaging the weights of the last steps add, compared with the last weights?", ("all", "with averaged weights"), ("no-average", "with the last weights"), "ingredients", SMALL),
    ("rise before a cosine", "How much does a rise before a cosine fall add?", ("OneCycle-cosine", "with the rise"), ("Cosine", "without it"), "schedules", NARROW),
    ("depth, shortcuts", "How much better are 56 layers than 20, with shortcuts?", ("residual-56", "of 56 layers"), ("residual-20", "of 20 layers"), "degradation", PLAIN),
    ("crop", "How much does the random crop add in a short run on all 50,000 images?", ("all", "with the crop"), ("no-crop", "without it"), "ingredients", SMALL),
    ("SGD or Adam", "The original tutorial’s two recipes: how much better is SGD than Adam?", ("original_sgd", "with SGD"), ("original", "with Adam"), "baselines", "ResNet-18, 20 epochs"),
    ("flip, few images", "How much does the flip add to the crop, if the network sees the same 10,000 images 24 times?", ("crop-and-flip", "with crop and flip"), ("crop", "with the crop alone"), "augmentation", FEW),
    ("weight decay", "How much does weight decay add in a short run?", ("all", "with weight decay"), ("no-decay", "without it"), "ingredients", SMALL),
    ("Adam’s peak", "Adam: how much better is a peak of 0.01 than one of 0.001?", ("0.01", "with a peak of 0.01"), ("0.001", "with a peak of 0.001"), "peaks-adam", f"{SHORT}, Adam"),
    ("four times as long", "How much better are 80 epochs than 20, in this book’s reference recipe?", ("80-epochs", "of 80 epochs"), ("20-epochs", "of 20 epochs"), "reference", "ResNet-18, Muon"),
    ("shortcuts, 56 layers", "How much do the shortcuts add in a network of 56 layers?", ("residual-56", "with shortcuts"), ("plain-56", "without shortcuts"), "degradation", PLAIN),
]


def compared(first, second, series):
    from cifar_gradcam.lab.series import compare_arms, load_series
    arms = load_series(series)
    return arms[first], arms[second], compare_arms(arms[first], arms[second])


def parts(folder):
    "For each question the accuracies of both arms, and what chapter 16 computes of them."
    found = []
    for name, question, (first, one), (second, other), series, setting in QUESTIONS:
        *arms, gain = compared(first, second, series)
        found.append({"name": name, "question": question, "arms": [one, other], "setting": setting, "command": f"cifar_gradcam experiment {series}",
                      "reached": [[round(run.accuracy, 2) for run in arm] for arm in arms], "gains": np.round(gain.by_seed, 2).tolist(),
                      "mean": round(gain.mean, 3), "low": round(gain.low, 2), "high": round(gain.high, 2)})
    return {"questions": found}


def check(browser):
    "By keyboard and by pointer: what is shown is what chapter 16 computes, and ten bets are judged as scipy would."
    ends = [f"{BOX}.querySelector('[aria-label=\"{name} end\"]')" for name in ("Lower", "Upper")]
    go, skip, forget = (f"{BOX}.querySelectorAll('button')[{k}]" for k in range(3))
    top, border = f"{BOX}.querySelector('.try-stage').offsetTop", f"getComputedStyle({go}).borderTopStyle"
    bets = []

    def interval(): return tuple(float(browser.run(end + ".getAttribute('aria-valuetext')").split()[0].replace("−", "-")) for end in ends)

    def points(value, digits=2): return f"{value:+.{digits}f}".replace("-", "−")

    def bet(question):
        _, words, (first, _), (second, _), series, _ = question
        if words not in browser.run(BOX + ".textContent"): raise AssertionError(f"the question should be {words!r}")
        low, high = interval()
        before = browser.run(top)
        browser.run(go + ".focus()")
        browser.press("Enter")
        *_, gain = compared(first, second, series)
        bets.append((low, high, low <= gain.mean <= high))
        said = browser.run(SAID)
        widths = re.search(r"Yours is ([\d.]+) points wide, that one ([\d.]+)\.", said)
        if abs(np.array(widths.groups(), float) - (high - low, gain.high - gain.low)).max() > 0.061: raise AssertionError(f"{said!r}: the widths are {high - low} and {gain.high - gain.low}")
        for part in ("Your interval contains the mean" if bets[-1][2] else "The mean is outside your interval", f"{points(gain.mean)} points", points(gain.low), points(gain.high),
                     *(points(one) for one in gain.by_seed)):
            if part not in said.replace("0.00", "+0.00"): raise AssertionError(f"{words}: {said!r} should say {part!r}")
        same(browser.run(f"{BOX}.querySelectorAll('svg')[0].querySelectorAll('circle').length"), len(gain.by_seed), "a circle for each seed")
        if abs(browser.run(top) - before) > 1: raise AssertionError("a bet moves the drawing")
        same(browser.run(CROSSED), [], "labels that the line at zero crosses")
        return said
    same((interval(), browser.run(go + ".disabled"), browser.run(border)), ((-3, 3), True, "dashed"), "where the ends begin; no bet before one has moved")
    browser.run(ends[0] + ".focus()")
    for _ in range(12): browser.press("ArrowRight")
    for _ in range(40): browser.run(f"{ends[1]}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'ArrowLeft'}}))")
    same(interval(), (-1, -1), "by keyboard; the ends do not pass each other")
    same(browser.run(border), "solid", "now the button looks like one")
    bet(QUESTIONS[0])
    browser.run(go + ".focus()")
    browser.press("Enter")
    same(browser.run(f"document.activeElement === {ends[0]}"), True, "the next question: the focus is on the end that is needed now")
    browser.click(skip)
    x, y = browser.run(f"(() => {{ const r = {ends[1]}.getBoundingClientRect(); return [r.x + 22, r.y + 22]; }})()")
    for kind, moved in (("mousePressed", 0), ("mouseMoved", 20), ("mouseMoved", 60), ("mouseReleased", 60)):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x + moved, y=y, button="left", buttons=1, clickCount=1)
    if not (interval()[0] == -3 and 5 < interval()[1] < 10): raise AssertionError(f"the upper end, dragged by 60 pixels, gives {interval()}")
    bet(QUESTIONS[2])
    browser.click(go)
    for question in QUESTIONS[3:11]:
        browser.click(f"{BOX}.querySelector('.try-stage')", 0.12 if len(bets) % 2 else 0.95, 0.5)  # the nearest end
        said = bet(question)
        if len(bets) < 10 and f"{10 - len(bets)} more bet" not in said: raise AssertionError(f"{said!r} should wait for ten bets")
        if len(bets) < 10: browser.click(go)
    held = sum(inside for *_, inside in bets)
    few = held < 8
    tail = binom.cdf(held, 10, 0.8) if few else binom.sf(held - 1, 10, 0.8)
    for part in (f"{held} of your 10 intervals contained the mean", f"{np.mean([high - low for low, high, _ in bets]):.1f} points wide", f"{held} or {'fewer' if few else 'more'} of 10 in {percent(tail)}",
                 f"your intervals are probably too {'narrow' if few else 'wide'}" if tail < 0.05 else " to ".join(map(percent, binomtest(held, 10).proportion_ci(method="exact")))):
        if part not in said: raise AssertionError(f"{said!r} should say {part!r}")
    browser.run(f"delete {BOX}.dataset.ready; location.reload()")
    browser.until(f"{BOX}?.dataset.ready === ''")
    if f"{held} of your 10" not in browser.run(SAID): raise AssertionError("the bets are kept")
    check_units(browser, BOX)
    browser.click(forget)
    same((browser.run(BOX + ".querySelector('.try-said').textContent"), browser.run("localStorage.getItem('book-bets')"), interval()), ("", "[]", (-3, 3)), "the bets are forgotten")


def percent(share): return f"{100 * share:.{int(share < 0.01)}f} %"
