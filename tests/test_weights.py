"Files of weights: read without running code, into networks that they fit."
import copy
import itertools
import warnings
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from tools import close, equal, make_small, refused, Small
from torch import nn
from torch.nn import functional as F

from cifar_gradcam.engine.models import plain_state, unwrap
from cifar_gradcam.engine.runs import save_weights
from cifar_gradcam.engine.weights import (
    CONSTANTS, load_foreign_weights, network_like, read_state_dict, recognise, trained_on)
from cifar_gradcam.resnet import MODELS, ResNet18


@pytest.fixture
def saved(tmp_path):
    def save(content, name="model.pth", **more):
        torch.save(content, tmp_path / name, **more)
        return tmp_path / name
    return save


bare = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}
wrapped = {f"module._orig_mod.{name}": value for name, value in bare.items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content, place", [
    (bare, ""), (wrapped, "module."), ({"state_dict": bare}, "state_dict."),
    ({"net": wrapped, "acc": np.float32(95)}, "net.module."),
    ({"model": {"state_dict": wrapped}, "args": Namespace(lr=0.1, path="x")}, "model.state_dict.module."),
    ({"model_state_dict": bare, "losses": np.arange(3.0), "epoch": np.int64(3)}, "model_state_dict."),
    ({"_orig_mod.a.weight": bare["a.weight"], "a._orig_mod.bias": bare["a.bias"]}, ""),
    (bare | {"n_averaged": torch.tensor(3), "epoch": 5}, ""),
    ({"ema": {"shadow": bare}, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [bare]}},
     "ema.shadow.")], ids=range(9))
def test_weights_wherever_they_lie_in_a_file(saved, content, place, zipped):
    path = saved(content, "weights", _use_new_zipfile_serialization=zipped)
    got = read_state_dict(path)
    equal(got.keys(), {place + name for name in bare})
    assert all(torch.equal(got[place + name], bare[name]) for name in bare)
    network = nn.Module(); network.a = nn.Linear(3, 2)
    close(load_foreign_weights(network, path).a.weight, bare["a.weight"])


def test_one_name_for_two_tensors(saved):
    path = saved({"a.weight": torch.ones(2, 3), "a": {"weight": torch.zeros(2, 3)}})
    refused(lambda: read_state_dict(path), exc=ValueError, contains="two different tensors named a.weight")


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
        got = {k.replace("_orig_mod.", "").removeprefix("module."): v for k, v in loaded.state_dict().items()}
        equal(got.keys(), start.keys())
        for name in start: close(got[name], start[name], eps=1e-3)
        equal({v.dtype for v in got.values()}, {torch.float32, torch.int64})
        if "Holder" not in str(target): equal([*plain_state(target)], [*start])


def test_nothing_is_half_loaded(saved):
    untouched = make_small()
    before = copy.deepcopy(untouched.state_dict())
    for name, value, words in (("head.bias", torch.ones(3), "head.bias (3,), wanted (10,)"),
                               ("extra", torch.ones(3), "unknown: extra"),
                               ("head.bias", torch.ones(10, dtype=torch.int8), "floating point: head.bias torch.int8"),
                               ("head.bias", torch.ones(10, dtype=torch.complex64), "head.bias torch.complex64"),
                               ("first.0.weight", None, "missing: first.0.weight")):
        content = {k: v for k, v in (before | {name: value}).items() if v is not None}
        path = saved(content)
        refused(lambda path=path: load_foreign_weights(untouched, path), exc=ValueError,
                contains=words)
    assert all(torch.equal(v, before[k]) for k, v in untouched.state_dict().items())
    seven = ResNet18(num_classes=7, width=4).state_dict()
    refused(lambda: load_foreign_weights(ResNet18(width=4), saved(seven)),
            contains="it has 7 classes, the network 10")


# Which of the weights in a file

def scaled(factor): return {name: value * factor for name, value in make_small().state_dict().items()}


def inside(place, state): return {f"{place}{name}": value for name, value in state.items()}


ONE, TWO = scaled(1), scaled(2)
HALF = {name: value[:4] if value.ndim == 4 else value for name, value in ONE.items()}  # of another shape


@pytest.mark.parametrize("content, places", [
    ({"model": ONE, "model_ema": {"n_averaged": torch.tensor(3), **inside("module.", TWO)}},
     ["model", "model_ema.module"]),
    ({"model_ema": TWO, "model": ONE}, ["model_ema", "model"]),
    (inside("teacher.", TWO) | inside("student.", ONE), ["teacher", "student"]),
    ({"state_dict": ONE, "state_dict_ema": TWO}, ["state_dict", "state_dict_ema"]),
    ({"state_dict": inside("model.", ONE) | inside("ema.module.", TWO)},
     ["state_dict.model", "state_dict.ema.module"]),
    ({"epoch": 3, "model": {"student": inside("module._orig_mod.", ONE), "teacher": TWO}},
     ["model.student.module", "model.teacher"]),
    ({**ONE, "ema": TWO}, ["", "ema"]), ({"net": {**ONE, "ema.shadow": TWO}}, ["net", "net.ema.shadow"]),
    ({"weights": ONE, "best": {"epoch": 1, "weights": TWO}}, ["weights", "best.weights"])], ids=range(9))
@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_two_that_fit_and_differ(saved, tmp_path, capsys, content, places, form):
    path = saved(content)
    if form == "safetensors":
        save_file({name: value.clone() for name, value in read_state_dict(path).items()},
                  path := tmp_path / "model.safetensors")
    network = make_small()
    refused(lambda: load_foreign_weights(network, path), exc=ValueError, contains="they differ: choose with key")
    with pytest.raises(ValueError) as fault: load_foreign_weights(network, path)
    assert all(repr(place) in str(fault.value) for place in places) and "--weights-key" in str(fault.value)
    close(network.head.weight, ONE["head.weight"])  # as it was
    wanted = {place: TWO if any(w in place for w in ("ema", "teacher", "best")) else ONE for place in places}
    for place in places:
        for key in {place, place.removesuffix(".module"), place + "." * bool(place)}:
            close(load_foreign_weights(Small(), path, key).head.weight, wanted[place]["head.weight"])
    equal(capsys.readouterr().out, "")  # who says which needs no word
    refused(lambda: load_foreign_weights(network, path, "emma"), exc=ValueError,
            contains="key must name a part of the file")


@pytest.mark.parametrize("content, words", [
    ({"model": ONE, "model_ema": HALF}, "taken from 'model'; the file also holds 'model_ema'\n"),
    ({"D": inside("module.", ONE), "G": {"net.0.weight": torch.ones(3, 3)}, "step": torch.tensor(7)},
     "taken from 'D.module'; the file also holds 'G'\n"),
    ({"state_dict": inside("model.", ONE) | {"criterion.weight": torch.ones(10)}},
     "taken from 'state_dict.model'; the file also holds 'state_dict.criterion'\n"),
    ({"state_dict": ONE, "ema": {"shadow": {k: v for k, v in TWO.items() if "running" not in k}}},
     "taken from 'state_dict'; the file also holds 'ema'\n"),
    ({"model_ema": TWO, "epoch": 3}, "model.pth: weights taken from 'model_ema'\n"),
    ({"student": ONE, **{f"teacher{i}": HALF for i in range(9)}}, "'teacher0', 'teacher1', 'teacher2' and 6 more\n"),
    (ONE, ""), (inside("module.", ONE), ""), ({"_orig_mod." + k: v for k, v in ONE.items()}, ""),
    (inside("module.", ONE) | {"n_averaged": torch.tensor(2)}, ""),
    ({"model": ONE, "best": ONE}, "taken from 'model'; the file also holds 'best'\n")], ids=range(11))
def test_one_that_fits_is_named(saved, capsys, content, words):
    loaded = load_foreign_weights(Small(), saved(content))
    printed = capsys.readouterr().out
    assert printed.endswith(words) and bool(printed) == bool(words)
    wanted = TWO if "from 'model_ema'" in words else ONE
    close(loaded.head.weight, wanted["head.weight"])


def test_none_that_fits_is_named_with_its_place(saved):
    for content, key, words in (
            ({"net": inside("module.", HALF)}, None, "wanted (8, 3, 3, 3), second.0.weight (4, 8, 3, 3), wanted (8, 8, 3, 3) (under 'net.module')"),
            ({"net": {k: v[:5] if "head" in k else v for k, v in ONE.items()}}, None,
             "this network: it has 5 classes, the network 10 (under 'net')"),
            ({"net": ONE, "ema": HALF}, "ema", "wanted (8, 8, 3, 3) (under 'ema')"),
            ({"net": ONE, "ema": HALF}, "net.first", "(under 'net.first')"),
            ({"net": ONE, "ema": HALF}, "neto", "of the file: net, ema; got 'neto'"),
            ({"all": {"net": ONE, "ema": HALF}}, "net", "of the file: all.net, all.ema; got 'net'"),
            (ONE, "net", "of the file: first, second, head; got 'net'")):
        path = saved(content)
        refused(lambda key=key, path=path: load_foreign_weights(Small(), path, key), exc=ValueError, contains=words)
    refused(lambda: load_foreign_weights(nn.Flatten(), saved(ONE)), exc=ValueError, contains="unknown: first.0")


def test_network_like_finds_its_place():
    state = ResNet18(num_classes=7, width=8).state_dict()
    for place in ("model.", "state_dict.module.", "state_dict.model."):
        equal(network_like(inside(place, state)).linear.out_features, 7)
    two = inside("student.", state) | inside("teacher.", ResNet18(num_classes=7, width=16).state_dict())
    refused(lambda: network_like(two), exc=ValueError, contains="under 'student' and under 'teacher'")
    equal(network_like(two, "teacher").conv1.out_channels, 16)
    equal(network_like(two, "student.").conv1.out_channels, 8)
    refused(lambda: network_like(state, "student"), exc=ValueError, contains="key must name a part of the file")


# Which network it was

@pytest.mark.parametrize("name", ["ResNet18", "ResNet34"])
def test_network_like_its_weights(name):
    state = MODELS[name](num_classes=7, width=8).state_dict()
    guessed = network_like(state)
    equal({k: v.shape for k, v in guessed.state_dict().items()}, {k: v.shape for k, v in state.items()})
    assert next(guessed.parameters()).device.type == "cpu"


def padded(state, x, before, after, plain=False):
    "A ResNet-20 of option A from its weights alone: new channels before and after, or no shortcut."
    def conv_bn(x, conv, bn, stride=1):
        x = F.conv2d(x, state[f"{conv}.weight"], None, stride, padding=1)
        return F.batch_norm(x, *(state[f"{bn}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")))
    x = F.relu(conv_bn(x, "conv1", "bn1"))
    for stage, block in itertools.product((1, 2, 3), range(3)):
        place, stride = f"layer{stage}.{block}.", 1 + (stage > 1 and block == 0)
        out = F.relu(conv_bn(x, place + "conv1", place + "bn1", stride))
        out = conv_bn(out, place + "conv2", place + "bn2")
        new = out.shape[1] - x.shape[1]
        short = F.pad(x[..., ::stride, ::stride], (0, 0, 0, 0, round(new * before), round(new * after)))
        x = F.relu(out if plain else out + short)
    return F.linear(x.mean((2, 3)), state["linear.weight"], state["linear.bias"])


def stirred(network):
    "With statistics and biases that are not 0 and 1."
    torch.manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")): value.normal_(0, 0.1)
        if name.endswith("running_var"): value.uniform_(0.5, 2)
    return network.eval()


@torch.no_grad()
def test_a_shortcut_that_leaves_no_trace_is_not_guessed():
    state = stirred(MODELS["ResNet20"](width=8)).state_dict()
    images = torch.randn(2, 3, 32, 32)
    logits = {}
    for name, how in (("ResNet20", dict(before=0, after=1)), ("PlainNet20", dict(before=0, after=1, plain=True))):
        network = network_like(state, name=name).eval()
        network.load_state_dict(state)
        close(logits.setdefault(name, network(images)), padded(state, images, **how), eps=1e-4)
    both_sides = padded(state, images, 0.5, 0.5)  # as many copies of one script do it
    for other in logits.values(): assert not torch.allclose(other, both_sides, atol=1e-2)
    for make, names in (("ResNet20", "ResNet20 and PlainNet20"), ("PlainNet20", "ResNet20 and PlainNet20"),
                        ("PlainNet56", "ResNet56 and PlainNet56")):
        refused(lambda make=make: network_like(MODELS[make](num_classes=7, width=8).state_dict()),
                exc=ValueError, contains=f"the weights fit {names}, which compute different things")


@torch.no_grad()
@pytest.mark.parametrize("depth, classes", [(20, 10), (32, 100), (44, 7), (56, 10)])
def test_cifar_networks_with_projections(depth, classes, saved):
    # Written anew from the paper and from the names and shapes in the files of pytorch-cifar-models.
    torch.manual_seed(0)
    state, images = {}, torch.randn(2, 3, 32, 32)
    def run(x, conv, bn, out, stride=1, size=3):
        state[f"{conv}.weight"] = torch.randn(out, x.shape[1], size, size) * (2 / 9 / x.shape[1])**0.5
        state.update({f"{bn}.{n}": torch.rand(out) + 0.5 for n in ("weight", "running_var")})
        state.update({f"{bn}.{n}": torch.randn(out) * 0.1 for n in ("bias", "running_mean")})
        state[f"{bn}.num_batches_tracked"] = torch.tensor(3)
        x = F.conv2d(x, state[f"{conv}.weight"], None, stride, size // 2)
        return F.batch_norm(x, *(state[f"{bn}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")))
    x = F.relu(run(images, "conv1", "bn1", 16))
    for stage, planes in enumerate((16, 32, 64), 1):
        for block in range((depth - 2) // 6):
            place, stride = f"layer{stage}.{block}.", 1 + (stage > 1 and block == 0)
            out = F.relu(run(x, place + "conv1", place + "bn1", planes, stride))
            out = run(out, place + "conv2", place + "bn2", planes)
            if stride == 2: x = run(x, place + "downsample.0", place + "downsample.1", planes, 2, 1)
            x = F.relu(out + x)
    state |= {"fc.weight": torch.randn(classes, 64), "fc.bias": torch.randn(classes)}
    logits = F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), state["fc.weight"], state["fc.bias"])
    equal(recognise(state), (f"cifar_resnet{depth}", {} if classes == 10 else {"num_classes": classes}))
    close(load_foreign_weights(network_like(state), saved(state))(images), logits, eps=1e-3)


@pytest.mark.parametrize("name, classes", [
    ("resnet18", 3), ("wide_resnet50_2", 1000), ("resnext50_32x4d", 1000)])
def test_networks_of_torchvision(name, classes):
    with torch.device("meta"): state = getattr(torchvision.models, name)(num_classes=classes).state_dict()
    state = {f"model.{k}": torch.empty(()).expand(v.shape) for k, v in state.items()}
    equal(recognise(state)[0], f"torchvision.models:{name}")
    if classes == 3: equal(network_like(state).fc.out_features, 3)
    info, size = trained_on(f"torchvision.models:{name}")
    equal((len(info.classes), info.classes[207], info.mean, size),
          (1000, "golden retriever", CONSTANTS["imagenet"][0], 224))


def test_what_is_not_known_of_torchvision():
    for name in ("ResNet18", "cifar_resnet20", "nets:make", "torchvision.models:ResNet",
                 "torchvision.models:vit_b_16"):  # its weights are of 224 and of 384
        equal(trained_on(name), None)
    equal(trained_on("torchvision.models:inception_v3")[1], 299)
    for name in ("googlenet", "inception_v3"):  # with their own weights, torchvision converts inside
        how = dict(weights=None, init_weights=False, aux_logits=False)
        inside = getattr(torchvision.models, name)(transform_input=True, **how)
        pixels = torch.rand(1, 3, 8, 8)
        def normalised(constants, pixels=pixels):
            mean, std = (torch.tensor(part).view(3, 1, 1) for part in constants)
            return (pixels - mean) / std
        close(inside._transform_input(normalised(CONSTANTS["imagenet"])),
              normalised(trained_on(f"torchvision.models:{name}")[0][1:]), eps=1e-5)


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\nimport torchvision\ndef number(): return 3\n"
        "def thin(num_classes): return torchvision.models.resnet18(num_classes=num_classes)\n"
        "def seven(): return nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 7))\n"
        "def deep(depth, num_classes=10): return nn.Linear(depth, num_classes)\n"
        "class Net(nn.Sequential):\n    def __init__(self, num_classes=10): super().__init__(\n"
        "        nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_network_by_name(nets, saved, small):
    three = torchvision.models.resnet18(num_classes=4).state_dict()
    for name, state, classes in (
            ("torchvision.models:resnet18", three, 4), ("own_nets:thin", three, 4),
            ("own_nets:Net", nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Flatten(), nn.Linear(8, 6)).state_dict(), 6),
            ("own_nets:seven", nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 7)).state_dict(), 7),
            ("torchvision.models:squeezenet1_1", torchvision.models.squeezenet1_1(num_classes=5).state_dict(), 5)):
        for place in ("", "state_dict.model."):
            network = network_like(inside(place, state), name=name)
            loaded = load_foreign_weights(network, saved(inside(place, state)))
            equal([*loaded.state_dict().values()][-1].shape[:1].numel(), classes)
    two = inside("student.", three) | inside("teacher.", torchvision.models.resnet18(num_classes=6).state_dict())
    refused(lambda: network_like(two, name="own_nets:thin"), exc=ValueError, contains="under 'student' and under 'teacher'")
    equal(network_like(two, "teacher", "own_nets:thin").fc.out_features, 6)
    for name, words in (("own_nets:number", "must make a torch.nn.Module, got int"),
                        ("own_nets:deep", "missing 1 required positional argument: 'depth'"),
                        ("own_nets:none", "has no attribute 'none'"), ("nowhere:make", "No module named 'nowhere'"),
                        ("ResNet19", "or package:function, got 'ResNet19'"), (":make", "got ':make'")):
        refused(lambda name=name: network_like(three, name=name), exc=ValueError, contains=words)
    path = saved(nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 9)).state_dict())
    network = network_like(read_state_dict(path), name="own_nets:seven")
    refused(lambda: load_foreign_weights(network, path), exc=ValueError, contains="it has 9 classes, the network 7")


def test_networks_that_are_not_known(small):
    refused(lambda: network_like(small.state_dict()), exc=ValueError, contains="begin with first.0.weight")
    refused(lambda: network_like(small.state_dict()), contains="none of ResNet18")
    network = torchvision.models.resnet18(num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)  # with stride 1 or 2, pooled or not
    refused(lambda: network_like(network.state_dict()), exc=ValueError, contains="does not say its stride")


# Weights in lists, under numbers, without values

OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(8, 3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


@pytest.mark.parametrize("content, places", [
    ([ONE, TWO], "01"), ({0: ONE, 1: TWO}, "01"), ({"folds": (ONE, TWO)}, ["folds.0", "folds.1"]),
    ({"model": ONE, "folds": {3: TWO}}, ["model", "folds.3"]),
    ({"model": ONE, "args": Namespace(ema=TWO)}, ["model", "args.ema"])], ids=range(5))
def test_weights_in_lists_and_under_numbers(saved, content, places):
    path = saved(content)
    for place in places: refused(lambda: load_foreign_weights(make_small(), path), contains=repr(place))
    close(load_foreign_weights(Small(), path, places[1]).head.weight, TWO["head.weight"])


def test_a_key_that_is_a_number(saved):
    path = saved([ONE, TWO])
    for key, wanted in enumerate((ONE, TWO)):
        close(load_foreign_weights(Small(), path, key).head.weight, wanted["head.weight"])


def test_an_average_without_names_is_told(saved, capsys):
    content = {"model": ONE, "optimizer": OPTIMIZER, "optimizer_states": [OPTIMIZER],
               "ema": {"decay": 0.999, "shadow_params": [*TWO.values()]}}
    close(load_foreign_weights(Small(), saved(content)).head.weight, ONE["head.weight"])
    equal(capsys.readouterr().out, "model.pth: weights taken from 'model'; the file also holds 'ema'\n")


def test_copies_in_other_formats_are_compared(saved):
    for kind in (torch.float8_e4m3fn, torch.float16):
        low = {name: value.to(kind) if value.is_floating_point() else value for name, value in ONE.items()}
        refused(load_foreign_weights, args=[make_small(), saved({"a": ONE, "b": low})], contains="they differ")
    sparse = ONE | {"head.weight": ONE["head.weight"].to_sparse()}
    for content in (sparse, {"a": sparse, "b": ONE}):
        close(load_foreign_weights(Small(), saved(content)).head.weight, ONE["head.weight"])


def test_names_without_values_are_refused(saved, small):
    path = saved({name: value.to("meta") for name, value in ONE.items()})
    refused(load_foreign_weights, args=[small, path], contains="first.0.weight has no values")
    lazy = make_small(); lazy.head = nn.LazyLinear(10)
    for network in (make_small().to("meta"), lazy):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            refused(load_foreign_weights, args=[network, saved(ONE)], contains="model has weights without values")


def test_marks_of_wrappers_inside(saved):
    state = {name.replace("first.", "first._checkpoint_wrapped_module."): value for name, value in ONE.items()}
    state = {f"_fsdp_wrapped_module.{name}": value for name, value in state.items()}
    close(load_foreign_weights(Small(), saved(state)).head.weight, ONE["head.weight"])


@pytest.mark.parametrize("name, words", [
    ("bad", "len"), ("boom", "KeyError"), ("Net", "positional argument: 'n'"), ("./odd.py", "package:function"),
    ("odd_syntax", "SyntaxError")])
def test_a_network_by_name_that_fails(tmp_path, monkeypatch, name, words):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "odd_nets.py").write_text(
        "def bad(): return len(5)\ndef boom(): raise KeyError('x')\nclass Net:\n    def __init__(self, n): pass\n")
    (tmp_path / "odd_syntax.py").write_text("def (:\n")
    name = {"./odd.py": name, "odd_syntax": "odd_syntax:make"}.get(name, f"odd_nets:{name}")
    refused(recognise, args=[ONE, None, name], exc=ValueError, contains=words)


def test_a_folder_is_no_file_of_weights(tmp_path):
    refused(lambda: read_state_dict(tmp_path), exc=ValueError, contains="is a folder, wanted a file of weights")
