"The front page: a dog that the network calls a cat, with a map for each class; one covers parts of the picture by tapping."
import numpy as np

from explorer import same

NOTEBOOK = "index"
STILL = "fig-front"
PLACE = 9360  # in the test set
# What each cell of the grid shows, row by row.
CELLS = ["the upper left corner", "the tip of the tail", "the ears", "the edge of an ear",
         "the background behind the dog", "the back", "the face", "the muzzle",
         "the hind leg", "the belly", "the chest", "the far front leg",
         "the lower left corner", "the shadow", "the near front leg", "the paws"]
ROOT = "document.querySelector('#try-front')"


def parts(folder):
    "The picture; for each class, its score and its map; for each way to cover, the shares of all classes, in 10,000: whole, then without each cell."
    import torch

    from cifar_gradcam.augment import download_data
    from cifar_gradcam.data import CIFAR10_MEAN
    from cifar_gradcam.engine.datasets import cifar10, data_source, DataError
    from cifar_gradcam.engine.runs import load_reference
    from cifar_gradcam.gradcam import signed_maps
    from cifar_gradcam.mistakes.covering import covered_logits, GAMES
    if data_source() != "real": raise DataError("the picture is one of CIFAR-10")
    model, (_, test, _, _, classes) = load_reference(), download_data()
    image, true = test[PLACE]
    hidden = torch.cat([torch.zeros(1, 16), torch.eye(16)]).bool().reshape(-1, 4, 4)
    shares = [covered_logits(model, image[None], torch.zeros(17, dtype=torch.long), hidden, game).double().softmax(1) for game in GAMES]
    predicted = shares[0][0].argmax().item()
    maps, scores = signed_maps(model, image[None].repeat(2, 1, 1, 1), torch.tensor([predicted, true]))
    return {"place": PLACE, "pixels": cifar10(train=False).data[PLACE].tobytes().hex(), "classes": list(classes), "true": int(true), "predicted": predicted,
            "scores": [round(score, 4) for score in scores.tolist()], "maps": [[round(v, 4) for v in grid.flatten().tolist()] for grid in maps],
            "cover": [round(255 * mean) for mean in CIFAR10_MEAN],
             "shares": [(10_000 * way).round().int().tolist() for way in shares], "cells": CELLS}


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
