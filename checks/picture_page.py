"""The page of your own picture in a real browser, compared with Python: `python checks/picture_page.py`.

Where there is no Chromium or Chrome, no npm or no onnx it says so and ends well.
"""
import base64
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cifar_gradcam.data import CLASSES, denormalize
from cifar_gradcam.engine.datasets import synthetic_images
from cifar_gradcam.gradcam import explain, signed_maps
from cifar_gradcam.engine.pictures import lay_over, to_network
from cifar_gradcam.engine.datasets import picture_window, read_picture
from cifar_gradcam.engine.runs import load_reference
from explorer import choose, same, slide
from picture_app import build_alone
from pages import check_in_browser, check_screen, keep_pictures

ENOUGH = 0.01  # how far browser and Python may be apart; pixels are from 0 to 1
SAID = "document.querySelector('#yp-said').textContent"
APP = "document.querySelector('#yp-app')"
ANSWER = APP + ".answer"
TILES = "document.querySelectorAll('.yp-tiles button')"
AGAIN = "document.querySelector('#yp-again')"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP")  # that the page says it reads


def network_as_stored(precision):
    "The book's network with its weights rounded as in the file that the page loads."
    model = load_reference("cpu")
    for weights in (one.data for one in model.parameters() if one.ndim > 1):
        factor = weights.abs().flatten(1).amax(1).reshape(-1, *[1] * (weights.ndim - 1)) / 127
        in_bytes = precision == "8 bits" and weights[0].numel() >= 576
        weights.copy_((weights / factor).round() * factor if in_bytes else weights.half())
    return model


def draw_pictures(folder):
    "Pictures as people have them: from a phone on its side, cut out, tiny, narrow, grey."
    rng = np.random.default_rng(0)
    scenes = [Image.fromarray(scene) for scene in synthetic_images(5, rng)[0]]

    def large(k, size):  # smooth, with the noise of a camera
        pixels = np.asarray(scenes[k].resize(size, Image.Resampling.BICUBIC), dtype=float)
        return Image.fromarray((pixels + rng.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise makes it upright
    large(0, (1200, 900)).save(folder / "phone.jpg", quality=88, exif=exif)
    cut_out = large(1, (301, 173)).convert("RGBA")
    y, x = np.mgrid[:173, :301]
    cut_out.putalpha(Image.fromarray((255 * np.clip(1.4 - np.hypot((x - 150) / 150, (y - 86) / 86), 0, 1)).astype(np.uint8)))
    cut_out.save(folder / "cut out.png")
    scenes[2].resize((20, 11)).save(folder / "tiny.png")
    large(3, (1900, 45)).save(folder / "narrow.webp", lossless=True)
    large(4, (400, 640)).convert("L").save(folder / "grey.png")
    return sorted(folder.glob("*.*"))


def open_page(browser, address, ready=f"!document.querySelector('#yp-choose').hidden && ({ANSWER}?.own || !{TILES}.length)"):
    browser.call("Page.navigate", url=address + "your_picture.html")
    browser.until("document.readyState === 'complete'")
    browser.until(ready)


def choose_file(browser, path, field="yp-file"):
    "Choose a file, as the window of the browser for that would."
    place = browser.call("Runtime.evaluate", expression=f"document.getElementById('{field}')")["result"]["objectId"]
    browser.call("DOM.setFileInputFiles", files=[str(path)], objectId=place)


def answered(browser, name): browser.until(f"{ANSWER}.name === {json.dumps(name)} && {SAID}.startsWith({json.dumps(name + ': ')})")


def give(browser, path, field="yp-file"):
    choose_file(browser, path, field)
    answered(browser, Path(path).name)


def close(found, wanted, what, enough=ENOUGH):
    found, wanted = np.asarray(found, dtype=float).reshape(np.shape(wanted)), np.asarray(wanted, dtype=float)
    off = abs(found - wanted).max()
    if not off <= enough: raise AssertionError(f"{what}: apart by {off:.4f}, more than {enough}")


def check_answer(browser, model, path, label=""):
    "Everything that the page computed of a picture, beside Python's."
    picture = read_picture(path)
    image = to_network(picture)
    found = browser.run(f"(a => ({{first: a.first, second: a.second, probabilities: a.probabilities, ...Object.fromEntries("
                        f"['input', 'logits', 'maps'].map(k => [k, [...a[k]]])), heats: a.heats.map(h => [...h])}}))({ANSWER})")
    close(denormalize(torch.tensor(found["input"]).reshape(image.shape)), denormalize(image), f"{path.name}: what the network sees")
    with torch.no_grad(): logits = model(image)[0]
    close(found["logits"], logits, f"{path.name}: logits")
    close(found["probabilities"], logits.softmax(0), f"{path.name}: probabilities")
    order = logits.argsort(descending=True).tolist()
    first, second = order[0], order[1] if label in ("", CLASSES[order[0]]) else CLASSES.index(label)
    same([found["first"], found["second"]], [first, second], f"{path.name}: the likeliest class, and the next one or the right one")
    everyone = torch.arange(len(CLASSES))
    close(found["maps"], signed_maps(model, image.expand(len(CLASSES), -1, -1, -1), everyone)[0], f"{path.name}: maps in units of the logit")
    colours = browser.run("[...document.querySelectorAll('#yp-maps figure')].map(one => ['canvas', 'figcaption i'].map(part => getComputedStyle(one.querySelector(part)).borderTopColor))")
    same([mark == border for mark, border in colours] + [len({border for border, _ in colours})], [True] * 3 + [3], f"{path.name}: a mark beside each name has the colour of the frame")
    check_maps(browser, model, path, found["heats"], [(first, None), (second, None), (first, second)])
    # Two other classes, by the selects.
    choose(browser, "yp-first", order[-1])
    choose(browser, "yp-second", order[2])
    heats = browser.run(f"{ANSWER}.heats.map(h => [...h])")
    check_maps(browser, model, path, heats, [(order[-1], None), (order[2], None), (order[-1], order[2])])
    choose(browser, "yp-second", order[-1])
    same(browser.run(f"[{ANSWER}.first, {ANSWER}.second]"), [order[2], order[-1]], "the same class twice: they change places")


def check_maps(browser, model, path, heats, wanted):
    picture = read_picture(path)
    image, rows_and_columns = to_network(picture), picture_window(picture, 32)
    grids = [signed_maps(model, image, [target], None if against is None else [against])[0].relu() for target, against in wanted]
    larges = [torch.nn.functional.interpolate(grid[None], (32, 32), mode="bilinear")[0, 0] for grid in grids]
    shared = max(large.max() for large in larges)
    for k, (target, against) in enumerate(wanted):
        what = f"{path.name}: map for {CLASSES[target]}" + (f" rather than {CLASSES[against]}" if against is not None else "")
        amount = grids[k].sum().item()
        # What is next to nothing is stretched to the full range: the last digit decides what it looks like.
        enough = ENOUGH * max(1, 1 / max(amount, 1e-6))
        found, heat = np.reshape(heats[k], (32, 32)), larges[k] / shared
        words, about = browser.run(f"document.querySelectorAll('#yp-maps figcaption')[{k}].textContent"), f"evidence for {what.partition(' map for ')[2]}"
        if not amount: same(words, f"no {about}: the map is grey", "a map without evidence")
        elif not (words.startswith(f"{about}: ") and abs(float(words.rpartition(" ")[2]) - amount) < 0.07): raise AssertionError(f"{words}, wanted {about}: {amount:.1f}")
        close(found, heat, what)
        alone = explain(model, image, [target], against=None if against is None else [against])[0]
        close((found - found.min()) / max(np.ptp(found), 1e-12), alone, what + ", alone", enough)
        if max(picture.size) > 1024: continue
        factor = max(1, 320 // max(picture.size))
        large = picture.resize([side * factor for side in picture.size], Image.Resampling.NEAREST)
        shown = canvas(browser, f"document.querySelectorAll('#yp-maps canvas')[{k}]")
        close(shown / 255, np.asarray(lay_over(large, heat[rows_and_columns].numpy())) / 255, what + ", laid over", 2 * ENOUGH)


def canvas(browser, element):
    "What a canvas shows, shape (H, W, 3)."
    address = browser.run(f"{element}.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"), dtype=float)


def send(browser, kind, content, target="document.body"):
    "Drop or paste on any place of the page, as a browser would tell of it; whether the page keeps the browser from leaving."
    event = {"drop": "DragEvent('drop', {dataTransfer: all, ", "paste": "ClipboardEvent('paste', {clipboardData: all, "}[kind]
    return browser.run(f"(() => {{ const all = new DataTransfer(); {content}; const event = new {event} bubbles: true, cancelable: true}}); "
                       f"{target}.dispatchEvent(event); return event.defaultPrevented; }})()")


def file_for(path, name):
    content = base64.b64encode(path.read_bytes()).decode()
    return f"all.items.add(new File([Uint8Array.from(atob('{content}'), c => c.charCodeAt())], '{name}', {{type: 'image/jpeg'}}))"


def check_ways_in(browser, pictures):
    "A file dropped anywhere, a pasted one, one of the camera's, each format that is named; a link, a text, and a file that is no picture."
    photo = next(path for path in pictures if path.name == "phone.jpg")
    for kind, target in (("drop", "document.body"), ("drop", "document.querySelector('h1')"), ("paste", "document.body")):
        name = f"{kind} on {target[-4:-2]}.jpg"
        same(send(browser, kind, file_for(photo, name), target), True, f"{name}: the browser stays on the page")
        answered(browser, name)
    give(browser, photo, "yp-camera")
    for kind, content in (("drop", "all.setData('text/uri-list', 'https://example.org/cat.jpg')"), ("paste", "all.setData('text/plain', 'a cat')")):
        same(send(browser, kind, content), True, "the browser does not follow a link")
        same("was a link or a text. This page needs an image file." in browser.run(SAID), True, f"what is wanted, after a {kind}")
        choose(browser, "yp-second", browser.run(f"{ANSWER}.second"))  # says something else
    for kind in FORMATS:
        path = photo.with_name(f"one.{kind.lower()}")
        Image.open(photo).save(path, kind)
        give(browser, path)
        path.unlink()
    broken = photo.with_name("broken.svg")
    broken.write_bytes(b"no picture")
    choose_file(browser, broken)
    browser.until(f"{SAID}.startsWith('broken.svg could not be opened')")
    same([kind for kind in FORMATS if kind not in browser.run(SAID).upper()], [], "formats that are not named")
    same(browser.run(f"[{ANSWER}.name, document.querySelector('#yp-evidence').checkVisibility()]"), ["one.bmp", True], "the last answer stays")
    broken.unlink()


def check_pictures_to_try(browser, folder, model):
    "Each of the dozen that the build could make, by mouse and by keyboard; its stored answer is the one that the network gives."
    app = json.loads((folder / "web" / "app.json").read_text(encoding="utf-8"))
    same(browser.run(TILES + ".length"), len(app["pictures"]), "pictures to try")
    for k, one in enumerate(app["pictures"]):
        if k % 2: browser.click(f"{TILES}[{k}]")
        else:
            browser.run(f"{TILES}[{k}].focus()")
            browser.press("Enter")
        browser.until(f"{SAID}.startsWith('Test image {one['index']}, ')")
        same(browser.run(f"{ANSWER}.own.label === {json.dumps(one['label'])} && {SAID}.includes('it is {'wrong' if k < 2 else 'right'}')"),
             True, f"test image {one['index']}: right or wrong")
        if k % 4 == 0: check_answer(browser, model, folder / "web" / one["file"], one["label"])
        same(browser.run(f"[...{TILES}].map(b => b.getAttribute('aria-pressed')).indexOf('true')"), k, "the one on show")
        stored = browser.run(f"(({{logits, maps}}) => [...logits, ...maps])({ANSWER})")
        if k % 4 == 0:
            give(browser, folder / "web" / one["file"])
            close(browser.run(f"(({{logits, maps}}) => [...logits, ...maps])({ANSWER})"), stored, "the stored answer", 1e-3)


def check_claims(browser, folder):
    "What the page says of its network is in the record, and the record is of these weights."
    record = json.loads((folder / "web" / "app.json").read_text(encoding="utf-8"))["record"]
    if "precisions" not in record: raise AssertionError("records/picture_model.json is of other weights: run python checks/picture_app.py --measure and commit it")
    ours, full = (f"{record['precisions'][precision]['accuracy']:.2f}\u00a0%" for precision in (record["chosen"], "float32"))
    words = f"The network is right on {ours} of {record['images']:,} test images, {'as in float32' if ours == full else f'in float32 on {full}'}."
    same(words in browser.run("document.querySelector('#yp-about').innerText"), True, f"{words} is on the page")


def check_bars(browser):
    rows = browser.run("[...document.querySelectorAll('#yp-bars tr')].map(r => [r.cells[0].textContent, r.cells[2].textContent])")
    p = browser.run(f"{ANSWER}.probabilities")
    same([name for name, _ in rows], [CLASSES[c] for c in np.argsort(-np.array(p), kind="stable")], "the classes, likeliest first")
    (a, p_a), (b, p_b) = rows[:2]  # of a picture of one's own
    same(browser.run(SAID).startswith(f"{browser.run(ANSWER + '.name')}: the network says {a} ({p_a}). The runner-up is {b} ({p_b}). What counts for {a} rather than {b} "),
         True, "what is said and read out")


def check_own_screen(browser):
    check_screen(browser, APP)
    browser.size(390, 844)
    same(browser.run("new Set(['first', 'second', 'opacity'].map(id => document.querySelector(`#yp-${id}`).getBoundingClientRect().left)).size"), 1, "on a phone the controls start at one place")
    same(browser.run("document.querySelector('#yp-said').getAttribute('aria-live')"), "polite", "what is said is announced")
    same(browser.run("[...document.querySelectorAll('#yp-app canvas')].every(c => c.getAttribute('aria-label'))"), True, "names of the pictures")


def check_plain_words(browser):
    "Words that only some readers know stand under How it works, and not before."
    before = browser.run("(end => { const range = new Range(); range.setStart(document.querySelector('main'), 0); range.setEndBefore(end); const text = range.cloneContents(); "
                         "text.querySelectorAll('script, style').forEach(e => e.remove()); return text.textContent; })(document.getElementById('how') || document.getElementById('yp-about'))")
    same([word for word in ("logit", "8 bit", "float32", "steps", "tensor") if word in before], [], "words for experts")


def check_opacity(browser):
    first = "document.querySelectorAll('#yp-maps canvas')[0]"
    before = canvas(browser, first)
    slide(browser, "#yp-opacity", 0)
    grey = canvas(browser, first)
    close(grey[..., 0], grey[..., 1], "without the map it is grey", 0)
    slide(browser, "#yp-opacity", 50)
    close(canvas(browser, first), before, "the slider goes back", 0)


def check_first_answer(browser, address):
    "An answer stands there before anything of the network is loaded, and it is one of the mistakes."
    browser.requested.clear()
    open_page(browser, address)
    if browser.run(TILES + ".length"):  # else CIFAR-10 was not there
        same(browser.run("['#yp-own', '#yp-bars', '#yp-maps'].every(one => document.querySelector(one).checkVisibility())"), True, "a first answer")
        same(browser.run(SAID).split(". ")[0].endswith("and it is wrong"), True, "the first is a mistake")
    same([url for url in browser.requested if "/ort." in url or "/model." in url], [], "loaded before it was asked for")


def check_kept(browser, address, pictures):
    "What is given before the network is there is shown, kept over a failure, and explained; of several, the last. The size is said before."
    browser.call("Network.setBlockedURLs", urls=["*/ort.js*"])  # a module, which a browser asks for only once
    open_page(browser, address)
    size = sum(browser.run("fetch('web/app.json').then(found => found.json()).then(app => Object.values(app.sizes))"))
    same(browser.run("document.querySelector('#yp-size').innerText"), f"The first picture of your own loads the network, {round(size / 1e6)}\u00a0MB.", "the size")
    browser.run("window.heard = []; new MutationObserver(() => heard.push(document.querySelector('#yp-said').textContent)).observe(document.querySelector('#yp-said'), {childList: true})")
    for path in pictures[:2]: choose_file(browser, path)
    name = pictures[1].name
    browser.until(f"{SAID}.startsWith('The network could not be loaded') && {SAID}.includes({json.dumps(name + ' is kept')})")
    same(browser.run("[document.querySelector('#yp-own').nextElementSibling.textContent, "
                     "document.querySelector('#yp-own').checkVisibility(), document.querySelector('#yp-evidence').checkVisibility(), document.activeElement.id]"),
         [name, True, False, "yp-again"], "the picture is kept and shown, without an answer")
    browser.call("Network.setBlockedURLs", urls=[])
    browser.logged.clear()  # the browser's own word about that
    browser.press("Enter")
    answered(browser, name)
    same(browser.run("document.querySelector('#yp-size').innerText"), "The network is loaded.", "and the size is of no interest any more")
    give(browser, pictures[0])
    heard = browser.run("heard")
    same([words in heard for words in (f"{name} is ready. Loading the network ({round(size / 1e6)}\u00a0MB); the answer will follow.", f"{pictures[0].name} is ready. The network is looking at it.")],
         [True, True], "what is said while one waits")


def check_missing(browser, folder, address):
    kept = (folder / "web" / "app.json").read_text(encoding="utf-8")
    (folder / "web" / "app.json").write_text(json.dumps({"missing": "needs npm"}), encoding="utf-8")
    browser.call("Network.setCacheDisabled", cacheDisabled=True)
    open_page(browser, address, f"{SAID} !== ''")
    same(browser.run(SAID), "The network is not in this copy of the site: it needs npm.", "a site without the network")
    same(browser.run("document.querySelector('#yp-choose').checkVisibility()"), False, "nothing to choose")
    (folder / "web" / "app.json").write_text(kept, encoding="utf-8")


def check_page(browser, folder, address, screenshots=None):
    "All of it on a page that is served; `folder` is where its files are."
    model = network_as_stored(json.loads((folder / "web" / "app.json").read_text(encoding="utf-8"))["record"]["chosen"])
    with tempfile.TemporaryDirectory() as aside:
        pictures = draw_pictures(Path(aside))
        browser.size(1440, 900)
        check_first_answer(browser, address)
        check_kept(browser, address, pictures)
        browser.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
        for path in pictures:  # without a network
            give(browser, path)
            check_answer(browser, model, path)
        check_ways_in(browser, pictures)
        browser.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
        check_pictures_to_try(browser, folder, model)
        give(browser, pictures[0])
        check_claims(browser, folder)
        check_bars(browser)
        check_opacity(browser)
        check_plain_words(browser)
        check_own_screen(browser)
        if screenshots: keep_screenshots(browser, screenshots)
        same(browser.logged, [], "logged as error or warning")
        same([url for url in browser.requested if not url.startswith(address)], [], "asked of another server")
        check_missing(browser, folder, address)


def keep_screenshots(browser, folder):
    folder.mkdir(parents=True, exist_ok=True)
    if browser.run(TILES + ".length"):
        browser.click(TILES + "[0]")
        browser.until(f"{SAID}.startsWith('Test image')")
    keep_pictures(browser, folder)


if __name__ == "__main__": check_in_browser("the page of your own picture", build_alone, "app.json", (check_page,))
