"Whose mistake it was: people's votes are fetched and checked, the record is a recount, each mistake has one name."
import io
from collections import Counter
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from tools import equal, refused

from cifar_gradcam.engine.datasets import DataError
from cifar_gradcam.engine.files import write_whole
from cifar_gradcam.lab.series import load_series
from cifar_gradcam.mistakes import predictions
from cifar_gradcam.mistakes.predictions import (
    human_votes, Predictions, reference_predictions, reference_whose, whose_mistakes, whose_names)


def file_of(votes):
    np.save(file := io.BytesIO(), votes)
    return file.getvalue()


MADE_UP = np.arange(40).reshape(4, 10)


@pytest.fixture
def published(tmp_path, monkeypatch):
    "A folder that plays the server, with made-up votes."
    content = file_of(MADE_UP)
    (tmp_path / "server").mkdir()
    monkeypatch.setattr(predictions, "VOTES_MD5", md5(content).hexdigest())
    monkeypatch.setattr(predictions, "VOTES_URL", (tmp_path / "server" / "votes.npy").as_uri())
    write_whole(tmp_path / "server" / "votes.npy", content)
    return tmp_path / "server" / "votes.npy"


def test_votes_are_fetched_once_and_only_if_asked_for(published, tmp_path, capsys):
    home = tmp_path / "home"
    refused(lambda: human_votes(home, download=False), contains="votes.npy is missing", exc=DataError)
    assert not home.exists()
    equal(human_votes(home), MADE_UP)
    assert "fetching file:" in capsys.readouterr().out
    published.unlink()  # it is not asked again
    equal(human_votes(home), MADE_UP)
    equal(human_votes(home, download=False), MADE_UP)
    equal(capsys.readouterr().out, "")
    equal([path.name for path in home.glob("[!.]*")], ["votes.npy"])


def test_wrong_bytes_are_refused(published, tmp_path):
    right, wrong = published.read_bytes(), file_of(MADE_UP + 1)
    (kept := tmp_path / "votes.npy").write_bytes(wrong)  # a damaged file of one's own is fetched anew
    refused(lambda: human_votes(tmp_path, download=False), contains=f"has md5 {md5(wrong).hexdigest()}", exc=DataError)
    equal(human_votes(tmp_path), MADE_UP)
    equal(kept.read_bytes(), right)
    published.write_bytes(wrong)  # the server has another file
    kept.unlink()
    refused(lambda: human_votes(tmp_path), contains=predictions.VOTES_MD5, exc=DataError)
    assert not kept.exists()
    published.unlink()  # no server: name, checksum and place are said
    for part in (str(kept), predictions.VOTES_MD5, predictions.VOTES_URL, "could not be fetched", "CC BY-NC-SA"):
        refused(lambda part=part: human_votes(tmp_path), contains=part, exc=DataError)


def test_the_record_is_a_recount_of_the_runs():
    found, record = reference_whose(), reference_predictions()
    arms = load_series("reference")
    runs = [run.predicted for arm in ("20-epochs", "40-epochs", "80-epochs") for run in arms[arm]]
    equal(runs.pop(3), record.predicted.astype(np.uint8))  # seed 0 of 40 epochs ships
    erred = [sum(int(run[place] != record.labels[place]) for run in runs) for place in found["mistakes"]]
    equal((found["runs"], found["erred"]), (8, erred))
    equal(found["mistakes"], np.flatnonzero(record.predicted != record.labels).tolist())
    equal(found["weights"], record.weights)
    # What was counted from the votes agrees with itself.
    by_place = dict(zip(found["mistakes"], erred))
    equal(np.bincount([by_place[i] for i in found["people_too"]], minlength=9).tolist(), found["people_by_runs"]["0.1"])
    assert {by_place[i] for i in found["real_failures"]} == {8}
    equal(len(found["real_failures"]), found["clear_by_runs"][8])
    assert not set(found["real_failures"]) & set(found["people_too"])
    few, tenth, many = (np.array(found["people_by_runs"][line]) for line in ("0.2", "0.1", "0.05"))
    assert (few <= tenth).all() and (tenth <= many).all() and (many <= np.bincount(erred)).all()
    assert "CC BY-NC-SA" in found["licence"] and "cifar10h-counts.npy" in found["source"]


def test_names_of_made_up_mistakes():
    # Label 0 and answer 1, but for the last image, which is right. Votes for 0, 1 and 2; how many of four runs err.
    votes = [[18, 2, 0], [19, 1, 0], [19, 0, 1], [18, 1, 1], [19, 0, 1], [1, 19, 0], [20, 0, 0]]
    wrong = [4, 4, 3, 2, 1, 0, 4]
    logits = np.eye(3)[[1, 1, 1, 1, 1, 1, 0]].astype(np.float32) * np.arange(1, 8)[:, None].astype(np.float32)
    record = Predictions(np.arange(10, 17), np.zeros(7, int), logits, ("a", "b", "c"), "by hand")
    runs = np.array([[2 * (run < n) for n in wrong] for run in range(4)])
    found = whose_mistakes(record, np.array(votes), runs)
    equal((found["mistakes"], found["erred"]), ([*range(10, 16)], wrong[:6]))
    equal((found["people_too"], found["real_failures"]), ([10, 15], [11]))
    equal((found["first"], found["nobody"]), (1, 2))
    equal(found["clear_by_runs"], [0, 1, 0, 1, 1])
    equal(found["people_by_runs"], {"0.05": [1, 0, 1, 0, 2], "0.1": [1, 0, 0, 0, 1], "0.2": [1, 0, 0, 0, 0]})
    equal(whose_names(found), {
        10: "picture: people say so too, 4 of 4 other runs err", 11: "recipe: clear to people, 4 of 4 other runs err",
        12: "recipe: 3 of 4 other runs err", 13: "between: 2 of 4 other runs err", 14: "luck: 1 of 4 other runs err",
        15: "picture: people say so too, this run alone"})
    # Nothing wrong, or one mistake: counts, and no NaN.
    for part in (record[6:], record[:1]):
        one = whose_mistakes(part, np.array(votes)[part.indices - 10], runs[:, part.indices - 10])
        equal((one["doubts"], len(whose_names(one))), (0.0, len(part[~part.correct])))
    refused(lambda: whose_mistakes(record, np.array(votes)[:3], runs), contains="votes must have shape (7, 3), got (3, 3)")
    refused(lambda: whose_mistakes(record, np.array(votes), runs[:, :3]), contains="runs must have shape (4, 7), got (4, 3)")
    refused(lambda: whose_mistakes(record, np.array(votes), []), contains="runs must have shape (1, 7), got (0,)")
    refused(lambda: whose_mistakes(record, 0 * np.array(votes), runs), contains="votes must hold some for every image")


def test_every_mistake_has_one_name():
    found = reference_whose()
    names = whose_names(found)
    equal(sorted(names), found["mistakes"])
    kinds = Counter(name.partition(":")[0] for name in names.values())
    equal(set(kinds), {"picture", "recipe", "luck", "between"})
    equal(kinds["picture"], len(found["people_too"]))


def test_no_votes_ship():
    package = Path(predictions.__file__).parent.parent
    assert not list(package.rglob("*cifar10h*"))
