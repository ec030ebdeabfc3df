"""Two inks for one figure: the grey of its text and axes gets dark on light pages and light on dark ones.

A figure is drawn with a transparent background and one grey, which cannot reach a contrast of 4.5 on both pages. An SVG picture
can: a browser hands the page's `color-scheme` on to it (`nbs/site/common.scss`). PNG figures become such pictures here, of three
layers: what is not ink, and the ink twice.
"""
import base64
import io
import re

import numpy as np
from PIL import Image

INK = "#7c7c7c"  # of `cifar_gradcam.engine.figures`
ON_LIGHT, ON_DARK = "#555555", "#b8b8b8"
REACH = 3  # pixels; the ink of letters is nowhere further from their edge
STYLE = (f'[style*="fill: {INK}"]{{fill:{{0}}!important}}[style*="stroke: {INK}"]{{stroke:{{0}}!important}}')


def in_two_inks(svg):
    "An SVG whose grey follows the page."
    def rules(colour): return STYLE.replace("{{", "{").replace("}}", "}").replace("{0}", colour)
    style = f"<style>{rules(ON_LIGHT)}@media (prefers-color-scheme: dark){{{rules(ON_DARK)}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda tag: tag[1] + style, svg, count=1)


def ink_of(pixels):
    "Which pixels of an RGBA picture are ink: grey, and no further than `REACH` from what is not covered."
    grey = int(INK[1:3], 16)
    away = np.abs(pixels[..., :3].astype(int) - grey).max(-1)
    alpha = pixels[..., 3]
    near = alpha < 255
    for _ in range(REACH):
        wide = np.pad(near, 1)
        near = np.any([wide[1 + i:wide.shape[0] - 1 + i, 1 + j:wide.shape[1] - 1 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)], 0)
    return np.where(alpha == 255, (away == 0) & near, (alpha > 0) & (away <= 255 / np.maximum(alpha, 1)))


def as_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def layers(png, width=None, height=None):
    "A PNG, in base64, as SVG; None if it has no ink."
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA"))
    ink = ink_of(pixels)
    if not ink.any(): return None
    h, w = ink.shape
    rest = pixels.copy()
    rest[ink] = 0
    parts = [("", rest)]
    for name, colour in (("l", ON_LIGHT), ("d", ON_DARK)):
        layer = np.zeros_like(pixels)
        layer[ink, :3] = [int(colour[k:k + 2], 16) for k in (1, 3, 5)]
        layer[ink, 3] = pixels[ink, 3]
        parts.append((f' class="{name}"', layer))
    images = "".join(f'<image{name} width="{w}" height="{h}" href="data:image/png;base64,{as_png(part)}"/>' for name, part in parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width or w}" height="{height or h}" viewBox="0 0 {w} {h}">'
            "<style>.d{display:none}@media (prefers-color-scheme: dark){.l{display:none}.d{display:inline}}</style>"
            f"{images}</svg>")


def inked(notebook):
    "The figures of a notebook in two inks."
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/svg+xml" in data: data["image/svg+xml"] = in_two_inks("".join(data["image/svg+xml"]))
            elif "image/png" in data:
                size = output.get("metadata", {}).get("image/png", {})
                svg = layers("".join(data["image/png"]), size.get("width"), size.get("height"))
                if svg:
                    del data["image/png"]
                    data["image/svg+xml"] = svg
    return notebook
