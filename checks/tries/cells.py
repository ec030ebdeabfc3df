"Chapter 08e: the reader covers cells of a mistake; the complete table has the answer to each of the 65,536 covers."
import json
import re

import numpy as np
import torch

from explorer import PIXELS, same
from readme import HERE

NOTEBOOK = "08e_counting_facts"
MOST = 3  # cells: with as many or fewer covered the page also says how sure the answer is
FEWEST = 16  # ways to cover the other cells: with fewer the page does not count their answers
BOX = "document.querySelector('#try-cells')"
PLACES = """['.cells-board', '.cells-left .try-choice', '.cells-task', '.cells-steps', '.try-said'].map(part =>
  Math.round({0}.querySelector(part).getBoundingClientRect().top - {0}.querySelector('.cells-board').getBoundingClientRect().top))""".replace("{0}", BOX)
SAID = BOX + ".querySelector('.try-said').textContent"
CELLS = BOX + ".querySelectorAll('.cells-board button')"
CELL = CELLS + "[{}]"
BUTTON = f"[...{BOX}.querySelectorAll('button')].find(b => b.textContent === '{{}}')"
BARS = f"""[...{BOX}.querySelectorAll('.cells-work div')].filter(part => part.matches(':has(> .cells-bar)') && part.lastChild.checkVisibility()).map(part =>
  [[...part.lastChild.children].map(s => [parseFloat(s.style.width), getComputedStyle(s).backgroundColor]),
   [...part.firstChild.children].map(s => [s.textContent, getComputedStyle(s).color])])"""


def tables():
    "The record: place of an image -> its table."
    found = json.loads((HERE / "cifar_gradcam" / "records" / "tables_reference.json").read_text())["tables"]
    return {int(key.split()[0]): table for key, table in found.items()}


def kept(table):
    """The covers for which the page says how sure the answer is, numbered as by `all_subsets`: those of at most `MOST` cells,
    of all cells, and those that the buttons show, with one cell changed or none. All 65,536 would take more than an hour."""
    from cifar_gradcam.lab.facts import unpacked_answers
    answers, sizes, shown = unpacked_answers(table["answers"]), np.array([s.bit_count() for s in range(2**16)]), [2**16 - 1]
    for c in np.unique(answers):
        hits = np.flatnonzero(answers == c)
        shown += hits[sizes[hits] == (max if c == table["predicted"] else min)(sizes[hits])].tolist()
    return sorted({*np.flatnonzero(sizes <= MOST).tolist(), *shown, *(s ^ 2**cell for s in shown for cell in range(16))})


def images_at(places):
    "Test images, as pixels and normalized."
    from cifar_gradcam.data import CIFAR10_MEAN, CIFAR10_STD
    from cifar_gradcam.engine.datasets import cifar10
    pixels = np.stack([cifar10(train=False).data[i] for i in places])
    return pixels, torch.from_numpy(np.float32((pixels / 255 - CIFAR10_MEAN) / CIFAR10_STD).transpose(0, 3, 1, 2))


def probabilities(images, which, numbers):
    "Of the ten classes, if image which[k] is covered as number numbers[k] says; shape (len(numbers), 10)."
    from cifar_gradcam.engine.runs import load_reference
    from cifar_gradcam.mistakes.covering import all_subsets, covered_logits
    covered = all_subsets(16)[numbers].reshape(-1, 4, 4)
    return covered_logits(load_reference("cpu"), images, torch.as_tensor(which), covered).softmax(1)


def parts(folder):
    "The pictures side by side, and for each a file with its table, its exact values, and how sure the network is under some covers."
    from PIL import Image

    from cifar_gradcam.data import CLASSES
    pixels, images = images_at(tables())
    Image.fromarray(np.concatenate(pixels, 1)).save(folder / "cells.webp", lossless=True, quality=100, method=6)
    for k, (place, table) in enumerate(tables().items()):
        numbers = kept(table)
        sure = probabilities(images, [k] * len(numbers), numbers).mul(100).round().byte()
        about = {key: table[key] for key in ("answers", "values", "margins")} | {"kept": np.array(numbers, "<u2").tobytes().hex(), "sure": sure.numpy().tobytes().hex()}
        (folder / f"cells-{place}.json").write_text(json.dumps(about, separators=(",", ":")))
    return {"classes": CLASSES, "most": MOST, "fewest": FEWEST,
            "pictures": [[place, table["predicted"], table["other"]] for place, table in tables().items()]}


def drag(browser, first, last):
    "Press on one cell, move over to another, let go."
    places = browser.run(f"(() => {{ {CELL.format(first)}.scrollIntoView({{block: 'center', behavior: 'instant'}}); return [{CELL.format(first)}, {CELL.format(last)}]"
                         ".map(b => b.getBoundingClientRect()).map(r => [r.x + r.width / 2, r.y + r.height / 2]); })()")
    way = [[a + (b - a) * k / 8 for a, b in zip(*places)] for k in range(9)]
    for kind, (x, y) in [("mousePressed", way[0]), *(("mouseMoved", place) for place in way), ("mouseReleased", way[-1])]:
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=int(kind != "mouseReleased"), clickCount=1)


def check(browser):
    "By keyboard and by pointer: cells, answers, chances, covers and values are what Python reads from the record and what the network says."
    from cifar_gradcam.data import CLASSES, denormalize
    from cifar_gradcam.engine.runs import load_reference
    from cifar_gradcam.lab.facts import smallest_covers, unpacked_answers
    from cifar_gradcam.mistakes.covering import all_subsets, cell_values, cover
    (_, images), subsets = images_at(tables()), all_subsets(16).numpy()
    model, seen = load_reference("cpu"), 0

    def covered(): return [k for k, on in enumerate(browser.run(f"[...{CELLS}].map(b => b.getAttribute('aria-pressed') === 'true')")) if on]
    def number(): return sum(2**cell for cell in covered())

    def as_the_network_says(place, button=False):
        "The picture on the page is what the network saw; the answer, the chances and the count of covers agree."
        k, table, s = [*tables()].index(place), tables()[place], number()
        answers = unpacked_answers(table["answers"])
        hidden = all_subsets(16)[[s]].reshape(1, 4, 4)
        image = cover(images[[k]], hidden)
        pixels = np.reshape(browser.run(PIXELS.format(BOX + ".querySelector('.cells-board canvas')")), (32, 32, 4))[..., :3]
        same(np.array_equal(pixels, np.rint(255 * denormalize(image[0])).astype(int)), True, f"image {place}, {covered()}: what the network saw")
        with torch.no_grad(): p = model(image).softmax(1)[0]
        names = [CLASSES[answers[s]], CLASSES[int(p.argmax())], browser.run(BOX + ".querySelector('.cells-answer b').textContent")]
        same(len({*names}), 1, f"image {place}, {covered()}: {names}")
        bars, seen, known = browser.run(f"[...{BOX}.querySelectorAll('.cells-work div > p')].map(p => p.textContent)"), browser.run(f"[...{BOX}.querySelectorAll('.cells-bar')].map(b => b.checkVisibility())"), s in kept(table)
        within = (subsets & subsets[s] == subsets[s]).all(1)
        same(seen, [known, bool(within.sum() >= 16)], f"which bars one sees with {covered()} covered")
        same(known or not button and subsets[s].sum() > MOST, True, "how sure the answer is with few cells and near what a button shows")
        chances = f"{names[0]} {100 * p.max():.0f}\xa0%" if known else "For this cover only the answer is stored."
        if chances not in bars[0]: raise AssertionError(f"{bars[0]!r} lacks {chances!r}")
        if known:
            parts = browser.run(f"[...{BOX}.querySelector('.cells-bar').children].map(c => parseFloat(c.style.width))")
            wanted = [100 * float(p[table[key]]) for key in ("predicted", "other")]
            wanted.append(max(100 * float(p[c]) for c in range(10) if c not in (table["predicted"], table["other"])))
            if np.abs(np.subtract(parts, [*wanted, 100 - sum(wanted)])).max() > 1.51: raise AssertionError(f"the bar has {parts}, the network says {wanted}")
        for drawn, words in browser.run(BARS):  # the names are in the order of the bar, and the first two, of a class each, in its colours
            drawn = [one for one in drawn if one[0]]
            for (size, paint), (text, ink) in zip(drawn, words, strict=True):
                if abs(size - (0.25 if "under" in text else float(text.split()[1].split("\xa0")[0]))) > 0.51: raise AssertionError(f"{text}, drawn as {size} %")
                if text.split()[0] in {CLASSES[table[key]] for key in ("predicted", "other")}: same(ink, paint, f"the colour of {text}")
        ways = f"there are {within.sum():,} ways to cover or leave the others. Answers" if s else f"Answers over all {within.sum():,} ways to cover cells"
        share = f"{CLASSES[(most := np.bincount(answers[within])).argmax()]} {int(100 * most.max() / within.sum() + 0.5)}\xa0%"
        if ways + ": " not in bars[1] or share not in bars[1]: raise AssertionError(f"{bars[1]!r} lacks {share!r}")

    as_the_network_says(95)
    same(browser.run(BOX + ".querySelector('.cells-answer').textContent"), f"The network says {CLASSES[tables()[95]['predicted']]}; the picture shows a {CLASSES[tables()[95]['other']]}", "the answer and the truth")
    browser.run(CELL.format(0) + ".focus()")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", " "): browser.press(key)
    same(covered(), [9], "by keyboard")
    as_the_network_says(95)
    same("frog with the fewest cells there are" in browser.run(SAID), True, "the goal is reached")
    browser.click(CELL.format(9))
    same(covered(), [], "a click uncovers")
    drag(browser, 4, 7)
    same(covered(), [4, 5, 6, 7], "dragged over a row")
    as_the_network_says(95)
    drag(browser, 5, 6)
    same(covered(), [4, 7], "and back")
    as_the_network_says(95)
    for place in (9918, 7080, 378):
        table = tables()[place]
        answers, seen = unpacked_answers(table["answers"]), seen + 1
        browser.click(f"{BOX}.querySelectorAll('.try-pictures input')[{[*tables()].index(place)}]")
        browser.until(f"{BOX}.querySelector('canvas').getAttribute('aria-label').includes('image {place} ')")
        same(covered(), [], "another picture begins whole")
        options = browser.run(f"[...{BOX}.querySelectorAll('option')].map(o => +o.value)")
        same([options[0], sorted(options)], [table["other"], sorted({*answers.tolist()} - {table["predicted"]})], "what one can make it say")
        show, keep = map(BUTTON.format, ("Show a smallest cover", "Show the fewest cells that are enough"))
        goal = options[seen % len(options)]
        browser.run(f"(s => {{ s.value = {goal}; s.dispatchEvent(new Event('change')); }})({BOX}.querySelector('select'))")
        wanted = smallest_covers(answers, goal)
        found = []
        for _ in wanted: browser.click(show); found.append(covered())
        same(found, wanted, f"image {place}: the smallest covers for {CLASSES[goal]}")
        size = len(wanted[0])
        end = f"This is number {len(wanted)} of {len(wanted)};" if len(wanted) > 1 else f"and no other {'single cell' if size == 1 else f'choice of {size} cells'} does."
        same(f"Fewer cells cannot give {CLASSES[goal]}" in (text := browser.run(SAID)) and end in text, True, text)
        as_the_network_says(place, True)
        browser.click(keep)
        left = 16 - subsets[answers == table["predicted"]].sum(1).max()
        same([16 - len(covered()), CLASSES[answers[number()]]], [left, CLASSES[table["predicted"]]], f"image {place}: fewest cells that are enough")
        enough = ("Even the empty grey square is enough", "The one cell left is enough", f"The {left} cells left are enough")[min(left, 2)]
        same(f"{enough} for {CLASSES[table['predicted']]}." in (text := browser.run(SAID)), True, text)
        if left == 1 and "number" not in text: same("and no other single cell is enough." in text, True, text)
        as_the_network_says(place, True)
        browser.click(CELL.format(5))
        as_the_network_says(place, True)
        browser.click(CELL.format(5))
        browser.click(f"{BOX}.querySelector('input[value=next]')")
        chips = browser.run(f"[...{CELLS}].map(b => b.textContent)")
        after = [answers[number() ^ 2**cell] for cell in range(16)]
        same(chips, ["" if c == answers[number()] else CLASSES[c] for c in after], "what one cell more changes")
        browser.click(f"{BOX}.querySelector('input[value=values]')")
        shown = browser.run(f"[...{CELLS}].map(b => parseFloat(b.textContent.replace('−', '-')))")
        plain = browser.run(f"[...{CELLS}].map((b, k) => b.style.background ? -1 : k).filter(k => k >= 0)")
        same(set(covered()) <= set(plain), True, f"covered cells keep their colour: {covered()}, {plain}")
        estimate, error = cell_values(model, images[[[*tables()].index(place)]], [table["predicted"]], [table["other"]], pairs=8)
        off = np.abs(np.array(shown) - estimate.flatten().numpy()) / error.flatten().clamp_min(0.02).numpy()
        if off.max() > 5 or abs(sum(shown) - table["margins"][0] + table["margins"][1]) > 0.1:
            raise AssertionError(f"image {place}: values {shown}, estimated {estimate.flatten().tolist()}")
        warm = browser.run(f"[...{CELLS}].map(b => b.style.background.match(/\\d+/g)).map(c => c && +c[0] > +c[2])")
        same(all(orange == (value > 0) for value, orange in zip(shown, warm) if orange is not None and value), True, f"orange speaks for the answer: {shown}, {warm}")
        key = browser.run(BOX + ".querySelector('.try-work > .try-quiet').textContent")
        same(f"They add up to {table['margins'][0] - table['margins'][1]:+.2f}:".replace("-", "−") in key and key.endswith("(all numbers are rounded)."), True, key)
        browser.click(BUTTON.format("Uncover all"))
    for width, height, place in ((1440, 900, 888), (390, 844, 9501)):
        browser.click(f"{BOX}.querySelectorAll('.try-pictures input')[{[*tables()].index(place)}]")
        browser.until(f"{BOX}.querySelector('canvas').getAttribute('aria-label').includes('image {place} ')")
        by_hand = map(CELL.format, smallest_covers(unpacked_answers(tables()[place]["answers"]), tables()[place]["other"])[0])
        for dark in (False, True):
            browser.size(width, height, dark)
            inks = [[int(part) for part in re.findall(r"\d+", browser.run(f"getComputedStyle({BOX}.querySelector('.cells-answer .{name}')).color"))] for name in ("answer", "truth")]
            same([ink[0] > ink[2] for ink in inks], [True, False], f"orange is the answer, violet the truth: {inks}")
        places = [browser.run(PLACES)]
        for press in (BUTTON.format("Show a smallest cover"), BUTTON.format("Show the fewest cells that are enough"), BOX + ".querySelector('input[value=next]')", BUTTON.format("Uncover all"), *by_hand):
            browser.click(press)
            places.append(browser.run(PLACES))
        same("with the fewest cells" in browser.run(SAID), True, "by hand, with the fewest cells")
        same(all(place == places[0] for place in places), True, f"what one presses stays where it is at {width} px: {places}")
        if width < 600: same(sorted(places[0]) == places[0] and places[0][-1] < height - 60, True, f"picture, what is on it, covers and words, together on the screen: {places[0]}")
    browser.size(1440, 900)
