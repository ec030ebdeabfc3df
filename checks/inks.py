"""Two inks for one figure: the grey of its text and axes gets dark on light pages and light on dark ones.

A figure is drawn with a transparent background and one grey, which cannot reach a contrast of 4.5 on both pages. An SVG picture
can: a browser hands the page's `color-scheme` on to it (`nbs/site/common.scss`). PNG figures become such pictures here, of two
layers: what is not ink, and the ink as a mask over one colour.
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
    rest, cover = pixels.copy(), np.where(ink, pixels[..., 3], 0).astype(np.uint8)
    rest[ink] = 0
    def image(part): return f'<image width="{w}" height="{h}" href="data:image/png;base64,{as_png(part)}"/>'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width or w}" height="{height or h}" viewBox="0 0 {w} {h}">'
            f"<style>rect{{fill:{ON_LIGHT}}}@media (prefers-color-scheme: dark){{rect{{fill:{ON_DARK}}}}}</style>"
            f'<mask id="ink">{image(cover)}</mask>{image(rest)}<rect width="{w}" height="{h}" mask="url(#ink)"/></svg>')


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
