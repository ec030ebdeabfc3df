"Families of maps judged by the maps of other images: the best cells are known, chance is uniform, a cut-off run continues."
import json
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats
from tools import close, equal, refused
from torch import nn

from cifar_gradcam.engine.datasets import synthetic_images
from cifar_gradcam.lab import families as lab
from cifar_gradcam.lab.facts import facts_record
from cifar_gradcam.lab.families import (
    ahead, all_families, chosen_family, expected_gradients, falls_of, FAMILIES, families_command,
    families_record, families_table, family_maps, family_rows, gains, greedy_cells, held_share, hottest_cells,
    hottest_shares, judge, judged, KINDS, measure_families, paired, top_cells)
from cifar_gradcam.mistakes.covering import covered_logits
from cifar_gradcam.mistakes.predictions import Predictions
from cifar_gradcam.resnet import ResNet18


class Cells(nn.Module):
    "The logit of class 0 is a weighted sum of the brightness of 16 cells."
    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights).float().reshape(4, 4))
    def forward(self, x):
        cells = nn.functional.adaptive_avg_pool2d(x.mean(1), 4)
        z = (cells * self.weights).sum((1, 2))
        return torch.stack([z, -z, torch.zeros_like(z) - 9], 1)


WEIGHTS = [.1, -.2, 3, .3, .2, 2, -1, 0, 1, .4, -.5, .6, .7, 4, .05, .8]
zero, one = torch.tensor([0]), torch.tensor([1])


def test_greedy_removal_takes_the_cells_that_weigh_most():
    x = torch.full((1, 3, 32, 32), 0.1)
    values = greedy_cells(Cells(WEIGHTS), x, zero, one, game="mean").flatten()
    equal(values.nonzero()[:, 0].tolist(), [2, 5, 8, 13])
    equal(values[[13, 2, 5, 8]].tolist(), [4, 3, 2, 1])
    equal(top_cells(values[None]).tolist(), [2**2 + 2**5 + 2**8 + 2**13])
    both = greedy_cells(Cells(WEIGHTS), torch.cat([x, -x]), torch.tensor([0, 1]), torch.tensor([1, 0]), game="mean")
    equal(both[1], both[0])  # the other way round twice


def test_greedy_removal_knows_what_is_covered_already(network):
    torch.manual_seed(3)
    x, covered = torch.randn(1, 3, 32, 32), []
    for _ in range(4):
        def margin(cell):
            hidden = torch.zeros(1, 16).bool()
            hidden[0, [*covered, cell]] = True
            z = covered_logits(network, x, zero, hidden.reshape(1, 4, 4), "blur")[0]
            return (z[0] - z[1]).item()
        covered.append(min((c for c in range(16) if c not in covered), key=margin))
    order = greedy_cells(network, x, zero, one, game="blur").flatten().argsort(descending=True)[:4]
    equal(order.tolist(), covered)


def test_expected_gradients_of_a_sum_and_of_captum(network):
    torch.manual_seed(0)
    x, others = torch.randn(2, 3, 32, 32), torch.randn(2, 5, 3, 32, 32)
    model = Cells(WEIGHTS)
    parts = expected_gradients(model, x, torch.tensor([0, 1]), torch.tensor([1, 0]), others)
    slope = 2 * model.weights.detach().repeat_interleave(8, 0).repeat_interleave(8, 1) / 64 / 3
    for part, image, blanks, sign in zip(parts, x, others, (1, -1)):
        close(part, sign * slope * (image - blanks.mean(0)), eps=1e-6)
    captum = pytest.importorskip("captum.attr")
    blank, many = torch.zeros(1, 3, 32, 32), 4000
    mine = expected_gradients(network, x[:1], zero, one, blank.expand(1, many, -1, -1, -1)).sum((1, 2, 3))
    def score(z): return network(z)[:, 0] - network(z)[:, 1]
    whole = captum.IntegratedGradients(score).attribute(x[:1], blank, n_steps=64).sum((1, 2, 3))
    close(mine.item(), whole.item(), eps=0.05 * abs(score(x[:1]) - score(blank)).item() + 0.01)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ResNet18(width=8).eval()


def test_the_highest_cells_and_ties():
    equal(top_cells([[0] * 16, [0] * 12 + [1] * 4, [5, 0, 5, 5, 5, 5] + [-1] * 10]).tolist(), [15, 15 * 2**12, 1 + 4 + 8 + 16])


def test_falls_are_those_of_a_covered_picture():
    torch.manual_seed(1)
    x, model = torch.rand(3, 32, 32), Cells(WEIGHTS)
    codes = np.array([1, 2**2 + 2**13, 15])
    falls = falls_of(model, x, 0, 1, codes)
    cells = nn.functional.adaptive_avg_pool2d(x.mean(0)[None], 4).flatten()
    worth = (cells * torch.tensor(WEIGHTS)).tolist()
    whole = 1 / (1 + np.exp(-2 * sum(worth)))
    for code, fall in zip(codes.tolist(), falls[0]):
        left = sum(w for k, w in enumerate(worth) if not code >> k & 1)
        close(fall, whole - 1 / (1 + np.exp(-2 * left)), eps=1e-5)
    best = max(combinations(range(16), 4), key=lambda cells: sum(worth[k] for k in cells))
    every = np.array([sum(2**k for k in cells) for cells in combinations(range(16), 4)])
    equal(every[falls_of(model, x, 0, 1, every)[0].argmax()], sum(2**k for k in best))
    equal(top_cells([worth]).tolist(), [sum(2**k for k in best)])


def test_the_rank_of_the_best_map_and_of_the_worst():
    falls = np.array([[.5, .4, .3, .2, .1], [.1, .2, .3, .4, .5]])
    draw = np.random.default_rng(0)
    row = judge(falls, 0, draw)
    equal(row[:6], [500, 250, 0, 100, 350, 4])
    assert 0 <= row[6] <= 4 and 0 <= row[7] <= 3  # all sums are level: a draw
    row = judge(np.stack([falls[0]] * 2), 1, draw)
    equal((row[2], row[5], row[6], row[7]), (1, 1, 1, 1))  # the next map is behind the first alone
    equal(judge(np.stack([falls[0]] * 2), 4, draw)[7], 0)  # after the last comes the first
    drawn = [ahead(1.0, np.array([1.0, 1.0, 2.0, 0.0]), draw) for _ in range(3000)]
    equal(sorted(set(drawn)), [1, 2, 3])
    close(np.mean(drawn), 2, eps=0.1)


def test_ranks_by_brute_force():
    draw = np.random.default_rng(5)
    falls = draw.integers(0, 30, (2, 40)) / 30
    joint = [sum(sum(b < a) + sum(b == a) / 2 for a, b in zip(pair, falls)) for pair in falls.T]
    for own in (0, 17, 39):
        for _ in range(20):
            row = judge(falls, own, draw)
            for place, score in (2, falls[0]), (5, falls[1]), (6, joint):
                better = sum(s > score[own] for s in score)
                level = sum(s == score[own] for s in score) - 1
                assert better <= row[place] <= better + level


def test_p_is_uniform_if_maps_know_nothing():
    draw, rows = np.random.default_rng(2), []
    for _ in range(2000):
        rows.append(judge(draw.integers(0, 12, (2, 20)), int(draw.integers(20)), draw))
    for place, most in (2, 19), (5, 19), (6, 19), (7, 18):
        counts = np.bincount([row[place] for row in rows], minlength=most + 1)
        equal(len(counts), most + 1)
        assert stats.chisquare(counts).pvalue > 1e-3


def by_definition(p, rate):
    "The largest k with p_(k) <= k / n * rate: the k smallest hold (Benjamini and Hochberg, 1995)."
    p = sorted(p)
    return max((k for k in range(1, len(p) + 1) if p[k - 1] <= k / len(p) * rate), default=0) / len(p)


def test_false_discoveries():
    draw = np.random.default_rng(0)
    for n in 1, 5, 80:
        p = draw.random(n) ** 3
        for rate in .05, .1, .2:
            share, low, high = held_share(p, rate, draws=50)
            close(share, by_definition(p, rate), eps=1e-12)
            close(share, (stats.false_discovery_control(p) <= rate).mean(), eps=1e-12)
            assert 0 <= low <= high <= 1
    equal(held_share(np.full(9, 0.01), 0.1), (1.0, 1.0, 1.0))
    equal(held_share(np.full(9, 0.9), 0.1), (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def few(network):
    images, labels = synthetic_images(24, np.random.default_rng(1))
    images = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 64 - 2
    with torch.no_grad(): logits = network(images).numpy()
    said = logits.argmax(1)
    labels = np.where(np.arange(24) % 2, (said + 1) % 10, said)

    class Few(torch.utils.data.Dataset):
        classes = [str(k) for k in range(10)]
        def __len__(self): return 24
        def __getitem__(self, i): return images[i], int(labels[i])
    return Few(), Predictions(np.arange(24), labels, logits, tuple(Few.classes), "0" * 16)


@pytest.fixture(scope="module")
def record(network, few, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab, "predict", lambda model, loader: few[1])
        return measure_families(network, few[0], tmp_path_factory.mktemp("families") / "whole.json", 6, precision="float32")


def without_seconds(record):
    return json.loads(json.dumps(record | {kind: record[kind] | {"seconds": 0} for kind in KINDS}))


def test_the_record(record, network, few):
    wrong, right = (record[kind] for kind in KINDS)
    for k, part in enumerate((wrong, right)):
        equal({len(rows) for rows in part["maps"].values()} | {len(part["rows"]), len(part["asked"])}, {6})
        for (a, b), (said, other) in zip(record["pairs"], part["asked"]):
            logits, label = few[1].logits[(a, b)[k]], few[1].labels[(a, b)[k]]
            equal(said, int(logits.argmax()))
            equal(other, int(logits.argsort()[-2]) if k else int(label))
    assert wrong["asked"][0][0] != few[1].labels[record["pairs"][0][0]]
    # One row again, by hand: the falls of all six maps on the third mistake.
    place, (said, other) = record["pairs"][2][0], wrong["asked"][2]
    for family, maps in all_families(wrong).items():
        falls = falls_of(network, few[0][place][0], said, other, top_cells(maps))
        for game, fall in zip(("mean", "imputed"), falls):
            close(judged(record, "mistakes", family, f"own {game}")[2], fall[2], eps=6e-4)
            close(judged(record, "mistakes", family, f"others {game}")[2], np.delete(fall, 2).mean(), eps=6e-4)
            p = judged(record, "mistakes", family, game)[2]
            assert (1 + (fall > fall[2]).sum()) / 6 <= p <= (fall >= fall[2]).sum() / 6
    equal(len(judged(record, "mistakes", "fresh", "joint")), 6)
    equal(len(wrong["rows"][0]), len(FAMILIES) + 2)  # fresh draws and how alike they are
    assert "NaN" not in json.dumps(record)


def test_maps_are_those_of_one_image_alone(record, network, few):
    part, place = record["right answers"], record["pairs"][4][1]
    said, other = torch.tensor(part["asked"][4])[:, None]
    maps, _ = family_maps(network, few[0][place][0][None], said, other, lab._others(few[0], place)[None], 1_000_000 + 4)
    for family, values in maps.items():
        close(values[0], torch.tensor(part["maps"][family][4]), eps=1)
        equal(values.abs().max().item(), 99)


class Cut(Exception): "As if the process were killed."


@pytest.mark.parametrize("kept", [0, 1, 8])
def test_a_cut_off_measurement_continues(record, network, few, tmp_path, monkeypatch, kept):
    monkeypatch.setattr(lab, "predict", lambda model, loader: few[1])
    row, count = lab._row, []
    def cut(*given):
        count.append(0)
        if len(count) > kept: raise Cut
        return row(*given)
    monkeypatch.setattr(lab, "_row", cut)
    with pytest.raises(Cut): measure_families(network, few[0], tmp_path / "part.json", 6, precision="float32")
    monkeypatch.setattr(lab, "_row", row)
    monkeypatch.setattr(lab, "predict", None)  # the pairs are in the file
    again = measure_families(network, few[0], tmp_path / "part.json", 6, precision="float32")
    equal(without_seconds(again), without_seconds(record))
    equal(without_seconds(json.loads((tmp_path / "part.json").read_text())), without_seconds(record))


def test_refused(record, network, few, tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "predict", lambda model, loader: few[1])
    file = tmp_path / "old.json"
    file.write_text(json.dumps(record))
    other = ResNet18(width=8).eval()
    refused(lambda: measure_families(other, few[0], file, 6, precision="float32"), contains="with other settings (weights")
    refused(lambda: measure_families(network, few[0], file, 5, precision="float32"), contains="with other settings (limit 6")
    refused(lambda: measure_families(network, few[0], tmp_path / "new.json", 3), contains="at least 4 mistakes")


def test_hottest_cells(record, network, few):
    from cifar_gradcam.gradcam import explain
    places = [wrong for wrong, _ in record["pairs"]]
    x = torch.stack([few[0][place][0] for place in places])
    said, other = torch.tensor(record["mistakes"]["asked"]).T
    equal(len(record["hottest"]), 5 * 5 + 4 * 5)
    for name, heat in (("hirescam layer3", explain(network, x, said, "hirescam", "layer3")),
                       ("layercam layer2+layer3+layer4 contrast",
                        explain(network, x, said, "layercam", ["layer2", "layer3", "layer4"], against=other))):
        means = [[heat[i, 8 * r:8 * r + 8, 8 * c:8 * c + 8].mean().item() for r in range(4) for c in range(4)] for i in range(6)]
        for cell, values in zip(record["hottest"][name], means):
            assert values[int(cell, 16)] >= max(values) - 0.02  # explain enlarges, which blurs a little
    equal("".join(f"{c:x}" for c in hottest_cells(network, x, said, None, "gradcam", ("layer4",)).tolist()), record["hottest"]["gradcam layer4"])


def test_how_often_the_hottest_cell_holds():
    made = {"pairs": [[7, 0], [8, 1], [9, 2], [5, 3]], "hottest": {"a": "3f0a", "b": "0000"}}
    facts = {"rows": {"7": {"holds": [3]}, "8": {"holds": [15, 0]}, "9": {"holds": [3]}}}  # the fourth is not counted yet
    shares = hottest_shares(made, facts)
    close(shares["a"], (2 / 3, (0 + 0 + 0 + 1 + 1 + 0) / 6), eps=1e-12)  # 7: f, 0; 8: 3, 0; 9: 3, f
    close(shares["b"], (1 / 3, 2 / 6), eps=1e-12)


def test_what_is_counted(record):
    for kind in KINDS:
        rows = family_rows(record, kind)
        equal([row["family"] for row in rows], [*FAMILIES])
        for row in rows:
            close(row["gain"], row["own"] - row["others"], eps=1e-9)
            close(row["gain"], gains(record, kind, row["family"]).mean(), eps=1e-9)
            assert row["low"] <= row["gain"] <= row["high"]
        halves = [family_rows(record, kind, slice(k, None, 2)) for k in (0, 1)]
        for a, b, both in zip(*halves, rows): close((a["gain"] + b["gain"]) / 2, both["gain"], eps=1e-9)
        lead, low, high = paired(record, kind, "shapley", "gradcam")
        close(lead, rows[2]["gain"] - rows[0]["gain"], eps=1e-9)
        assert low <= lead <= high
        chosen = chosen_family(record, kind)
        equal(chosen["family"], max(halves[0], key=lambda row: row["gain"])["family"])
        close(chosen["lead"], paired(record, kind, chosen["family"], chosen["next"], slice(1, None, 2))[0], eps=1e-9)
    table = families_table(record)
    equal(table.count("\n"), 2 * (1 + len(FAMILIES)) - 1)
    half_done = record | {"right answers": record["right answers"] | {"rows": []}}
    equal(families_table(half_done), "\n".join(table.splitlines()[:7]))


def test_the_command(network, few, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lab, "predict", lambda model, loader: few[1])
    monkeypatch.setattr(lab, "FRESH", 0)
    equal(families_command(network, few[0], tmp_path / "families.json", quick=True), 0)
    assert "8 mistakes " in capsys.readouterr().out
    equal(json.loads((tmp_path / "families.json").read_text())["settings"]["limit"], 8)


def test_the_shipped_record():
    record, facts = families_record(), facts_record()
    equal(record["settings"]["weights"], facts["settings"]["weights"])
    equal(*({wrong for wrong, _ in made["pairs"]} for made in (record, facts)))
    equal(record["settings"]["procedure"], [*lab.PROCEDURE])  # the record is about what is written today
    for k, kind in enumerate(KINDS):
        for pair, (said, other) in zip(record["pairs"], record[kind]["asked"]):
            if row := facts["rows"].get(str(pair[k])): equal((row["predicted"], row["other"]), (said, other))
    assert max(map(len, families_table(record).splitlines())) <= 88
    for family in FAMILIES:  # maps of other images know nothing: their ranks are uniform
        assert stats.kstest(judged(record, KINDS[0], family, "null"), "uniform").pvalue > 1e-3
