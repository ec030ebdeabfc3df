"Other people's networks: wrapped, compiled, in half precision, with outputs and batches of many forms."
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
from tools import close, equal, make_small, refused, Small
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

from cifar_gradcam.engine import models
from cifar_gradcam.engine.devices import lay_side_by_side
from cifar_gradcam.engine.layers import last_spatial_layer
from cifar_gradcam.engine.models import (
    answers, check_order, dtype_and_device_of, images_and_labels,
    images_for, logits_for, logits_of, network_at, plain_network, unwrap)
from cifar_gradcam.engine.pictures import explain_pictures
from cifar_gradcam.gradcam import explain
from cifar_gradcam.resnet import ResNet18

images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
targets = torch.tensor([3, 5])


def maps_of(model, layers=None, method="gradcam"):
    return explain(model, images, targets, method, layers or "second")


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
    (pixels, "got a tensor of shape (2, 3, 8, 8); bring"), (None, "got NoneType"),
    ((pixels,), "got tuple of a tensor"), ((pixels, [1, 0]), "list of int, int"),
    ({"image": pixels}, "got dict of image: a tensor of shape (2, 3, 8, 8)"),
    ({"image": pixels, "input": pixels + 1, "label": truth}, "got dict of image: a"),
    ({"image": pixels, "label": truth, "target": truth + 1}, "label: a tensor of shape (2,), target:"),
    ({"image": pixels, "x": pixels + 1, "label": truth}, "image: a tensor of shape (2, 3, 8, 8), x:"),
    ], ids=range(8))
def test_no_images_and_labels(batch, words):
    refused(lambda: images_and_labels(batch), exc=TypeError, contains=words)


# The layer of a map

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


class Gives(nn.Module):  # what a function makes of the logits
    def __init__(self, change):
        super().__init__()
        self.inner, self.change = make_small(), change

    def forward(self, x): return self.change(self.inner(x))


@pytest.mark.parametrize("change", [lambda z: torch.cat([z, z]), lambda z: z[:1]])
def test_rows_of_logits_are_those_of_images(change):
    data = DataLoader([*zip(images, targets.tolist())], batch_size=2)
    for ask in (lambda: explain(Gives(change), images, targets, layers="inner.second"),
                lambda: [*answers(Gives(change), data, "")]):
        refused(ask, exc=ValueError, contains="one row of logits for each of 2 images")


@pytest.mark.parametrize("change", [lambda z: z.long(), lambda z: z.to(torch.complex64), lambda z: z[:, :0]])
def test_no_logits_are_whole_complex_or_none(change):
    refused(explain, args=[Gives(change), images, targets, "gradcam", "inner.second"], exc=TypeError,
            contains="the model must return logits of shape (N, classes)")
    equal(logits_of((torch.ones(2, 3), torch.ones(2, 1, dtype=torch.long))), torch.ones(2, 3))
