"The front page: pictures that the network gets wrong, with a map for each class; one covers parts of them by tapping."
import json

import numpy as np

from explorer import same

NOTEBOOK = "index"
STILL = "fig-front"
MOST, MOST_WAYS = 4, 2  # cells covered at once: with the mean colour, and in the two other ways
# Place in the test set -> what one sees; which cells to try first; what each cell of the grid shows, row by row.
PICTURES = {
    9360: ("A small orange dog leaps to the right", [2, 3], [
        "the upper left corner", "the tip of the tail", "the ears", "the edge of an ear",
        "the background behind the dog", "the back", "the face", "the muzzle",
        "the hind leg", "the belly", "the chest", "the far front leg",
        "the lower left corner", "the shadow", "the near front leg", "the paws"]),
    5722: ("A red airplane in a blue sky, from below", [6, 5], [
        "the upper left corner", "the sky at the top, on the left", "the sky at the top, on the right", "the upper right corner",
        "the sky above the left wing", "the left side of the nose", "the nose", "the sky above the right wing",
        "the left wing", "the middle", "the right wing", "the tip of the right wing",
        "the lower left corner", "the tail", "the sky below the right wing", "the lower right corner"]),
    8535: ("A white horse walks to the right", [8, 5], [
        "the upper left corner", "the trees above the back", "the trees behind the neck", "the face",
        "the top of the tail", "the rump", "the shoulder", "the muzzle",
        "the tail", "the hind legs", "the top of a foreleg", "the grass in front of the horse",
        "the lower left corner", "the hind hooves", "a front hoof", "the other front hoof"]),
    4556: ("A small bird with an orange breast sits on a log", [14, 13], [
        "the upper left corner", "the background at the top, on the left", "the background at the top, on the right", "the upper right corner",
        "the background on the left", "the left side of the head", "the right side of the head", "the background on the right",
        "the left end of the log’s edge", "the tail", "the belly", "the right end of the log’s edge",
        "the lower left corner", "the log below the tail", "the log below the bird", "the lower right corner"])}
ROOT = "document.querySelector('#try-front')"


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
    covers = all_subsets(16)
    few, fewer = (covers[covers.sum(1) <= most].reshape(-1, 4, 4) for most in (MOST, MOST_WAYS))
    for place, (about, hints, cells) in PICTURES.items():
        image, true = test[place]
        def shares(hidden, way): return covered_logits(model, image[None], torch.zeros(len(hidden), dtype=torch.long), hidden, way).double().softmax(1)
        grey = shares(few, "mean")
        predicted = grey[0].argmax().item()
        maps, scores = signed_maps(model, image[None].repeat(2, 1, 1, 1), torch.tensor([predicted, true]))
        def winner(rows): return [rows.argmax(1), (100 * rows.amax(1)).round()]
        def packed(columns): return torch.stack([column.byte() for column in columns], 1).numpy().tobytes().hex()
        found[place] = {
            "about": about, "hints": hints, "cells": cells, "predicted": predicted, "true": int(true), "pixels": pixels[place].tobytes().hex(),
            "scores": [round(score, 4) for score in scores.tolist()], "maps": [[round(v, 4) for v in grid.flatten().tolist()] for grid in maps],
            "answers": packed([*winner(grey), *(100 * grey[:, [predicted, true]]).round().T]),
            "ways": packed([column for way in ("blur", "imputed") for column in winner(shares(fewer, way))])}
    first, *others = found
    for place in others: (folder / f"front-{place}.json").write_text(json.dumps(found[place], separators=(",", ":")))
    Image.fromarray(np.concatenate([pixels[place] for place in found], 1)).save(folder / "front.webp", lossless=True, quality=100, method=6)
    return {"classes": list(classes), "cover": [round(255 * mean) for mean in CIFAR10_MEAN], "most": MOST, "mostWays": MOST_WAYS,
            "pictures": [[place, one["predicted"], one["true"]] for place, one in found.items()], "first": found[first]}


def check(browser):
    "By keyboard and by pointer: what is said of a covered part is what the network answers, and the colours are those of its map."
    import torch
    from PIL import Image

    from cifar_gradcam.augment import download_data
    from cifar_gradcam.engine.datasets import cifar10
    from cifar_gradcam.engine.layers import layer_outputs
    from cifar_gradcam.engine.runs import load_reference
    (_, test, _, _, classes), model = download_data(), load_reference()
    image, true = test[PLACE]
    said, cells, pixels = "document.querySelectorAll('#try-front .try-said')[{}].textContent", ROOT + ".querySelectorAll('.front-cells button')", cifar10(train=False).data[PLACE]

    def answer(cell=None, of=None):
        "With the cell grey: zeros, as the images are normalized. What wins, or what a class gets."
        covered = image.clone()
        if cell is not None: covered[:, 8 * (cell // 4):8 * (cell // 4) + 8, 8 * (cell % 4):8 * (cell % 4) + 8] = 0
        with torch.no_grad(): shares = model(covered[None]).softmax(1)[0]
        if of: return f"{100 * shares[classes.index(of)]:.0f} %"
        share, best = shares.max(0)
        return f"{classes[best]}, {100 * share:.0f} %"

    def colour(canvas, x, y):
        copied = ("(c => { const own = Object.assign(document.createElement('canvas'), {width: 512, height: 512}).getContext('2d', {willReadFrequently: true}); "
                  f"own.drawImage(c, 0, 0); return [...own.getImageData({x}, {y}, 1, 1).data].slice(0, 3); }})")
        return np.array(browser.run(f"{copied}({ROOT}.querySelectorAll('.front-square > canvas')[{canvas}])"))

    if (classes[true], answer().split(",")[0]) != ("dog", "cat"): raise AssertionError("this is no dog called a cat")
    same(f"The network says cat. It gives cat {answer(of='cat')} and dog {answer(of='dog')}. The right" in browser.run(said.format(0)), True, "the answer to the whole picture")
    large = np.asarray(Image.fromarray(pixels).resize((512, 512), Image.Resampling.LANCZOS)).astype(int)
    for x, y in ((100, 300), (300, 60), (400, 470)):
        if abs(colour(0, x, y) - large[y, x]).max() > 6: raise AssertionError(f"the enlarged picture has {colour(0, x, y)} at {x}, {y}, not {large[y, x]}")

    browser.click(f"{cells}[2]")
    same(f"says {answer(2)}. Cat goes from {answer(of='cat')} to {answer(2, 'cat')}. If" in browser.run(said.format(0)), True, "without the ears, by pointer")
    same(colour(0, 320, 60).tolist(), [round(255 * v) for v in (0.4914, 0.4822, 0.4465)], "the part is grey")
    browser.run(f"{cells}[2].focus()")
    for _ in range(2): browser.press("ArrowDown")
    browser.press("Enter")
    other = "cat" if answer(10).startswith("dog") else "dog"
    same((f"says {answer(10)}. {other.capitalize()} goes from {answer(of=other)} to {answer(10, other)}. If" in browser.run(said.format(0)), browser.run(f"[...{cells}].map(b => b.ariaPressed).indexOf('true')")), (True, 10), "two below, by keyboard")
    browser.press("Enter")
    same("The network says cat." in browser.run(said.format(0)), True, "again uncovers it")

    # At the last block a map is the sum of the channels, weighted by the last layer: no gradient is needed.
    with torch.no_grad(): (channels,) = next(iter(layer_outputs(model, image[None], {model.layer4[-1]}, False)[1].values()))
    last = [part for part in model.modules() if isinstance(part, torch.nn.Linear)][-1]
    wrong = classes.index("cat")
    maps = {"first": torch.einsum("k,khw->hw", last.weight[wrong], channels[0]) / 16, "second": torch.einsum("k,khw->hw", last.weight[true], channels[0]) / 16}
    maps["both"] = maps["first"] - maps["second"]
    most = max(grid.relu().max().item() for grid in [*maps.values(), -maps["both"]])
    slider = ROOT + ".querySelector('input[type=range]')"
    browser.run(slider + ".focus()")
    for _ in range(25): browser.press("ArrowRight")
    same(browser.run(slider + ".value"), "100", "opacity by keyboard")
    for view, (orange, violet) in {"first": (True, False), "second": (False, True), "both": (True, True)}.items():
        browser.click(f"{ROOT}.querySelector('.try-choice input[value={view}]')")
        for cell in range(16):
            (x, y), v = (128 * (cell % 4) + 64, 128 * (cell // 4) + 64), maps[view].flatten()[cell].item() * (-1 if view == "second" else 1)
            part = (abs(v) / most) ** 0.7 if (orange if v > 0 else violet) else 0
            wanted = (1 - part) * (large[y, x] @ [0.299, 0.587, 0.114]) + part * np.array((255, 122, 0) if v > 0 else (134, 62, 255))
            if abs(colour(1, x, y) - wanted).max() > 6: raise AssertionError(f"{view}, cell {cell}: {colour(1, x, y)}, not {wanted}")
    margin = (model(image[None])[0, wrong] - model(image[None])[0, true]).item()
    same(f"The score of cat is {margin:.2f} higher than that of dog." in browser.run(said.format(1)), True, "the margin in words")
    rest = f"{last.bias[wrong] - last.bias[true]:+.2f}".replace("-", "−")
    same(f"The remaining {rest} is a constant" in browser.run(said.format(1)), True, "the constant is that of the last layer")
    browser.click(slider, 0.01)
    if abs(colour(1, 300, 60) - large[60, 300]).max() > 12: raise AssertionError("without opacity the picture is as it was")
