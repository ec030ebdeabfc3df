"Chapter 16: series of runs, their records in folders and in zips, and their comparison."
import json, re, runpy, shutil, zipfile
from dataclasses import asdict, replace
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from scipy.stats import bootstrap
from tools import close, equal

from cifar_gradcam.engine.files import write_json
from cifar_gradcam.engine.recipes import recipe_loaders
from cifar_gradcam.engine.runs import History, Recipe
from cifar_gradcam.lab import series as lab
from cifar_gradcam.lab.series import (
    beside_record, compare, compare_arms, Difference, list_series, load_record, load_series, mcnemar, plot_series,
    record_run, recorded, run_series, RunRecord, Series)

pack = runpy.run_path(str(Path(__file__).parents[1] / "checks" / "pack_records.py"))["pack"]
TINY = Recipe(epochs=2, data="synthetic", limit=80, batch_size=40, max_lr=0.05, width=8, pipeline="batched",
              precision="float32")
SMALL = Series("Does a crop matter?", {"crop": TINY, "none": replace(TINY, pad=0)}, seeds=(0, 1))


@pytest.fixture
def places(tmp_path, monkeypatch):
    "An empty folder for runs, one for records, and a package whose records are in a third."
    monkeypatch.setattr(lab, "series", {"small": SMALL})
    monkeypatch.setattr(lab, "records_folder", lambda: tmp_path / "shipped")
    return dict(runs=tmp_path / "runs", records=tmp_path / "records")


@pytest.fixture(scope="module")
def four_runs(tmp_path_factory):
    "The four runs of the series, made once: their folders of records."
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab, "series", {"small": SMALL})
        patch.setattr(lab, "records_folder", lambda: folder / "shipped")
        assert run_series("small", runs=folder / "runs", records=folder / "records", root=folder)
    return folder / "records" / "small"


@pytest.fixture
def records(four_runs, places):
    "A copy of them, to be damaged."
    return Path(shutil.copytree(four_runs, places["records"] / "small"))


@pytest.fixture
def trained(four_runs, monkeypatch):
    "Training is a copy of what was made; the names of the runs, as they are asked for."
    names = []

    def copied(recipe, folder, root):
        names.append(folder.name)
        shutil.copytree(four_runs / folder.name, folder, dirs_exist_ok=True)
        return load_record(folder).history
    monkeypatch.setattr(lab, "train_run", copied)
    return names


def contents(folder): return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_runs_of_a_series_go_seed_after_seed():
    equal(list(SMALL.runs), ["crop-seed0", "none-seed0", "crop-seed1", "none-seed1"])
    equal(SMALL.runs["none-seed1"], replace(TINY, pad=0, seed=1))


def test_a_series_that_was_cut_continues(four_runs, trained, places, monkeypatch, capsys):
    missing = "no record of none-seed0, crop-seed1, none-seed1; make it with: cifar_gradcam experiment small"

    def cut_off(recipe, folder, root):  # the second run, after an epoch
        if not trained: return copied(recipe, folder, root)
        History(load_record(four_runs / folder.name).history.rows[:1]).save(folder / "history.csv")
        return History()
    copied = lab.train_run
    with monkeypatch.context() as patch:
        patch.setattr(lab, "train_run", cut_off)
        assert not run_series("small", **places)
    equal(recorded("small", "crop-seed0", places["records"]), places["records"] / "small" / "crop-seed0")
    assert recorded("small", "none-seed0", places["records"]) is None
    with pytest.raises(FileNotFoundError, match=missing): load_series("small", places["records"])
    assert "none-seed0 was cut off; the same command continues it" in capsys.readouterr().out
    assert "small               4     1           1  Does a crop matter?" in list_series(**places)
    assert run_series("small", **places)
    equal(trained, ["crop-seed0", "none-seed0", "crop-seed1", "none-seed1"])
    equal(contents(four_runs), {four_runs / path.relative_to(places["records"] / "small"): content
                                for path, content in contents(places["records"]).items()})
    assert "  –  " in list_series(**places)


def test_a_record_holds_the_answers_that_its_accuracy_counts(records, places, tmp_path):
    arms = load_series("small", places["records"])
    equal([[record.recipe.seed for record in arm] for arm in arms.values()], [[0, 1], [0, 1]])
    first = arms["crop"][0]
    equal((first.predicted.shape, first.predicted.dtype, first.range_test), ((80,), np.uint8, None))
    _, tests = recipe_loaders(TINY, tmp_path)
    truth = torch.cat([labels for _, labels in tests]).numpy()
    for record in arms["crop"] + arms["none"]:
        close(100 * (record.predicted == truth).mean(), record.accuracy, eps=1e-9)


@pytest.mark.parametrize("packed", [False, True])
def test_what_ships_is_not_made_again_and_one_run_made_anew_changes_no_record(
        packed, records, places, tmp_path, capsys):
    shipped = tmp_path / "shipped"
    if packed:
        shipped.mkdir()
        equal(pack(records, shipped), 4)
        shutil.rmtree(places["records"])
    else: places["records"].rename(shipped)
    assert run_series("small", root=tmp_path, **places)
    equal(capsys.readouterr().out, "")
    before = contents(shipped)
    assert run_series("small", root=tmp_path, only="crop-seed1", **places)
    assert "other answers to 0 of 80 images. The recorded seeds of crop: " in beside_record(
        "small", "crop-seed1", **places)
    equal(before, contents(shipped))
    assert not places["records"].exists()


def test_a_zip_reads_as_the_folder_it_was_made_of(records, places, tmp_path):
    before = load_series("small", places["records"])
    (tmp_path / "shipped").mkdir()
    pack(records, tmp_path / "shipped")
    shutil.rmtree(places["records"])
    for arm, runs in load_series("small").items():
        for zipped, plain in zip(runs, before[arm], strict=True):
            equal((zipped.recipe, zipped.history, zipped.metrics, zipped.range_test),
                  (plain.recipe, plain.history, plain.metrics, plain.range_test))
            equal(zipped.predicted, plain.predicted)
    (tmp_path / "shipped" / "small.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="small.zip cannot be read: File is not a zip file"): load_series("small")


def test_packing_adds_runs_and_gives_the_same_bytes_in_any_order(records, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    (records / "crop-seed0" / "weights.safetensors").write_bytes(b"not part of a record")
    pack(records, whole)
    for run in ("none-seed1", "crop-seed0", "none-seed0", "crop-seed1"):
        shutil.copytree(records / run, tmp_path / run / "small" / run)
        pack(tmp_path / run / "small", parts)
    equal((parts / "small.zip").read_bytes(), (whole / "small.zip").read_bytes())
    pack(records, whole)  # once more: nothing changes
    equal((parts / "small.zip").read_bytes(), (whole / "small.zip").read_bytes())


def test_packing_refuses_damaged_and_other_runs(records, tmp_path):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    with pytest.raises(ValueError, match="holds no finished run"): pack(tmp_path / "runs", shipped)
    pack(records, shipped)
    before = contents(shipped)
    write_json(records / "crop-seed0" / "environment.json", dict(device="another"))
    with pytest.raises(ValueError, match="small.zip holds another crop-seed0; choose which"): pack(records, shipped)
    (records / "crop-seed0" / "predicted.npy").unlink()
    with pytest.raises(FileNotFoundError, match="crop-seed0/predicted.npy"): pack(records, shipped)
    equal(contents(shipped), before)


def test_unknown_names_are_answered_with_those_there_are(places):
    with pytest.raises(ValueError, match="there is no series 'big'; there are small"): run_series("big")
    with pytest.raises(ValueError, match="series small has no run 'crop-seed7'; it has crop-seed0, none-seed0"):
        run_series("small", "crop-seed7", **places)


def test_a_folder_with_another_run_is_left_alone(places):
    other = places["runs"] / "small" / "crop-seed0"
    other.mkdir(parents=True)
    write_json(other / "config.json", asdict(replace(TINY, epochs=3)))
    (other / "history.csv").touch()  # an epoch is in it
    with pytest.raises(FileExistsError, match="holds another run: epochs is 3 there, 2 was asked for"):
        run_series("small", **places)


def test_a_record_of_another_recipe_is_named(records, places):
    write_json(records / "crop-seed0" / "config.json", asdict(replace(TINY, pad=1)))
    with pytest.raises(ValueError, match="crop-seed0 is of another recipe: pad is 1 there, 4 was asked for"):
        run_series("small", **places)


@pytest.mark.parametrize("file, content", [
    ("metrics.json", b"{"), ("metrics.json", b"[]"), ("metrics.json", b"{}"), ("history.csv", b"epoch\none\n"),
    ("predicted.npy", b""), ("predicted.npy", b"\x93NUMPY"), ("config.json", b"{"), ("range_test.json", b"{}")])
def test_a_damaged_record_is_named(records, file, content):
    (records / "crop-seed0" / file).write_bytes(content)
    with pytest.raises(ValueError, match="crop-seed0 cannot be read: "): load_record(records / "crop-seed0")
    load_record(str(records / "crop-seed1"))


@pytest.mark.parametrize("file, change, wanted", [
    ("metrics.json", lambda p: change_json(p, test_loss=np.nan), "its numbers must be finite, got "),
    ("metrics.json", lambda p: change_json(p, test_accuracy="99.9"), "unsupported operand"),
    ("history.csv", lambda p: change_row(p, 0, test_loss=np.inf), "its numbers must be finite, got "),
    ("predicted.npy", lambda p: answer(p, 1.5, float), "predicted.npy must hold classes, shape (N,), got float64"),
    ("predicted.npy", lambda p: np.save(p, np.zeros((80, 1), int)), "got int64 of shape (80, 1)")])
def test_a_record_of_what_is_no_number(records, file, change, wanted):
    change(records / "crop-seed0" / file)
    with pytest.raises(ValueError, match="crop-seed0 cannot be read: .*" + re.escape(wanted)):
        load_record(records / "crop-seed0")


def test_a_part_of_a_record_that_is_missing_is_named(records, places, tmp_path):
    (records / "none-seed0" / "predicted.npy").unlink()
    with pytest.raises(FileNotFoundError, match="none-seed0/predicted.npy"): load_record(records / "none-seed0")
    with pytest.raises(FileNotFoundError, match="config.json is not there"): load_record(tmp_path)


def change_json(path, **changes): path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_row(path, row, **changes):
    rows = History.load(path).rows
    rows[row] |= changes
    History(rows).save(path)


def answer(path, value, kind=np.uint8):
    predicted = np.load(path).astype(kind)
    predicted[3] = value
    np.save(path, predicted)


@pytest.mark.parametrize("file, change, wanted", [
    ("history.csv", lambda p: History(History.load(p).rows[:1]).save(p), "history.csv says epochs [1], config.json [1, 2]"),
    ("history.csv", lambda p: change_row(p, 1, epoch=3), "history.csv says epochs [1, 3], config.json [1, 2]"),
    ("history.csv", lambda p: change_row(p, 1, lr=0.5), "history.csv says last lr 0.5, config.json 5e-06"),
    ("history.csv", lambda p: change_row(p, 0, lr=0.5), "history.csv says highest lr 0.5, config.json at most 0.05"),
    ("history.csv", lambda p: change_row(p, 0, test_accuracy=33.3), "history.csv says test_accuracy 33.3, which is no share of the 80 images in"),
    ("history.csv", lambda p: change_row(p, 0, train_accuracy=120), "history.csv says train_accuracy 120.0, which is no share of the 80"),
    ("history.csv", lambda p: change_row(p, 1, test_accuracy=100), "history.csv says last test_accuracy 100.0, metrics.json"),
    ("history.csv", lambda p: change_row(p, 1, seconds=1e4), "metrics.json says seconds "),
    ("metrics.json", lambda p: change_json(p, test_accuracy=99.9), "metrics.json says test_accuracy 99.9, which is no share of its 80 test_im"),
    ("metrics.json", lambda p: change_json(p, test_accuracy=100), "history.csv says last test_accuracy "),
    ("metrics.json", lambda p: change_json(p, test_accuracy_with_flip=-5), "metrics.json says test_accuracy_with_flip -5, which is no share"),
    ("metrics.json", lambda p: change_json(p, test_loss=0.01), "metrics.json says test_loss 0.01, its test_accuracy at lea"),
    ("metrics.json", lambda p: change_json(p, test_images=40), "metrics.json says test_images 40, predicted.npy 80"),
    ("metrics.json", lambda p: change_json(p, train_images=81), "metrics.json says train_images 81, config.json at most 80"),
    ("metrics.json", lambda p: change_json(p, epochs=40), "metrics.json says epochs 40, config.json 2"),
    ("metrics.json", lambda p: change_json(p, seconds=0), "metrics.json says seconds 0, history.csv "),
    ("predicted.npy", lambda p: np.save(p, np.load(p)[:40]), "metrics.json says test_images 80, predicted.npy 40"),
    ("predicted.npy", lambda p: answer(p, 10), "predicted.npy says class 10, config.json's data have classes 0 to 9"),
    ("predicted.npy", lambda p: answer(p, -1, int), "predicted.npy says class -1"),
    ("config.json", lambda p: change_json(p, limit=50), "metrics.json says test_images 80, config.json at most 50"),
    ("config.json", lambda p: change_json(p, hold_out=20), "metrics.json says test_images 80, config.json 20"),
    ("config.json", lambda p: change_json(p, max_lr=None), "range_test.json is not there, config.json says max_lr None"),
    ("config.json", lambda p: p.with_name("range_test.json").write_text(json.dumps(
        dict(lrs=[1.0], losses=[2.0], suggestion=1.0))), "range_test.json is there, config.json says max_lr 0.05")])
def test_parts_of_a_record_that_contradict_each_other(records, file, change, wanted):
    change(records / "crop-seed0" / file)
    with pytest.raises(ValueError, match="the parts of .*crop-seed0 disagree: .*" + re.escape(wanted)):
        load_record(records / "crop-seed0")
    load_record(records / "crop-seed1")


def test_what_few_images_and_few_updates_allow(records):
    crop = records / "crop-seed0"
    config, history, metrics = crop / "config.json", crop / "history.csv", crop / "metrics.json"
    accuracy = json.loads(metrics.read_text())["test_accuracy"]
    change_json(config, data="real")
    other = [accuracy + points if accuracy + points <= 100 else accuracy - points for points in (12.5, 25)]  # 10 and 20 of 80 images
    change_json(metrics, test_accuracy_with_flip=other[0])
    load_record(crop)
    change_json(metrics, test_accuracy_with_flip=other[1])
    with pytest.raises(ValueError, match="test_accuracy_with_flip"): load_record(crop)
    change_json(metrics, test_accuracy_with_flip=accuracy)
    change_json(config, accumulate=4)  # one update an epoch: no schedule gets to its end
    change_row(history, 1, lr=0.04)
    load_record(crop)


def unpacked(name, run, to):
    with zipfile.ZipFile(lab.shipped_records(name).root.filename) as packed:
        packed.extractall(to, [entry for entry in packed.namelist() if entry.startswith(f"{run}/")])
    return to / run


def test_a_shipped_record_that_was_edited(tmp_path, monkeypatch):
    (tmp_path / "peaks-wide").mkdir(); shutil.copy(lab.records_folder() / "peaks-wide.zip", tmp_path)
    run = unpacked("peaks-wide", "0.05-seed0", tmp_path / "peaks-wide")
    found = unpacked("peaks-wide", "range-test-seed0", tmp_path / "peaks-wide")
    held = unpacked("schedule-peaks", "OneCycle-0.5-seed10", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    said = load_record(run).accuracy
    for folder, file, change, wanted in (
            (run, "metrics.json", lambda p: change_json(p, test_accuracy=99.9), f"test_accuracy 99.9, predicted.npy {said}"),
            (run, "metrics.json", lambda p: change_json(p, test_accuracy=round(said + 0.01, 2)), f"predicted.npy {said}"),
            (run, "metrics.json", lambda p: change_json(p, test_accuracy_with_flip=99.9), "test_accuracy_with_flip 99.9, its"),
            (run, "metrics.json", lambda p: change_json(p, train_images=45_000), "train_images 45000, config.json 50000"),
            (run, "predicted.npy", lambda p: np.save(p, np.roll(np.load(p), 1)), f"test_accuracy {said}, predicted.npy "),
            (found, "range_test.json", lambda p: change_json(p, suggestion=0.5), "suggestion 0.5, its curve "),
            (found, "range_test.json", lambda p: change_json(p, losses=[1.0]), "its curve losses must be as many as lrs ("),
            (held, "metrics.json", lambda p: change_json(p, test_accuracy=99.9), "history.csv says last test_accuracy "),
            (held, "metrics.json", lambda p: change_json(p, test_images=10_000), "test_images 10000, predicted.npy 5000")):
        change(folder / file)
        with pytest.raises(ValueError, match=re.escape(wanted)): load_record(folder)
        (folder / file).write_bytes(before[folder / file])
        load_record(folder)
    # `load_series`, from a zip: the failing input that was reported
    name, files = "0.05-seed0/metrics.json", {}
    with zipfile.ZipFile(tmp_path / "peaks-wide.zip") as packed: files = {n: packed.read(n) for n in packed.namelist()}
    files[name] = json.dumps(json.loads(files[name]) | dict(test_accuracy=99.9)).encode()
    with zipfile.ZipFile(tmp_path / "peaks-wide.zip", "w") as packed:
        for entry, content in files.items(): packed.writestr(entry, content)
    monkeypatch.setattr(lab, "records_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match=f"metrics.json says test_accuracy 99.9, predicted.npy {said}"):
        load_series("peaks-wide")


@pytest.mark.parametrize("name", lab.series)
def test_the_parts_of_each_record_that_ships_agree(name): load_series(name)


def test_an_edited_run_is_not_recorded(four_runs, trained, places):
    def edited(recipe, folder, root):
        history = copied(recipe, folder, root)
        change_json(folder / "metrics.json", test_accuracy=100)
        return history
    copied, lab.train_run = lab.train_run, edited  # `trained` puts it back
    with pytest.raises(ValueError, match="small/crop-seed0 disagree: "): run_series("small", **places)
    assert not places["records"].exists()


def test_a_run_that_another_process_makes_is_left_to_it(trained, places, capsys):
    taken = places["runs"] / "small" / "none-seed0"
    taken.mkdir(parents=True)
    with filelock.FileLock(taken / ".lock"): assert not run_series("small", **places)
    assert "none-seed0 is being made by another process" in capsys.readouterr().out
    equal([recorded("small", run, places["records"]) is None for run in SMALL.runs], [False, True, False, False])


def test_a_copy_that_was_killed_leaves_no_record(records, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copy", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt): record_run(records / "crop-seed0", tmp_path / "half")
    assert not (tmp_path / "half").exists()
    record_run(records / "crop-seed0", tmp_path / "half")
    assert (tmp_path / "half" / "predicted.npy").exists()


# The comparison: by hand, against scipy's bootstrap, and its cover where the truth is known.

def test_comparison_by_hand():
    truth = np.array([0, 0, 0, 0, 1, 1])
    first, second = np.array([0, 0, 0, 1, 1, 0]), np.array([0, 1, 1, 0, 0, 0])
    close(mcnemar(first, second, truth), 2 * (1 + 4) / 16, eps=1e-12)  # 3 against 1 of 4 tosses
    equal(mcnemar(first, first, truth), 1.0)
    close(compare([first], [second], truth).mean, 100 * 2 / 6, eps=1e-9)
    equal(compare([first] * 2, [first] * 2, truth), Difference(0, 0, 0, (0, 0)))
    equal(str(Difference(0.514, -0.1, 1.126, ())), "+0.51 (-0.10 to +1.13)")


def answers(chance, seeds, ahead, of_seed, images=4000):
    "Wrong ones are 1; images are hard for both recipes alike."
    ease = chance.normal(2, 1.5, images) + ahead / 2 * np.array([[[1]], [[-1]]])
    ease = ease + chance.normal(0, of_seed, (2, seeds, 1))
    return (chance.random((2, seeds, images)) > 1 / (1 + np.exp(-ease))).astype(int)


def test_the_interval_of_one_seed_is_that_of_a_bootstrap():
    chance = np.random.default_rng(0)
    one = answers(chance, 1, 0.2, 0)
    gain = compare(*one, np.zeros(4000, int))
    theirs = bootstrap((100.0 * (one[1, 0] - one[0, 0]),), np.mean, rng=chance,
                       method="percentile", batch=500).confidence_interval
    close((gain.low, gain.high), tuple(theirs), eps=0.15)


@pytest.mark.parametrize("seeds, of_seed", [(1, 0), (3, 0), (3, 0.2), (5, 0.05)])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds, of_seed):
    chance, truth = np.random.default_rng(1), np.zeros(1000, int)
    trials = [compare(*answers(chance, seeds, 0, of_seed, 1000), truth) for _ in range(300)]
    covered = np.mean([trial.low <= 0 <= trial.high for trial in trials])
    assert 0.91 < covered, (seeds, of_seed, covered)


def test_what_cannot_be_compared_is_refused():
    truth, one = np.zeros(4000, int), np.zeros((1, 4000), int)
    for first, second, labels, more, message in (
            (one, one[:, :9], truth, {}, r"got \(1, 4000\) and \(1, 9\)"),
            (truth, truth, truth, {}, r"one shape, \(seeds, images\), got \(4000,\)"),
            (one, one, truth[:1], {}, r"labels must be one for each of 4,000 images, got shape \(1,\)"),
            ([[0]], [[0]], [0], {}, "images must be at least 2, got 1"),
            (one, one, truth, dict(confidence=95), "between 0 and 1, got 95")):
        with pytest.raises(ValueError, match=message): compare(first, second, labels, **more)


    for labels in (truth[:1], truth[0]):
        with pytest.raises(ValueError, match=r"labels must have shape \(4000,\)"): mcnemar(one[0], one[0], labels)


def kept(seed, **more):
    return RunRecord(Recipe(seed=seed, **more), History(), {"test_accuracy": 90.0 + seed},
                     (np.arange(10_000) % (7 + seed)).astype(np.uint8), None)


def test_arms_must_have_the_same_seeds_and_the_test_images():
    arms = {"a": [kept(0), kept(1)], "b": [kept(1), kept(0)]}
    with pytest.raises(ValueError, match=r"the same seeds, got \[0, 1\] and \[1, 0\]"): compare_arms(*arms.values())
    with pytest.raises(ValueError, match="got one of 5 held-out training images"):
        compare_arms([kept(0, hold_out=5)], [kept(0)])
    with pytest.raises(ValueError, match="tested on CIFAR-10's test images, got one of 'synthetic'"):
        compare_arms([kept(0)], [kept(0, data="synthetic")])
    with pytest.raises(ValueError, match=r"against must be one of \('a', 'b'\), got 'c'"): plot_series(arms, "c")
    drawn = plot_series(arms | {"b": arms["b"][::-1]}, "a")
    equal([list(line.get_xdata()) for line in drawn.axes[0].lines], [[90, 91], [90.5]] * 2)
    plt.close(drawn)
