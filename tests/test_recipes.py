"Chapter 10: from a recipe to a run's folder, cut off and continued, refused and corrected."
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from tools import close, equal, refused
from torch import nn

import cifar_gradcam.train
from cifar_gradcam.data import CIFAR10_MEAN
from cifar_gradcam.engine import recipes as module
from cifar_gradcam.engine.datasets import synthetic_images
from cifar_gradcam.engine.weights import load_foreign_weights
from cifar_gradcam.engine.recipes import (
    MirrorAverage, recipe_loaders, recipe_model, recipes, train_run)
from cifar_gradcam.engine.runs import (
    FolderIsBusy, History, load_info, load_recipe, Recipe, reference_folder, reference_history)
from cifar_gradcam.lab.series import load_series
from cifar_gradcam.lr_finder import RangeTest
from cifar_gradcam.mistakes.predictions import predict, reference_predictions
from cifar_gradcam.train import evaluate, train_epoch, train_test_loop

small = Recipe(epochs=1, data="synthetic", limit=64, batch_size=32, max_lr=0.05, width=8)


@pytest.fixture(scope="module")
def root(tmp_path_factory): return tmp_path_factory.mktemp("data")  # generated images are kept


@pytest.fixture
def cut_run(monkeypatch):
    "Ctrl-C in the second epoch."
    def cut_run(recipe, out, root):
        calls = []
        def stops(*args, **kw):
            calls.append(1)
            if len(calls) == 2: raise KeyboardInterrupt
            return train_epoch(*args, **kw)
        with monkeypatch.context() as patch:
            patch.setattr(cifar_gradcam.train, "train_epoch", stops)
            return train_run(recipe, out, root)
    return cut_run


def read_json(path): return json.loads(path.read_text())
def without_time(history): return [row | {"seconds": 0} for row in history.rows]
def weights(folder): return (folder / "weights.safetensors").read_bytes()
def optimizer_of(folder): return torch.load(folder / "checkpoint.pt", weights_only=True)["optimizer"]


# ---- recipes, loaders, networks

def test_the_named_recipes():
    equal(recipes["tutorial"], Recipe())
    for name, recipe in recipes.items():
        size = {"quick": (9, 16), "reference": (40, 64), "finetune": (15, 64)}.get(name, (20, 64))
        equal((recipe.epochs, recipe.width, recipe.hold_out, recipe.data), (*size, 0, "real"))
        equal(Recipe(**json.loads(json.dumps(asdict(recipe)))), recipe)


def test_both_pipelines_hold_out_the_same_images(root):
    synthetic, tested = dict(data="synthetic", limit=100, batch_size=40), []
    for pipeline in ("albumentations", "batched"):
        recipe = Recipe(pipeline=pipeline, pad=0, flip="none", cutout=0, hold_out=30, **synthetic)
        training, testing = recipe_loaders(recipe, root)
        equal([len(labels) for _, labels in training], [40, 30])
        equal([len(labels) for _, labels in testing], [30])
        tested.append(torch.cat([images for images, _ in testing]))
    close(*tested, 1e-5)
    holes = recipe_loaders(Recipe(cutout=8, **synthetic), root)[0].dataset[0][0]
    assert 64 <= (holes == 0).all(0).sum() < 100


def test_the_network_of_a_recipe():
    model = recipe_model(recipes["reference"])
    equal(sum(p.numel() for p in model.parameters()), 11_173_962)
    assert torch.equal(model.conv1.weight, recipe_model(recipes["reference"]).conv1.weight)
    equal(model.layer1[0].bn2.weight.abs().sum().item(), 0)
    equal(recipe_model(Recipe(width=4)).conv1.weight.shape[0], 4)


def test_the_mean_over_an_image_and_its_mirror_image():
    model = recipe_model(Recipe(width=8)).eval()
    both = MirrorAverage(model).eval()
    with torch.no_grad():
        x = torch.rand(4, 3, 32, 32)
        mirrored = torch.from_numpy(x.numpy()[..., ::-1].copy())
        by_hand = torch.stack([model(x), model(mirrored)]).mean(0)
        close(both(x), by_hand, 1e-5); close(both(x), both(x.flip(3)), 1e-5)


# ---- what of a recipe reaches the run

@pytest.mark.parametrize("asked, low, high", ((0.0, 0, 0), (0.85, 0.85, 0.85), (None, 0.86, 0.95)))
def test_the_momentum_reaches_the_optimizer(tmp_path, root, asked, low, high):
    train_run(replace(small, momentum=asked), tmp_path / "run", root)
    assert low <= optimizer_of(tmp_path / "run")["param_groups"][0]["momentum"] <= high


def test_a_range_test_finds_the_peak_and_stays_in_the_folder(tmp_path, root, monkeypatch):
    curve = RangeTest([0.01, 0.02], [2.0, 1.0], 0.02)
    monkeypatch.setattr(cifar_gradcam.train, "range_test", lambda *_, **__: curve)
    train_run(replace(small, max_lr=None), tmp_path / "run", root)
    equal(read_json(tmp_path / "run" / "range_test.json"), asdict(curve))
    equal(optimizer_of(tmp_path / "run")["param_groups"][0]["max_lr"], 0.02)


def test_the_cutout_reaches_the_images(root):
    half = replace(recipes["original"], data="synthetic", limit=400, batch_size=400)
    for recipe in (half, replace(half, pipeline="albumentations")):
        training, _ = recipe_loaders(recipe, root)
        images = next(iter(training))[0]
        brighter = (images == torch.tensor(CIFAR10_MEAN)[:, None, None]).all(1).sum((1, 2))
        assert 0.4 < (brighter == 256).float().mean() < 0.6


@pytest.mark.parametrize("start, epochs, sides", (
    (None, 3, [32, 32, 32]), (16, 3, [16, 24, 32]), (16, 8, [16] * 3 + [24] * 3 + [32] * 2), (24, 2, [24, 32]), (16, 1, [16])))
def test_images_grow_in_equal_parts_of_a_run(root, start, epochs, sides):
    recipe = Recipe(pipeline="batched", data="synthetic", limit=40, batch_size=40, epochs=epochs, start_size=start)
    training, testing = recipe_loaders(recipe, root)
    equal([images.shape[-1] for _ in range(epochs) for images, _ in training], sides)
    equal([images.shape[-1] for _ in range(2) for images, _ in testing], [32, 32])


def test_schedule_and_network_reach_the_run(tmp_path, root):
    stepped = replace(small, epochs=4, network="PlainNet20", schedule="Step")
    out = tmp_path / "step"
    close(train_run(stepped, out, root).column("lr"), [0.05, 0.005, 0.0005, 0.0005], eps=1e-9)
    _, testing = recipe_loaders(stepped, root)
    network = load_foreign_weights(recipe_model(stepped), out / "weights.safetensors")
    with torch.no_grad(): logits = torch.cat([network(images) for images, _ in testing])
    first, second = logits.topk(2).values.T
    clear = first - second > 1e-4  # near ties are the processor's to decide
    equal(np.load(out / "predicted.npy")[clear], logits.argmax(1).numpy()[clear])


def test_a_whitened_run_leaves_a_plain_network_also_if_it_was_cut(tmp_path, root, cut_run):
    white = replace(small, epochs=2, limit=70, whiten=True, average=0.9, optimizer="Muon")
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    history = train_run(white, straight, root)
    equal(len(cut_run(white, broken, root)), 1)
    train_run(white, broken, root)
    assert weights(broken) == weights(straight)
    network = load_foreign_weights(recipe_model(white), straight / "weights.safetensors")
    _, testing = recipe_loaders(white, root)
    close(evaluate(network, testing, precision="float32")[0], history.rows[-1]["test_loss"], eps=0.05)
    other = train_run(replace(white, whiten=False), tmp_path / "other", root)
    assert other.column("train_loss") != history.column("train_loss")


# ---- other data

def write_folder(folder, n=24, names=("oats", "rye", "wheat")):
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for i, (pixels, label) in enumerate(zip(*synthetic_images(n, rng, len(names)))):
            path = folder / part / names[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[:20]).save(path)
    return str(folder)


@pytest.mark.parametrize("data, k, more", (
    (None, 3, dict(pipeline="batched", hold_out=4, whiten=True, optimizer="Muon")),
    (None, 3, dict(network="ResNet20")), ("synthetic-CIFAR100", 100, {})),
    ids=("folder, batched", "folder", "CIFAR100"))
def test_a_run_on_other_data_keeps_names_and_statistics(tmp_path, root, data, k, more):
    out, data = tmp_path / "run", data or write_folder(tmp_path / "own")
    recipe = replace(small, data=data, limit=None if k == 3 else 150, **more)
    train_run(recipe, out, root)
    training, testing = recipe_loaders(recipe, root, info=load_info(out))
    equal(training.dataset.info, load_info(out)); equal(len(load_info(out).classes), k)
    model = load_foreign_weights(recipe_model(recipe, num_classes=k), out / "weights.safetensors")
    record = predict(model, testing)  # the same computation: to the last bit
    equal(record.classes, load_info(out).classes)
    equal(np.load(out / "predicted.npy"), record.predicted)
    metrics = read_json(out / "metrics.json")
    equal(metrics["test_accuracy"], record.accuracy)
    close(metrics["test_loss"], record.loss.mean(), eps=1e-12)
    close(next(iter(testing))[0][0], testing.dataset[0][0], 1e-5)  # its own statistics
    shown = next(iter(training))[0]
    assert abs(shown.mean()) < 0.3 and 0.6 < shown.std() < 1.4
    if "hold_out" in more: equal(len(testing.dataset), 4)


def test_a_folder_of_pictures_that_changed(tmp_path, root, cut_run):
    own, out = tmp_path / "own", tmp_path / "run"
    recipe = replace(small, data=write_folder(own), limit=None, epochs=2)
    equal(len(cut_run(recipe, out, root)), 1)
    (own / "train" / "barley").mkdir()
    Image.new("RGB", (40, 40), "red").save(own / "train" / "barley" / "1.png")
    refused(lambda: train_run(recipe, out, root), exc=FileExistsError,
            contains="began with other data: classes is ('oats', 'rye', 'wheat') there")
    (own / "train" / "barley" / "1.png").unlink(); (own / "train" / "barley").rmdir()
    equal(len(train_run(recipe, out, root)), 2)


# ---- cut, continued, refused

def test_a_whole_run_cut_in_the_middle_continued_and_asked_for_again(tmp_path, root, cut_run):
    recipe, straight, broken = replace(small, epochs=2), tmp_path / "straight", tmp_path / "broken"
    history = train_run(recipe, straight, root)
    equal(len(cut_run(recipe, broken, root)), 1)
    assert not (broken / "metrics.json").exists()
    # Killed after the checkpoint and before the table: the table is made good.
    (broken / "history.csv").unlink()
    equal(without_time(train_run(recipe, broken, root)), without_time(history))
    equal(len(History.load(broken / "history.csv")), 2)
    assert weights(broken) == weights(straight)
    # Finished: returns at once and looks for no data.
    equal(train_run(recipe, straight, straight / "config.json").rows, history.rows)
    equal(sorted(path.name for path in straight.iterdir()),
          [".lock", "checkpoint.pt", "config.json", "environment.json", "history.csv",
           "metrics.json", "predicted.npy", "weights.safetensors"])
    equal(Recipe(**read_json(straight / "config.json")), recipe)
    measured = read_json(straight / "metrics.json")
    # the file's weights are rounded, and measured in float32
    close(measured["test_loss"], history.rows[-1]["test_loss"], eps=0.1)
    equal([measured[name] for name in ("epochs", "train_images", "test_images")], [2, 64, 64])


def test_options_that_few_use_together(tmp_path, root, cut_run, monkeypatch):
    "Compiled (traced only), averaged, cut and continued."
    unusual = replace(small, epochs=2, average=0.9, compile=True, pipeline="batched",
                      flip="alternating", start_size=16)
    trace = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: trace(self, backend="eager"))
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    history = train_run(unusual, straight, root)
    equal(len(cut_run(unusual, broken, root)), 1)
    equal(without_time(train_run(unusual, broken, root)), without_time(history))
    assert weights(broken) == weights(straight)


@pytest.mark.parametrize("wrong, fault", (
    (dict(data="real"), "CIFAR-10 is not complete"), (dict(device="cuda:99"), "is not available"),
    (dict(max_lr=1e30), "rate may be too high"), (dict(hold_out=64), "hold_out must be below the 64 training images")))
def test_a_run_that_fails_before_its_first_epoch_leaves_the_folder_to_the_next(
        tmp_path, root, monkeypatch, wrong, fault):
    def offline(*_, **__): raise OSError("no network")
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("urllib.request.urlopen", offline)
        refused(lambda: train_run(replace(small, **wrong), out, root), contains=fault)
    if "max_lr" not in wrong: assert not out.exists()
    equal(len(train_run(small, out, root)), 1)
    equal(Recipe(**read_json(out / "config.json")), small)


def test_of_two_runs_at_once_in_one_folder_one_trains(tmp_path, root, monkeypatch):
    was_refused, longer = threading.Event(), replace(small, epochs=3)
    def late(*args, **kw):
        assert was_refused.wait(600)
        return train_test_loop(*args, **kw)
    monkeypatch.setattr(module, "train_test_loop", late)
    def attempt(_):
        try: return len(train_run(longer, tmp_path / "run", root))
        except FolderIsBusy: was_refused.set()
    with ThreadPoolExecutor(2) as pool: equal({*pool.map(attempt, range(2))}, {3, None})
    equal(len(History.load(tmp_path / "run" / "history.csv")), 3)


def test_a_run_from_given_weights(tmp_path, root, cut_run):
    "At a rate of nothing they stay, and are no longer needed once an epoch is in."
    two, first, more = replace(small, epochs=2), tmp_path / "first", tmp_path / "more"
    train_run(two, first, root)
    moved = first / "weights.safetensors"
    still = replace(two, weights=str(moved), max_lr=1e-12, seed=1)
    given = load_foreign_weights(recipe_model(two), moved).conv1.weight
    refused(lambda: train_run(replace(still, network="ResNet20"), more, root),
            exc=ValueError, contains="weights.safetensors cannot be read as weights of this")
    cut_run(still, more, root); moved.unlink(); train_run(still, more, root)
    after = load_foreign_weights(recipe_model(two), more / "weights.safetensors").conv1.weight
    close(after, given, 1e-6)


def test_a_damaged_checkpoint_deleted_as_the_message_advises(tmp_path, root, cut_run):
    two = replace(small, epochs=2, seed=2)
    cut_run(two, tmp_path / "cut", root)
    (tmp_path / "cut" / "checkpoint.pt").write_bytes(b"damaged")
    def go_on(): return len(train_run(two, tmp_path / "cut", root))
    refused(go_on, contains="checkpoint.pt cannot be read; delete it to start anew")
    (tmp_path / "cut" / "checkpoint.pt").unlink(); equal(go_on(), 2)


# ---- the records of chapter 10

def test_the_records_fit_the_recipes_that_chapter_10_names():
    lengths, baselines = load_series("reference"), load_series("baselines")
    ends = {arm: [run.accuracy for run in runs] for arm, runs in lengths.items()}
    shipped = read_json(reference_folder() / "metrics.json")
    equal(load_recipe(reference_folder()), recipes["reference"])
    equal(load_series("ingredients")["no-cutout"][0].recipe, replace(recipes["quick"], epochs=4, start_size=None))
    equal([run.recipe.seed for run in lengths["20-epochs"]], [0, 1, 2])
    equal(f"{np.mean(ends['20-epochs']):.2f} {np.mean(ends['40-epochs']):.2f}", "94.59 95.26")
    equal(load_series("candidates-wide")["before"][0].metrics["test_images"], 30_000)
    again = lengths["40-epochs"][0]
    equal((again.accuracy, again.history.rows), (shipped["test_accuracy"], reference_history().rows))
    for run in sum([*lengths.values(), *baselines.values()], []):
        equal(run.history.column("epoch"), list(range(1, run.recipe.epochs + 1)))
        close(run.history.rows[-1]["lr"] / (run.recipe.final_lr * run.recipe.max_lr), 1, eps=1e-3)
    # The record's accuracy is of the weights: half precision and float32 cost next to nothing.
    assert abs(shipped["test_accuracy"] - reference_history().rows[-1]["test_accuracy"]) < 0.1
    # The record was made on a GPU; a processor gives the same answers to all but a few images.
    assert (again.predicted != reference_predictions().predicted).sum() < 20
