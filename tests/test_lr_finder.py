"The range test beside torch-lr-finder, its rules beside slower ones, what it leaves alone, and what it refuses."
import contextlib
import copy
import io
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from tools import close, equal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch_lr_finder import LRFinder, TrainDataLoaderIter

import cifar_gradcam
from cifar_gradcam.lr_finder import (
    RULES, RangeTest, max_lr, plot_range_test, range_test, rate_shares, suggest_lr)

LADDER = np.geomspace(1e-4, 10, 100)
PARABOLA = 2 + (np.log10(LADDER) + 1) ** 2  # lowest at a rate of 0.1
NEAREST = LADDER[np.abs(np.log10(LADDER) + 1).argmin()]
BACK = np.sqrt(0.1) * (-1 - np.log10(LADDER[10]))
BESIDE = LADDER[LADDER >= 10 ** (-1 - BACK)][0]  # the first where nine tenths of the fall are done


def lowest_of(lrs, losses): return suggest_lr(lrs, losses, rule="lowest")


def small_images(n=128):
    "Images 3 × 8 × 8 of two classes, each with a bright channel of its own; an eighth is mislabelled."
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    images = 0.5 * torch.randn(n, 3, 8, 8, generator=draw)
    images[torch.arange(n), labels] += 1
    labels[:n // 8] = 1 - labels[:n // 8]  # so that no rate is too high to be noticed
    return TensorDataset(images, labels)


def loader(seed=0):
    return DataLoader(small_images(), 32, shuffle=True, generator=torch.Generator().manual_seed(seed))


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))


def convolutional(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                         nn.Dropout(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("kind", [np.array, list])
def test_points_of_a_parabola(kind):
    assert lowest_of(kind(LADDER), kind(PARABOLA)) == NEAREST
    assert suggest_lr(kind(LADDER), kind(PARABOLA)) == BESIDE


def test_an_explosion_after_the_lowest_point_changes_nothing():
    broken = PARABOLA.copy()
    broken[80:], broken[79] = np.nan, np.inf
    assert (lowest_of(LADDER, broken), suggest_lr(LADDER, broken)) == (NEAREST, BESIDE)


def test_the_first_ten_steps_do_not_count():
    early = PARABOLA.copy()
    early[3] = 0
    assert (lowest_of(LADDER, early), suggest_lr(LADDER, early)) == (NEAREST, BESIDE)


def test_noise_does_not_move_where_a_flat_bottom_begins():
    flat = np.maximum(2 - np.log10(LADDER) - 2, 1.5) - 1e-3 * (LADDER == LADDER[85])
    assert lowest_of(LADDER, flat) == LADDER[85]
    wanted = -3.5 + 0.9 * 2  # of a fall by 2 from a rate of 10 ** -3.5
    close(math.log10(suggest_lr(LADDER, flat)), wanted, eps=0.06)  # a step is 0.05


def test_the_other_rules():
    close(suggest_lr(LADDER, PARABOLA, rule="tenth"), NEAREST / 10, eps=1e-12)
    falls = 3 - np.tanh(2 * (np.log10(LADDER) + 2)) + 0.3 * np.maximum(np.log10(LADDER), 0)**2
    close(suggest_lr(LADDER, falls, rule="steepest"), 0.01, eps=1e-3)  # where tanh is steepest
    forgets = np.concatenate([falls[:80], np.linspace(9, 3, 20)])  # falls faster, but too late
    assert suggest_lr(LADDER, forgets, rule="steepest") == suggest_lr(LADDER, falls, rule="steepest")


def test_the_valley_beside_trying_all_series():
    def longest_to(losses, end):  # of the series of ever lower losses that end there
        return 1 + max((longest_to(losses, i) for i in range(end) if losses[i] > losses[end]), default=0)
    draw = np.random.default_rng(0)
    for _ in range(20):
        few = draw.permutation(12).astype(float)
        lengths = [longest_to(few, i) for i in range(12)]
        length, end = max(lengths), int(np.argmax(lengths))
        wanted = max(0, end - length) + int(length / 3) + int(length / 3 / 2)  # as fast.ai counts
        assert RULES["valley"](np.arange(12), few) == wanted


def test_the_records_and_the_default_rule_by_hand():
    records = json.loads((Path(cifar_gradcam.__file__).parent / "records" / "range_tests.json").read_text())
    assert [(r["start_lr"], r["seed"], r["epoch"]) for r in records] == [
        (1e-5, 0, 2**31), (1e-4, 0, 5), (1e-4, 1, 5), (1e-3, 0, 5), (1e-3, 1, 5)]
    for r in records:
        close(r["lrs"], np.geomspace(r["start_lr"], 10, 100), eps=1e-9)
        lowest = r["losses"].index(min(r["losses"][10:]))
        fall = r["losses"][10] - r["losses"][lowest]
        by_hand = next(rate for rate, loss in zip(r["lrs"][10:], r["losses"][10:])
                       if r["losses"][10] - loss >= 0.9 * fall)
        assert suggest_lr(r["lrs"], r["losses"]) == by_hand
        assert lowest_of(r["lrs"], r["losses"]) == r["lrs"][lowest]


@pytest.mark.parametrize("lrs, losses, message", [
    (LADDER[:15], PARABOLA[:15], "it has 15 steps, needs"),
    (LADDER[:40], PARABOLA[:40], "still falling at the"),
    (LADDER[:40], PARABOLA[:40], "raise end_lr"),
    (LADDER[60:], PARABOLA[60:], "lower start_lr"),
    (LADDER, np.full(100, 2.3), "never falls by 1 %"),
    (LADDER, np.full(100, np.nan), "the loss is nan from step 1 on, at a rate of 0.0001: no rate fixes that"),
    (LADDER, np.where(np.arange(100) < 7, 2.3, np.inf), "the loss is inf from step 8 on, at a rate of"),
    (LADDER, PARABOLA[:99], r"as many as lrs \(100\), got 99")])
def test_a_curve_without_an_answer_is_refused(lrs, losses, message):
    with pytest.raises(ValueError, match=message): suggest_lr(lrs, losses)


def test_an_unknown_rule_is_refused():
    message = "rule must be one of fall, lowest, tenth, steepest, valley, got 'lowst'"
    with pytest.raises(ValueError, match=message): suggest_lr(LADDER, PARABOLA, rule="lowst")
    with pytest.raises(ValueError, match="rule must be one of"): range_test(linear(), loader(), rule="middle")


def test_rules_are_passed_on():
    chosen = range_test(linear(), loader(), rule="tenth", num_iter=60, end_lr=1e4)
    close(chosen.suggestion * 10, lowest_of(chosen.lrs, chosen.losses), eps=1e-9)


def librarys_curve(model, sgd, start_lr, end_lr, num_iter, **mixed):
    finder = LRFinder(model, sgd, nn.CrossEntropyLoss(), **mixed)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        finder.range_test(loader(3), start_lr=start_lr, end_lr=end_lr, num_iter=num_iter)
    return finder.history["lr"], finder.history["loss"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("make_model, start_lr, end_lr, num_iter, stops", [
    (convolutional, 1e-4, 1, 40, False),  # more than one round of the loader
    (linear, 1e-3, 1e4, 60, True)])       # nothing holds this one: both stop early
def test_the_curve_is_the_librarys(monkeypatch, precision, make_model, start_lr, end_lr, num_iter, stops):
    monkeypatch.setattr("cifar_gradcam.lr_finder.suggest_lr", lambda *_, **__: 0)  # of any curve
    model = make_model()
    sgd = torch.optim.SGD(model.parameters(), lr=0.7, momentum=0.9)
    torch.manual_seed(1)
    ours = range_test(model, loader(3), sgd, None, start_lr, end_lr, num_iter, precision)
    mixed = {} if precision == "float32" else dict(
        amp_backend="torch", amp_config=dict(device_type="cpu", dtype=torch.bfloat16),
        grad_scaler=torch.amp.GradScaler("cpu", enabled=False))
    torch.manual_seed(1)
    lrs, losses = librarys_curve(model, sgd, start_lr, end_lr, num_iter, **mixed)
    assert len(ours.lrs) == len(lrs) and (2 < len(lrs) < num_iter if stops else len(lrs) == num_iter)
    np.testing.assert_allclose(ours.lrs, lrs, rtol=1e-12)
    np.testing.assert_allclose(ours.losses, losses, rtol=1e-3)


class Interruption(Exception): "Stands in for any error in the middle."


def fingerprint(model, optimizer):
    state = (model.state_dict(), [p.grad for p in model.parameters()], optimizer.state_dict(),
             [module.training for module in model.modules()], torch.get_rng_state())
    return copy.deepcopy(state), {name: id(value) for name, value in vars(optimizer).items()}


def same(a, b):
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if isinstance(a, dict): return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b


def in_the_middle_of_training():
    "A model with mixed modes and gradients, and an optimizer with a state under a scheduler."
    model = convolutional().train()
    model[1].eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=50)
    images, labels = next(iter(loader()))
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    return model, optimizer


def test_nothing_else_changes():
    model, optimizer = in_the_middle_of_training()
    before = fingerprint(model, optimizer)
    range_test(model, loader(), optimizer, num_iter=60, start_lr=1e-3, end_lr=1e3)
    assert same(before, fingerprint(model, optimizer))
    calls = []

    def failing(logits, labels):
        calls.append(1)
        if len(calls) == 5: raise Interruption
        return F.cross_entropy(logits, labels)
    with pytest.raises(Interruption): range_test(model, loader(), optimizer, failing)
    assert len(calls) == 5
    assert same(before, fingerprint(model, optimizer))


def change_a_weight(model, optimizer):
    with torch.no_grad(): model[0].weight[0, 0, 0, 0] += 1e-6
def change_a_statistic(model, optimizer): model[1].running_mean += 1e-6
def change_a_mode(model, optimizer): model[1].train()
def change_the_random_state(model, optimizer): torch.rand(1)


@pytest.mark.parametrize("change", [
    change_a_weight, change_a_statistic, change_a_mode, change_the_random_state])
def test_the_fingerprint_can_tell(change):
    model, optimizer = in_the_middle_of_training()
    before = fingerprint(model, optimizer)
    assert same(before, fingerprint(model, optimizer))
    change(model, optimizer)
    assert not same(before, fingerprint(model, optimizer))


def test_the_drawing():
    result = RangeTest(list(LADDER), list(PARABOLA), BESIDE)
    ax = plot_range_test(result).axes[0]
    assert ax.get_xscale() == "log"
    close(ax.lines[0].get_ydata(), result.losses)
    assert ax.lines[2].get_xdata()[0] == result.suggestion
    assert ax.lines[2].get_ydata()[0] == result.losses[result.lrs.index(result.suggestion)]
    assert plot_range_test(result, plt.subplots()[1]).axes[0].get_xscale() == "log"
    exploded = RangeTest(result.lrs, result.losses[:-2] + [1e6, float("nan")], result.suggestion)
    assert plot_range_test(exploded).axes[0].get_ylim()[1] < 2 * result.losses[0]
    plt.close("all")


@pytest.mark.parametrize("options, message", [
    (dict(num_iter=19), "at least 20"),
    (dict(start_lr=0), r"below end_lr \(10\), got 0"),
    (dict(start_lr=-1), r"below end_lr \(10\), got -1"),
    (dict(start_lr=1, end_lr=0.1), r"below end_lr \(0.1\), got 1"),
    (dict(train_loader=[]), "train_loader is empty"),
    (dict(precision="float8"), "precision must be one of"),
    (dict(optimizer=torch.optim.SGD(linear().parameters(), lr=0.1)), "holds none of them")])
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        range_test(**dict(model=linear(), train_loader=loader()) | options)


def test_what_is_of_another_type():
    with pytest.raises(TypeError, match="list of batches"): range_test(linear(), iter(loader()))
    with pytest.raises(TypeError, match="got generator"): range_test(linear(), (b for b in loader()))
    with pytest.raises(TypeError, match="optimizer must be a torch optimizer or None, got 'SGD'"):
        range_test(linear(), loader(), "SGD")


def test_each_advice_followed():
    # A network that is broken: mended; a start that is too high: lowered.
    network, batches = linear(), list(loader())
    weight = network[1].weight.detach().clone()
    network[1].weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match="no rate fixes that") as fault:
        range_test(network, batches, num_iter=40)
    assert "end_lr" not in str(fault.value)
    network[1].weight.data = weight
    range_test(network, batches, end_lr=1e4, num_iter=60)
    with pytest.raises(ValueError, match="lower start_lr"):
        range_test(network, batches, start_lr=1e30, end_lr=1e38)
    with pytest.raises(ValueError, match="raise end_lr"):
        range_test(network, batches, end_lr=1e-2, num_iter=60)


def test_batches_of_another_form():
    batches = list(loader())
    named = [dict(image=images, label=labels) for images, labels in batches]
    strange = [dict(bild=images, klasse=labels) for images, labels in batches]
    with pytest.raises(TypeError, match="got dict of bild: a tensor"): range_test(linear(), strange)

    class Named(TrainDataLoaderIter):
        def inputs_labels_from_batch(self, batch): return batch["bild"], batch["klasse"]
    more = dict(end_lr=1e4, num_iter=60)
    for other in (named, Named(strange), [(x.double(), y.int()) for x, y in batches]):
        assert range_test(linear(), other, **more) == range_test(linear(), batches, **more)
    with pytest.raises(ValueError, match="train_loader is empty"): range_test(linear(), Named([]))


def test_groups_keep_their_share_of_the_rate():
    def by_hand(model, groups):
        optimizer, losses = torch.optim.SGD(groups, momentum=0.9), []
        for step in range(40):
            rate = 1e-3 * 1e6 ** (step / 39)
            for group, share in zip(optimizer.param_groups, (0.25, 1, 0.0)): group["lr"] = rate * share
            images, labels = batches[step % len(batches)]
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad(); loss.backward(); optimizer.step()
            losses.append(0.05 * loss.item() + 0.95 * losses[-1] if losses else loss.item())
        return losses

    def with_groups():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 8), nn.Flatten(), nn.Linear(8, 8), nn.Linear(8, 2))
        return model, [dict(params=[*model[i].parameters()], lr=lr) for i, lr in ((0, 0.5), (2, 2.0), (3, 0.0))]
    batches = list(loader())
    model, groups = with_groups()
    result = range_test(model, batches, torch.optim.SGD(groups, momentum=0.9), start_lr=1e-3, end_lr=1e3,
                        num_iter=40, precision="float32", rule="lowest")
    wanted = by_hand(*with_groups())
    close(result.losses, wanted[:len(result.losses)], eps=1e-4)
    equal(rate_shares(torch.optim.SGD(groups)), [0.25, 1, 0])
    one = torch.optim.SGD(linear().parameters(), lr=0.3)
    equal([rate_shares(one), rate_shares(torch.optim.SGD(linear().parameters(), lr=0))], [[1], [1]])


def test_orthogonal_groups_keep_their_own_rate():
    rates = []
    class Notes(torch.optim.SGD):
        def step(self):
            rates.append([group["lr"] for group in self.param_groups]); super().step()
    model = linear()
    groups = [dict(params=[model[1].weight], lr=0.07, orthogonal=True), dict(params=[model[1].bias], lr=3.0)]
    try: range_test(model, loader(), Notes(groups), num_iter=40, rule="lowest")
    except ValueError: pass  # the curve need not have an answer
    close(np.array(rates)[:, 0], np.full(len(rates), 0.07))
    close(np.array(rates)[:, 1], np.geomspace(1e-4, 10, 40)[:len(rates)], eps=1e-9)
    with pytest.raises(ValueError, match="outside of `orthogonal` groups, got one that holds none"):
        range_test(model, loader(), torch.optim.SGD(groups[:1]))


def test_steps_of_several_batches_are_those_of_larger_ones():
    given = dict(start_lr=1e-3, end_lr=1e4, num_iter=60, precision="float32")
    data = small_images()
    small, large = ([*DataLoader(data, size)] for size in (16, 32))
    ours, wanted = range_test(linear(), small, accumulate=2, **given), range_test(linear(), large, **given)
    n = wanted.lrs.index(wanted.suggestion)
    close(ours.losses[:n], wanted.losses[:n], eps=1e-4)
    with pytest.raises(ValueError, match="accumulate must be at least 1, got 0"):
        range_test(linear(), small, accumulate=0)
    with pytest.raises(ValueError, match=r"criterion must give one number, the mean loss of a batch, got shape \(16,\)"):
        range_test(linear(), small, criterion=nn.CrossEntropyLoss(reduction="none"))


def test_max_lr_in_one_line():
    # plot=False draws nothing; a plain list of batches will do for a loader; options are passed on.
    plt.close("all")
    network = linear()
    rate = max_lr(network, list(loader()), plot=False, start_lr=1e-3, end_lr=1e3, num_iter=60,
                  optimizer=torch.optim.SGD(network.parameters(), lr=1))
    assert type(rate) is float
    assert plt.get_fignums() == []
    close(np.abs(np.log(np.geomspace(1e-3, 1e3, 60) / rate)).min(), 0, eps=1e-9)
    max_lr(network, loader(), end_lr=1e3)
    assert len(plt.get_fignums()) == 1
    plt.close("all")
    equal(list(RULES), ["fall", "lowest", "tenth", "steepest", "valley"])
