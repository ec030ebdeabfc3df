"Chapter 05: the map of a mistake by method, layer and class."
import json

import numpy as np
import torch

from explorer import PIXELS, same
from tries.cells import images_at

NOTEBOOK, STILL = "05_gradcam", "fig-methods"
LAYERS = {"stem": "bn1", "layer1": "layer1", "layer2": "layer2", "layer3": "layer3", "layer4": "layer4"}  # what the page calls it
NAMES = {"gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++", "hirescam": "HiResCAM", "layercam": "LayerCAM", "eigencam": "EigenCAM"}
BOX = "document.querySelector('#try-layers')"
SAID = BOX + ".querySelector('.try-said').textContent"
LARGE = BOX + ".querySelector('.layers-large')"
TILES = BOX + ".querySelectorAll('.layers-all button')"
CLASS = BOX + ".querySelectorAll('.layers-classes button')[{}]"

TOPS = f"[{CLASS.format(0)}, {BOX}.querySelector('.try-said'), {TILES}[0], {BOX}.querySelector('.layers-work')].map(part => Math.round(part.getBoundingClientRect().top))"


def dozen():
    "The mistake that the chapter takes apart, then the first eleven of the test set."
    from cifar_gradcam.mistakes.predictions import reference_predictions
    record = reference_predictions()
    return record, [378, *np.flatnonzero(record.predicted != record.labels)[:11].tolist()]


def summed(signed):
    "Of a map before the ReLU: the cell of 4 × 4 with its strongest place, how many places hold half of what is positive, and their sum."
    positive, side = signed.clamp_min(0), len(signed)
    if not positive.any(): return [-1, 0, 0]
    row, column = divmod(int(positive.argmax()), side)
    heaped = positive.flatten().sort(descending=True).values.cumsum(0)
    return [4 * (4 * row // side) + 4 * column // side, int((heaped < heaped[-1] / 2).sum()) + 1, round(heaped[-1].item(), 3)]


def parts(folder):
    "Pictures side by side, and a file for each with its maps: a byte for each place, on one scale for the three classes of a method at a layer."
    from PIL import Image

    from cifar_gradcam.data import CLASSES
    from cifar_gradcam.engine.runs import load_reference
    from cifar_gradcam.gradcam import METHODS, observe, target_layer
    from cifar_gradcam.lab.facts import facts_record
    from cifar_gradcam.mistakes.explorer import colour_table
    (record, places), model, facts = dozen(), load_reference("cpu"), facts_record()["rows"]
    pixels, images = images_at(places)
    Image.fromarray(np.concatenate(pixels, 1)).save(folder / "layers.webp", lossless=True, quality=100, method=6)
    wrong, right = (torch.from_numpy(own[places]) for own in (record.predicted, record.labels))
    stages = [target_layer(model, name) for name in LAYERS.values()]
    seen = [observe(model, images, target, stages, against=against) for target, against in ((wrong, None), (right, None), (wrong, right))]
    maps = {method: [[METHODS[method](own) for own in of_class] for of_class in seen] for method in NAMES}
    pictures = []
    for k, place in enumerate(places):
        row, found = facts[str(place)], {"pixels": pixels[k].tobytes().hex(), "maps": [], "about": [], "tops": []}
        for by_class in maps.values():
            own = [[stage[k] for stage in stages] for stages in by_class]
            tops = [max(float(stages[s].max()) for stages in own) for s in range(len(LAYERS))]
            found["tops"].append([float(f"{max(top, 0):.3g}") for top in tops])
            found["about"].append([[*map(summed, stages)] for stages in own])
            found["maps"].append([[(255 * m.clamp_min(0) / max(top, 1e-30)).round().byte().numpy().tobytes().hex() for m, top in zip(stages, tops)]
                                  for stages in own])
        (folder / f"layers-{place}.json").write_text(json.dumps(found, separators=(",", ":")))
        pictures.append({"place": place, "predicted": int(wrong[k]), "true": int(right[k]), "scores": [round(of_class[0].scores[k].item(), 2) for of_class in seen],
                         "sure": round(100 * float(record.probabilities[place].max())), "holds": [game["holds"] for game in row["games"]],
                         **{key: row[key] for key in ("turns", "halves", "opposes")}})
    return {"classes": CLASSES, "colours": colour_table(), "methods": [*NAMES.values()], "layers": [*LAYERS], "pictures": pictures}


def from_the_library(model, image, name, layer, target, against):
    "A map before the ReLU as pytorch-grad-cam computes it; EigenCAM's sign is open."
    import pytorch_grad_cam
    kinds = {"Grad-CAM": "GradCAM", "Grad-CAM++": "GradCAMPlusPlus"}
    def score(logits): return logits[target] - (0 if against is None else logits[against])
    with getattr(pytorch_grad_cam, kinds.get(name, name))(model, [layer]) as cam:
        cam(image, [score])
        activations, gradients = ([part.numpy() for part in kept] or [None] for kept in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients))
        return cam.get_cam_image(image, layer, [score], activations[0], gradients[0], False)[0]


def check(browser):
    "By keyboard and by pointer: each map is the library's, on the scale that is said, and the sentence says what the map and the record hold."
    from cifar_gradcam.data import CLASSES
    from cifar_gradcam.engine.runs import load_reference
    from cifar_gradcam.gradcam import target_layer
    from cifar_gradcam.lab.facts import facts_record
    from cifar_gradcam.mistakes.explorer import colour_table
    (record, places), model, names = dozen(), load_reference("cpu"), [*NAMES.values()]
    colours = np.frombuffer(bytes.fromhex(colour_table()), np.uint8).reshape(256, 3).astype(int)
    _, images = images_at(places)

    def chosen(place, m, s, k):
        "What is large on the page, with opacity 100 %, against the library; and the sentence."
        row, at = facts_record()["rows"][str(place)], places.index(place)
        wrong, right = row["predicted"], row["true"]
        layer = target_layer(model, [*LAYERS.values()][s])
        raw = [from_the_library(model, images[[at]], names[m], layer, *pair) for pair in ((wrong, None), (right, None), (wrong, right))]
        levels, small = (np.abs(np.reshape(browser.run(PIXELS.format(canvas)), (32, 32, 4))[:, :, None, :3] - colours).sum(-1).argmin(-1)
                         for canvas in (LARGE, f"{TILES}[{5 * m + s}].querySelector('canvas')"))
        what = f"image {place}, {names[m]}, {[*LAYERS][s]}, class {k}"
        def far(sign):
            maps = np.maximum(sign * np.stack(raw), 0)
            wanted = 255 * np.kron(maps[k] / maps.max(), np.ones((32 // len(maps[k]),) * 2))
            return (np.abs(levels - wanted) > 2).mean()
        signs = (1, -1) if names[m] == "EigenCAM" else (1,)
        if min(map(far, signs)) > 0.01: raise AssertionError(f"{what}: {[far(sign) for sign in signs]} of the pixels are off")
        own = np.maximum(min((1, -1), key=far) * raw[k] if len(signs) > 1 else raw[k], 0)
        off = np.abs(small - np.kron(255 * own / own.max(), np.ones((32 // len(own),) * 2)))  # one level of the large map is several of these
        if (off > 3 + 0.5 * max(np.maximum(sign * one, 0).max() for one in raw for sign in signs) / own.max()).mean() > 0.01: raise AssertionError(f"{what}: the small map is off by up to {off.max():.0f} levels")
        said = browser.run(SAID)
        cells = own.reshape(4, len(own) // 4, 4, -1).max((1, 3))
        cell, ordered = int(cells.argmax()), np.sort(own.ravel())[::-1]
        half = int((ordered.cumsum() < ordered.sum() / 2).sum()) + 1
        for text in (f"{names[m]} at {[*LAYERS][s]}", f"(row {cell // 4 + 1}, column {cell % 4 + 1})", f"lies on {half} of {own.size:,} places"):
            if text not in said: raise AssertionError(f"{what}: {said!r} lacks {text!r}")
        same(browser.run(f"(i => [4 * parseFloat(i.style.top) / 100, 4 * parseFloat(i.style.left) / 100])({BOX}.querySelector('.layers-frame i'))"), [cell // 4, cell % 4], "the frame")
        if cell in row["turns"]: fact = f"the answer becomes {CLASSES[right]}, in all"
        elif cell in row["halves"]: fact = f"{CLASSES[wrong]} loses half"
        elif cell in row["opposes"]: fact = f"In all of them it clearly counted for {CLASSES[right]} rather than {CLASSES[wrong]} (an"
        else:
            times = ("none of them did it clearly count", "one of them it clearly counted", "two of them it clearly counted", "all of them it clearly counted")[sum(cell in g["holds"] for g in row["games"])]
            fact = f"In {times} for {CLASSES[wrong]} rather than {CLASSES[right]} (an"
        if fact not in said: raise AssertionError(f"{what}: {said!r} lacks {fact!r}")
        if s == 4 and m in (0, 2):
            with torch.no_grad(): z = model(images[[at]])[0]
            number = (z[wrong], z[right], z[wrong] - z[right])[k].item()
            text = f"add up to {own.sum():.1f}; the {'lead' if k == 2 else 'logit'} is {number:.1f}.".replace("-", "−")
            if text not in said: raise AssertionError(f"{what}: {said!r} lacks {text!r}")

    browser.run(f"(i => {{ i.value = 100; i.dispatchEvent(new Event('input')); }})({BOX}.querySelector('input[type=range]'))")
    chosen(378, 0, 4, 0)
    browser.run(TILES + "[4].focus()")
    for key in ("ArrowLeft", "ArrowDown", "ArrowDown", " "): browser.press(key)
    chosen(378, 2, 3, 0)
    browser.click(CLASS.format(2))
    chosen(378, 2, 3, 2)
    for k, place in enumerate((378, 95, 52)):
        browser.click(f"{BOX}.querySelectorAll('.try-pictures input')[{places.index(place)}]")
        browser.until(f"{CLASS.format(0)}.textContent === '✗ {CLASSES[record.predicted[place]]}' && {CLASS.format(1)}.textContent === '✓ {CLASSES[record.labels[place]]}'")
        wrong, right = (f"{'an' if CLASSES[own[place]][0] == 'a' else 'a'} {CLASSES[own[place]]}" for own in (record.predicted, record.labels))
        same(browser.run(BOX + ".querySelector('.layers-mistake').textContent"), f"A{right[1:]} that the network calls {wrong}", "what the mistake is")
        browser.click(CLASS.format(k))
        for m, s in ((0, 4), (0, 2), (1, 4), (1, 3), (2, 4), (3, 1 + k), (3, 4), (4, 3), (4, 4)):
            browser.click(f"{TILES}[{5 * m + s}]")
            chosen(place, m, s, k)
    browser.size(390, 844)
    tops = []
    for t in range(len(names) * len(LAYERS)):
        browser.run(f"{TILES}[{t}].click()")
        tops.append(browser.run(TOPS))
    same(tops[0][:3], sorted(tops[0][:3]), "on a phone the sentence is between the classes and the small maps")
    for k in range(len(places)):
        browser.run(f"{BOX}.querySelectorAll('.try-pictures input')[{k}].click()")
        browser.until(f"{CLASS.format(0)}.textContent === '✗ {CLASSES[record.predicted[places[k]]]}' && {CLASS.format(1)}.textContent === '✓ {CLASSES[record.labels[places[k]]]}'")
        tops.append(browser.run(TOPS))
    same({top[2] - top[3] for top in tops}, {tops[0][2] - tops[0][3]}, "the small maps stay where they are")
    browser.size(1440, 900)
    browser.call("Network.setBlockedURLs", urls=[f"*layers-{places[5]}.json*"])
    browser.click(f"{BOX}.querySelectorAll('.try-pictures input')[5]")
    browser.until(f"{SAID}.startsWith('This picture could not be loaded. Check your connection')")
    browser.call("Network.setBlockedURLs", urls=[])
    browser.click(f"{BOX}.querySelectorAll('.try-pictures input')[0]")
    browser.until(f"{CLASS.format(0)}.textContent === '✗ {CLASSES[record.predicted[378]]}'")
    browser.logged.clear()  # the browser's own word about the file
