"Chapter 08: pixels go in the order of a map, and the answer is watched."
import re

import numpy as np
import torch

from explorer import pixels, same

NOTEBOOK = "08_measuring_explanations"
SHARES = tuple(range(10, 100, 10))  # in %; those of ROAD are among them
FILLINGS = {"neighbours": "neighbours", "mean": "mean colour", "blur": "blur"}
ORDERS = {"gradcam layer4": "Grad-CAM, layer4", "gradcam++ layer2": "Grad-CAM++, layer2", "centred Gaussian": "centre first",
          "another": "another mistake’s map", "random pixels": "random"}
AIRPLANE = 378  # the mistake of the chapter


def chosen_images(record):
    "The chapter's mistake; then eleven mistakes and three right answers of the record, evenly from the highest ROAD of Grad-CAM to the lowest."
    from cifar_gradcam.lab.maps import answered_wrong, image_scores
    scores, wrong = image_scores(record, "gradcam layer4"), answered_wrong(record)

    def spread(of, n):
        falling = np.flatnonzero(of)[np.argsort(-scores[of], kind="stable")]
        return [record["indices"][falling[int((k + 0.5) * len(falling) / n)]] for k in range(n)]
    return [AIRPLANE, *spread(wrong, 11), *spread(~wrong, 3)]


def subjects():
    "The network; places, pictures in bytes, labels and answers of the chosen images; for each order a map of each of them."
    from cifar_gradcam.augment import plain_transform
    from cifar_gradcam.engine.datasets import cifar10
    from cifar_gradcam.engine.runs import load_reference
    from cifar_gradcam.gradcam import explain
    from cifar_gradcam.lab.maps import faithfulness_record
    from cifar_gradcam.mistakes.removal import all_logits, control_maps
    model, test, chosen = load_reference("cpu"), cifar10(train=False), chosen_images(faithfulness_record())
    pictures, labels = test.data[chosen], np.array(test.targets)[chosen]
    x = torch.stack([plain_transform()(image=one)["image"] for one in pictures])
    said = all_logits(model, x).argmax(1)
    maps = {name: explain(model, x, said, *name.split()) for name in ORDERS if "layer" in name}
    maps |= {name: control_maps(name, 1).expand(len(x), -1, -1) for name in ("centred Gaussian", "random pixels")}
    n_wrong = int((labels != said.numpy()).sum())  # they come first
    others = [(k + 1) % n_wrong for k in range(len(x))]
    maps["another"] = maps["gradcam layer4"][others]
    return model, chosen, pictures, labels, said, x, maps, others


def parts(folder):
    "For each image, order, direction, share and filling: the probability of the answer, and the first answer with its probability."
    from cifar_gradcam.data import CIFAR10_MEAN, CLASSES
    from cifar_gradcam.engine.datasets import data_source
    from cifar_gradcam.lab.maps import answered_wrong, faithfulness_record, image_scores
    from cifar_gradcam.mistakes.explorer import colour_table
    from cifar_gradcam.mistakes.removal import all_logits, blank_images, bootstrap_interval, impute, removal_order, removed_pixels, road_scores
    if data_source() != "real": return {"missing": "needs CIFAR-10"}
    model, chosen, pictures, labels, said, x, maps, others = subjects()
    whole = all_logits(model, x).softmax(1)
    images = [{"index": i, "label": int(y), "said": int(s), "other": j, "start": round(1e4 * float(p[s])), "picture": picture.tobytes().hex(),
               "maps": {}, "most": {}, "least": {}, "quiet": {}, "answers": {f: {} for f in FILLINGS}}
              for i, y, s, j, p, picture in zip(chosen, labels, said, others, whole, pictures)]
    for name, heat in maps.items():
        order, answers = removal_order(heat), {f: [] for f in FILLINGS}
        for one, score in zip(images, road_scores(model, x, said, heat, noise=0)["score"]): one["quiet"][name] = round(100 * float(score), 2)
        for first in ("most", "least"):
            gone = [removed_pixels(order, share, first) for share in SHARES]
            steps = (~torch.stack(gone)).sum(0)  # the place in SHARES of the first at which a pixel is gone
            for one, own in zip(images, steps): one[first][name] = "".join(map(str, own.flatten().tolist()))
            for filling, kept in answers.items():
                made = [impute(x, g) if filling == "neighbours" else torch.where(g[:, None], blank_images(x, filling), x) for g in gone]
                kept.append(all_logits(model, torch.cat(made)).softmax(1).unflatten(0, (len(SHARES), -1)))
        for k, (one, own) in enumerate(zip(images, (255 * heat).round().byte().numpy())):
            if "gradcam" in name: one["maps"][name] = own.tobytes().hex()
            for filling, kept in answers.items():
                p = torch.stack(kept)[:, :, k]  # directions, shares, classes
                one["answers"][filling][name] = [(1e4 * p[..., one["said"]]).round().int().tolist(), p.argmax(-1).tolist(), (1e4 * p.amax(-1)).round().int().tolist()]
    record = faithfulness_record()
    wrong, means = answered_wrong(record), {}
    for name in ORDERS:
        if name in record["maps"]:
            scores = 100 * image_scores(record, name)
            means[name] = [[round(float(v), 2) for v in (s.mean(), *bootstrap_interval(s), *np.percentile(s, (10, 90)))] for s in (scores[wrong], scores[~wrong])]
    shared = {name: (255 * maps[name][0]).round().byte().numpy().tobytes().hex() for name in ("centred Gaussian", "random pixels")}
    return {"shares": SHARES, "orders": ORDERS, "fillings": FILLINGS, "classes": CLASSES, "mean": CIFAR10_MEAN, "colours": colour_table(),
            "maps": shared, "images": images, "means": means, "counts": [int(wrong.sum()), int((~wrong).sum())]}


BOX = "document.querySelector('#try-removal')"
SLIDER = BOX + ".querySelector('input[type=range]')"


def check(browser):
    "By keyboard and by pointer: words and pictures are what the functions of the chapter give, and ROAD is what the grad-cam library gives."
    from pytorch_grad_cam.metrics.perturbation_confidence import PerturbationConfidenceMetric, RemoveLeastRelevantFirst, RemoveMostRelevantFirst
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    from cifar_gradcam.data import CLASSES, denormalize
    from cifar_gradcam.gradcam import overlay
    from cifar_gradcam.lab.maps import answered_wrong, faithfulness_record, image_scores
    from cifar_gradcam.mistakes.removal import blank_images, impute, removal_order, removed_pixels, road_scores
    model, chosen, pictures, labels, said, x, maps, _ = subjects()
    record = faithfulness_record()

    def percent(p): return f"{int(np.floor(round(1e4 * float(p)) / 100 + 0.5))}\xa0%"
    def signed(v): return "0.0" if abs(v) < 0.05 else f"{v:+.1f}".replace("-", "−")

    def words(k, name, share, filling):
        found = browser.run(f"[...{BOX}.querySelectorAll('.rm-about, .try-said, .rm-more')].map(p => p.textContent)")
        answer, right = CLASSES[int(said[k])], labels[k] == int(said[k])
        shows = re.fullmatch(rf"Test image {chosen[k]}: an? {CLASSES[labels[k]]}; the network says {answer} \((\d+)\xa0%\)\.", found[0])
        with torch.no_grad(): whole = 100 * float(model(x[[k]]).softmax(1)[0, said[k]])
        if not shows or abs(int(shows[1]) - whole) > 3: raise AssertionError(f"{found[0]}: {whole:.2f} % computed")
        same([text for text in [*found, *browser.run(f"[...{BOX}.querySelectorAll('figcaption, output')].map(p => p.textContent)")] if re.search(r"\d (%|points)", text)], [], "numbers without their units")
        if filling == "neighbours": most, least = (road_scores(model, x, said, maps[name], (share,))[first][0, k] for first in ("most", "least"))
        else:
            falling, n = removal_order(maps[name])[[k]], int(1024 - np.ceil((100 - share) * 1023 / 100))
            gone = torch.stack([falling[0] < n, falling[0] >= 1024 - n])[:, None]
            blank = blank_images(x[[k]], filling)
            with torch.no_grad(): most, least = model(torch.where(gone, blank, x[[k]])).softmax(1)[:, said[k]]
        same(f"Without the first {share}\xa0% of the pixels, {answer} gets" in found[1], True, found[1])
        verdict = ("Both matter about equally." if abs(least - most) < 0.0499 else "" if abs(least - most) < 0.0501 or filling != "neighbours" else
                   "The order is random" if name == "random pixels" else f"The {'first' if least > most else 'last'} pixels matter more.")
        same(verdict in found[1], True, f"{verdict} {found[1]}")
        shown = [int(word) for word in re.findall(r"gets (\d+)\xa0%", found[1])]
        for own, p in zip(shown, (most, least), strict=True):
            if abs(own - 100 * float(p)) > (0.51 if filling == "neighbours" else 3): raise AssertionError(f"{own} % on the page, {100 * float(p):.2f} % computed")
        score = 100 * float(road_scores(model, x, said, maps[name])["score"][k])
        own = re.search(r"(?:picture: |ROAD does, it is )([+−]?\d+\.\d)", found[2])[1]
        if abs(float(own.replace("−", "-")) - score) > 0.06: raise AssertionError(f"ROAD {score} computed, on the page: {found[2]}")
        if name != "another":
            scores = 100 * image_scores(record, name)[answered_wrong(record) != right]
            same(f"the mean is {signed(scores.mean())} " in found[2], True, found[2])

    def drawn(k, name, share, filling):
        order = removal_order(maps[name])[[k]]
        for place, first in ((1, "most"), (2, "least")):
            gone = removed_pixels(order, share, first)
            wanted = impute(x[[k]], gone, noise=0) if filling == "neighbours" else torch.where(gone[:, None], blank_images(x[[k]], filling), x[[k]])
            seen = pixels(browser, f"{BOX}.querySelectorAll('.rm-pictures canvas')[{place}]")[..., :3]
            if (off := abs(seen - 255 * denormalize(wanted[0])).max()) > 1: raise AssertionError(f"image {k}, {filling}, {first} relevant first: pixels differ by {off}")
            same((seen[~gone[0].numpy()] == pictures[k][~gone[0].numpy()]).all(), True, "what is not removed is as it was")
        seen = pixels(browser, f"{BOX}.querySelector('.rm-pictures canvas')")[..., :3]
        if (off := abs(seen - 255 * overlay(pictures[k] / 255, maps[name][k].numpy())).max()) > 2.5: raise AssertionError(f"the map differs by {off}")

    def everything(*state):
        drawn(*state)
        words(*state)
    everything(0, "gradcam layer4", 40, "neighbours")
    ours = float(re.search(r"\(([+−]\d+\.\d) without", browser.run(BOX + ".querySelector('.rm-more').textContent"))[1].replace("−", "-"))
    ranks, total = (1023 - removal_order(maps["gradcam layer4"])[[0]]) / 1024, 0
    for sign, remove in ((-1, RemoveMostRelevantFirst), (1, RemoveLeastRelevantFirst)):
        for share in (20, 40, 60, 80):
            metric = PerturbationConfidenceMetric(remove(share, NoisyLinearImputer(0)))
            total += sign * 100 * float(metric(x[[0]], ranks.numpy(), [ClassifierOutputSoftmaxTarget(int(said[0]))], model)[0]) / 8
    if abs(ours - total) > 0.4: raise AssertionError(f"ROAD without noise {ours} on the page, {total} from the grad-cam library")
    browser.run(SLIDER + ".focus()")
    for _ in range(2): browser.press("ArrowRight")
    everything(0, "gradcam layer4", 60, "neighbours")
    browser.run(BOX + ".querySelector('.rm-order input:checked').focus()")
    for name in ("gradcam++ layer2", "centred Gaussian", "another"):
        browser.press("ArrowRight")
        everything(0, name, 60, "neighbours")
    browser.run(BOX + ".querySelector('.rm-pick input:checked').focus()")
    for _ in range(2): browser.press("ArrowRight")
    everything(2, "another", 60, "neighbours")
    browser.click(f"{BOX}.querySelectorAll('.rm-pick label')[13]")
    browser.click(f"{BOX}.querySelector('.rm-order label:nth-of-type(5)')")
    for place, filling in ((2, "mean"), (3, "blur")):
        browser.click(f"{BOX}.querySelectorAll('.rm-order ~ .try-choice label')[{place - 1}]")
        everything(13, "random pixels", 60, filling)
    browser.click(SLIDER, 0.12)
    everything(13, "random pixels", 10, "blur")
    browser.press("ArrowLeft")
    same(browser.run(BOX + ".querySelector('.try-said').textContent"), f"Nothing is removed: {CLASSES[int(said[13])]} gets {percent(model(x[[13]]).detach().softmax(1)[0, said[13]])}.", "at 0 %")
    same((pixels(browser, f"{BOX}.querySelectorAll('.rm-pictures canvas')[1]")[..., :3] == pictures[13]).all(), True, "the whole picture")
    for width, height in ((1440, 900), (390, 844)):
        browser.size(width, height)
        browser.until(f"[...{BOX}.querySelectorAll('.rm-folded fieldset')].every(f => f.checkVisibility() === {str(width > 600).lower()})")
        browser.run("new Promise(done => setTimeout(done, 200))")
        places = []
        for k in range(len(chosen)):
            browser.run(f"{BOX}.querySelectorAll('.rm-pick input')[{k}].click()")
            places.append(browser.run(f"['.rm-pictures', '.try-said', '.rm-more'].map(part => Math.round({BOX}.querySelector(part).getBoundingClientRect().top - {BOX}.getBoundingClientRect().top))"))
        same([place for place in places if place != places[0]], [], f"at {width} px nothing moves from picture to picture, from {places[0]}")
    if places[0][0] > 450: raise AssertionError(f"the pictures begin {places[0][0]} px below the top of the box")
    browser.click(BOX + ".querySelector('summary')")
    same(browser.run(f"[...{BOX}.querySelectorAll('.rm-folded fieldset')].map(f => f.checkVisibility())"), [True, True], "unfolded")
    browser.size(1440, 900)
