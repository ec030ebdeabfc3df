"Figures in two inks, as the site's filter `checks/inks.py` makes them."
import base64
import io
import re
import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image
from tools import equal

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))
from inks import INK, in_two_inks, inked, layers, ON_DARK, ON_LIGHT  # noqa: E402

from cifar_gradcam.engine import figures  # noqa: E402


def contrast(one, other):  # WCAG 2.2
    def luminance(colour):
        parts = np.array([int(colour[k:k + 2], 16) for k in (1, 3, 5)]) / 255
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_both_inks_can_be_read():
    equal(INK, figures.INK)
    site = Path(__file__).resolve().parent.parent / "nbs" / "site"
    dark = re.search(r"\$body-bg: (#\w{6})", (site / "dark.scss").read_text())[1]
    assert contrast(ON_LIGHT, "#ffffff") > 7 and contrast(ON_DARK, dark) > 7


def figure(title=True):
    picture = np.full((8, 8, 3), 124, np.uint8)  # as grey as the ink
    picture[::2] = 30
    with plt.style.context("cifar_gradcam.book"):
        fig, ax = plt.subplots(figsize=(2, 2))
        ax.imshow(picture, interpolation="nearest")
        ax.set_title("a title" if title else "")
        ax.axis("off")
    return fig


def saved(fig, kind):
    file = io.BytesIO()
    fig.savefig(file, format=kind)
    plt.close(fig)
    return file.getvalue()


def test_curves_change_their_grey():
    svg = saved(figure(), "svg").decode()
    made = in_two_inks(svg)
    assert f"stroke: {INK}" in svg or f"fill: {INK}" in svg
    light, dark = made.split("prefers-color-scheme: dark")
    assert ON_LIGHT in light and ON_DARK in dark and ON_LIGHT not in dark
    equal(re.sub(r"<style>\[.*?</style>", "", made, count=1), svg)


def decoded(svg): return [np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))).astype(int) for part in re.findall(r"base64,([^\"]+)", svg)]


def test_pictures_keep_their_pixels():
    png = saved(figure(), "png")
    before = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)
    svg = layers(base64.b64encode(png).decode())
    cover, rest = decoded(svg)
    ink = cover > 0
    assert ink.any() and (before[ink, :3].mean(1).round() == 124).mean() > 0.5
    equal(cover[ink], before[ink, 3])
    equal(rest[~ink], before[~ink])
    light, dark = svg.split("prefers-color-scheme: dark")
    assert (rest[ink] == 0).all() and ON_LIGHT in light and ON_DARK in dark
    rows, columns = np.nonzero(ink)
    inside = (before[..., 3] == 255) & ~ink & (before[..., 0] == 124)
    assert inside.sum() > 1000  # the picture's own grey stays, but for its edge


def test_a_figure_without_ink_stays():
    png = base64.b64encode(saved(figure(title=False), "png")).decode()
    blank = base64.b64encode(saved(plt.figure(figsize=(1, 1)), "png")).decode()
    assert layers(blank) is None
    cell = {"outputs": [{"data": {"image/png": blank}}, {"data": {"image/svg+xml": ["<svg>", "</svg>"]}}]}
    first, second = inked({"cells": [cell]})["cells"][0]["outputs"]
    equal(first["data"], {"image/png": blank})
    assert list(second["data"]) == ["image/svg+xml"] and ON_DARK in second["data"]["image/svg+xml"]
    del png


def test_the_size_on_the_page_stays():
    png = base64.b64encode(saved(figure(), "png")).decode()
    data = {"image/png": png, "text/plain": "Figure"}
    made = inked({"cells": [{"outputs": [{"data": data, "metadata": {"image/png": {"width": 100, "height": 90}}}]}]})
    made = made["cells"][0]["outputs"][0]["data"]
    assert "image/png" not in made and 'width="100" height="90"' in made["image/svg+xml"]
