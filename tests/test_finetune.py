"Chapter 21: weights to start from, a new last layer, and stages that stay as they are."
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tools import close, equal, refused
from torch import nn

import cifar_gradcam.train
from cifar_gradcam.data import CIFAR10_MEAN, CIFAR10_STD, DatasetInfo
from cifar_gradcam.engine.datasets import synthetic_images
from cifar_gradcam.engine.finetune import freeze_up_to
from cifar_gradcam.engine.recipes import recipe_model, train_run
from cifar_gradcam.engine.runs import load_info, Recipe
from cifar_gradcam.engine.weights import read_state_dict
from cifar_gradcam.resnet import MODELS

small = Recipe(epochs=1, data="synthetic", limit=64, batch_size=32, max_lr=0.05, width=8,
               precision="float32")


def write_folder(folder, names, n=24):
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for i, (pixels, label) in enumerate(zip(*synthetic_images(n, rng, len(names)))):
            path = folder / part / names[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[:, :24] // 2).save(path)
    return str(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A finished run on the synthetic images, and a folder of three classes."
    home = tmp_path_factory.mktemp("finetune")
    train_run(replace(small, average=0.9), home / "first", home)
    write_folder(home / "grain", ("oats", "rye", "wheat"))
    return home


@pytest.fixture
def tune(home, tmp_path, capsys):
    "A run from those weights on that folder: its own weights, and what it printed."
    def tune(name="run", **more):
        given = dict(weights=str(home / "first"), data=str(home / "grain"), limit=None) | more
        train_run(replace(small, **given), tmp_path / name, home)
        return read_state_dict(tmp_path / name / "weights.safetensors"), capsys.readouterr().out
    return tune


def given(home): return read_state_dict(home / "first" / "weights.safetensors")


def frozen(state, *stages):  # of its tensors, those that belong to these
    return {name: value for name, value in state.items() if name.split(".")[0] in stages}


# ---- the last layer

def test_a_last_layer_of_other_classes_is_new(home, tune):
    state, printed = tune(max_lr=1e-12)
    equal(tuple(state["linear.weight"].shape), (3, 64))
    close(state["layer4.1.conv2.weight"], given(home)["layer4.1.conv2.weight"], 1e-6)
    assert "but the last layer, which is new: 3 classes instead of 10" in printed
    assert "Few steps" not in printed  # that is said of training from scratch
    # as the recipe draws it
    fresh = recipe_model(small, num_classes=3).linear.weight.detach()
    close(state["linear.weight"], fresh, 1e-3)


def test_a_data_set_of_a_hundred_classes(home, tune, tmp_path):
    state, printed = tune(data="synthetic-CIFAR100", limit=150)
    equal(len(state["linear.bias"]), 100); assert "100 classes instead of 10" in printed
    equal(load_info(tmp_path / "run")[1:], (CIFAR10_MEAN, CIFAR10_STD))
    equal(load_info(tmp_path / "run").classes[:2], ("class_00", "class_01"))


def test_as_many_classes_of_other_names_are_other_classes(home, tune, tmp_path):
    "Before: the rows of airplane, automobile, … were taken for those of a, b, … without a word."
    ten = write_folder(tmp_path / "ten", tuple("abcdefghij"), 40)
    state, printed = tune(data=ten, max_lr=1e-12)
    assert "which is new: it knew airplane, automobile, bird, cat, deer, …" in printed
    close(state["linear.weight"], recipe_model(small).linear.weight.detach(), 1e-3)


def test_the_same_classes_keep_their_last_layer(home, tune):
    state, printed = tune(data="synthetic", limit=64, max_lr=1e-12)
    close(state["linear.weight"], given(home)["linear.weight"], 1e-6)
    assert f"weights: all of {home / 'first'}\n" in printed



def test_of_several_weights_in_a_file_the_named_ones(home, tune, tmp_path):
    state = given(home)
    other = {name: value * 2 for name, value in state.items()}
    torch.save({"model": state, "model_ema": other}, tmp_path / "both.pth")
    refused(lambda: tune(weights=str(tmp_path / "both.pth")), exc=ValueError, contains="choose with key")
    after, printed = tune(weights=str(tmp_path / "both.pth"), weights_key="model_ema", max_lr=1e-12)
    close(after["layer4.1.conv2.weight"], other["layer4.1.conv2.weight"], 1e-6)
    assert "3 classes instead of 10" in printed
    # a head of another length elsewhere in the file
    other["linear.weight"], other["linear.bias"] = other["linear.weight"][:7], other["linear.bias"][:7]
    torch.save({"teacher": state, "student": other}, tmp_path / "both.pth")
    _, printed = tune("student", weights=str(tmp_path / "both.pth"), weights_key="student")
    assert "3 classes instead of 7" in printed
    refused(lambda: tune("neither", weights=str(tmp_path / "both.pth")), exc=ValueError,
            contains="both.pth holds last layers of [7, 10] classes: choose with weights_key")
# ---- what images are normalised by

def test_images_are_normalised_as_those_the_weights_were_trained_on(home, tune, tmp_path):
    _, printed = tune()
    equal(load_info(tmp_path / "run"), DatasetInfo(("oats", "rye", "wheat")))
    assert "as the images behind these weights; mean 0.4914" in printed
    tune("again", weights=str(tmp_path / "run"), data=write_folder(tmp_path / "two", ("fig", "plum")))
    equal(load_info(tmp_path / "again"), DatasetInfo(("fig", "plum"), CIFAR10_MEAN, CIFAR10_STD))


def test_a_file_alone_says_nothing_of_its_images(home, tune, tmp_path):
    state = {f"module.{name}": value for name, value in given(home).items()}
    torch.save({"net": state}, tmp_path / "foreign.pth")
    _, printed = tune(weights=str(tmp_path / "foreign.pth"))
    info = load_info(tmp_path / "run")
    assert max(info.mean) < 0.3  # these pictures are dark
    assert f"by their own statistics, as the weights come without any; mean {info.mean[0]}" in printed


# ---- frozen stages

@pytest.mark.parametrize("more", (
    dict(), dict(average=0.5), dict(optimizer="Muon", average=0.5, pipeline="batched"),
    dict(optimizer="AdamW", weight_decay=0.1, decay_all=True), dict(max_lr=None, batch_size=4)),
    ids=("SGD", "average", "Muon", "AdamW", "range test"))
def test_what_is_frozen_is_the_same_to_the_last_bit(home, tune, more):
    "Statistics of batch norm too, which change without any gradient."
    before, (after, printed) = given(home), tune(freeze="layer2", **more)
    kept = frozen(before, "conv1", "bn1", "layer1", "layer2")
    assert {"bn1.running_mean", "layer2.0.shortcut.1.running_var", "layer2.1.bn2.bias"} < kept.keys()
    for name, value in kept.items(): assert torch.equal(value, after[name]), name
    for name in ("layer3.0.bn1.running_mean", "layer3.0.conv1.weight", "layer4.1.bn2.weight"):
        assert not torch.equal(before[name], after[name]), name
    n = sum(value.numel() for value in recipe_model(small, num_classes=3).parameters())
    assert re.search(rf"frozen: all up to layer2; trained: [\d,]+ of {n:,} parameters", printed)


def test_each_stage_and_no_other_name():
    for network in MODELS.values():
        names = ["stem", *[name for name, _ in network(width=8).named_children() if "layer" in name]]
        for i, name in enumerate(names):
            model = network(width=8).train()
            freeze_up_to(model, name); model.train()
            free = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
            equal(free, {*names[i + 1:], "linear"})
            still = {name.split(".")[0] for name, norm in model.named_modules()
                     if isinstance(norm, nn.BatchNorm2d) and not norm.training}
            equal(still, {"bn1", *names[1:i + 1]})
        refused(lambda: freeze_up_to(model, "layer9"), exc=ValueError,  # noqa: B023
                contains=f"freeze must be one of {', '.join(names)}, got 'layer9'")


def test_a_frozen_run_cut_and_continued(home, tune, tmp_path, monkeypatch):
    calls, more = [], dict(freeze="layer3", epochs=2, optimizer="Muon", average=0.9)
    straight, _ = tune("straight", **more)
    whole_epoch = cifar_gradcam.train.train_epoch
    def stops(*args, **kw):
        calls.append(1)
        if len(calls) == 2: raise KeyboardInterrupt
        return whole_epoch(*args, **kw)
    (tmp_path / "moved").mkdir()
    weights = tmp_path / "moved" / "weights.pth"
    torch.save(given(home), weights)
    with monkeypatch.context() as patch, pytest.raises(FileNotFoundError):
        patch.setattr(cifar_gradcam.train, "train_epoch", stops)
        tune("cut", weights=str(weights), **more)  # no weights are written yet
    weights.unlink()  # they are no longer needed
    after, _ = tune("cut", weights=str(weights), **more)
    for name, value in frozen(given(home), "conv1", "bn1", "layer1", "layer2", "layer3").items():
        assert torch.equal(value, straight[name]) and torch.equal(value, after[name]), name


# ---- refused

@pytest.mark.parametrize("fields, wanted", (
    (dict(freeze="layer1"), "freeze='layer1' needs weights to start from, got weights=None"),
    (dict(weights_key="ema"), "weights_key='ema' needs weights"),
    (dict(freeze="layer9", weights="a"), "'layer3' or 'layer4'"),
    (dict(freeze="stem", weights="a", whiten=True), "choose one of them")))
def test_recipes_that_cannot_be(fields, wanted): refused(lambda: Recipe(**fields), contains=wanted)


def test_weights_that_do_not_fit_leave_the_folder_to_the_next(home, tune, tmp_path):
    torch.save(given(home), tmp_path / "alone.pth")
    for more, wanted in ((dict(width=16), "they belong to ResNet18 with width 8, wanted ResNet18 with width 16; take the network"),
                         (dict(width=16, weights=str(tmp_path / "alone.pth")), "conv1.weight (8, 3, 3, 3), wanted (16, 3, 3, 3)"),
                         (dict(network="ResNet20", freeze="layer4"), "must be one of stem, layer1, layer2, layer3, got"),
                         (dict(weights="nowhere.pth"), "nowhere.pth")):
        refused(lambda: tune(**more), exc=(ValueError, FileNotFoundError), contains=wanted)  # noqa: B023
        assert not (tmp_path / "run").exists()
    tune()


def test_the_lines_in_python_from_a_run_to_onnx(home, tune, tmp_path, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")
    tune("mine")
    monkeypatch.chdir(tmp_path)
    chapter = json.loads((Path(__file__).parents[1] / "nbs/21_fine_tuning.ipynb").read_text())
    text = next("".join(cell["source"]) for cell in chapter["cells"] if cell["id"] == "t06p")
    found = {}
    exec(text.partition("```python\n")[2].partition("```")[0].replace("runs/mine", "mine"), found)
    images = torch.cat([images for images, _ in found["test_loader"]])
    session = runtime.InferenceSession("mine.onnx")
    logits, activations = session.run(None, {"images": images.numpy()})
    with torch.no_grad(): close(torch.from_numpy(logits), found["model"](images), eps=1e-4)
    equal((activations.shape[0], found["maps"].shape[0]), (len(images), len(found["mistakes"])))
