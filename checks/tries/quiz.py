"Chapter 00: twelve test images to name, their labels, and what the network says."
import numpy as np

from explorer import check_units, same

NOTEBOOK, STILL = "00_data", "fig-quiz"
SIZE, ROUNDS = 12, 2  # pictures at a time, how often
BOX = "document.querySelector('#try-quiz')"
TILES = BOX + ".querySelectorAll('.quiz-all button')"
CHOICES = BOX + ".querySelectorAll('.quiz-classes button')"
MORE = BOX + ".lastElementChild.lastElementChild"
SAID = BOX + ".querySelector('.try-said').textContent"


def shown():
    "The places of the pictures in the test set: those of the chapter's figure, then those that follow."
    return np.random.default_rng(7).permutation(10_000)[:SIZE * ROUNDS]


def parts(folder):
    "Pictures side by side; of each its label and what the network answers."
    from PIL import Image

    from cifar_gradcam.data import CLASSES
    from cifar_gradcam.mistakes.predictions import reference_predictions
    from tries.cells import images_at
    places, record = shown(), reference_predictions()
    pixels, _ = images_at(places)
    Image.fromarray(np.concatenate(pixels, 1)).save(folder / "quiz.webp", lossless=True, quality=100, method=6)
    return {"classes": CLASSES, "size": SIZE, "pictures": [
        {"label": int(record.labels[i]), "predicted": int(record.predicted[i])} for i in places]}


def check(browser):
    "By keyboard and by pointer: all named as I say, then what the labels of the data and the network say; a second round counts both."
    import torch

    from cifar_gradcam.data import CLASSES
    from cifar_gradcam.engine.datasets import cifar10
    from cifar_gradcam.engine.runs import load_reference
    from cifar_gradcam.mistakes.removal import all_logits
    from tries.cells import images_at
    places = shown()
    pixels, images = images_at(places)
    labels = [cifar10(train=False).targets[i] for i in places]
    predicted = all_logits(load_reference("cpu"), images, precision="float32").argmax(1)
    # Each tile shows its picture: the mean colour on the page is that of the data.
    for k in (0, 7):
        colour = browser.run(f"""(async () => {{
          const {{picture}} = {TILES}[{k}], look = getComputedStyle(picture), image = new Image();
          image.src = look.backgroundImage.slice(5, -2);
          await image.decode();
          const canvas = new OffscreenCanvas(32, 32), context = canvas.getContext('2d');
          context.drawImage(image, -parseFloat(look.backgroundPosition) / 100 * (image.width - 32), 0);
          const d = context.getImageData(0, 0, 32, 32).data;
          return [0, 1, 2].map(c => d.filter((_, i) => i % 4 === c).reduce((a, b) => a + b) / 1024);
        }})()""")
        if abs(np.subtract(colour, pixels[k].mean((0, 1)))).max() > 0.01: raise AssertionError(f"tile {k + 1} shows another picture: mean colour {colour}")

    def name_all(answers, label):
        "Name a round: the first three pictures by pointer, out of order, the others by keyboard."
        for k, then in ((2, 3), (0, 1), (1, 3)):
            browser.click(f"{TILES}[{k}]")
            same(browser.run(f"[{BOX}.querySelector('.try-figure').textContent, {MORE}.hidden]"), [f"What is picture {k + 1}?", True], f"{label}: asked")
            browser.click(f"{CHOICES}[{answers[k]}]")
            same(browser.run(f"{BOX}.querySelector('.try-figure').textContent"), f"What is picture {then + 1}?", f"{label}: the next one without a name")
        browser.run(f"{CHOICES}[0].focus()")
        for key, then in (("ArrowRight", 1), ("ArrowDown", 3), ("ArrowLeft", 2)):  # two columns
            browser.press(key)
            same(browser.run(f"[...{CHOICES}].indexOf(document.activeElement)"), then, f"{label}: {key}")
        same(browser.run(SAID), f"3 of {SIZE} named. You can go back to a picture.", f"{label}: counted")
        for k in range(3, SIZE):
            same(browser.run(BOX + ".querySelector('.try-figure').textContent"), f"What is picture {k + 1}?", f"{label}: asked by itself")
            browser.run(f"{CHOICES}[{answers[k]}].focus()")
            browser.press("Enter")
        same(browser.run(f"[document.activeElement === {MORE}, {BOX}.querySelector('.quiz-ask').checkVisibility()]"), [True, False], f"{label}: what has the focus at the end")

    def results(first, answers):
        for k, own in enumerate(answers):
            place = first + k
            wanted = [f"{who} ✓" if one == labels[place] else f"{who} ✗ {CLASSES[one]}" for who, one in (("you", own), ("network", predicted[place]))]
            same(browser.run(f"[...{TILES}[{k}].querySelectorAll('span')].map(s => s.textContent)"), [CLASSES[labels[place]], *wanted], f"picture {place}")
    first = [label if k % 4 else (label + 1) % 10 for k, label in enumerate(labels[:SIZE])]
    name_all(first, "first round")
    results(0, first)
    right = [int((predicted[part] == torch.tensor(labels)[part]).sum()) for part in (slice(SIZE), slice(SIZE, None))]
    begin = "You named {} of these 12 as their labels do, the network of this book {}. It was trained on other images."
    same(browser.run(SAID), begin.format(9, right[0]), "the first result")
    browser.press("Enter")
    same(browser.run(f"[document.activeElement === {CHOICES}[0], {SAID}]"), [True, "Choose one of the ten classes."], "the second round")
    second = labels[SIZE:]
    name_all(second, "second round")
    results(SIZE, second)
    same(browser.run(SAID), begin.format(12, right[1]) + f" Of all 24 pictures so far, you named 21 as their labels do, the network {sum(right)}.", "both rounds")
    check_units(browser, BOX)
    browser.click(MORE)
    same(browser.run(f"{BOX}.querySelector('.try-figure').textContent"), "What is picture 1?", "the first pictures again")
