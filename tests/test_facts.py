"Counting facts over many answers: pairs, chance, and a record that continues where it was cut off."
import json

import numpy as np
import pytest
import torch
from tools import close, equal, refused
from torch import nn

from cifar_gradcam.engine.datasets import synthetic_images
from cifar_gradcam.lab import facts as lab
from cifar_gradcam.lab.facts import (
    complete_tables, count_facts, facts_command, facts_record, facts_table, hottest, matched_pairs, packed_answers,
    returning, rows_of, shares, smallest_covers, STATEMENTS, unpacked_answers)
from cifar_gradcam.mistakes.covering import cell_values, cover, GAMES
from cifar_gradcam.mistakes.predictions import Predictions


def made_record(n, wrong, seed=0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, 3)).astype(np.float32) * 2
    labels = logits.argmax(1)
    labels[:wrong] = (labels[:wrong] + 1) % 3
    return Predictions(np.arange(n), labels, logits, ("a", "b", "c"), "0" * 16)


def test_pairs_have_the_nearest_confidence():
    record = made_record(200, 20)
    pairs = matched_pairs(record)
    mistakes, twins = map(list, zip(*pairs))
    equal(sorted(mistakes), [*range(20)])
    assert len(set(twins)) == 20 and min(twins) >= 20
    p, free = record.confidence, [*range(20, 200)]
    for mistake, twin in pairs:
        close(abs(p[twin] - p[mistake]), min(abs(p[k] - p[mistake]) for k in free), eps=1e-9)
        free.remove(twin)
    equal(matched_pairs(record), pairs)
    assert [pair[0] for pair in matched_pairs(record, seed=1)] != mistakes
    equal(len(matched_pairs(made_record(10, 8))), 2)  # only two right answers
    equal(matched_pairs(made_record(10, 0)), [])


def row(cells, most=0, mark=0):
    games = [{key: part for key in ("holds", "halves", "turns")} | {"most": most, "blank": 0} for part in cells]
    together = sorted(set.intersection(*map(set, cells)))
    return {"games": games, "maps": {"contrast": [mark, 0.5]}} | {key: together for key in ("holds", "halves", "turns")}


def test_shares_and_chance():
    rows = [row([[0, 1], [1], [1, 2]]), row([[0], [1], [2]])]
    equal(shares(rows), {"holds": 0.5, "halves": 0.5, "turns": 0.5, "named": 0.5, "most": 1.0})
    one = [row([[3], [3], [3]], most=3)] * 50
    by_cells = shares(one, "cells", draws=400)
    close(by_cells["holds"], 1 / 256, eps=2e-3)
    close(by_cells["named"], 1 / 256, eps=2e-3)  # the same cells in each statement: one permutation
    equal(shares([row([[], [], []])])["named"], 0.0)
    equal(shares(one, "images", draws=3)["holds"], 1.0)  # others look at the same cell
    two = [row([[3], [3], [3]])] * 50 + [row([[4], [4], [4]])] * 50
    close(shares(two, "images", draws=200)["holds"], 0.25, eps=0.02)
    close(shares(two, "image", draws=200)["holds"], 0.5, eps=0.03)  # both games are one other row's
    equal([*shares(two)], [*STATEMENTS])


def test_the_hottest_cell():
    rows = [row([[1, 2]] * 3, mark=1), row([[1, 2]] * 3, mark=5)]
    found = hottest(rows)
    equal(found, {"holds": 0.5, "holds by chance": 0.125, "halves": 0.5, "halves by chance": 0.125, "alike": 0.5})


@pytest.fixture(scope="module")
def small():
    images, labels = synthetic_images(12, np.random.default_rng(1))
    images = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 64 - 2
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).eval()

    class Few(torch.utils.data.Dataset):
        classes = [str(k) for k in range(10)]
        def __len__(self): return len(images)
        def __getitem__(self, i): return images[i], int(labels[i]) if i % 2 else int(network(images[i][None]).argmax())
    return network, Few()


def test_a_cut_off_count_continues(small, tmp_path, monkeypatch):
    network, few = small
    monkeypatch.setattr(lab, "predict", lambda model, loader: made_pairs(network, few))
    whole = count_facts(network, few, tmp_path / "whole.json", limit=2)
    part = count_facts(network, few, tmp_path / "part.json", limit=1)
    equal((len(whole["rows"]), len(part["rows"])), (4, 2))
    monkeypatch.setattr(lab, "predict", None)  # the pairs are in the file
    again = count_facts(network, few, tmp_path / "part.json", limit=2)
    equal(json.loads((tmp_path / "part.json").read_text()), json.loads(json.dumps(again)))
    equal(again, whole)
    wrong, right = rows_of(whole, True), rows_of(whole, False)
    assert all(r["predicted"] != r["true"] for r in wrong) and all(r["predicted"] == r["true"] for r in right)
    table = facts_table(whole)
    equal(len(table.splitlines()), 1 + len(STATEMENTS))
    assert "NaN" not in (tmp_path / "whole.json").read_text()
    refused(lambda: count_facts(network[:3].append(nn.Flatten()), few, tmp_path / "part.json"), contains="with other settings (weights")


def made_pairs(network, few):
    images, labels = zip(*(few[i] for i in range(len(few))))
    logits = network(torch.stack(images)).detach().numpy()
    return Predictions(np.arange(len(few)), np.array(labels), logits, tuple(few.classes), "0" * 16)


def test_nothing_to_count(capsys, tmp_path, monkeypatch, small):
    network, few = small
    right = made_record(10, 0)
    monkeypatch.setattr(lab, "predict", lambda model, loader: right)
    equal(facts_command(network, few, tmp_path / "facts.json"), 0)
    assert "No pair of a mistake and a right answer: nothing to count." in capsys.readouterr().out


def test_complete_tables_are_the_answers(small, tmp_path):
    (model, dataset), file = small, tmp_path / "tables.json"
    record = complete_tables(model, dataset, file, [1, 3], grid=2)
    equal([*record["tables"]], [f"{place} {game}" for game in GAMES for place in (1, 3)])
    for key, table in record["tables"].items():
        place, game = int(key.split()[0]), key.split()[1]
        x, answers = dataset[place][0][None], unpacked_answers(table["answers"])
        for s in range(16):
            hidden = torch.tensor([[s >> k & 1 for k in range(4)]]).bool().reshape(1, 2, 2)
            logits = model(cover(x, hidden, game))[0]
            equal(answers[s], logits.argmax().item())
            if s in (0, 15):
                margin = (logits[table["predicted"]] - logits[table["other"]]).item()
                close(table["margins"][s == 15], margin, eps=1e-4)
        values, _ = cell_values(model, x, [table["predicted"]], [table["other"]], 2, game, exact=True)
        close(torch.tensor(table["values"]), values.flatten(), eps=1e-4)
        close(sum(table["values"]), table["margins"][0] - table["margins"][1], eps=1e-3)
    kept = file.read_bytes()  # finished: nothing is asked again
    equal(complete_tables(model, None, file, [1], grid=2), record)
    equal(file.read_bytes(), kept)


def test_other_images_under_the_same_name_are_refused(small, tmp_path, monkeypatch):
    network, few = small
    monkeypatch.setattr(lab, "predict", lambda model, loader: made_pairs(network, few))
    record = count_facts(network, few, tmp_path / "facts.json", limit=1)
    equal([*record["again"]], [str(record["pairs"][0][0])])
    turned = [(few[i][0], (few[i][1] + 1) % 10) for i in range(len(few))]
    refused(lambda: count_facts(network, turned, tmp_path / "facts.json", limit=2), contains="was made of other images")
    refused(lambda: count_facts(network, few, tmp_path / "gone" / "facts.json"), contains="there is no folder", exc=FileNotFoundError)


def test_evidence_that_comes_back():
    record = {"rows": {"5": {"holds": [1, 2], "opposes": []}, "6": {"holds": [3], "opposes": [4]}},
              "again": {"5": {"holds": [2, 9], "opposes": [7]}, "6": {"holds": [3], "opposes": []}}}
    equal(returning(record), {"holds": 2 / 3, "opposes": 0.0, "mistakes": 2})


def test_answers_survive_packing():
    answers = np.random.default_rng(0).integers(0, 16, 65_536)
    equal(unpacked_answers(packed_answers(answers)), answers)


def test_smallest_covers():
    answers = np.zeros(16, int)
    equal(smallest_covers(answers, 1), [])
    answers[[0b0110, 0b1010, 0b0111]] = 1
    equal(smallest_covers(answers, 1), [[1, 2], [1, 3]])
    other = np.zeros(16, int)
    other[[0b1010, 0b1111]] = 1
    equal(smallest_covers(np.stack([answers, other]), 1), [[1, 3]])
    answers[0] = 1  # nothing has to be covered
    equal(smallest_covers(answers, 1), [[]])


def test_what_the_front_page_says_of_the_record():
    record = facts_record()
    mistakes, right = (shares(rows_of(record, wrong))["turns"] for wrong in (True, False))
    assert 0.35 < mistakes < 0.45 < right < 0.5  # four in ten, and nearly half
    equal(record["rows"]["9360"]["turns"], [2, 13])  # the ears, and a second cell
