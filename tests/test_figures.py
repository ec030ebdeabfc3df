"Figures are drawn in one ink, curves as vectors and pictures as pixels."
import base64
import struct

import pytest
from matplotlib import pyplot as plt

from cifar_gradcam.engine.figures import INK, _as_png, _as_svg, book_style


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context(): yield book_style()
    plt.close("all")


@pytest.mark.parametrize("part", ["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"])
def test_what_is_no_data_has_one_ink(part):
    assert plt.rcParams[part] == INK
    plt.rcParams[part] = "red"
    book_style()
    assert plt.rcParams[part] == INK


def test_a_curve_is_drawn_as_vectors():
    curve = plt.figure()
    curve.add_subplot().plot([1, 2])
    assert _as_png(curve) is None
    assert _as_svg(curve) == _as_svg(curve)  # the same bytes
    assert "<svg" in _as_svg(curve)


def test_a_picture_is_drawn_as_pixels_twice_as_dense():
    picture = plt.figure()
    picture.add_subplot().imshow([[0, 1]])
    assert _as_svg(picture) is None
    content, size = _as_png(picture)
    width, height = struct.unpack(">II", base64.b64decode(content)[16:24])
    assert (width, height) == (2 * size["width"], 2 * size["height"])
