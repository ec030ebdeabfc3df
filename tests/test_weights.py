"Files of weights: read without running code, into networks that they fit."
import copy
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from tools import close, equal, refused
from torch import nn

from cifar_gradcam.engine import weights
from cifar_gradcam.engine.models import plain_state, unwrap
from cifar_gradcam.engine.runs import save_weights
from cifar_gradcam.engine.weights import load_foreign_weights, network_like, read_state_dict
from cifar_gradcam.resnet import MODELS, ResNet18


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 10)

    def forward(self, x): return self.head(self.second(self.first(x)).mean((2, 3)))


def make_small():
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture
def small(): return make_small()


@pytest.fixture
def saved(tmp_path):
    def save(content, name="model.pth", **more):
        torch.save(content, tmp_path / name, **more)
        return tmp_path / name
    return save


bare = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}
wrapped = {f"module._orig_mod.{name}": value for name, value in bare.items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [
    bare, wrapped, {"state_dict": bare}, {"net": wrapped, "acc": np.float32(95)},
    {"model": {"state_dict": wrapped}, "args": Namespace(lr=0.1, path="x")},
    {"model_state_dict": bare, "losses": np.arange(3.0), "epoch": np.int64(3)},
    {"_orig_mod.a.weight": bare["a.weight"], "a._orig_mod.bias": bare["a.bias"]},
    bare | {"n_averaged": torch.tensor(3), "epoch": 5}], ids=range(8))
def test_weights_wherever_they_lie_in_a_file(saved, content, zipped):
    got = read_state_dict(saved(content, "weights", _use_new_zipfile_serialization=zipped))
    equal(got.keys(), bare.keys())
    assert all(torch.equal(got[name], bare[name]) for name in bare)


@pytest.mark.parametrize("content, words", [
    ([1, 2], "got list of int, int"), ({"epoch": 3}, "got dict of epoch: int"),
    (torch.ones(3), "got a tensor of shape (3,)"), ({}, "got dict of ")])
def test_no_weights_in_a_file(saved, content, words):
    refused(lambda: read_state_dict(saved(content)), exc=ValueError, contains=words)


def test_files_go_by_their_content_not_their_name(small, tmp_path, saved):
    disguised = tmp_path / "weights.pth"
    save_weights(small, disguised)  # safetensors under another name
    assert torch.equal(read_state_dict(disguised)["head.bias"], small.head.bias)
    whole, broken = saved(bare).read_bytes(), tmp_path / "broken.pth"
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n"
    for content in (b"", b"PK", whole[:50], whole[:-30], lfs, b"<!DOCTYPE html>", b"a" * 99,
                    disguised.read_bytes()[:60], disguised.read_bytes()[:-9]):
        broken.write_bytes(content)
        refused(lambda: read_state_dict(broken), exc=ValueError, contains="broken.pth cannot be read")
    refused(lambda: read_state_dict("nowhere.pth"), exc=FileNotFoundError)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused_and_the_advice_helps(tmp_path):
    script = tmp_path / "script.pt"
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), script)
    refused(lambda: read_state_dict(script), exc=ValueError, contains="is TorchScript, which")
    torch.save(torch.jit.load(script).state_dict(), script)  # as the error says
    equal([*read_state_dict(script)], ["weight", "bias"])


def test_no_code_of_a_file_is_run(tmp_path, saved):
    class Evil:
        def __reduce__(self): return (Path.touch, (tmp_path / "run",))
    refused(lambda: read_state_dict(saved({"net": bare, "more": Evil()})), exc=ValueError,
            contains="run code")
    assert not (tmp_path / "run").exists()


def test_weights_into_wrapped_compiled_and_inner_networks(saved):
    start = make_small().state_dict()
    compiled_parts = Small(); compiled_parts.second = torch.compile(compiled_parts.second)
    with torch.inference_mode(): locked = Small()

    class Holder(nn.Module):
        def __init__(self): super().__init__(); self.module = Small()

    for target, content in (
            (nn.DataParallel(Small()), start), (torch.compile(Small()), start),
            (compiled_parts, start), (Holder(), start),
            (Small(), {f"backbone.{k}": v.half() for k, v in start.items()}
             | {"criterion.weight": torch.ones(3)}),
            (Small(), {"net": {f"model.{k}": v for k, v in start.items()}}),
            (Small(), {k: v for k, v in start.items() if "num_batches" not in k}),
            (locked, start)):
        loaded = unwrap(load_foreign_weights(target, saved(content)))
        assert not loaded.training
        got = {weights._bare(k): v for k, v in loaded.state_dict().items()}
        equal(got.keys(), start.keys())
        for name in start: close(got[name], start[name], eps=1e-3)
        equal({v.dtype for v in got.values()}, {torch.float32, torch.int64})
        if "Holder" not in str(target): equal([*plain_state(target)], [*start])


def test_nothing_is_half_loaded(saved):
    untouched = make_small()
    before = copy.deepcopy(untouched.state_dict())
    for name, value, words in (("head.bias", torch.ones(3), "head.bias (3,), wanted (10,)"),
                               ("extra", torch.ones(3), "unknown: extra"),
                               ("first.0.weight", None, "missing: first.0.weight")):
        content = {k: v for k, v in (before | {name: value}).items() if v is not None}
        path = saved(content)
        refused(lambda path=path: load_foreign_weights(untouched, path), exc=ValueError,
                contains=words)
    assert all(torch.equal(v, before[k]) for k, v in untouched.state_dict().items())
    seven = ResNet18(num_classes=7, width=4).state_dict()
    refused(lambda: load_foreign_weights(ResNet18(width=4), saved(seven)),
            contains="it is of 7 classes, the network of 10")


def test_network_like_its_weights(small):
    for make in MODELS.values():
        state = make(num_classes=7, width=4).state_dict()
        guessed = network_like(state)
        equal({k: v.shape for k, v in guessed.state_dict().items()}, {k: v.shape for k, v in state.items()})
        assert next(guessed.parameters()).device.type == "cpu"
    refused(lambda: network_like(small.state_dict()), exc=ValueError, contains="begin with first.0.weight")
    refused(lambda: network_like(torchvision.models.resnet18().state_dict()), contains="none of ResNet18")
