"The explorer: its two picture files, its numbers and names, and what it refuses."
import base64, html, io, json, re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch import nn
from tools import close, equal

from cifar_gradcam.data import CIFAR10_MEAN, CIFAR10_STD, CLASSES
from cifar_gradcam.engine.pictures import lay_over
from cifar_gradcam.gradcam import explain
from cifar_gradcam.mistakes.covering import facts, GAMES, in_words, KINDS
from cifar_gradcam.mistakes.explorer import (
    build_explorer, colour_table, explore_mistakes, Explorer, for_script, map_tiles, sprite_sheet)
from cifar_gradcam.mistakes.predictions import fingerprint, predict

def normalised(pixels, mean=CIFAR10_MEAN, std=CIFAR10_STD):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    return (pixels - mean) / std

def small_network(n_classes=10):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(8, n_classes)).eval()

@pytest.fixture(scope="module")
def case():
    "A network, its record, the dataset and the dataset's pixels: 70 images of noise."
    class Case: pass
    case, draws = Case(), np.random.default_rng(0)
    case.pixels = draws.integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    images = normalised(torch.from_numpy(case.pixels).movedim(3, 1) / 255)
    labels = torch.from_numpy(draws.integers(0, 10, 70))
    case.model, case.dataset = small_network(), [*zip(images, labels.tolist())]
    case.record = predict(case.model, [(images, labels)])
    case.wrong = case.record[~case.record.correct].most_confident()
    case.how = dict(layers=case.model[1])
    case.page = explore_mistakes(case.model, case.record, case.dataset, limit=None, **case.how)
    return case

def data_in(explorer): return json.loads(re.search(r'id="data">(.*?)</script>', explorer.page)[1])

def unpack(address, n):
    "The tiles of a sheet, as a browser would get them."
    kind, packed = address.split(",")
    assert kind == "data:image/webp;base64"
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(packed))).convert("RGB"))
    rows, columns = sheet.shape[0] // 32, sheet.shape[1] // 32
    tiles = sheet.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
    return tiles[:n]

@pytest.mark.parametrize("n", [1, 25, 26, 70])
def test_a_sheet_loses_no_pixel(case, n):
    equal(unpack(sprite_sheet(case.pixels[:n]), n), case.pixels[:n])

def test_a_sheet_that_no_browser_could_show():
    with pytest.raises(ValueError, match="16,383 pixels a side, 25 in a row, got 1 of 2 × 700"):
        sprite_sheet(np.zeros((1, 2, 700, 3), np.uint8))

def test_a_tile_holds_places_in_the_table_of_256_colours():
    heats = np.random.default_rng(1).random((3, 5, 32, 32))
    heats[:, 0, 0, :2] = 0, 1
    tiles, colour = map_tiles(*heats), plt.get_cmap("inferno")
    for channel, maps in enumerate(heats): close(colour(tiles[..., channel]), colour(maps), eps=1e-6)
    assert not map_tiles(*heats[:2])[..., 2].any()  # two maps leave blue empty
    equal(unpack(sprite_sheet(tiles), len(tiles)), tiles)

def test_no_name_can_end_the_data():
    name = "</script><script>alert(1)</script><!--"
    packed = for_script({"classes": [name]})
    assert "<" not in packed
    equal(json.loads(packed), {"classes": [name]})
    with pytest.raises(ValueError): for_script([float("nan")])

def test_the_table_of_colours_is_inferno():
    table = np.frombuffer(bytes.fromhex(colour_table()), np.uint8).reshape(256, 3)
    close(table, 255 * plt.get_cmap("inferno")(np.arange(256))[:, :3], eps=0.51)

def test_a_mistake_costs_what_its_confidence_allows_or_more(case):
    sure = case.wrong.confidence.astype(float)
    least = -np.log(np.minimum(sure, 1 - sure))
    assert (case.wrong.loss >= least - 1e-2).all()

def test_the_page_is_alone_and_its_numbers_are_the_records(case):
    explorer, wrong = case.page, case.wrong
    assert isinstance(explorer, Explorer)
    equal((len(explorer), repr(explorer)), (len(wrong), f"Explorer of {len(wrong):,} mistakes"))
    equal(re.findall(r"""(?:src|href)=["']?(?!data:)[^"'\s>]+""", explorer.page), [])
    equal(re.findall(r"url\((?!\"data:)", explorer.page), [])
    equal(re.findall(r"https?:", explorer.page), [])
    assert "{{" not in explorer.page
    data = data_in(explorer)
    equal(data["index"], wrong.indices.tolist())
    equal((data["true"], data["predicted"]), (wrong.labels.tolist(), wrong.predicted.tolist()))
    close(np.array(data["probabilities"]), wrong.probabilities, eps=1e-5)
    close(np.array(data["loss"]), wrong.loss, eps=1e-4)
    assert all(len(f"{p:.9g}") <= 12 and p == float(f"{p:.6g}") for p in data["probabilities"][0])

def test_pictures_and_maps_decoded(case):
    address = re.search(r'url\("(data:image[^"]+)"', case.page.page)[1]
    wrong = case.wrong
    equal(unpack(address, len(wrong)), case.pixels[wrong.indices])
    maps = unpack(re.search(r'id="maps">(.*?)</script>', case.page.page)[1], len(wrong))
    few = torch.stack([case.dataset[i][0] for i in wrong.indices[:8]])
    pair = wrong.predicted[:8], wrong.labels[:8]
    for channel, (targets, against) in enumerate(((pair[0], None), (pair[1], None), pair)):
        alone = 256 * explain(case.model, few, targets, against=against, **case.how).numpy()
        close(maps[:8, ..., channel], np.minimum(alone, 255), eps=1.5)

def test_it_shows_itself_and_is_saved(case, tmp_path):
    shown = case.page._repr_html_()
    equal(html.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1]), case.page.page)
    equal(shown.count("<"), 2)
    equal(Path(case.page.save(tmp_path / "page.html")).read_text(encoding="utf-8"), case.page.page)

def test_names_and_notes_that_look_like_markup(case):
    names = ("</script>", "<b>", "{{plain}}", '"&quot;', *CLASSES[4:])
    few, zeros = replace(case.wrong[:30], classes=names), np.zeros((30, 32, 32))
    notes = {int(few.indices[0]): "<i>"}
    odd = build_explorer(case.pixels[:30], (zeros, zeros), few, notes=notes | {10**6: "not here"})
    data = data_in(odd)
    equal((data["classes"], data["notes"]), (list(names), {str(few.indices[0]): "<i>"}))
    page = odd.page
    assert "<b>" not in page[page.index('<ul id="plain">'):page.index("<main")]
    equal(page.count("<li><i class=picture"), 30)

def found(few, k, grid=4, **cells):
    "Facts about the answer to image k, made up; see `facts`."
    empty = dict.fromkeys(("turns", "halves", "holds", "opposes", "cover", "keeps"), [])
    games = {game: dict(blank=0, holds=[0]) for game in GAMES}
    return empty | dict(predicted=int(few.predicted[k]), true=int(few.labels[k]), grid=grid,
                        other=int(few.labels[k]), costliest=None, games=games) | cells

@pytest.fixture
def built(case):
    "Facts of the first images -> what the page holds of them, by place."
    def build(*facts):
        few, zeros = case.wrong[:30], np.zeros((30, 32, 32))
        said = {int(i): facts for i, facts in zip(few.indices, facts) if facts}
        data = data_in(build_explorer(case.pixels[:30], (zeros, zeros), few, facts=said))
        return data, [data["facts"].get(str(i)) for i in data["index"]]
    return build

@pytest.mark.parametrize("kind, cells, framed, said", [
    ("turns", dict(turns=[6, 9], halves=[6, 9], holds=[1], cover=[6]), [6], "turns the answer if it alone"),
    ("halves", dict(halves=[3, 12], holds=[1]), [3, 12], "costs half of the lead"),
    ("few", dict(halves=[3], cover=[3, 7]), [3, 7], "turn the answer if covered together"),
    ("halves", dict(halves=[3], cover=[0, 1, 2, 3, 4]), [3], "costs half of the lead"),  # five: no place
    ("holds", dict(holds=[0, 15], opposes=[5]), [0, 15], "evidence for the answer (an estimate)"),
    ("", dict(opposes=[5]), [], ""),  # what speaks against the answer is not told
    ("costliest", dict(costliest=9), [9], "costs most"), ("", {}, [], "")])
def test_kind_frames_and_sentence_of_facts(case, built, kind, cells, framed, said):
    facts = found(case.wrong, 1, **cells)
    data, (none, told, *others) = built(None, facts)
    equal(data["kinds"], ["one cell turns the answer", "a few cells together turn the answer",
                          "one cell costs half of the lead", "cells carry evidence for the answer",
                          "one cell costs most", "no place can be named"])
    equal((told[0], told[1], told[3:]), ([*KINDS].index(kind), in_words(facts, CLASSES), [framed, 4]))
    assert said in told[2] and bool(said) == bool(told[2])
    equal(("No place can be named" in told[1]), not kind)  # filter and sentence agree
    equal((none, {*others}), (None, {None}))

def test_whose_mistake_is_shown(case):
    few, zeros = case.wrong[:2], np.zeros((2, 32, 32))
    i = int(few.indices[1])
    data = data_in(build_explorer(case.pixels[:2], (zeros, zeros), few, whose={i: "luck: this run alone", 10**6: ""}))
    equal(data["whose"], {str(i): "luck: this run alone"})

def test_facts_of_another_grid(case, built):
    facts = found(case.wrong, 0, grid=2, halves=[3])
    equal(built(facts)[1][0][3:], [[3], 2])

def test_facts_of_the_network_itself(case):
    few, zeros = case.wrong[:1], np.zeros((1, 32, 32))
    i = int(few.indices[0])
    own = facts(case.model, case.dataset[i][0], int(few.labels[0]), grid=2, pairs=2)
    page = build_explorer(case.pixels[:1], (zeros, zeros), few, facts={i: own})
    equal(data_in(page)["facts"][str(i)][1], in_words(own))
    equal(data_in(explore_mistakes(case.model, case.record, case.dataset, limit=1,
                                   facts={i: own}, **case.how))["facts"][str(i)][4], 2)

def test_facts_that_do_not_belong(case, built):
    def refused(text, facts):
        with pytest.raises(ValueError, match=re.escape(f"facts[{case.wrong.indices[0]}] must {text}")):
            built(facts)
    good = found(case.wrong, 0, holds=[15])
    refused("name cells from 0 to 15, got [16]", good | dict(holds=[15, 16]))
    refused("name cells from 0 to 3, got [15]", good | dict(grid=2))
    refused("name cells from 0 to 15, got [-1]", good | dict(cover=[-1]))
    other = (good["predicted"] + 1) % 10
    refused("be of the network that made the record, with predicted and true class "
            f"{(good['predicted'], good['true'])}, got {(other, good['true'])}",
            good | dict(predicted=other))
    refused("be from `covering.facts`, got 'beats both'", "beats both")
    refused("be from `covering.facts`, got {'turns': [",
            {key: value for key, value in good.items() if key != "grid"})

def test_pictures_and_maps_must_fit_the_record(case):
    few, zeros = case.wrong[:30], np.zeros((30, 32, 32))
    with pytest.raises(ValueError, match=re.escape(
            "pictures and heats must have shapes [(30, 32, 32, 3)")):
        build_explorer(case.pixels[:2], (zeros, zeros), few)
    with pytest.raises(ValueError, match=re.escape(
            "got [(30, 32, 32, 3), (30, 32, 32), (30, 32, 32), (30, 31, 32)]")):
        build_explorer(case.pixels[:30], (zeros, zeros, zeros[:, 1:]), few)

def test_no_mistakes_and_limits(case):
    flawless = explore_mistakes(case.model, case.record[case.record.correct], case.dataset)
    equal((len(flawless), data_in(flawless)["heading"]), (0, "No mistakes"))
    only = explore_mistakes(case.model, case.record[~case.record.correct], case.dataset, **case.how)  # as from `find_mistakes`
    assert f"in 70 images ({100 * len(case.wrong) / 70:.1f} %)" in only.page
    explore_mistakes(case.model, case.record, case.dataset, limit=1, **case.how | dict(mean=np.full(3, 0.5), std=np.full(3, 0.2)))
    three = explore_mistakes(case.model, case.record, case.dataset, limit=3, **case.how)
    equal(len(three), 3)
    assert f"the surest of {len(case.wrong):,} in 70 images" in three.page

def test_what_is_refused(case):
    def refused(text, model=case.model, record=case.record, dataset=case.dataset, **more):
        with pytest.raises(ValueError, match=text): explore_mistakes(model, record, dataset, **more)
    other = small_network()
    nn.init.zeros_(other[-1].bias)
    refused("model must be the one that made the record", model=other)
    refused("record is empty", record=case.record[:0])
    refused("limit must be at least 1, got 0", limit=0)
    refused("dataset must be the one the record was made from",
            record=replace(case.record, indices=case.record.indices + 70))

def test_layers_are_as_before(case):
    equal({type(m) for m in case.model.modules() if isinstance(m, nn.Conv2d)}, {nn.Conv2d})

def test_other_sizes_classes_and_statistics():
    "Images of 48 × 64, three classes, a wrapped network; a method without a contrast."
    small, mean, std = small_network(3), (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    shots = torch.rand(12, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    scaled = normalised(shots, mean, std)
    with torch.no_grad(): answers = small(scaled).argmax(1)
    owls = [(image, int(1 - answer) % 3) for image, answer in zip(scaled, answers)]
    record = predict(small, [(scaled, torch.tensor([label for _, label in owls]))],
                     classes=("owl", "fox", "elk"))
    wrapped = nn.DataParallel(small) if not torch.cuda.is_available() else small
    made = explore_mistakes(wrapped, replace(record, weights=fingerprint(wrapped)), owls,
                            mean=mean, std=std, layers=small[0])
    data = data_in(made)
    equal((len(made), data["size"], data["classes"], data["contrast"]),
          ((~record.correct).sum(), [48, 64], ["owl", "fox", "elk"], True))
    first = shots[data["index"][0]].movedim(0, -1)[0, :32] * 255
    close(np.array(data["probe"]).reshape(32, 3), first.numpy(), eps=0.51)
    plain = explore_mistakes(small, record, owls, mean=mean, std=std, layers=small[0],
                             method="eigencam")
    assert '"contrast":false' in plain.page
    first = record[~record.correct][0]
    owls[first.indices[0]] = (scaled[0, :, 1:], int(first.labels[0]))
    with pytest.raises(ValueError, match=re.escape(
            "dataset must give images of one size, got [(3, 47, 64), (3, 48, 64)]")):
        explore_mistakes(small, record, owls, layers=small[0])

def test_tiles_of_nan():
    "As a whole number NaN would be 0: no evidence."
    with pytest.raises(ValueError, match="maps hold NaN or infinity"): map_tiles(np.full((1, 2, 2), np.nan))
    with pytest.raises(ValueError, match="heat holds NaN or infinity"):
        lay_over(Image.new("RGB", (4, 4)), np.full((4, 4), np.nan))
