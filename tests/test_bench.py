"The measurement of speed: its rows, its clock and its record. Nothing here depends on how fast anything is."
import itertools
import json
import statistics
from argparse import Namespace
from dataclasses import asdict, replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from tools import close, equal

from cifar_gradcam.augment import load_datasets
from cifar_gradcam.engine.devices import (
    SideBySideConv2d, convolve_side_by_side, lay_side_by_side, select_precision)
from cifar_gradcam.engine.runs import environment
from cifar_gradcam.lab import bench
from cifar_gradcam.lab.bench import (
    BenchPlan, Training, Variant, bench_command, bench_record, bench_rows, bench_table, best_row,
    best_seconds, count_flops, matmul_peak, run_bench, spread, training_variants)
from cifar_gradcam.resnet import ResNet18

NAMES = ["plain loop", "+ no .item()", "+ batched augmentation", "+ channels-last memory",
         "+ automatic precision", "+ narrow maps side by side", "+ freed memory kept",
         "+ fused optimizer", "+ torch.compile"]
OTHER_ROWS = ["an image at a time", "batched", "float32, contiguous", "ours",
              "library, one at a time", "ours, twenty at a time", "ours, 128 at a time"]
WIDTH = 8  # with four channels, channels last, the AVX2 kernels of oneDNN 3 end in a double free
TINY = dict(device="cpu", data="synthetic", images=20, batch_size=8, width=WIDTH, repeats=2, seconds=0.1)


def batch(n=16, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 32, 32, generator=draw), torch.randint(10, (n,), generator=draw)


@pytest.fixture
def strips(monkeypatch):
    "Counts how often strips are laid."
    counter = mock.Mock(wraps=convolve_side_by_side)
    monkeypatch.setattr("cifar_gradcam.engine.devices.convolve_side_by_side", counter)
    return counter


def test_variants_add_one_ingredient_each():
    variants = training_variants()
    assert [v.name for v in variants] == NAMES
    assert variants[0] == Variant()
    assert variants[-1] == Variant("+ torch.compile", False, True, True, "auto", True, True, True, True)
    assert training_variants(compile=False) == variants[:-1]
    for before, after in itertools.pairwise(variants):  # one change at a time, and the name
        assert sum(a != b for a, b in zip(asdict(before).values(), asdict(after).values())) == 2


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("variant", training_variants(compile=False), ids=lambda v: v.name)
def test_what_a_variant_says_is_what_happens(monkeypatch, strips, variant, native):
    # layout, precision, optimizer, strips and memory, whatever the processor and the batches have
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: native, raising=False)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: native, raising=False)
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    for layout in (torch.contiguous_format, torch.channels_last):
        strips.reset_mock()
        images, labels = batch(8)
        training, entered = Training(variant, [(images.to(memory_format=layout), labels)], width=WIDTH), []
        training.model.conv1.register_forward_hook(lambda _, x, y, entered=entered: entered.append((x[0], y)))
        with mock.patch("ctypes.CDLL") as library: results = training.step()
        kind = (float, int) if variant.item else (torch.Tensor, torch.Tensor)
        assert tuple(map(type, results)) == kind and 0 <= results[1] <= 8
        for tensor in (entered[0][0], training.model.layer3[0].conv1.weight):
            assert tensor.is_contiguous(memory_format=torch.channels_last) == variant.channels_last
        wanted = torch.bfloat16 if native and variant.precision == "auto" else torch.float32
        assert entered[0][1].dtype == wanted
        assert training.model.conv1.weight.dtype == torch.float32
        assert bool(training.optimizer.defaults["fused"]) == variant.fused
        assert {type(m) for m in training.model.modules() if isinstance(m, nn.Conv2d)} == {
            SideBySideConv2d if variant.side_by_side else nn.Conv2d}
        assert (mock.call(-4, 0) in library.return_value.mallopt.call_args_list) == variant.reuse
        assert strips.call_count == 4 * variant.side_by_side  # the convolutions of layer4


def test_all_variants_train_the_same_network(monkeypatch):
    batches = [batch(16, seed) for seed in range(2)]

    def losses_of(variant):
        training = Training(variant, batches, width=WIDTH, lr=0.01)
        return [float(training.step()[0]) for _ in range(8)]
    eagerly = nn.Module.compile  # traced, but without a C++ compiler
    monkeypatch.setattr(nn.Module, "compile", lambda self: eagerly(self, backend="eager"))
    losses = {variant.name: losses_of(variant) for variant in training_variants()}
    for precision in ("float32", "bfloat16"):
        losses[precision] = losses_of(replace(training_variants(False)[-1], precision=precision))
    plain = losses["plain loop"]
    assert plain[-1] < plain[0] - 0.4, plain  # they learn
    for name in NAMES[:4] + ["float32"]: close(losses[name], plain, 0.06)
    for name in NAMES[4:] + ["bfloat16"]: close(losses[name], plain, 0.12)


def test_batches_come_over_and_over():
    training = Training(Variant(), [1, 2, 3], width=WIDTH)
    assert list(itertools.islice(training.batches, 7)) == [1, 2, 3, 1, 2, 3, 1]


def flops_by_hand(width):  # 2 k² C C' H W
    counts = {"conv1": 2 * 9 * 3 * width * 32**2}
    for i in range(4):
        c, pixels, before = width * 2**i, (32 >> i)**2, width * 2**i // (2 if i else 1)
        shortcut = 2 * before * c * pixels if i else 0
        counts[f"layer{i + 1}"] = 3 * 2 * 9 * c * c * pixels + 2 * 9 * before * c * pixels + shortcut
    return counts | {"linear": 2 * 8 * width * 10}


def test_operations_are_counted():
    small = ResNet18(width=8)
    before = {k: v.clone() for k, v in small.state_dict().items()}
    for width in (8, 64): equal(count_flops(ResNet18(width=width)), flops_by_hand(width))
    forward, both = count_flops(small), count_flops(small, training=True)
    # Backward is twice forward, but nobody needs the gradient of the images.
    equal(both, {k: 3 * v - (v if k == "conv1" else 0) for k, v in forward.items()})
    for k, v in small.state_dict().items(): assert torch.equal(v, before[k]), k
    assert all(p.grad is None for p in small.parameters())
    equal(count_flops(lay_side_by_side(ResNet18(width=8))), flops_by_hand(8))  # no zeros counted


def test_the_fastest_block_counts(monkeypatch):
    times = mock.Mock(return_value=mock.Mock(times=[5, 2, 3]))
    monkeypatch.setattr(bench.Timer, "blocked_autorange", times)
    assert best_seconds(lambda: None, seconds=7) == 2
    assert times.call_args == mock.call(min_run_time=7)
    monkeypatch.undo()
    calls = []
    assert 0 < best_seconds(lambda: calls.append(1), 0.001) < 60 and calls


def test_the_peak_is_the_best_of_two_ways_and_some_sizes(monkeypatch):
    sizes, products, times = [], [], iter([8e-3, 9e-3, 0.06, 0.05, 0.5, 0.6])

    def pretended(work):
        product = work()
        sizes.append(product.numel())
        products.append(product.squeeze(0).flatten(1).T if product.ndim == 4 else product)
        return next(times)
    monkeypatch.setattr(bench, "best_seconds", pretended)
    # Eight times the work of 0.05 s, some eight times over: 3.2 s. After 0.5 s it would be 32 s.
    close(matmul_peak(seconds=5), max(2 * 256**3 / 8e-3, 2 * 512**3 / 0.05), 1)
    assert sizes == [256**2] * 2 + [512**2] * 2 + [1024**2] * 2
    for direct, convolved in (products[:2], products[2:4]): close(direct, convolved, 1e-2)
    monkeypatch.undo()
    assert 1e3 < matmul_peak("cpu", torch.bfloat16, seconds=1e-6) < 1e18
    with pytest.raises(ValueError, match="device must be 'cpu'"): matmul_peak("abacus")


def test_ratios_are_taken_within_a_repeat():
    assert spread([2, 9, 4], [1, 3, 4]) == dict(median=2, lowest=1, highest=3)
    with pytest.raises(ValueError): spread([1.0], [1.0, 2.0])


@pytest.mark.parametrize("tiles", [True, False])
def test_plain_rows_are_plain(monkeypatch, strips, tiles):
    # whatever `evaluate` and `explain` do to a model by themselves
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: tiles, raising=False)
    plan = SimpleNamespace(batch_size=8, width=WIDTH, compile=False)
    data = load_datasets(source="synthetic", limit=16)
    counts, results = {}, {}
    for group, name, _, _, step in bench_rows(torch.device("cpu"), *data, plan):
        if group == "training": continue
        strips.reset_mock()
        results[name] = step()
        counts[name] = strips.call_count
    assert list(counts) == OTHER_ROWS
    assert counts["float32, contiguous"] == counts["library, one at a time"] == 0
    assert counts["ours"] == 4 * tiles
    assert counts["ours, 128 at a time"] >= 4 if tiles else counts["ours, 128 at a time"] == 0
    loss, accuracy = results["float32, contiguous"]  # and the two evaluations agree
    close(results["ours"][0], loss, 0.05)
    assert 0 <= accuracy <= 100 and abs(results["ours"][1] - accuracy) <= 25  # two images of eight


def no_compiler(self):
    def broken(*_): raise RuntimeError("\nno compiler\nmore lines")
    self.forward = broken  # as a compiler fails: at the first step


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    "A tiny measurement, through the command: its form, and that its numbers agree. No speeds."
    folder = tmp_path_factory.mktemp("bench")
    with mock.patch.object(nn.Module, "compile", no_compiler), \
         mock.patch.object(bench, "matmul_peak", lambda *_: 1e12):
        status = bench_command(Namespace(**TINY, root=folder, out=folder / "bench.json", compile=None, other=1))
    assert status == 0
    return json.loads((folder / "bench.json").read_text())


def test_the_form_of_a_record(measured):
    assert measured["settings"] == TINY
    assert measured["environment"] == environment("cpu")
    assert measured["flops_per_image"]["evaluation"] == sum(flops_by_hand(WIDTH).values())
    assert [row["name"] for row in measured["rows"]] == NAMES + OTHER_ROWS
    assert measured["took_seconds"] > 0
    shipped = bench_record()
    assert list(measured) == list(shipped)
    for row in measured["rows"]:
        if row["name"] != "+ torch.compile":
            same_row = next(r for r in shipped["rows"] if r["name"] == row["name"])
            assert set(row) == set(same_row), row["name"]


def test_the_numbers_of_a_record(measured):
    base, auto = {}, str(select_precision("cpu")).removeprefix("torch.")
    for row in measured["rows"]:
        if row["name"] == "+ torch.compile":
            assert (row["not_available"], row["images_per_second"]) == ("RuntimeError: no compiler", [])
            continue
        assert row["not_available"] is None and row["steps"] >= 1 and row["warm_up_seconds"] > 0
        rates = np.array(row["images_per_second"])
        assert rates.shape == (2,) and (rates > 0).all()
        ratios = rates / base.setdefault(row["group"], rates)
        wanted = dict(median=np.median(ratios), lowest=ratios.min(), highest=ratios.max())
        for name, value in wanted.items(): close(row["ratio"][name], value, 1e-9 * value)
        assert row["precision"] == (auto if row["name"] in NAMES[4:] + ["ours"] else "float32")
        if row["group"] in measured["flops_per_image"]:
            flops = np.median(rates) * measured["flops_per_image"][row["group"]]
            peak = max(measured["peak_flops"][row["precision"]])
            close(row["share_of_peak"], flops / peak, 1e-6 * flops / peak)


def test_the_table(measured):
    lines = bench_table(measured).splitlines()
    assert len(lines) == 4 + 4 + len(measured["rows"]) + 3
    assert "not available: RuntimeError: no compiler" in lines[13], lines
    assert lines[5].split()[:2] == ["plain", "loop"] and "1.00-1.00" in lines[5]
    assert max(map(len, lines)) <= 100, max(map(len, lines))
    fastest = max(measured["rows"][:8], key=lambda row: row["ratio"]["median"])
    assert best_row(measured) == fastest
    assert best_row(measured, "evaluation")["group"] == "evaluation"


def test_a_record_whose_ratios_are_not_those_of_its_rates(tmp_path, monkeypatch):
    record = bench_record()
    record["rows"][1]["ratio"]["median"] = 9.9
    monkeypatch.setattr(bench.cifar_gradcam, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "records").mkdir(); (tmp_path / "records" / "bench_cpu.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"bench_cpu.json says ratio .*9.9.* of '\+ no .item\(\)', its rates "):
        bench_record()


def test_a_measurement_without_the_compiler(tmp_path, monkeypatch):
    plan = SimpleNamespace(batch_size=8, width=WIDTH, compile=False)
    rows = bench_rows(torch.device("cpu"), *load_datasets(tmp_path, "synthetic", 16), plan)
    assert [name for _, name, *_ in rows][:9] == NAMES[:8] + ["an image at a time"]
    monkeypatch.setattr(bench, "bench_rows", lambda device, train, test, plan: [
        ("training", str(plan.compile), torch.float32, 1, lambda: None)])
    monkeypatch.setattr(bench, "matmul_peak", lambda *_: 1e12)
    assert run_bench(**TINY | dict(root=tmp_path, compile=False))["rows"][0]["name"] == "False"


def test_only_the_compiler_may_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "bench_rows", lambda *_: [
        ("training", "+ fused optimizer", torch.float32, 8, mock.Mock(side_effect=RuntimeError("no memory")))])
    with pytest.raises(RuntimeError, match="no memory"): run_bench(**TINY | dict(root=tmp_path))


def test_steps_fill_the_seconds_of_a_row(tmp_path, monkeypatch):
    # half a second each: two seconds a row hold four steps
    asked = []

    def pretended(self, number):
        asked.append(number)
        return mock.Mock(mean=0.5)
    monkeypatch.setattr(bench.Timer, "timeit", pretended)
    monkeypatch.setattr(bench, "matmul_peak", lambda *_: 1e12)
    monkeypatch.setattr(bench, "bench_rows", lambda *_: [
        ("training", name, torch.bfloat16, 10, lambda: None) for name in "ab"])
    first, second = run_bench(**TINY | dict(root=tmp_path, repeats=3, seconds=12))["rows"]
    assert asked == [2, 2] + 6 * [4]
    assert (first["precision"], first["steps"], first["images_per_second"]) == ("bfloat16", 4, [20.0] * 3)
    assert first["flops_per_second"] == statistics.median(first["images_per_second"]) * sum(
        count_flops(ResNet18(width=WIDTH), training=True).values())
    assert second["ratio"] == dict(median=1, lowest=1, highest=1)


@pytest.mark.parametrize("wrong, message", [
    (dict(repeats=0), "repeats must be at least 1, got 0"),
    (dict(images=7), "images must be at least one batch of 8, got 7; take more, or a smaller batch_size"),
    (dict(images=60_000), "images must be at most the 50,000 of the training set, got 60000"),
    (dict(batch_size=1), "batch_size must be at least 2 images, got 1"),
    (dict(seconds=0), "seconds must be above 0, got 0"),
    (dict(width=0), "width must be at least 1 channel, got 0"),
    (dict(data="fake"), "'fake'"), (dict(device="abacus"), "'abacus'")])
def test_what_is_refused(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message): run_bench(**TINY | dict(root=tmp_path) | wrong)


def test_a_plan_and_a_record_that_are_not_there(tmp_path):
    assert (BenchPlan().images, BenchPlan(seconds=1).seconds) == (10_000, 1)
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"): BenchPlan(repeats=0)
    assert bench_record("abacus") is None
    with pytest.raises(FileNotFoundError, match="out: there is no folder"):
        bench_command(Namespace(out=tmp_path / "no" / "file"))
    with pytest.raises(ValueError, match="out must be a file, got the folder"): bench_command(Namespace(out=tmp_path))
