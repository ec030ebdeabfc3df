"Devices, precisions, narrow convolutions in strips, and memory that is kept; each answer of a processor is set both ways."
import copy
import os
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from tools import close, equal

from cifar_gradcam.engine import devices
from cifar_gradcam.engine.devices import (
    PRECISIONS, SideBySideConv2d, autocast, convolve_side_by_side, lay_side_by_side,
    reuse_memory, select_cuda, select_device, select_precision, tuned)
from cifar_gradcam.resnet import ResNet18


def kinds(model): return {type(m) for m in model.modules() if isinstance(m, nn.Conv2d)}


@pytest.mark.parametrize("has_cuda, has_mps, best",
                         [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device_is_chosen(monkeypatch, has_cuda, has_mps, best):
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: has_mps)
    assert select_device() == torch.device(best)
    assert select_cuda() == torch.device("cuda" if has_cuda else "cpu")


@pytest.mark.parametrize("wrong", ["tpu", "meta", "", 1.5])
def test_an_unknown_device_is_refused(wrong):
    with pytest.raises(ValueError) as fault: select_device(wrong)
    assert f"device must be 'cpu', 'cuda', 'cuda:N' or 'mps', got {wrong!r}" in str(fault.value)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda:99' is not available on this machine, which has cpu"):
        select_device("cuda:99")
    with pytest.raises(ValueError, match="'mps' is not available"): select_device("mps")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ValueError, match="'cuda' is not available"): select_device(torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert select_device("cuda:1") == torch.device("cuda:1")


def test_a_named_precision_is_taken():
    assert PRECISIONS[0] == "auto"
    assert select_precision("cpu", "float32") == torch.float32
    assert select_precision("cpu", "bfloat16") == torch.bfloat16
    with pytest.raises(ValueError) as fault: select_precision("cpu", "float16")
    assert "precision must be one of ('auto', 'float32', 'bfloat16'), got 'float16'" in str(fault.value)


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("tiles", [True, False])
def test_bfloat16_is_chosen_where_the_processor_computes_in_it(monkeypatch, vectors, tiles):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: vectors, raising=False)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: tiles, raising=False)
    assert select_precision("cpu") == (torch.bfloat16 if vectors or tiles else torch.float32)
    assert select_precision("mps") == torch.float32


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_chosen_where_the_gpu_computes_in_it(monkeypatch, native):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: native)
    assert select_precision("cuda") == (torch.bfloat16 if native else torch.float32)


def test_autocast_rounds_or_changes_nothing():
    torch.manual_seed(0)
    model, images = ResNet18(width=8).eval(), torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        exact = model(images)
        with autocast("cpu", torch.bfloat16): rounded = model(images)
        with autocast("cpu", torch.float32): equal(model(images), exact)
    assert (exact.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    assert (exact - rounded.float()).abs().mean() < 0.05 * exact.abs().mean()
    assert next(model.parameters()).dtype == torch.float32
    with pytest.raises(ValueError, match="got torch.float16"): autocast("cpu", torch.float16)
    assert (torch.tensor(256., dtype=torch.bfloat16) + 1).item() == 256.0


@pytest.mark.parametrize("n, c, size, stride, bias", [
    (12, 8, 4, 1, False), (128, 4, 8, 2, True), (128, 5, 2, 1, True), (45, 3, 8, 2, False),
    (27, 4, 4, 1, True), (67, 3, 8, 2, False), (1, 4, 4, 1, True), (0, 4, 4, 1, False)])
def test_strips_give_the_same_numbers_forward_and_backward(n, c, size, stride, bias):
    # also for odd strips, and for the last batches, which do not divide and are left to torch
    torch.manual_seed(0)
    conv = nn.Conv2d(c, 7, 3, stride, padding=1, bias=bias).double()
    x = torch.randn(n, c, size, size, dtype=torch.double, requires_grad=True)
    target = torch.randn(n, 7, size // stride, size // stride, dtype=torch.double)
    results = []
    for on in (True, False):
        out = lay_side_by_side(conv, on)(x)
        gradients = torch.autograd.grad((out * target).sum(), [x, *conv.parameters()])
        results.append([out, *gradients])
    for a, b in zip(*results): close(a.detach(), b.detach(), eps=1e-10)


@pytest.mark.parametrize("n", [1, 9, 67])
def test_the_function_by_itself_takes_any_number_of_images(n):
    torch.manual_seed(0)
    x, w = (torch.randn(m, 3, k, k, dtype=torch.double) for m, k in ((n, 8), (5, 3)))
    close(convolve_side_by_side(x, w, stride=2), F.conv2d(x, w, None, 2, 1), eps=1e-10)


def in_strips(conv, x):  # their zeros are multiplied too, so that more operations are counted
    def operations(conv):
        with FlopCounterMode(display=False) as counter: conv(x)
        return counter.get_total_flops()
    return operations(conv) > operations(lay_side_by_side(copy.deepcopy(conv), False))


NARROW = dict(kernel_size=3, padding=1)


def test_strips_are_laid_for_narrow_maps():
    assert in_strips(SideBySideConv2d(4, 4, **NARROW), torch.zeros(16, 4, 4, 4))
    assert in_strips(SideBySideConv2d(4, 4, stride=2, **NARROW), torch.zeros(16, 4, 8, 8))


@pytest.mark.parametrize("more", [
    dict(padding=0), dict(groups=2), dict(kernel_size=1, padding=0), dict(dilation=2, padding=2),
    dict(padding_mode="reflect"), dict(stride=(1, 2))])
def test_strips_are_not_laid_for_another_form(more):
    assert not in_strips(SideBySideConv2d(4, 4, **NARROW | more), torch.zeros(16, 4, 4, 4))


def test_strips_are_not_laid_for_other_sizes_and_devices():
    assert not in_strips(SideBySideConv2d(4, 4, **NARROW), torch.zeros(16, 4, 8, 8))
    assert not in_strips(SideBySideConv2d(4, 4, stride=2, **NARROW), torch.zeros(16, 4, 7, 7))
    for n in (0, 1, 2, 67):
        assert not in_strips(SideBySideConv2d(4, 4, **NARROW), torch.zeros(n, 4, 4, 4)), n
    assert not in_strips(nn.Conv2d(4, 4, **NARROW), torch.zeros(16, 4, 4, 4))
    elsewhere = SideBySideConv2d(4, 4, **NARROW, device="meta")  # a device that is not the CPU
    assert not in_strips(elsewhere, torch.zeros(16, 4, 4, 4, device="meta"))


def test_a_model_is_switched_in_place_and_back():
    small = ResNet18(width=8)
    before, parameters, calls = small.state_dict(), list(small.parameters()), []
    small.layer4[0].conv1.register_forward_hook(lambda *_: calls.append(1))
    assert lay_side_by_side(small) is small
    assert kinds(small) == {SideBySideConv2d}
    assert list(small.state_dict()) == list(before)
    for key, value in small.state_dict().items(): assert torch.equal(value, before[key]), key
    assert all(a is b for a, b in zip(small.parameters(), parameters))
    small.load_state_dict(ResNet18(width=8).state_dict(), strict=True)
    small(torch.zeros(8, 3, 32, 32))
    assert calls == [1]
    assert kinds(lay_side_by_side(small)) == {SideBySideConv2d}  # twice is once
    assert kinds(lay_side_by_side(small, on=False)) == {nn.Conv2d}

    class Derived(nn.Conv2d): "What is not exactly torch's is not ours to change."
    assert type(lay_side_by_side(Derived(1, 1, 3))) is Derived


def test_tuned_switches_for_a_while():
    # also with an error, nested, copied inside, or laid side by side before
    small = ResNet18(width=8)
    with tuned(small, True) as inside: assert inside is small and kinds(small) == {SideBySideConv2d}
    assert kinds(small) == {nn.Conv2d}
    with pytest.raises(KeyError, match="halfway"), tuned(small, True): raise KeyError("halfway")
    assert kinds(small) == {nn.Conv2d}
    with tuned(small, True):
        with tuned(small.layer4, True): assert kinds(small) == {SideBySideConv2d}
        assert kinds(small) == {SideBySideConv2d}  # the inner block had nothing to switch
        copied = copy.deepcopy(small)
    assert kinds(small) == {nn.Conv2d}
    assert kinds(copied) == {SideBySideConv2d}
    assert kinds(lay_side_by_side(copied, False)) == {nn.Conv2d}
    lay_side_by_side(small.layer4)  # asked for, and so left as it was
    with tuned(small, True): pass
    assert (kinds(small.layer3), kinds(small.layer4)) == ({nn.Conv2d}, {SideBySideConv2d})


@pytest.mark.parametrize("tiles", [True, False])
def test_tuned_by_itself_follows_the_processor(monkeypatch, tiles):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: tiles, raising=False)
    small = ResNet18(width=8)
    with tuned(small): assert kinds(small) == {SideBySideConv2d if tiles else nn.Conv2d}


def test_a_tuned_network_computes_the_same():
    # outputs, gradients and running statistics
    torch.manual_seed(0)
    plain, x = ResNet18(width=8).double(), torch.randn(16, 3, 32, 32, dtype=torch.double)
    narrow = copy.deepcopy(plain)

    def step(model):
        out = model(x)
        out.square().sum().backward()
        return [out.detach(), *(p.grad for p in model.parameters()), *model.buffers()]
    plain_step = step(plain)
    with tuned(narrow, True): tuned_step = step(narrow)
    for a, b in zip(plain_step, tuned_step, strict=True): close(a, b, eps=1e-8)
    assert list(narrow.state_dict()) == list(plain.state_dict())


def test_outside_tuned_a_model_can_be_exported_for_any_batch():
    torch.manual_seed(0)
    small = ResNet18(width=8).eval()
    with tuned(small, True), torch.no_grad(): small(torch.zeros(8, 3, 32, 32))
    batch = torch.export.Dim("batch", min=1, max=512)
    program = torch.export.export(small, (torch.randn(16, 3, 32, 32),), dynamic_shapes=({0: batch},))
    for n in (2, 67):
        x = torch.randn(n, 3, 32, 32)
        with torch.no_grad(): close(program.module()(x), small(x), eps=1e-5)


def test_memory_is_kept_for_good_or_for_a_block(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    with mock.patch("ctypes.CDLL") as library:
        calls = library.return_value.mallopt.call_args_list
        reuse_memory()
        assert calls == [mock.call(-1, -1), mock.call(-4, 0)]  # mallopt(3): never trim, never map
        calls.clear()
        reuse_memory(False)
        as_by_itself = [mock.call(-1, 2**26), mock.call(-3, 2**25), mock.call(-4, 2**16)]
        assert calls == as_by_itself
        calls.clear()
        with pytest.raises(KeyError), reuse_memory(): raise KeyError("also after an error")
        assert calls[2:] == as_by_itself
        calls.clear()
        with reuse_memory(False): pass
        assert calls == as_by_itself  # and nothing at the end
        calls.clear()
        monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))  # musl, macOS, Windows
        with reuse_memory(): pass
        assert calls == []


def test_kept_memory_is_not_mapped_anew():
    resource = pytest.importorskip("resource")
    if devices.platform.libc_ver()[0] != "glibc" or "LD_PRELOAD" in os.environ:
        pytest.skip("not glibc's allocator")

    def pages_mapped(times=5, megabytes=64):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(times): torch.zeros(megabytes * 2**18)
        return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / times
    reuse_memory(False)
    alone = pages_mapped()
    with reuse_memory():
        pages_mapped()
        kept = pages_mapped()
    # Huge pages may leave nothing to gain.
    assert alone < 1000 or kept < 0.05 * alone, (kept, alone)
