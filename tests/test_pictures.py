"Pictures of all kinds: read, shrunk, explained, drawn; what is none is named."
import csv
import errno
import os
import sys
import unicodedata
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, UnidentifiedImageError
from tools import close, equal, refused
from torch import nn

from cifar_gradcam.data import CLASSES, denormalize
from cifar_gradcam.engine import pictures
from cifar_gradcam.engine.datasets import folder_images, DataError, _eight_bits, picture_window, read_picture, synthetic_images
from cifar_gradcam.engine.pictures import (
    PictureReport, _find, _why_not, draw_answer, explain_pictures, find_pictures, lay_over, to_network)
from cifar_gradcam.gradcam import explain, overlay
from cifar_gradcam.resnet import ResNet18

pixels = synthetic_images(1, np.random.default_rng(0))[0][0]
heat = np.random.default_rng(0).random((24, 32), dtype=np.float32)


def draw_boat(size=(800, 600)):
    picture = Image.fromarray(np.linspace((90, 150, 220), (30, 80, 130), 600).astype(np.uint8)[:, None]
                              .repeat(800, 1))
    pen = ImageDraw.Draw(picture)
    pen.polygon([(180, 400), (640, 400), (570, 480), (250, 480)], fill=(150, 40, 35))
    pen.polygon([(415, 80), (415, 375), (600, 375)], fill=(250, 250, 245))
    return picture.resize(size)


@pytest.fixture(scope="module")
def model():  # says truck, then ship, then horse, whatever it sees
    torch.manual_seed(0)
    network = ResNet18(width=8).eval()
    with torch.no_grad():
        network.linear.weight.mul_(0.1)
        network.linear.bias.copy_(torch.arange(10.0))
    return network


@pytest.fixture
def boat(tmp_path):
    draw_boat().save(tmp_path / "boat.png")
    return tmp_path / "boat.png"


@pytest.fixture
def read_back(tmp_path):
    def save_and_read(picture, name="it.png", **more):
        picture.save(tmp_path / name, **more)
        return np.asarray(read_picture(tmp_path / name)).astype(int)
    return save_and_read


# Reading

red = Image.new("RGB", (6, 4), (200, 30, 40))


@pytest.mark.parametrize("mode, name", [
    ("RGB", "it.png"), ("RGBA", "it.png"), ("P", "it.png"), ("P", "it.gif"), ("CMYK", "it.tif"),
    ("RGB", "it.webp"), ("YCbCr", "it.jpg"), ("RGB", "it.bmp")])
def test_red_in_every_mode(read_back, mode, name):
    got = read_back(red.quantize(4) if mode == "P" else red.convert(mode), name)
    equal(got.shape, (4, 6, 3))
    assert abs(got - (200, 30, 40)).max() < 12, got[0, 0]


@pytest.mark.parametrize("mode, value", [
    ("L", 77), ("1", 255), ("LA", (77, 255)), ("I;16", 77 * 257), ("I", 77 * 257), ("F", 77 / 255),
    ("F", 77.0)])
def test_grey_in_every_mode(read_back, mode, value):
    got = read_back(Image.new(mode, (6, 4), value), "it.tif")
    equal((got.shape, *np.unique(got)), ((4, 6, 3), 255 if mode == "1" else 77))


def test_floats_become_eight_bits():
    picture = Image.fromarray(np.float32([[-1, np.nan], [0, 1]]))
    equal(np.unique(np.asarray(_eight_bits(picture))), [0, 128, 255])


def test_transparency_lies_on_its_ground(read_back, tmp_path):
    clear = Image.new("RGBA", (4, 4), (200, 30, 40, 0))
    equal(np.unique(read_back(clear)), [255])
    equal(np.asarray(read_picture(tmp_path / "it.png", "#102030"))[0, 0], [16, 32, 48])
    half = Image.new("RGBA", (4, 4), (200, 30, 40, 128))
    assert abs(read_back(half)[0, 0] - np.array([227, 142, 147])).max() <= 1
    palette = Image.new("P", (4, 4)); palette.putpalette([200, 30, 40, 0, 0, 0])
    equal(np.unique(read_back(palette, "it.gif", transparency=0)), [255])


corner = np.zeros((16, 32, 3), np.uint8); corner[:8, :16] = 255; corner[8:, 16:] = 128


@pytest.mark.parametrize("number, turn", [
    (1, lambda a: a), (2, np.fliplr), (3, lambda a: np.rot90(a, 2)), (4, np.flipud),
    (5, lambda a: a.swapaxes(0, 1)), (6, lambda a: np.rot90(a, -1)),
    (7, lambda a: np.rot90(a.swapaxes(0, 1), 2)), (8, np.rot90)])
def test_exif_orientations_against_numpy(read_back, number, turn):
    exif = Image.Exif(); exif[0x0112] = number
    equal(read_back(Image.fromarray(corner), exif=exif), turn(corner).astype(int))
    got = read_back(Image.fromarray(corner), "it.jpg", exif=exif, quality=100, subsampling=0)
    assert abs(got - turn(corner)).max() < 9


def test_damaged_exif_turns_nothing(read_back):
    equal(read_back(Image.fromarray(corner), exif=b"Exif\0\0damaged"), corner.astype(int))


@pytest.mark.skipif(find_spec("pillow_heif") is None, reason="needs pillow-heif")
def test_heic(read_back, boat):
    read_picture(boat)  # lets Pillow write that format, too
    large = corner.repeat(4, 0).repeat(4, 1)
    assert abs(read_back(Image.fromarray(large), "it.heic", quality=95) - large).mean() < 9


# Down, and back up

def test_an_enlarged_image_comes_back_exactly():
    image = Image.fromarray(pixels)
    exact = to_network(image)
    close(denormalize(exact)[0], pixels / 255, eps=1e-6)
    close(to_network(image.resize((320, 320), Image.Resampling.NEAREST)), exact, eps=1e-6)


@pytest.mark.parametrize("size, edges", [
    ((40, 30), (4, 28, 0, 32)), ((30, 40), (0, 32, 4, 28)), ((1, 500), (0, 32, 15, 16)),
    ((1, 1), (0, 32, 0, 32))])
def test_bars_have_the_mean_colour_and_the_window_is_the_picture(size, edges):
    picture, window = Image.new("RGB", size, (255, 0, 0)), (slice(*edges[:2]), slice(*edges[2:]))
    equal(picture_window(picture, 32), window)
    square = to_network(picture, mean=(0.5,) * 3, std=(0.25,) * 3)[0]
    inside = torch.zeros(32, 32, dtype=bool); inside[window] = True
    close(square[:, ~inside], torch.full((3, int((~inside).sum())), (128 / 255 - 0.5) / 0.25), eps=1e-6)  # 127.5, rounded
    close(square[:, inside].T, torch.tensor([[2.0, -2, -2]]).expand(int(inside.sum()), 3))
    equal(to_network(picture, 48, (0.5,), (0.5,)).shape, (1, 1, 48, 48))
    refused(lambda: to_network(picture, mean=(0.5, 0.5), std=(0.5, 0.5)), contains="got 2 and 2")
    refused(lambda: to_network(picture, mean=(125.3, 123.0, 113.9), std=(63.0, 62.1, 66.7)), contains="divide numbers for pixels up to 255 by 255")
    refused(lambda: to_network(picture, mean=(0.5,), std=(0.0,)), contains="std must be three numbers above 0")


def test_laid_over_as_overlay_does_it_to_eight_bits():
    tall = draw_boat((160, 130))
    large = Image.fromarray(heat).resize(tall.size, Image.Resampling.BILINEAR)
    wanted = overlay(np.asarray(tall) / 255, np.asarray(large).clip(0, 1))
    close(np.asarray(lay_over(tall, heat)) / 255, wanted, eps=0.02)
    by_torch = torch.nn.functional.interpolate(torch.from_numpy(heat)[None, None], (240, 320),
                                               mode="bilinear")[0, 0]
    by_pillow = Image.fromarray(heat).resize((320, 240), Image.Resampling.BILINEAR)
    close(np.asarray(by_pillow), by_torch.numpy(), eps=1e-4)


def test_the_page_holds_the_picture_pixel_by_pixel():
    large = draw_boat((700, 500))
    page = draw_answer(large, heat, "ship", "ship")
    assert page.crop((0, 0, 700, 500)).tobytes() == large.tobytes()
    right = page.crop((page.width - 700, 0, page.width, 500))
    assert right.tobytes() == lay_over(large, heat).tobytes()
    small = np.asarray(draw_answer(Image.fromarray(pixels), heat, "", ""))[:320, :320]
    assert (small == pixels.repeat(10, 0).repeat(10, 1)).all()  # enlarged, crisp


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (1, 700), (700, 1), (321, 320)])
def test_long_texts_fit(size):
    page = draw_answer(Image.new("RGB", size, "red"), heat, "a long name, " * 9, "ネコ, é, ß")
    assert page.width >= 640 and page.height >= 44, page.size
    below = size[1] * max(1, 320 // max(size))
    text = np.asarray(page)[below:, :page.width // 2].min(2)
    assert text.min() < 128 and (text[:, [0, -1]] == 255).all()  # dark on white, not cut


# A heap of files

def test_what_is_no_picture_is_named_with_its_reason(model, boat, tmp_path, monkeypatch):
    bad = tmp_path / "bad"; bad.mkdir()
    (bad / "empty.png").write_bytes(b"")
    (bad / "text.jpg").write_text("not a picture")
    draw_boat().save(tmp_path / "photo.jpg")
    (bad / "cut.jpg").write_bytes((tmp_path / "photo.jpg").read_bytes()[:2000])
    (bad / "phone.heic").write_bytes(b"\0\0\0 ftypheic")
    (bad / "bomb.png").write_bytes(boat.read_bytes())
    for name in (".hidden.png", "old-map.png", "notes.txt"): (bad / name).write_text("passed over")
    draw_boat((64, 48)).save(bad / "boat.png")
    (bad / "folder.png").mkdir()
    real = Image.open

    def too_large(path, *args):
        if Path(path).name == "bomb.png": raise Image.DecompressionBombError("exceeds limit")
        return real(path, *args)

    monkeypatch.setattr(Image, "open", too_large)
    got = explain_pictures(model, [bad, tmp_path / "none.png", str(boat)], bad / "out")
    equal([Path(row["picture"]).parts[-2:] for row in got.rows],
          [("bad", "boat.png"), (tmp_path.name, "boat.png")])
    equal([row["map"] for row in got.rows], ["boat-map.png", "boat-2-map.png"])
    why = {Path(name).name: reason for name, reason in got.skipped.items()}
    equal(why.keys(), {"empty.png", "text.jpg", "cut.jpg", "phone.heic", "bomb.png", "none.png", "old-map.png"})
    for name, words in (("text.jpg", "it is not a picture"), ("empty.png", "it is not a picture"),
                        ("none.png", "it is not there"), ("bomb.png", "exceeds limit"),
                        ("cut.jpg", "it cannot be read")):
        assert words in why[name], (name, why[name])
    equal((got.status, PictureReport(CLASSES).status), (1, 1))
    assert str(got).count("skipped, ") == 7 and "10 classes only (airplane, " in str(got)
    equal(sorted(path.name for path in (bad / "out").iterdir()),
          ["boat-2-map.png", "boat-map.png", "pictures.csv"])
    got = explain_pictures(model, bad / "text.jpg", bad / "none")
    equal((got.status, got.rows, list((bad / "none").iterdir())), (1, [], []))
    refused(lambda: explain_pictures(model, [], bad / "out"), contains="paths hold no picture: none")
    refused(lambda: find_pictures(bad / "folder.png"), contains="paths hold no picture")


def test_what_heic_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert _why_not(Path("a.HEIC"), UnidentifiedImageError()).endswith("pip install pillow-heif")


def test_the_answer_is_that_of_model_and_explain(model, boat, tmp_path):
    draw_boat((30, 90)).save(tmp_path / "other.png")
    report = explain_pictures(nn.DataParallel(model), [tmp_path / "other.png", boat], tmp_path / "out")
    equal(report.status, 0)
    with open(tmp_path / "out" / "pictures.csv", newline="", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[1]
    image = to_network(read_picture(boat))
    with torch.no_grad(): p = model(image).softmax(1)[0]
    close([float(row[f"probability_{k}"]) for k in (1, 2, 3)], p.topk(3).values.tolist(), eps=1e-4)
    equal([row[f"class_{k}"] for k in (1, 2, 3)], ["truck", "ship", "horse"])
    equal((row["width"], row["height"], row["explained"]), ("800", "600", "truck"))
    page = Image.open(tmp_path / "out" / "boat-map.png")
    drawn = explain(model, image, [9])[0].numpy()[4:28]
    assert np.abs(np.asarray(page.crop((page.width - 800, 0, page.width, 600))).astype(int)
                  - np.asarray(lay_over(read_picture(boat), drawn))).max() <= 2
    assert not model.training
    refused(lambda: explain_pictures(model, boat, tmp_path, target="ferry"), contains="one of airplane")
    refused(lambda: explain_pictures(model, boat, tmp_path, classes="abc"), contains="must be 10 names")
    refused(lambda: explain_pictures(model, boat, tmp_path, size=64), contains="do not fit the model")
    equal(explain_pictures(model, boat, tmp_path / "out", "cat").rows[0]["explained"], "cat")


def test_a_network_of_grey_pictures_and_two_classes(boat, tmp_path):
    two = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(4, 2))
    got = explain_pictures(two, boat, tmp_path / "two", None, ("dark", "bright"), mean=(0.5,), std=(0.25,))
    equal((len(got.rows), got.status, "class_3" in got.rows[0]), (1, 0, False))


def test_a_plain_picture_warns_of_nothing(model, tmp_path):
    Image.new("RGB", (40, 30), (150, 150, 150)).save(tmp_path / "grey.png")  # 0.4 once normalised
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain_pictures(model, tmp_path / "grey.png", tmp_path / "maps")


# Which files of a folder are meant

PICTURES = ["picture", "width", "height", "class_1", "probability_1", "explained", "map"]


def found(paths): return [path.name for path in find_pictures(paths)]


def mosaic(path, value=120):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (value, 90, 40)).save(path, "PNG")
    return path


def test_a_users_own_map_is_explained(model, tmp_path):
    for name in ("world-map.png", "world.png"): mosaic(tmp_path / "atlas" / name)
    before = (tmp_path / "atlas/world-map.png").read_bytes()
    for _ in range(2):  # the second time, the maps of the first lie there
        report = explain_pictures(model, tmp_path / "atlas", tmp_path / "atlas")
        equal([Path(row["picture"]).name for row in report.rows], ["world-map.png", "world.png"])
        equal([row["map"] for row in report.rows], ["world-map-map.png", "world-2-map.png"])
        equal((tmp_path / "atlas/world-map.png").read_bytes(), before)
    assert str(tmp_path / "atlas") in str(report) and "maps of an earlier call (2)" in str(report)
    equal(report.status, 0)
    # Of one picture alone: the table names fewer maps then, and the others are maps all the same.
    explain_pictures(model, tmp_path / "atlas/world.png", tmp_path / "atlas")
    equal(found(tmp_path / "atlas"), ["world-map.png", "world.png"])


@pytest.mark.parametrize("content", [
    b"", b"map\nworld-map.png\n", b"name,map\nworld,world-map.png\n", "Größe;map\n".encode("latin-1"), b"\xff\xfe\0\0",
    b'picture,"map\n', b"picture,map\n" + b"x" * 200_000])
def test_somebody_elses_table_lists_nothing_and_is_not_overwritten(model, tmp_path, content):
    mosaic(tmp_path / "world-map.png")
    (tmp_path / "pictures.csv").write_bytes(content)
    equal(found(tmp_path), ["world-map.png"])
    refused(lambda: explain_pictures(model, tmp_path, tmp_path), contains="pictures.csv")
    equal((tmp_path / "pictures.csv").read_bytes(), content)
    equal(len(explain_pictures(model, tmp_path, tmp_path / "out").rows), 1)
    (tmp_path / "pictures.csv").unlink(); (tmp_path / "pictures.csv").mkdir()
    equal(found(tmp_path), ["world-map.png"])


@pytest.mark.parametrize("ahead", [b"", b"\xef\xbb\xbf"])  # Excel writes such a mark
def test_what_the_table_of_an_earlier_version_lists_is_a_map(tmp_path, ahead):
    for name in ("sea.png", "sea-map.png", "world-map.png"): mosaic(tmp_path / name)
    row = f"{tmp_path / 'sea.png'},40,30,cat,0.9,cat,sea-map.png"
    (tmp_path / "pictures.csv").write_bytes(ahead + f"{','.join(PICTURES)}\n{row}\n".encode())
    equal(found(tmp_path), ["sea.png", "world-map.png"])
    equal(found([tmp_path / "sea-map.png"]), ["sea-map.png"])  # it is named


def test_maps_in_a_folder_of_their_own_and_in_class_folders(model, tmp_path):
    mosaic(tmp_path / "own/sea.png"); mosaic(tmp_path / "own/cat/tom.png")
    for _ in range(2):
        explain_pictures(model, tmp_path / "own", tmp_path / "own/explained")
        explain_pictures(model, tmp_path / "own/cat", tmp_path / "own/cat/maps")
    files, notes = _find(tmp_path / "own", CLASSES)
    equal([path.name for path in files], ["sea.png", "tom.png"])
    equal(notes, [f"Left out in {tmp_path / 'own'}: maps of an earlier call (1)"])


def test_hidden_and_system_files_are_left_out_and_counted(tmp_path):
    for name in ("sea.png", "._sea.png", ".hidden.png", ".git/0.png", "cat/tom.png", "cat/@eaDir/tom.png",
                 "__MACOSX/sea.png"):
        mosaic(tmp_path / name)
    for classes, names in (((), ["sea.png"]), (CLASSES, ["sea.png", "tom.png"])):
        files, notes = _find(tmp_path, classes)
        equal([path.name for path in files], names)
        assert f"Left out in {tmp_path}: hidden or system files ({5 if classes else 4})" in notes, notes
    equal(found(tmp_path / "._sea.png"), ["._sea.png"])  # it is named


# Folders of classes

def test_pictures_in_class_folders_are_counted_as_right_or_wrong(model, tmp_path):
    val = tmp_path / "val"
    for name in ("truck/0.png", "truck/more/1.png", "ship/0.png", "horse/2.png"): mosaic(val / name)
    (val / "truck/cut.png").write_bytes(b"\x89PNG")
    mosaic(val / "ship/1"); (val / "raw.CR2").write_text("unknown to Pillow")  # training reads the first
    report = explain_pictures(model, val, tmp_path / "out")  # truck, whatever it sees
    equal([(row["true_class"], row["class_1"]) for row in report.rows],
          [("horse", "truck"), ("ship", "truck"), ("truck", "truck"), ("truck", "truck")])
    equal((len(report.labelled), [row["true_class"] for row in report.mistakes]), (4, ["horse", "ship"]))
    printed = str(report)
    assert "Accuracy 50.00 %: 2 of 4 pictures in class folders are right." in printed
    assert f"Left out in {val}: files with other endings (2)\n" in printed
    assert f"{val / 'ship/0.png'}: truck, its folder says ship" in printed
    assert len({row["map"] for row in report.rows}) == 4 and list(report.skipped) == [str(val / "truck/cut.png")]
    with open(tmp_path / "out/pictures.csv", newline="", encoding="utf-8") as file:
        equal([row["true_class"] for row in csv.DictReader(file)], ["horse", "ship", "truck", "truck"])


def test_only_folders_named_exactly_as_a_class_are_looked_into(model, tmp_path):
    val = tmp_path / "val"
    for name in ("truck/0.png", "Ship/0.png", "lorry/0.png", "above.png"): mosaic(val / name)
    report = explain_pictures(model, [val, val / "truck/0.png", tmp_path / "val/../val"], tmp_path / "out")
    equal([(Path(row["picture"]).name, row["true_class"]) for row in report.rows], [("above.png", ""), ("0.png", "truck")])
    assert "Accuracy 100.00 %: 1 of 1 pictures in class folders are right." in str(report)
    assert f"Not searched in {val}, because no class has this name: Ship, lorry" in str(report)
    (val / "above.png").unlink()
    refused(lambda: _find(val, ("cup", "chair")), contains="no class has this name: Ship, lorry, truck")


def test_pictures_without_class_folders_have_no_true_class(model, tmp_path):
    mosaic(tmp_path / "truck/0.png")
    report = explain_pictures(model, tmp_path / "truck", tmp_path / "out")
    assert "true_class" not in report.rows[0] and "Accuracy" not in str(report)
    equal((report.labelled, report.notes), ([], []))


@pytest.mark.parametrize("stored, there", [("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "caf\u00e9")])
def test_class_folders_in_another_unicode_form(stored, there, tmp_path):
    mosaic(tmp_path / there / "0.png")
    equal([*_find(tmp_path, (stored, "tea"))[0].values()], [stored])
    mosaic(tmp_path / stored / "1.png")
    equal([*_find(tmp_path, (stored, "tea"))[0].values()], [stored] * 2)
    refused(lambda: _find(tmp_path, (stored, there)), contains="fits 2 classes", exc=DataError)
    refused(lambda: _find(tmp_path, (stored, stored)), contains="fits 2 classes", exc=DataError)


# Names, sizes and disks

def test_long_names_are_shortened_and_stay_apart(model, tmp_path):
    names = ["a" * 247, "a" * 246 + "b", "ä" * 120 + "1234567", "ä" * 120 + "1234568", "c" * 239, "d" * 240]
    for name in names: mosaic(tmp_path / "own" / f"{name}.png")
    mosaic(tmp_path / "other" / f"{names[0]}.png"); mosaic(tmp_path / "own/short.png")
    report = explain_pictures(model, [tmp_path / "own", tmp_path / "other", "e" * 300 + ".png"], tmp_path / "out")
    equal((len(report.rows), len({row["map"] for row in report.rows}), [len(name) for name in report.skipped]), (8, 8, [304]))
    for row in report.rows: assert (tmp_path / "out" / row["map"]).is_file() and row["map"].endswith("-map.png")
    maps = {Path(row["picture"]).stem: row["map"] for row in report.rows}
    equal((maps["c" * 239], maps["short"]), ("c" * 239 + "-map.png", "short-map.png"))  # as before


@pytest.mark.parametrize("number, stops", [(errno.EINVAL, False), (errno.EILSEQ, False), (errno.ENAMETOOLONG, False),
                                           (errno.ENOSPC, True), (errno.EROFS, True), (errno.EACCES, True)])
def test_a_name_that_the_disk_refuses_and_a_full_disk(model, tmp_path, monkeypatch, number, stops):
    for name in ("a", "b", "c"): mosaic(tmp_path / "own" / f"{name}.png")
    real = pictures.write_whole

    def write(path, content):
        if path.name == "b-map.png": raise OSError(number, "says the disk", str(path))
        real(path, content)
    monkeypatch.setattr(pictures, "write_whole", write)
    if stops:
        refused(lambda: explain_pictures(model, tmp_path / "own", tmp_path / "out"), contains="says the disk", exc=OSError)
        return
    report = explain_pictures(model, tmp_path / "own", tmp_path / "out")
    equal(([row["map"] for row in report.rows], report.status), (["a-map.png", "c-map.png"], 1))
    equal([*report.skipped.values()], ["its map cannot be written as b-map.png (says the disk)"])


def test_maps_stay_apart_on_every_disk(model, tmp_path):
    names = ["caf\u00e9.png", "cafe\u0301.png", "Sea.png", "sea.png", "sea.bmp"]
    for name in names: mosaic(tmp_path / "own" / name)
    (tmp_path / "out/sea-2-map.png").mkdir(parents=True)  # a folder of that name
    report = explain_pictures(model, tmp_path / "own", tmp_path / "out")
    there = {unicodedata.normalize("NFC", row["map"]).casefold() for row in report.rows}
    equal((len(there), len(report.rows)), (len(list((tmp_path / "own").iterdir())),) * 2)
    assert "sea-2-map.png" not in there


def test_strange_names(model, tmp_path):
    names = [b"\xff.png", b"a\nb.png", b"c\rd.png", b'"quoted", twice.png', b"it's.png"]
    for name in names:
        try: mosaic(tmp_path / "own" / os.fsdecode(name))
        except OSError: pytest.skip("this disk does not take such names")
    (tmp_path / "own" / os.fsdecode(b"\xfe.png")).write_text("no picture")
    report = explain_pictures(model, tmp_path / "own", tmp_path / "out")
    str(report).encode()  # can be printed
    equal(len(str(report).splitlines()), 7)
    with open(tmp_path / "out/pictures.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = [*csv.DictReader(file)]
    equal([os.fsencode(Path(row["picture"]).name) for row in rows], sorted(names, key=os.fsdecode))
    for row in rows: assert (tmp_path / "out" / row["map"]).is_file()
    refused(lambda: find_pictures(tmp_path / "out"), contains="maps of an earlier call (5)")


@pytest.mark.parametrize("size, page", [((20_000, 1), (3226, 229)), ((1, 20_000), (648, 1644)),
                                        ((1600, 3), (3226, 231)), ((4000, 3000), (3226, 1428))])
def test_the_page_has_an_end(size, page):
    drawn = draw_answer(Image.new("RGB", size, "red"), heat, "truck 99.0 %", "evidence for truck")
    equal(drawn.size, page)
    assert drawn.getpixel((page[0] // 2 - (13 if size[0] > 1 else 164), 0))[0] > 200


def test_how_to_get_past_the_limit_and_none_below_it(model, boat, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800 * 600 - 1)  # a warning of Pillow's, up to twice this
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        equal(explain_pictures(model, boat, tmp_path / "out").status, 0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800 * 300 - 1)
    (why,) = explain_pictures(model, boat, tmp_path / "out").skipped.values()
    assert "exceeds limit of" in why and "PIL.Image.MAX_IMAGE_PIXELS = None" in why and "smaller" in why
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    equal(explain_pictures(model, boat, tmp_path / "out").status, 0)


def test_classes_of_any_name(model, boat, tmp_path):
    report = explain_pictures(model, boat, tmp_path / "out", classes=[*CLASSES[:8], "a\nb", "\udcff"])
    equal(report.rows[0]["class_1"], "\udcff")
    assert "\\udcff" in str(report) and "a\\nb" in str(report) and len(str(report).splitlines()) == 2


def test_ways_to_a_file_and_links_to_it(tmp_path):
    mosaic(tmp_path / "val/cat/0.png"); (tmp_path / "val/dog").mkdir()
    (tmp_path / "val/dog/0.png").symlink_to(tmp_path / "val/cat/0.png")
    (tmp_path / "way").symlink_to(tmp_path / "val")
    files = _find([tmp_path / "val/cat/0.png", tmp_path / "way", tmp_path / "val/dog/../cat"], CLASSES)[0]
    equal([*files.values()], ["cat", "dog"])


def test_a_picture_is_seen_here_as_among_the_images_of_a_folder(tmp_path):
    for part in ("train", "test"):
        for name, colour in (("red", (200, 30, 40)), ("blue", (20, 50, 210))):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (40, 25), colour).save(tmp_path / part / name / "a.png")
    _, test = folder_images(tmp_path)
    _, mean, std = test.info
    for image, path in zip(test.data, test.files):
        normalised = (image / 255 - np.array(mean)) / np.array(std)
        close(to_network(read_picture(path), 32, mean, std)[0], torch.from_numpy(normalised).movedim(2, 0), eps=1e-5)
