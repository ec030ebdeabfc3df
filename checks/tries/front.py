"The front page: pictures that the network gets wrong, with a map for each class; one covers parts of them by tapping."
import json

import numpy as np

from explorer import same
from readme import HERE

NOTEBOOK = "index"
STILL = "fig-front"
MOST, MOST_WAYS = 4, 2  # cells covered at once: with the mean colour, and in the two other ways
# Place in the test set -> what one sees; which cells to try first; what each cell of the grid shows, row by row.
PICTURES = {
    9360: ("A small orange dog leaps to the right", [2, 9], [
        "the upper left corner", "the tip of the tail", "the ears", "the edge of an ear",
        "the background behind the dog", "the back", "the face", "the muzzle",
        "the hind leg", "the belly", "the chest", "the far front leg",
        "the lower left corner", "the shadow", "the near front leg", "the paws"]),
    5722: ("A red airplane in a blue sky, from below", [6, 5], [
        "the upper left corner", "the sky left of the top centre", "the sky right of the top centre", "the upper right corner",
        "the sky above the left wing", "the left side of the nose", "the nose", "the sky above the right wing",
        "the left wing", "the middle", "the right wing", "the tip of the right wing",
        "the lower left corner", "the tail", "the sky below the right wing", "the lower right corner"]),
    8535: ("A white horse walks to the right", [8, 5], [
        "the upper left corner", "the trees above the back", "the trees behind the neck", "the face",
        "the top of the tail", "the rump", "the shoulder", "the muzzle",
        "the tail", "the hind legs", "the top of a foreleg", "the grass in front of the horse",
        "the lower left corner", "the hind hooves", "a front hoof", "the other front hoof"]),
    4556: ("A small bird with an orange breast sits on a log", [14, 13], [
        "the upper left corner", "the background left of the top centre", "the background right of the top centre", "the upper right corner",
        "the background on the left", "the left side of the head", "the right side of the head", "the background on the right",
        "the left end of the log’s edge", "the tail", "the belly", "the right end of the log’s edge",
        "the lower left corner", "the log below the tail", "the log below the bird", "the lower right corner"])}
ROOT = "document.querySelector('#try-front')"
CELLS = ROOT + ".querySelectorAll('.front-cells button')"
SAID = "document.querySelectorAll('#try-front .try-said')[{}].textContent.replaceAll('\\u00a0', ' ')"
BIG = ROOT + ".querySelectorAll('.front-square > canvas')[{}]"
COLOUR = ("((c, x, y) => {{ const own = Object.assign(document.createElement('canvas'), {{width: c.width, height: c.height}}).getContext('2d', {{willReadFrequently: true}}); "
          "own.drawImage(c, 0, 0); return [...own.getImageData(x, y, 1, 1).data].slice(0, 3); }})({})")


def parts(folder):
    """The first picture and what all share; a file for each other one, and all side by side.

    For each: the scores and maps of the two classes, and the answers to all covers of at most `MOST` cells, in the order of their
    numbers: the class that wins, its share, that of the class which wins when nothing is covered and that of the right one, in per cent.
    For covers of at most `MOST_WAYS` cells also what wins in the two other ways of covering, and its share.
    """
    import torch
    from PIL import Image

    from cifar_gradcam.augment import download_data
    from cifar_gradcam.data import CIFAR10_MEAN
    from cifar_gradcam.engine.datasets import cifar10, data_source, DataError
    from cifar_gradcam.engine.runs import load_reference
    from cifar_gradcam.gradcam import signed_maps
    from cifar_gradcam.mistakes.covering import all_subsets, covered_logits
    if data_source() != "real": raise DataError("the pictures are of CIFAR-10")
    model, (_, test, _, _, classes), pixels, found = load_reference(), download_data(), cifar10(train=False).data, {}
    def winner(rows): return rows.argmax(1), (100 * rows.amax(1)).round()
    def packed(*columns): return torch.stack([column.byte() for column in columns], 1).numpy().tobytes().hex()
    covers = all_subsets(16)
    few, fewer = (covers[covers.sum(1) <= most].reshape(-1, 4, 4) for most in (MOST, MOST_WAYS))
    for place, (about, hints, cells) in PICTURES.items():
        image, true = test[place]
        grey, blur, filled = (covered_logits(model, image[None], torch.zeros(len(hidden), dtype=torch.long), hidden, way).double().softmax(1)
                              for way, hidden in (("mean", few), ("blur", fewer), ("imputed", fewer)))
        predicted = grey[0].argmax().item()
        maps, scores = signed_maps(model, image[None].repeat(2, 1, 1, 1), torch.tensor([predicted, true]))
        found[place] = {
            "about": about, "hints": hints, "cells": cells, "predicted": predicted, "true": int(true), "pixels": pixels[place].tobytes().hex(),
            "scores": [round(score, 6) for score in scores.tolist()], "maps": [[round(v, 6) for v in grid.flatten().tolist()] for grid in maps],
            "answers": packed(*winner(grey), *(100 * grey[:, [predicted, true]]).round().T),
            "ways": packed(*winner(blur), *winner(filled))}
    first, *others = found
    for place in others: (folder / f"front-{place}.json").write_text(json.dumps(found[place], separators=(",", ":")))
    Image.fromarray(np.concatenate([pixels[place] for place in found], 1)).save(folder / "front.webp", lossless=True, quality=100, method=6)
    return {"classes": list(classes), "cover": [round(255 * mean) for mean in CIFAR10_MEAN], "most": MOST, "mostWays": MOST_WAYS,
            "pictures": [[place, one["predicted"], one["true"]] for place, one in found.items()], "first": found[first]}


def check_picture(browser, k, place, hints, names):
    import torch
    from PIL import Image

    from cifar_gradcam.augment import download_data
    from cifar_gradcam.engine.datasets import cifar10
    from cifar_gradcam.engine.layers import layer_outputs
    from cifar_gradcam.engine.runs import load_reference
    from cifar_gradcam.mistakes.covering import cover
    (_, test, _, _, classes), model = download_data(), load_reference()
    (image, true), pixels = test[place], cifar10(train=False).data[place]
    uncover, pressed = ROOT + ".querySelector('.front-more > button')", f"[...{CELLS}].flatMap((b, k) => b.ariaPressed === 'true' ? [k] : [])"

    def colour(x, y, canvas): return np.array(browser.run(COLOUR.format(f"{canvas}, {x}, {y}")))

    @torch.no_grad()
    def shares(covered, way="mean"):
        "With the mean colour: zeros, as the images are normalized. The other ways are those of chapter 08a."
        hidden = torch.tensor([[cell in covered for cell in range(16)]]).reshape(1, 4, 4)
        if way == "mean": x = (image * ~hidden[0].repeat_interleave(8, 0).repeat_interleave(8, 1))[None]
        else: x = cover(image[None], hidden, way)
        return 100 * model(x).softmax(1)[0].double()

    def answer(covered, way="mean"):
        share, best = shares(covered, way).max(0)
        return f"{classes[best]}, {share:.0f} %"
    wrong = shares([]).argmax().item()
    own, right, whole = classes[wrong], classes[true], shares([])
    if own == right: raise AssertionError(f"{place} is no mistake")

    def words(covered):
        best, now = shares(covered).argmax().item(), shares(covered)
        other = wrong if best == true else true
        change = f"goes from {whole[other]:.0f} % to" if f"{whole[other]:.0f}" != f"{now[other]:.0f}" else "stays at"
        yield f"the network says {answer(covered)}. {classes[other].capitalize()} {change} {now[other]:.0f} %."
        if len(covered) <= MOST_WAYS:
            blur, filled = (answer(covered, way) for way in ("blur", "imputed"))
            yield f"blurred, it says {blur}. If {'it is' if len(covered) == 1 else 'they are'} filled with the colours around {'it' if len(covered) == 1 else 'them'}, it says {filled}."

    def look(covered, how):
        now, text = browser.run(pressed), browser.run(SAID.format(0))
        same(now, sorted(covered), f"{place}: what is covered {how}")
        for part in words(covered): same(part if part in text else text, part, f"{place} with {covered} covered {how}")
        values = [int(v.split()[0]) for v in browser.run(f"[...{ROOT}.querySelectorAll('.front-bars span')].map(s => s.textContent)")]
        first, second = (round(shares(covered)[c].item()) for c in (wrong, true))
        best = shares(covered).argmax().item()
        third = 100 - first - second if best in (wrong, true) else round(shares(covered)[best].item())
        same(values, [first, second, third], f"{place}: the bars")
        bold = browser.run(f"[...{ROOT}.querySelectorAll('.front-bars b.now')].map(b => b.textContent)")
        same(bold, [classes[best]], f"{place}: the bar of the answer, with {covered} covered")
        for cell in range(16):
            spot = colour(128 * (cell % 4) + 20, 128 * (cell // 4) + 20, BIG.format(0))
            same((spot == [round(255 * v) for v in (0.4914, 0.4822, 0.4465)]).all().item(), cell in covered, f"{place}: the grey of cell {cell}")

    file = f"front-{place}.json"
    if k: same(any(file in url for url in browser.requested), False, f"{file} before it is asked for")
    if k == 1:  # the second picture by keyboard
        browser.run(f"{ROOT}.querySelector('.try-pictures input').focus()")
        browser.press("ArrowRight")
    elif k: browser.click(f"{ROOT}.querySelectorAll('.try-pictures input')[{k}]")
    browser.until(f"{ROOT}.querySelector('.front-head').textContent.endsWith('calls {'an' if own[0] == 'a' else 'a'} {own}')")
    same(any(file in url for url in browser.requested), k > 0, f"{file} when it is asked for")
    same(f"The network says {own}. It gives {own} {whole[wrong]:.0f} % and {right} {whole[true]:.0f} %. Cover {names[hints[0]]}:" in browser.run(SAID.format(0)), True, f"{place}: the answer to the whole picture")
    large = np.asarray(Image.fromarray(pixels).resize((512, 512), Image.Resampling.LANCZOS)).astype(int)
    for x, y in ((100, 300), (300, 60), (400, 470)):
        if abs(colour(x, y, BIG.format(0)) - large[y, x]).max() > 6: raise AssertionError(f"{place} enlarged has {colour(x, y, BIG.format(0))} at {x}, {y}, not {large[y, x]}")
        same(colour(32 * k + x // 16, y // 16, "sheet").tolist(), pixels[y // 16, x // 16].tolist(), f"the small picture {place}")

    # One by pointer, a second by keyboard, up to the most; then nothing more, and all uncovered.
    browser.click(f"{CELLS}[{hints[0]}]")
    look(hints[:1], "by pointer")
    same(f"Now cover {names[hints[1]]} too." in browser.run(SAID.format(0)), True, "what to try second")
    browser.run(f"{CELLS}[{hints[0]}].focus()")
    rows, columns = (hints[1] // 4 - hints[0] // 4, hints[1] % 4 - hints[0] % 4)
    for _ in range(abs(rows)): browser.press("ArrowDown" if rows > 0 else "ArrowUp")
    for _ in range(abs(columns)): browser.press("ArrowRight" if columns > 0 else "ArrowLeft")
    browser.press("Enter")
    look(hints, "by keyboard")
    now = shares(hints).argmax()
    turning = sum((shares([*hints, cell]).argmax() != now).item() for cell in range(16) if cell not in hints)
    number = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "13", "14")[turning]
    hint = f"Cover one more: {number} of the other 14 would change the answer{' again' * (now.item() != wrong)}." if turning else "No single other part changes the answer now."
    same(hint in browser.run(SAID.format(0)), True, f"{place}: {hint}")
    full = [*hints, 12, 11]
    for cell in full[2:]: browser.click(f"{CELLS}[{cell}]")
    look(full, "by pointer, the most")
    same(browser.run(f"[...{CELLS}].filter(b => b.ariaDisabled === 'true').length"), 12, "the others cannot be covered")
    same(browser.run(f"{ROOT}.querySelector('.front-head').textContent"), "Four is the most: tap one to uncover it", "it is said")
    browser.click(f"{CELLS}[0]")
    look(full, "after a fifth was tapped")
    browser.click(f"{CELLS}[12]")
    look([*hints, 11], "after one was tapped again")
    browser.run(uncover + ".focus()")
    browser.press("Enter")
    same((browser.run(pressed), browser.run(f"[...{CELLS}].includes(document.activeElement)"), browser.run(uncover + ".hidden")), ([], True, True), "all uncovered by keyboard")

    # The whole table, here and there; and its largest share of the right class is what the page asks for.
    table = browser.run("Book.parts('try-front.json').then(d => d.first.answers)" if k == 0 else f"Book.parts('{file}').then(d => d.answers)")
    table = np.frombuffer(bytes.fromhex(table), np.uint8).reshape(-1, 4)
    few = [s for s in range(2**16) if s.bit_count() <= MOST]
    same(len(table), len(few), "covers in the table")
    for row in range(5, len(few), 131):
        found = shares([cell for cell in range(16) if few[row] >> cell & 1])
        wanted = [found.argmax().item(), *(round(v.item()) for v in (found.max(), found[wrong], found[true]))]
        same(table[row].tolist(), wanted, f"{place}: cover {few[row]:016b}")
    top = int(table[:, 3].max())

    # At the last block a map is the sum of the channels, weighted by the last layer: no gradient is needed.
    with torch.no_grad(): (channels,) = next(iter(layer_outputs(model, image[None], {model.layer4[-1]}, False)[1].values()))
    last = [part for part in model.modules() if isinstance(part, torch.nn.Linear)][-1]
    maps = {"first": torch.einsum("k,khw->hw", last.weight[wrong], channels[0]) / 16, "second": torch.einsum("k,khw->hw", last.weight[true], channels[0]) / 16}
    maps["both"] = maps["first"] - maps["second"]
    most = max(maps["both"].abs().max().item(), maps["first"].max().item(), maps["second"].max().item())
    for view, (orange, violet) in {"first": (True, False), "second": (False, True), "both": (True, True)}.items():
        browser.click(f"{ROOT}.querySelector('.try-choice input[value={view}]')")
        for cell in range(16):
            (x, y), v = (128 * (cell % 4) + 64, 128 * (cell // 4) + 64), maps[view].flatten()[cell].item() * (-1 if view == "second" else 1)
            part = (abs(v) / most) ** 0.7 if (orange if v > 0 else violet) else 0
            wanted = (1 - part) * (large[y, x] @ [0.299, 0.587, 0.114]) + part * np.array((255, 122, 0) if v > 0 else (134, 62, 255))
            if abs(colour(x, y, BIG.format(1)) - wanted).max() > 6: raise AssertionError(f"{place}, {view}, cell {cell}: {colour(x, y, BIG.format(1))}, not {wanted}")
    text, taken = browser.run(SAID.format(1)), -maps["both"].clamp(max=0).sum().item()
    logits = model(image[None])[0].detach()
    same(f"The score of {own} is {logits[wrong] - logits[true]:.2f} higher than that of {right}. Orange parts add {maps['both'].relu().sum():.2f}, " in text and f"Orange parts count for {own}, most of all {names[maps['both'].argmax()]}." in text, True, "the margin in words")
    same(f"violet parts take {taken:.2f} away" in text and f"Violet parts count for {right}, most of all {names[maps['both'].argmin()]}." in text if taken else "No part is violet" in text, True,
         f"{place}: {taken} taken, most of all {names[maps['both'].argmin()]}: {text}")
    rest = f"{last.bias[wrong] - last.bias[true]:+.2f}".replace("-", "−")
    same(f"and {rest} is there for the two classes" in text, True, f"{place}: the constant is that of the last layer, {rest}: {text}")
    if k == 0:
        for cell in full: browser.click(f"{CELLS}[{cell}]")
        same(f"Can you bring {right} to {top} %?" in browser.run(SAID.format(0)), True, "what to reach with four")


def check(browser):
    "By pointer and by keyboard, for each picture: what is said of covered parts is what the network answers, and the colours are those of its map."
    slider = ROOT + ".querySelector('input[type=range]')"
    doubted = json.loads((HERE / "cifar_gradcam" / "records" / "human_labels.json").read_text())["shown_to_people"]
    same(set(PICTURES) & set(doubted), set(), "pictures whose label was doubted")
    browser.run("(async () => { window.sheet = new Image(); sheet.src = new URL('front.webp', Book.web); await sheet.decode(); })()")
    browser.run(slider + ".focus()")
    for _ in range(25): browser.press("ArrowRight")
    same(browser.run(slider + ".value"), "100", "opacity by keyboard")
    for k, (place, (_, hints, names)) in enumerate(PICTURES.items()): check_picture(browser, k, place, hints, names)
    browser.click(slider, 0.01)
    grey = browser.run(COLOUR.format(f"{BIG.format(1)}, 300, 60"))
    if max(abs(a - b) for a, b in zip(grey, browser.run(COLOUR.format(f"{BIG.format(0)}, 300, 60")))) > 12: raise AssertionError("without opacity the picture is as it was")
