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
from explorer import check_names, check_targets, choose, same, slide
from picture_app import build_alone
from pages import check_in_browser, keep_pictures
from site_check import AXE, axe_source

ENOUGH = 0.01  # how far browser and Python may be apart; pixels are from 0 to 1
SAID = "document.querySelector('#yp-said').textContent"
APP = "document.querySelector('#yp-app')"
ANSWER = APP + ".answer"
BUTTON = "document.querySelector('#yp-load')"


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


def open_page(browser, address, ready="!document.querySelector('#yp-start').hidden"):
    browser.call("Page.navigate", url=address + "your_picture.html")
    browser.until("document.readyState === 'complete'")
    browser.until(ready)


def load_network(browser):
    browser.run(BUTTON + ".focus()")
    browser.press("Enter")
    browser.until("!document.querySelector('#yp-choose').hidden")
    same(browser.run("document.activeElement.id"), "yp-file", "the focus goes to what comes next")


def give(browser, path, field="yp-file"):
    "Choose a file, as the window of the browser for that would."
    place = browser.call("Runtime.evaluate", expression=f"document.getElementById('{field}')")["result"]["objectId"]
    browser.call("DOM.setFileInputFiles", files=[str(path)], objectId=place)
    browser.until(f"!{SAID}.startsWith('Looking') && {SAID}.startsWith({json.dumps(Path(path).name)})")


def close(found, wanted, what, enough=ENOUGH):
    found, wanted = np.asarray(found, dtype=float).reshape(np.shape(wanted)), np.asarray(wanted, dtype=float)
    off = abs(found - wanted).max()
    if not off <= enough: raise AssertionError(f"{what}: apart by {off:.4f}, more than {enough}")


def check_answer(browser, model, path):
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
    same([found["first"], found["second"]], order[:2], f"{path.name}: the likeliest classes")
    everyone = torch.arange(len(CLASSES))
    close(found["maps"], signed_maps(model, image.expand(len(CLASSES), -1, -1, -1), everyone)[0], f"{path.name}: maps in units of the logit")
    first, second = order[:2]
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
    for k, (target, against) in enumerate(wanted):
        what = f"{path.name}: map for {CLASSES[target]}" + (f" rather than {CLASSES[against]}" if against is not None else "")
        amount = signed_maps(model, image, [target], None if against is None else [against])[0].relu().sum().item()
        # What is next to nothing is stretched to the full range: the last digit decides what it looks like.
        enough = ENOUGH * max(1, 1 / max(amount, 1e-6))
        heat = explain(model, image, [target], against=None if against is None else [against])[0].numpy()
        close(heats[k], heat, what, enough)
        if max(picture.size) > 1024: continue
        factor = max(1, 320 // max(picture.size))
        large = picture.resize([side * factor for side in picture.size], Image.Resampling.NEAREST)
        shown = canvas(browser, f"document.querySelectorAll('#yp-maps canvas')[{k}]")
        close(shown / 255, np.asarray(lay_over(large, heat[rows_and_columns])) / 255, what + ", laid over", max(2 * ENOUGH, enough))


def canvas(browser, element):
    "What a canvas shows, shape (H, W, 3)."
    address = browser.run(f"{element}.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"), dtype=float)


def check_ways_in(browser, pictures):
    "A dropped file, a pasted one, one of the camera's, and a file that is no picture."
    photo = next(path for path in pictures if path.name == "phone.jpg")
    content = base64.b64encode(photo.read_bytes()).decode()
    # No promise is waited for: events are sent as a browser sends them.
    bring = (f"(() => {{ const bytes = Uint8Array.from(atob('{content}'), c => c.charCodeAt()), all = new DataTransfer(); "
             "all.items.add(new File([bytes], '{name}', {{type: 'image/jpeg'}})); {send} }})()")
    for name, send in (("dropped.jpg", "document.querySelector('#yp-drop').dispatchEvent(new DragEvent('drop', "
                                       "{dataTransfer: all, bubbles: true, cancelable: true}));"),
                       ("pasted.jpg", "document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: all, bubbles: true}));")):
        browser.run(bring.replace("{name}", name).replace("{send}", send).replace("{{", "{").replace("}}", "}"))
        browser.until(f"{SAID}.startsWith('{name}: ')")
    give(browser, photo, "yp-camera")
    before = browser.run(f"{ANSWER}.name")
    broken = photo.with_name("broken.jpg")
    broken.write_bytes(b"no picture")
    place = browser.call("Runtime.evaluate", expression="document.getElementById('yp-file')")["result"]["objectId"]
    browser.call("DOM.setFileInputFiles", files=[str(broken)], objectId=place)
    browser.until(f"{SAID}.startsWith('This browser cannot read broken.jpg')")
    same(browser.run(f"{ANSWER}.name"), before, "the last answer stays")
    broken.unlink()


def check_pictures_to_try(browser, folder, model):
    "Each of the dozen that the build could make, by mouse and by keyboard."
    app = json.loads((folder / "web" / "app.json").read_text(encoding="utf-8"))
    tiles = "document.querySelectorAll('.yp-tiles button')"
    same(browser.run(tiles + ".length"), len(app["pictures"]), "pictures to try")
    for k, one in enumerate(app["pictures"]):
        if k % 2: browser.click(f"{tiles}[{k}]")
        else:
            browser.run(f"{tiles}[{k}].focus()")
            browser.press("Enter")
        browser.until(f"{SAID}.startsWith('test image {one['index']}, ')")
        if k % 4 == 0: check_answer(browser, model, folder / "web" / one["file"])
        same(browser.run(f"[...{tiles}].map(b => b.getAttribute('aria-pressed')).indexOf('true')"), k, "the one on show")


def check_claims(browser, folder):
    "What the page says of its network is in the record, and the record is of these weights."
    record = json.loads((folder / "web" / "app.json").read_text(encoding="utf-8"))["record"]
    if "precisions" not in record: raise AssertionError("records/picture_model.json is of other weights: run python checks/picture_app.py --measure and commit it")
    for precision in (record["chosen"], "float32"):
        words = f"{record['precisions'][precision]['accuracy']:.2f} %"
        same(words in browser.run("document.querySelector('#yp-about').innerText"), True, f"{words} is on the page")


def check_bars(browser):
    rows = browser.run("[...document.querySelectorAll('#yp-bars tr')].map(r => [r.cells[0].textContent, r.cells[2].textContent])")
    p = browser.run(f"{ANSWER}.probabilities")
    same([name for name, _ in rows], [CLASSES[c] for c in np.argsort(-np.array(p), kind="stable")], "the classes, likeliest first")
    same(browser.run(SAID), browser.run(f"{ANSWER}.name") + ": " + ", ".join(f"{name} {text}" for name, text in rows[:3]), "what is read out")


def check_screen(browser, axe):
    "Nothing sticks out, what one presses is large enough, everything has a name."
    for width, dark in ((390, False), (390, True), (1440, False), (1440, True)):
        browser.size(width, 844, dark)
        same(browser.run(f"document.documentElement.scrollWidth <= {width}"), True, f"nothing sticks out at {width} px")
        check_targets(browser, f"at {width} px", APP)
        if axe:
            browser.run(axe + "; 0")
            same(browser.run(AXE), [], f"axe at {width} px{', dark' * dark}")
    check_names(browser, APP)
    same(browser.run("document.querySelector('#yp-said').getAttribute('aria-live')"), "polite", "what is said is announced")
    same(browser.run("[...document.querySelectorAll('#yp-app canvas')].every(c => c.getAttribute('aria-label'))"), True, "names of the pictures")


def check_opacity(browser):
    first = "document.querySelectorAll('#yp-maps canvas')[0]"
    before = canvas(browser, first)
    slide(browser, "#yp-opacity", 0)
    grey = canvas(browser, first)
    close(grey[..., 0], grey[..., 1], "without the map it is grey", 0)
    slide(browser, "#yp-opacity", 50)
    close(canvas(browser, first), before, "the slider goes back", 0)


def check_failures(browser, address):
    "A network that does not come, and one that comes at the second try; a site built without it."
    browser.call("Network.setBlockedURLs", urls=["*model.onnx*"])
    open_page(browser, address)
    same([url for url in browser.requested if "/ort." in url or "/model." in url], [], "loaded before it was asked for")
    browser.click(BUTTON)
    browser.until(f"{SAID}.startsWith('The network could not be loaded')")
    browser.call("Network.setBlockedURLs", urls=[])
    browser.logged.clear()  # the browser's own word about that
    load_network(browser)


def check_missing(browser, folder, address):
    kept = (folder / "web" / "app.json").read_text(encoding="utf-8")
    (folder / "web" / "app.json").write_text(json.dumps({"missing": "needs npm"}), encoding="utf-8")
    browser.call("Network.setCacheDisabled", cacheDisabled=True)
    open_page(browser, address, f"{SAID} !== ''")
    same(browser.run(SAID), "The network is not in this copy of the site: it needs npm.", "a site without the network")
    same(browser.run(BUTTON + ".checkVisibility()"), False, "no button")
    (folder / "web" / "app.json").write_text(kept, encoding="utf-8")


def check_page(browser, folder, address, screenshots=None):
    "All of it on a page that is served; `folder` is where its files are."
    model = load_reference("cpu")
    with tempfile.TemporaryDirectory() as aside:
        pictures = draw_pictures(Path(aside))
        browser.size(1440, 900)
        check_failures(browser, address)
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
        check_screen(browser, axe_source())
        if screenshots: keep_screenshots(browser, screenshots)
        same(browser.logged, [], "logged as error or warning")
        same([url for url in browser.requested if not url.startswith(address)], [], "asked of another server")
        check_missing(browser, folder, address)


def keep_screenshots(browser, folder):
    folder.mkdir(parents=True, exist_ok=True)
    if browser.run("document.querySelectorAll('.yp-tiles button').length"):
        browser.click("[...document.querySelectorAll('.yp-tiles button')].at(-1)")
        browser.until(f"{SAID}.startsWith('test image')")
    keep_pictures(browser, folder)


if __name__ == "__main__": check_in_browser("the page of your own picture", build_alone, "app.json", check_page)
