"Other people's networks: wrapped, compiled, in half precision, of tokens, as ONNX."
import copy
import gc
import threading
import warnings
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest import mock

import pytest
import numpy as np
import torch
import torchvision
from PIL import Image
from tools import close, equal, refused
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

from cifar_gradcam.engine import models
from cifar_gradcam.engine.devices import lay_side_by_side
from cifar_gradcam.engine.models import (
    answers, check_order, dtype_and_device_of, export_onnx, images_and_labels,
    images_for, last_spatial_layer, logits_for, logits_of, network_at, plain_network,
    tokens_as_maps, unwrap)
from cifar_gradcam.engine.pictures import explain_pictures
from cifar_gradcam.gradcam import explain
from cifar_gradcam.resnet import MODELS, ResNet18

images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
targets = torch.tensor([3, 5])


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


def maps_of(model, layers=None, method="gradcam"):
    return explain(model, images, targets, method, layers or "second")


@pytest.fixture
def small(): return make_small()


@pytest.fixture
def vit():
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(
        image_size=32, patch_size=4, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64,
        num_classes=10).eval()
    nn.init.normal_(network.heads.head.weight)  # starts at zero, where nothing matters
    return network


# The entrance

def test_compiled_whole_or_in_parts_maps_are_the_same(small):
    wanted = {name: maps_of(small, name) for name in ("second", "first")}
    assert all(heat.any() for heat in wanted.values())
    compiled = copy.deepcopy(small); compiled.compile(backend="eager"); compiled(images)
    parts = copy.deepcopy(small)
    parts.second = torch.compile(parts.second, backend="eager"); parts.first.compile(backend="eager")
    before, call = parts.second, parts.first._compiled_call_impl
    for other in (compiled, parts, torch.compile(compiled, backend="eager")):
        for name, heat in wanted.items(): close(maps_of(other, name), heat, eps=1e-5)
    assert parts.second is before and parts.first._compiled_call_impl is call is not None
    equal(compiled._compiled_call_impl is None, False)


def test_inference_mode_of_network_images_and_caller(small):
    wanted = maps_of(small)
    with torch.inference_mode():
        locked, locked_images = make_small(), images.clone()
        close(maps_of(locked), wanted, eps=1e-5)
    assert locked.head.weight.is_inference() and locked_images.is_inference()
    with plain_network(locked) as network:
        assert not network.head.weight.is_inference()
        assert not images_for(network, locked_images).is_inference()
        heat = explain(network, images_for(network, locked_images), targets, layers="second")
    close(heat, wanted, eps=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_every_method(small, dtype):
    low = small.to(dtype)
    for method in ("gradcam", "eigencam", "scorecam", "ablationcam", "gradcam++"):
        with plain_network(low) as network:
            equal(dtype_and_device_of(network), (torch.float32, torch.device("cpu")))
        close(maps_of(low, method=method), maps_of(low.float(), method=method), eps=1e-5)
        low.to(dtype)
    equal({value.dtype for value in low.parameters()}, {dtype})


def test_frozen_stays_frozen_and_tied_stays_tied():
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).half()
    tied[1].weight = tied[0].weight; tied[0].bias.requires_grad_(False)
    with plain_network(tied) as network:
        assert network[0].weight is network[1].weight and not network[0].bias.requires_grad
    assert tied[0].weight is tied[1].weight
    equal(dtype_and_device_of(nn.ReLU()), (torch.float32, torch.device("cpu")))
    equal(dtype_and_device_of(nn.DataParallel(tied))[0], torch.float16)


def test_modes_come_back_also_after_an_error(small):
    small.train(); small.first[1].eval()
    modes = [module.training for module in small.modules()]
    means = small.first[1].running_mean.clone()
    with pytest.raises(KeyError), plain_network(small) as network:
        assert not any(module.training for module in network.modules())
        raise KeyError
    last_spatial_layer(small, images)
    equal([module.training for module in small.modules()], modes)
    assert torch.equal(small.first[1].running_mean, means)


def test_unwrap_refuses_and_takes_off_ddp(small, tmp_path):
    refused(lambda: unwrap("resnet18"), exc=TypeError, contains="must be a torch.nn.Module, got str")
    refused(lambda: unwrap(small.state_dict()), contains="got OrderedDict; weights go into")
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    try: assert unwrap(torch.compile(DistributedDataParallel(small))) is small
    finally: torch.distributed.destroy_process_group()


def test_one_thread_at_a_time_for_a_network_others_do_not_wait(small):
    other = copy.deepcopy(small)
    both_inside = threading.Barrier(2)

    def enter(network):  # twice: who is in may go in again
        with plain_network(network) as plain, plain_network(plain): both_inside.wait(60)

    with ThreadPoolExecutor(2) as pool: [*pool.map(enter, (small, other))]
    inside, entered = [], threading.Event()

    def enter_late():
        entered.set()
        with plain_network(small): inside.append("late")

    with ThreadPoolExecutor(1) as pool:
        with plain_network(small):
            task = pool.submit(enter_late)
            assert entered.wait(60)
            with pytest.raises(TimeoutError): task.result(0.2)
            inside.append("early")
    equal(inside, ["early", "late"])
    assert not small._forward_hooks
    n_locks = len(models._locks)
    del other, task; gc.collect()
    assert len(models._locks) < n_locks  # a network that is gone leaves none behind


def test_many_threads_explain_one_network(small):
    wanted = maps_of(small)
    with ThreadPoolExecutor(4) as pool:
        for heat in pool.map(lambda _: maps_of(small), range(8)): close(heat, wanted, eps=1e-5)
    assert not small._forward_hooks


@pytest.mark.parametrize("tiles", [True, False])
def test_network_at_a_precision_and_laid_out_for_the_processor(tiles):
    linear = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten()).half()
    layout = lay_side_by_side(nn.Sequential(nn.Conv2d(3, 8, 1)), tiles)[0]
    with mock.patch("torch.cpu._is_amx_tile_supported", lambda: tiles, create=True):
        for around, precision, kind in ((torch.bfloat16, "float32", torch.float32),
                                        (None, "bfloat16", torch.bfloat16)):
            with torch.autocast("cpu", around, enabled=around is not None):
                with network_at(nn.DataParallel(linear), precision) as network, torch.no_grad():
                    equal(network(torch.ones(1, 3, 1, 1)).dtype, kind)
                    assert type(network[0]) is type(layout)
    equal((type(linear[0]), linear[0].weight.dtype), (nn.Conv2d, torch.float16))
    refused(lambda: network_at(linear, "half").__enter__(), contains="precision must be one of")


def test_answers_of_a_loader(small):
    small.train()
    batches = [(images, torch.tensor([1, 0])), {"image": images[:1], "label": torch.tensor([2])}]
    results = [*answers(nn.DataParallel(small), batches, "asking")]
    equal([len(logits) for _, _, logits in results], [2, 1])
    equal([labels.tolist() for _, labels, _ in results], [[1, 0], [2]])
    assert results[0][0] is images and small.training
    with network_at(small) as network, torch.no_grad():
        close(results[0][2], logits_for(network, images), eps=1e-6)
    for _, _, logits in answers(small, batches, "asking", "bfloat16"):
        equal((logits.dtype, logits.requires_grad), (torch.float32, False))


def test_check_order():
    pairs = [*zip(torch.rand(4, 3, 2, 2), range(4))]
    for shuffled in (DataLoader(pairs, shuffle=True), SimpleNamespace(shuffle=True),
                     DataLoader(pairs, batch_sampler=BatchSampler(RandomSampler(pairs), 2, False)),
                     DataLoader(pairs, batch_sampler=[[1, 0], [3, 2]]),
                     DataLoader(pairs, batch_size=None, shuffle=True)):
        refused(lambda loader=shuffled: check_order(loader), contains="loader must go through")
    class Stream(IterableDataset):
        def __iter__(self): return iter(pairs)
    for ordered in (DataLoader(pairs), pairs, iter(pairs), DataLoader(Stream(), 2),
                    DataLoader(Stream(), batch_size=None), DataLoader(pairs, batch_size=None), DataLoader(
            pairs, batch_sampler=BatchSampler(SequentialSampler(pairs), 2, False))):
        equal(check_order(ordered), None)


# What comes out, and what goes in

table, other, loss = torch.rand(2, 10), torch.rand(2, 10), torch.tensor(0.3)
Pair = namedtuple("Pair", "features logits")


class Output(dict): "As in transformers: a dictionary, with attributes."


@pytest.mark.parametrize("output", [
    table, (table,), [table], (loss, table), (table, None),
    {"logits": table, "features": torch.rand(2, 512)}, {"loss": loss, "scores": table},
    Output(loss=loss, logits=table), Pair(torch.rand(2, 5), table),
    SimpleNamespace(logits=table, hidden=torch.rand(2, 7)), table[..., None, None],
    torchvision.models.GoogLeNetOutputs(table, other, other),
    torchvision.models.InceptionOutputs(table, other), {"out": table, "aux": other},
    {"logits": table, "out": other}, {"out": table, "preds": table},
    {"output": table, "outputs": table.clone()}, {"out": table, "preds": other.argmax(1)},
    ], ids=range(18))
def test_logits_of(output): assert torch.equal(logits_of(output), table)


@pytest.mark.parametrize("output, words", [
    (torch.rand(2, 10, 8, 8), "a tensor of shape (2, 10, 8, 8)"),
    ((torch.rand(2, 512), table), "tuple of a tensor of shape (2, 512), a"),
    ((table, other), "tuple of a tensor of shape (2, 10), a tensor of shape (2, 10)"),
    (torch.rand(2), "a tensor of shape (2,)"), (None, "got NoneType"),
    ([{"boxes": torch.rand(2, 4), "more": table}], "list of dict of boxes: a"),
    ({}, "dict of "), ((), "tuple of nothing"), ("cat", "got str"),
    ({"out": torch.rand(2, 21, 8, 8)}, "dict of out: a tensor"),
    ({"colour": table, "shape": other}, "dict of colour: a tensor of shape (2, 10), shape: a tensor"),
    ({"out": table, "preds": other}, "dict of out: a tensor of shape (2, 10), preds: a tensor"),
    ({"outputs": table, "output": torch.rand(2, 7)}, "output: a tensor of shape (2, 7)")], ids=range(13))
def test_no_logits_or_nobody_knows_which(output, words):
    refused(lambda: logits_of(output), exc=TypeError, contains=words)


def test_a_network_that_returns_an_object_is_explained(small):
    class Talks(nn.Module):  # as models of transformers do
        def __init__(self): super().__init__(); self.inside = small
        def forward(self, x): return Output(logits=self.inside(x))
    talks = Talks()
    close(explain(talks, images, targets, layers="inside.second"), maps_of(small), eps=1e-5)
    assert isinstance(talks(images), Output)  # as before


def test_logits_for_names_the_shape_that_does_not_fit(small):
    with mock.patch.object(small, "forward", side_effect=torch.cuda.OutOfMemoryError):
        refused(lambda: logits_for(small, images), exc=torch.cuda.OutOfMemoryError)
    refused(lambda: logits_for(ResNet18(width=8), torch.rand(2, 3, 64, 64)), exc=ValueError,
            contains="images of shape (3, 64, 64) do not fit the model: images must have shape")


pixels, truth = torch.rand(2, 3, 8, 8), torch.tensor([1, 0])
Pairs, Turned = namedtuple("Pairs", "scan kind number"), namedtuple("Turned", "label image")


@pytest.mark.parametrize("batch", [
    (pixels, truth), [pixels, truth], (pixels, truth, torch.arange(2)),
    {"image": pixels, "label": truth}, {"labels": truth, "pixel_values": pixels},
    Output(x=pixels, y=truth, name=["a", "b"]), Pairs(pixels, truth, 3), Turned(truth, pixels),
    {"image": ["a.jpg", "b.jpg"], "pixel_values": pixels, "label": truth},
    {"image": pixels, "labels": truth, "label": truth.int()}], ids=range(10))
def test_images_and_labels(batch):
    got = images_and_labels(batch)
    assert got[0] is pixels and got[1] is truth


def test_labels_of_other_number_formats():
    for kind in (torch.int32, torch.uint8, torch.int16): equal(images_and_labels((pixels, truth.to(kind)))[1], truth)
    equal(images_and_labels((pixels, truth == 1))[1], truth)
    for kind in (torch.int64, torch.float64, torch.half):
        shares = images_and_labels((pixels, torch.eye(3).to(kind)[truth]))[1]
        equal((shares.dtype, shares.argmax(1)), (torch.float32, truth))


@pytest.mark.parametrize("batch, words", [
    (pixels, "got a tensor of shape (2, 3, 8, 8); give"), (None, "got NoneType"),
    ((pixels,), "got tuple of a tensor"), ((pixels, [1, 0]), "list of int, int"),
    ({"image": pixels}, "got dict of image: a tensor of shape (2, 3, 8, 8)"),
    ({"image": pixels, "input": pixels + 1, "label": truth}, "got dict of image: a"),
    ({"image": pixels, "label": truth, "target": truth + 1}, "label: a tensor of shape (2,), target:"),
    ({"image": pixels, "x": pixels + 1, "label": truth}, "image: a tensor of shape (2, 3, 8, 8), x:"),
    ], ids=range(8))
def test_no_images_and_labels(batch, words):
    refused(lambda: images_and_labels(batch), exc=TypeError, contains=words)


# The layer of a map

class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.relu, self.pool = nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.relu(self.conv2(self.relu(self.conv1(x))))
        return {"logits": self.head(self.pool(x).flatten(1))}


def test_last_spatial_layer_used_twice_pooled_or_none():
    twice = Twice()
    assert last_spatial_layer(nn.DataParallel(twice), torch.rand(1, 1, 20, 30)) is twice.conv2
    model = ResNet18(width=8)
    assert last_spatial_layer(model.eval(), images) is model.layer4[-1]
    assert last_spatial_layer(model.train().half(), images) is model.layer4[-1]
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    for nothing in (flat, nn.Flatten()):
        refused(lambda network=nothing: last_spatial_layer(network, images), exc=ValueError,
                contains="no layer of the model gives feature maps of shape (N, channels, h, w)")
    refused(lambda: last_spatial_layer(model, torch.rand(1, 3, 8, 8)), exc=ValueError,
            contains="do not fit the model")


def test_last_spatial_layer_of_torchvision_networks():
    network, wide = torchvision.models.resnet18(num_classes=10).eval(), torch.randn(2, 3, 96, 64)
    maps = explain(network, wide, targets, layers=last_spatial_layer(network, wide))
    equal(maps.shape, (2, 96, 64))
    swin = torchvision.models.SwinTransformer(
        [4, 4], 16, [1, 1], [2, 2], [2, 2], num_classes=10).eval()  # tokens that lie as maps
    assert last_spatial_layer(swin, images) is swin.permute


class Head(nn.Sequential):
    "Convolutions, then logits."
    def __init__(self, *more):
        super().__init__(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), *more, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, 10))


class Decoder(nn.Module):
    "A decoder behind the logits."
    def __init__(self):
        super().__init__()
        self.features, self.head = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()), nn.Linear(8, 10)
        self.decoder = nn.Sequential(nn.ConvTranspose2d(8, 8, 2, 2), nn.ReLU(), nn.Conv2d(8, 3, 1))

    def forward(self, x):
        x = self.features(x)
        return {"logits": self.head(x.mean((2, 3))), "picture": self.decoder(x)}


class Cut(nn.Module):
    "Its features are computed in a way of their own."
    def __init__(self, way):
        super().__init__()
        self.features, self.head = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()), nn.Linear(8, 10)
        self.way = way

    def forward(self, x): return self.head(self.way(self.features, x).mean((2, 3)))


def without(mode):
    def way(features, x):
        with mode(): return features(x)
    return way


def test_the_last_layer_leads_to_the_logits():
    decoder = Decoder().eval()
    assert last_spatial_layer(decoder, images) is decoder.features[1]
    assert explain(decoder, images, targets).any()
    refused(lambda: explain(decoder, images, targets, layers="decoder.0"), exc=ValueError,
            contains="no gradient of the logits comes back to layer 'decoder.0', as it does not lead to them")
    class Summed(nn.Sequential):  # more than its last block
        def forward(self, x): return x + super().forward(x)
    summed = Head(Summed(nn.Conv2d(8, 8, 1), nn.ReLU())).eval()
    assert last_spatial_layer(summed, images) is summed[2] is models.target_layer(summed, "2")
    act = nn.ReLU()
    shared = Head(nn.Sequential(nn.Conv2d(8, 8, 1), act, nn.Conv2d(8, 8, 1), act)).eval()
    assert last_spatial_layer(shared, images) is shared[2]
    assert explain(shared, images, targets, layers="2").any()


@pytest.mark.parametrize("way", [
    without(torch.no_grad), lambda features, x: checkpoint(features, x, use_reentrant=False)])
def test_autograd_is_turned_on_where_it_can_be(way):
    cut = Cut(way).eval()
    for network in (cut, copy.deepcopy(cut).requires_grad_(False)):
        assert last_spatial_layer(network, images) is network.features[1]
        for layers in (None, "features.0", "features"):
            plain = Cut(lambda features, x: features(x)).eval()
            plain.load_state_dict(network.state_dict())
            wanted = explain(plain, images, targets, layers=layers)
            close(explain(network, images, targets, layers=layers), wanted, eps=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way, cause", [
    (without(torch.inference_mode), "torch.inference_mode()"),
    (lambda features, x: features(x).detach(), "detach()"),
    (lambda features, x: checkpoint(features, x, use_reentrant=True), "checkpoint(use_reentrant=True)")])
def test_where_autograd_cannot_go_the_cause_is_named(way, cause):
    cut = Cut(way).eval()
    for layers in (None, "features.0"):
        refused(lambda layers=layers: explain(cut, images, targets, layers=layers), exc=ValueError, contains=cause)
        assert explain(cut, images, targets, "eigencam", layers).any()
    assert last_spatial_layer(cut, images) is cut.features[1]


@pytest.mark.filterwarnings("ignore")
def test_quantised_and_torchscript():
    network = Head().eval()
    low = torch.ao.quantization.quantize_dynamic(network, {nn.Linear})
    for layers in (None, "0"):
        refused(lambda layers=layers: explain(low, images, targets, layers=layers), exc=ValueError,
                contains="as '4' is quantised: pass")
        assert explain(low, images, targets, "eigencam", layers).any()
    class Behind(nn.Module):
        def __init__(self, part): super().__init__(); self.part = part
        def forward(self, x): return self.part(x)
    for script in (torch.jit.trace(network, images), torch.jit.script(network)):
        for other in (script, Behind(script)):
            refused(lambda other=other: explain(other, images, targets), exc=ValueError,
                    contains="must be the network in Python, got TorchScript")
            where = "part.0" if other is not script else "0"
            refused(lambda other=other, where=where: explain(other, images, targets, layers=where), exc=ValueError,
                    contains="the network in Python, got TorchScript")
    stem = nn.Sequential(torch.jit.script(nn.Sequential(nn.ReLU())), network)  # no weights: no matter
    assert last_spatial_layer(stem, images) is network[1]


def test_channels_last_and_windows_are_no_maps():
    class Turned(nn.Module):
        def forward(self, x): return x.permute(0, 2, 3, 1)
    class Back(nn.Module):
        def forward(self, x): return x.permute(0, 3, 1, 2)
    class Windows(nn.Module):
        def forward(self, x): return torch.cat(x.chunk(2, 2))
    class Joined(nn.Module):
        def forward(self, x): return torch.cat(x.chunk(2), 2)
    network = Head(Turned(), nn.LayerNorm(8), Back(), Windows(), Joined()).eval()
    for layer, words in (("3", "got one of shape (2, 16, 16, 8): its channels are last"),
                         ("5", "layer '5' must have one output, of shape (N, channels, h, w), got one of shape (4, 8, 8, 16)")):
        refused(lambda layer=layer: explain(network, images, targets, layers=layer), exc=ValueError, contains=words)
    assert explain(network, images, targets, layers="4").any()


# Tokens

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Tokens(nn.Module):
    "A transformer with tokens before and behind its patches, of which the first are read (0: the mean of all)."
    def __init__(self, front=1, read=1, behind=0, patch=16, blocks=None):
        super().__init__()
        self.patch = nn.Conv2d(3, 32, patch, patch)
        self.front, self.behind = nn.Parameter(torch.randn(1, front, 32)), nn.Parameter(torch.randn(1, behind, 32))
        self.blocks, self.norm = blocks or nn.Sequential(Block(32), Block(32)), nn.LayerNorm(32)
        self.read, self.head = read, nn.Linear(32, 10)

    def forward(self, x):
        n, x = x.shape[0], self.patch(x).flatten(2).transpose(1, 2)
        x = self.norm(self.blocks(torch.cat([self.front.expand(n, -1, -1), x, self.behind.expand(n, -1, -1)], 1)))
        return self.head((x[:, :self.read] if self.read else x).mean(1))


wide = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))


def laid_out(model, layer, x=wide):
    "What a layer that lays out gives, by a hook of one's own."
    kept = []
    hook = layer.register_forward_hook(lambda layer, inputs, out: kept.append(out.detach().clone()))
    with torch.no_grad(): model(x)
    hook.remove()
    return kept[0]


def advised(model, x=wide):
    "The layer that the message names."
    with pytest.raises(ValueError, match="lay tokens out as maps, with tokens_as_maps") as fault:
        explain(model, x, targets)
    return str(fault.value).split("tokens_as_maps(model, '")[1].split("')")[0]


@pytest.mark.parametrize("front, read, behind, name", [
    (1, 1, 0, "blocks.1.norm1"), (2, 2, 0, "blocks.1.norm1"), (5, 1, 0, "blocks.1.norm1"), (0, 0, 0, "norm"),
    (1, 0, 0, "norm"), (1, 1, 4, "blocks.1.norm1")], ids=["plain", "distilled", "registers", "mean", "both", "behind"])
def test_the_advice_for_tokens_works_as_it_is_written(front, read, behind, name):
    torch.manual_seed(0)
    model = Tokens(front, read, behind).eval()
    equal(advised(model), name)
    before, inside = model(wide), model.get_submodule(name)
    tokens = laid_out(model, inside)
    with tokens_as_maps(model, name) as layer:
        assert torch.equal(model(wide), before) and last_spatial_layer(model, wide) is layer
        maps, heat = laid_out(model, layer), explain(model, wide, targets, layers=layer)
    assert model.get_submodule(name) is inside and not model._forward_pre_hooks and not model._forward_hooks
    assert heat.any(2).any(1).all()
    equal(maps.shape, (2, 32, 6, 8))
    for row, column in ((0, 0), (2, 5), (5, 7)):
        close(maps[:, :, row, column], tokens[:, front + 8 * row + column], eps=1e-6)


def test_tokens_of_torchvision_by_hand(vit):
    name, before = advised(vit, images), vit(images)
    equal(name, "encoder.layers.encoder_layer_2.ln_1")
    kept, scores = [], None
    def keep(layer, inputs, out): kept.append(out); return out.clone()
    hook = vit.get_submodule(name).register_forward_hook(keep)
    scores = vit(images).gather(1, targets[:, None]).sum(); hook.remove()
    gradient, = torch.autograd.grad(scores, kept)
    patches, slopes = kept[0][:, 1:], gradient[:, 1:]
    wanted = (slopes.mean(1, keepdim=True) * patches).sum(2).relu().reshape(2, 1, 8, 8)
    wanted = nn.functional.interpolate(wanted / wanted.amax((2, 3), keepdim=True), (32, 32), mode="bilinear")[:, 0]
    with tokens_as_maps(nn.DataParallel(vit), name) as maps:
        assert torch.equal(vit(images), before)
        heat = explain(vit, images, targets, layers=maps)
        close(heat, wanted.detach() / wanted.amax((1, 2), keepdim=True).detach(), eps=0.02)
        assert explain(vit, images, targets, "eigencam", maps).any()


def test_a_layer_where_patches_no_longer_matter_is_no_last_layer(vit):
    with tokens_as_maps(vit, "encoder.layers.encoder_layer_2") as maps:
        assert not explain(vit, images, targets, layers=maps).any()
        refused(lambda: explain(vit, images, targets), exc=ValueError, contains="lay tokens out as maps")
    nn.init.zeros_(vit.heads.head.weight)
    refused(lambda: last_spatial_layer(vit, images), exc=ValueError,
            contains="tokens_as_maps(model, name) as layer: explain(…, layers=layer), where name is of the last")


def test_other_sizes_batches_and_layouts_within_each_other():
    torch.manual_seed(0)
    model = Tokens().eval()
    with tokens_as_maps(model, "blocks.1.norm1") as late, tokens_as_maps(model, model.blocks[0].norm2) as early:
        for n, size, grid in ((1, (96, 128), (6, 8)), (3, (128, 96), (8, 6)), (2, (64, 64), (4, 4)), (1, (96, 128), (6, 8))):
            for layer in (late, early):
                equal(laid_out(model, layer, torch.randn(n, 3, *size)).shape, (n, 32, *grid))
        assert explain(model, wide, targets, layers=[early, late]).any()
        seen = []
        hook = model.blocks[0].register_forward_hook(lambda *_: seen.append(1))
        model(x=torch.randn(1, 3, 32, 64)); hook.remove()
        equal(len(seen), 1)  # whoever looks sees one pass
        refused(lambda: model(torch.randn(1, 4, 96, 128)), exc=RuntimeError)
        model.train()(wide)
        assert model.blocks[0].training
        refused(lambda: model.blocks(torch.randn(1, 13, 32)), exc=ValueError, contains="call the model, not a part")


def test_threads_with_images_of_several_sizes():
    torch.manual_seed(0)
    plain = Tokens().eval()
    pictures = [torch.randn(2, 3, *size) for size in ((96, 128), (128, 96), (64, 64))] * 4
    with tokens_as_maps(plain, "blocks.1.norm1") as maps, torch.no_grad(), ThreadPoolExecutor(3) as pool:
        shapes = [laid_out(plain, maps, x).shape[2:] for x in pictures[:3]]
        equal(shapes, [(6, 8), (8, 6), (4, 4)])
        wanted = [plain(x) for x in pictures]
        for got, logits in zip(pool.map(plain, pictures), wanted): close(got, logits, eps=1e-5)


@pytest.mark.parametrize("how", [dict(skip=0), dict(skip=2), dict(rows=8), dict(skip=1, rows=8), dict(skip=1, rows=7),
                                 dict(skip=0, rows=7)])
def test_a_wrong_layout_of_tokens_is_refused(how):
    with tokens_as_maps(Tokens().eval(), "norm", **how) as maps: pass
    model = Tokens().eval()
    with tokens_as_maps(model, "norm", **how) as maps:
        refused(lambda: explain(model, wide, targets, layers=maps), exc=ValueError, contains="49 tokens for an image of "
                "96 × 128 have no clear layout (the same for any image: [0]; heights and widths before: "
                "[(6, 8), (96, 128)]): pass skip (tokens before the patches) and rows (of patches), got "
                f"{how.get('skip')} and {how.get('rows')}")


def test_tokens_that_nobody_can_lay_out_unless_told():
    class Cutter(nn.Module):  # as einops does: no layer has a height and a width
        def __init__(self): super().__init__(); self.linear = nn.Linear(3 * 16 * 16, 32)
        def forward(self, x): return self.linear(nn.functional.unfold(x, 16, stride=16).transpose(1, 2)).transpose(1, 2)[..., None]
    class Unfolded(Tokens):
        def __init__(self): super().__init__(); self.patch = Cutter()
    class Halved(Tokens):  # pairs of tokens become one
        def __init__(self): super().__init__(0, 0); self.blocks = nn.Sequential(Block(32), nn.Identity(), Block(32))
        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = self.blocks[0](x)[:, ::2]
            return self.head(self.norm(self.blocks[2](x)).mean(1))
    class Mean(Tokens):  # the token in front is the mean of the patches
        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            return self.head(self.norm(self.blocks(torch.cat([x.mean(1, keepdim=True), x], 1)))[:, 0])
    for model, told in ((Unfolded(), dict(skip=1, rows=6)), (Halved(), dict(skip=0, rows=6)), (Mean(), dict(skip=1))):
        name = advised(model.eval())
        with tokens_as_maps(model, name) as maps:
            refused(lambda: explain(model, wide, targets, layers=maps), exc=ValueError, contains="have no clear layout")  # noqa: B023
        with tokens_as_maps(model, name, **told) as maps:
            assert explain(model, wide, targets, layers=maps).any()
            equal(laid_out(model, maps).shape[2:], (6, 4 if isinstance(model, Halved) else 8))


@pytest.mark.parametrize("how", [dict(batch_first=True, norm_first=True), dict(batch_first=True), dict()])
def test_the_encoder_of_torch_and_tokens_before_images(how):
    class Encoder(nn.TransformerEncoder):
        def forward(self, x):
            if how.get("batch_first"): return super().forward(x)
            return super().forward(x.transpose(0, 1)).transpose(0, 1)
    torch.manual_seed(0)
    model = Tokens(blocks=Encoder(nn.TransformerEncoderLayer(32, 2, 64, **how), 2, enable_nested_tensor=False)).eval()
    name, before = advised(model), model(wide)
    with tokens_as_maps(model, name) as maps:
        close(model(wide), before, eps=1e-5)
        equal(laid_out(model, maps).shape, (2, 32, 6, 8))
        for method in ("gradcam", "eigencam", "ablationcam"): assert explain(model, wide, targets, method, maps).any()


def test_layers_that_give_no_tokens_are_refused(vit):
    refused(lambda: tokens_as_maps(vit, "encoder.layer").__enter__(), exc=ValueError, contains="layer must be a submodule")
    refused(lambda: tokens_as_maps(vit, "encoder", skip=-1).__enter__(), exc=ValueError, contains="skip must be at least 0 and rows 1, got -1 and None")
    refused(lambda: tokens_as_maps(vit, "encoder", rows=0).__enter__(), exc=ValueError, contains="got None and 0")
    for name, got in (("conv_proj", "a tensor of shape (2, 32, 8, 8)"), ("heads.head", "a tensor of shape (2, 10)"),
                      ("encoder.layers.encoder_layer_0.self_attention", "list of tuple of a tensor")):
        with tokens_as_maps(vit, name):
            refused(lambda: logits_for(vit, images), exc=ValueError, contains="layer must give tokens of shape")
            refused(lambda: logits_for(vit, images), exc=ValueError, contains=got)  # noqa: B023


# Out of Python

def test_exported_network_gives_the_same_for_any_batch(small, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    for needed in ("onnx", "onnxscript"): pytest.importorskip(needed)
    target = tmp_path / "small.onnx"
    laid = lay_side_by_side(MODELS["ResNet20"](width=4).eval().half())  # side by side, in half precision
    for network, example in ((laid, None), (small, torch.rand(1, 3, 40, 24))):
        kinds = [type(part) for part in network.modules()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            equal(export_onnx(network, target, example), target)
        equal([type(part) for part in network.modules()], kinds)
        session = runtime.InferenceSession(target)
        equal([out.name for out in session.get_outputs()], ["logits", "activations"])
        for n in (1, 3, 8, 64):
            batch = torch.randn(n, *(example if example is not None else images).shape[1:])
            with plain_network(network) as plain, torch.no_grad(): wanted = logits_for(plain, batch)
            close(session.run(None, {"images": batch.numpy()})[0], wanted.numpy(), eps=1e-4)
    equal([path.name for path in target.parent.glob("*.partial")], [])


def exported(network, path, x, layers):
    "Logits and activations of ONNX Runtime, and those of the layer itself."
    runtime = pytest.importorskip("onnxruntime")
    for needed in ("onnx", "onnxscript"): pytest.importorskip(needed)
    export_onnx(network, path, x, layers)
    kept, layer = [], models.target_layer(network, layers[0] if isinstance(layers, list) else layers)
    hook = layer.register_forward_hook(lambda layer, inputs, out: kept.append(out.clone()))
    with torch.no_grad(): logits = unwrap(network)(x)
    hook.remove()
    return runtime.InferenceSession(path).run(None, {"images": x.numpy()}), (logits.numpy(), kept[0].numpy())


@pytest.mark.filterwarnings("ignore")
def test_exported_activations_are_those_of_the_layer(tmp_path):
    torch.manual_seed(0)
    in_place = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                             nn.Linear(8, 10)).eval()
    staged = ResNet18(width=8).eval()
    for network, layers in ((in_place, in_place[0]), (in_place, "0"), (staged, "layer2"), (nn.DataParallel(staged), "layer3"),
                            (staged, [staged.layer4]), (staged, "layer1.0.bn1")):
        ours, wanted = exported(network, tmp_path / "a.onnx", images, layers)
        for a, b in zip(ours, wanted): close(a, b, eps=1e-4)
        if network is in_place: assert ours[1].min() < -0.1  # not as the ReLU left it
    tokens = Tokens(2, 2).eval()
    with tokens_as_maps(tokens, "blocks.1.norm1") as maps:
        ours, wanted = exported(tokens, tmp_path / "a.onnx", wide, maps)
        for a, b in zip(ours, wanted): close(a, b, eps=1e-4)
        equal(ours[1].shape, (2, 32, 6, 8))


@pytest.mark.filterwarnings("ignore")
def test_layers_that_cannot_be_exported_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: True)
    twice, path = Twice().eval(), tmp_path / "a.onnx"
    twice.spare = nn.Conv2d(1, 8, 1)
    for layers, words in (("relu", "layer 'relu' must have one output, of shape (N, channels, h, w), got 2"),
                          ("head", "layer 'head' must have one output, of shape (N, channels, h, w), got one of shape (2, 3)"),
                          ("spare", "layer 'spare' must have one output, of shape (N, channels, h, w), got none"),
                          ("layer4", "(conv1, conv2, relu, pool, head, spare; or inside"),
                          (nn.ReLU(), "got ReLU"), ([], "layers must be one layer, got 0"),
                          (["conv1", "conv2"], "layers must be one layer, got 2")):
        refused(lambda layers=layers: export_onnx(twice, path, torch.rand(2, 1, 20, 30), layers), exc=ValueError,
                contains=words)
    class Counts(nn.Module):  # freezes the number of images
        def __init__(self): super().__init__(); self.conv, self.bias = nn.Conv2d(3, 10, 3), nn.Parameter(torch.ones(1, 10))
        def forward(self, x): return self.conv(x).mean((2, 3)) + self.bias.expand(len(x), -1)
    for needed in ("onnx", "onnxscript"): pytest.importorskip(needed)
    refused(lambda: export_onnx(Counts().eval(), path, images), exc=ValueError, contains="the model would take 2 images at a time")
    equal([*tmp_path.iterdir()], [])


def test_export_names_what_it_needs(small, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    refused(lambda: export_onnx(small, tmp_path / "a.onnx"), exc=ImportError,
            contains='needs onnx and onnxscript: pip install "cifar_gradcam[onnx]"')


def with_nan(place, value=float("nan")):
    network = make_small()
    with torch.no_grad(): network.get_parameter(place).view(-1)[0] = value
    return network


def test_a_network_that_gives_nan_is_refused_and_the_cause_named():
    def ask(network, images): return [*answers(network, [(images, torch.zeros(2, dtype=int))], "bar")]
    for place in ("head.bias", "second.0.weight"):
        refused(ask, args=[with_nan(place), images], exc=models.NotFinite,
                contains="the model gives NaN or infinity for image no. 0 of the batch: its weights hold "
                         f"NaN or infinity, look at {place}")
    spoiled = images.clone(); spoiled[1, 0, 0, 0] = torch.inf
    refused(ask, args=[make_small(), spoiled], exc=ValueError,
            contains="images hold NaN or infinity: no. 1 of the batch")
    class Divides(Small):
        def forward(self, x): return super().forward(x) / x.flatten(1).std(1, keepdim=True)
    plain = torch.stack([images[0], torch.ones_like(images[0])])
    refused(ask, args=[Divides().eval(), plain], exc=models.NotFinite,
            contains="for image no. 1 of the batch: its weights are finite, look for a division or a root")
    assert last_spatial_layer(Divides(), plain[1:])  # asks for shapes alone
    (_, _, logits), = ask(with_nan("head.bias", -torch.inf), images)  # a class that is ruled out
    assert logits[:, 0].isneginf().all() and logits[:, 1:].isfinite().all()
    refused(ask, args=[with_nan("head.bias", torch.inf), images], contains="look at head.bias", exc=models.NotFinite)


def test_one_output_is_no_answer_but_can_be_explained():
    torch.manual_seed(0)
    one = nn.Sequential(make_small().first, nn.AdaptiveAvgPool2d(4), nn.Conv2d(8, 8, 1), nn.ReLU(),
                        nn.Flatten(), nn.Linear(128, 1)).eval()
    class Both(nn.Module):
        def __init__(self): super().__init__(); self.network = one
        def forward(self, x): return torch.cat([torch.zeros_like(z := self.network(x)), z], 1)
    ok = torch.zeros(2, dtype=int)
    refused(lambda: [*answers(one, [(images, ok)], "bar")], exc=ValueError,
            contains="the model has a single output, and softmax over one number is always 1: put it into a "
                     "module whose forward returns torch.cat([torch.zeros_like(z), z], 1)")
    (_, _, logits), = answers(Both(), [(images, ok)], "bar")
    with torch.no_grad(): close(logits.softmax(1)[:, 1:], one(images).sigmoid(), 1e-6)
    close(explain(one, images, [0, 0], layers="2"), explain(Both(), images, [1, 1], layers="network.2"), 1e-5)


@pytest.mark.parametrize("labels, message", [
    (torch.eye(10)[:2] + torch.eye(10)[1:3], "several labels an image are not measured"),
    (torch.eye(7)[:2], "labels, as shares, must be of 10 classes, got 7"),
    (torch.tensor([[1], [1]]), "labels must be one class for each image, shape (N,)"),
    (torch.tensor([0.0, 1.0]), "labels must be whole numbers, got"),
    (torch.tensor([1, -100]), "got -100"),
    (torch.tensor([1, 10]), "labels must be from 0 to 9, got 10")])
def test_labels_that_are_no_classes_are_refused(labels, message):
    with pytest.raises((ValueError, TypeError)) as fault: [*answers(make_small(), [(images, labels)], "bar")]
    assert message in str(fault.value)


def test_pictures_get_no_answer_where_there_is_none(tmp_path):
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(tmp_path / "a.png")
    one = nn.Sequential(make_small(), nn.Linear(10, 1)).eval()
    for network, classes, text in ((one, ("tumour",), "the model has a single output"),
                                   (with_nan("head.bias"), "abcdefghij", "look at head.bias")):
        refused(explain_pictures, args=[network, tmp_path / "a.png", tmp_path / "out", None, classes],
                contains=text, exc=ValueError)


def test_outputs_that_are_probabilities_are_told():
    "Of 97 % a softmax makes 67 %; the logarithm of probabilities is as good as logits."
    def told(network):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            for _ in answers(network, [(images, targets)], "bar"): pass
        return ["look like probabilities" in str(warning.message) for warning in found]
    equal(told(nn.Sequential(make_small(), nn.Softmax(1))), [True])
    equal(told(nn.Sequential(make_small(), nn.LogSoftmax(1))) + told(make_small()), [])


def test_an_empty_batch_is_no_reason_to_stop_or_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given = [*answers(make_small(), [(images[:0], targets[:0]), (images, targets)], "bar")]
    equal([len(logits) for _, _, logits in given], [0, 2])
