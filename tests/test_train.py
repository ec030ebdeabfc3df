"Chapter 04: schedules, one pass, the loop around them, and what may stand around the loop."
import contextlib
import copy
import json
import math
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from tools import calls, close, equal, refused
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from cifar_gradcam.augment import AugmentedImages, plain_transform, seed_epoch
from cifar_gradcam.engine.batches import BatchedImages
from cifar_gradcam.engine.datasets import synthetic_images
from cifar_gradcam.engine.optimizers import Average, make_optimizer, OPTIMIZERS
from cifar_gradcam.engine.runs import (
    COLUMNS, FolderIsBusy, History, hold_folder, load_checkpoint, Recipe)
from cifar_gradcam.gradcam import find_mistakes
from cifar_gradcam.lab.series import compare_arms, load_series
from cifar_gradcam.lr_finder import max_lr, range_test
from cifar_gradcam.mistakes.predictions import predict
from cifar_gradcam.train import (
    advance, evaluate, LossIsNaN, make_schedule, number_right, one_cycle,
    one_number, SCHEDULES, show_accuracy_loss, train_epoch, train_step, train_test_loop)

pixels = torch.randn(70, 3, 32, 32, generator=torch.Generator().manual_seed(1))
truth = torch.arange(70) % 10
cross_entropy = nn.CrossEntropyLoss()


def small_network(seed=0):
    torch.manual_seed(seed)  # the same seed, the same initialisation
    sizes = (3, 8), (8, 16)
    layers = [nn.Sequential(nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False),
                            nn.BatchNorm2d(o), nn.ReLU()) for i, o in sizes]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def tiny(batch_size=32, **more): return DataLoader(TensorDataset(pixels, truth), batch_size, **more)


def loop(*args, **kw): return train_test_loop(small_network(), "cpu", *args, **kw)


def without_time(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


def same_weights(model, other):
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def sgd(lr=0.1, momentum=0.9):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr, momentum=momentum)


def record(optimizer, scheduler, steps):
    "Learning rate and momentum of each step."
    seen = []
    for _ in range(steps):
        group = optimizer.param_groups[0]
        seen.append((group["lr"], group["momentum"]))
        optimizer.step(); advance(scheduler)
    return np.array(seen).T


class Fails:
    "A loader that stops like Ctrl-C after so many batches, or whose images turn to NaN."
    def __init__(self, loader, batches, nan=False): self.loader, self.left, self.nan = loader, batches, nan
    def __len__(self): return len(self.loader)
    def __getattr__(self, name): return getattr(self.loader, name)
    def __iter__(self):
        for images, labels in self.loader:
            self.left -= 1
            if self.left < 0 and not self.nan: raise KeyboardInterrupt
            yield images * (float("nan") if self.left < 0 else 1), labels


# ---- schedules

def test_one_cycle_follows_straight_lines():
    rate, momentum = record(optimizer := sgd(), one_cycle(optimizer, 0.1, 20, 391), steps=20 * 391)
    # Drawn by hand. torch's phases meet one step before the share it is given.
    top = 5 * 391 - 1
    close(rate, np.interp(np.arange(7820), [0, top, 7819], [1e-3, 0.1, 1e-5]), eps=1e-9)
    close(momentum, np.interp(np.arange(7820), [0, top, 7819], [0.95, 0.85, 0.95]), eps=1e-9)


def test_one_cycle_never_leaves_its_range_also_in_the_shortest_runs():
    for epochs in range(1, 8):
        for steps in (1, 2, 3, 50):
            optimizer = sgd()
            scheduler = one_cycle(optimizer, 0.1, epochs, steps)
            rates, _ = record(optimizer, scheduler, epochs * steps + 3)
            assert rates.min() > 0 and rates.max() <= 0.1 + 1e-12
    last = optimizer.param_groups[0]["lr"]
    advance(None); advance(scheduler); equal(optimizer.param_groups[0]["lr"], last)


def test_one_cycle_with_cosine_and_orthogonal_groups():
    groups = [dict(params=[nn.Parameter(torch.zeros(2))], lr=r, orthogonal=o)
              for r, o in ((0.1, False), (0.03, True))]
    muon, rates = torch.optim.SGD(groups, momentum=0.8), []
    scheduler = one_cycle(muon, 0.2, 4, 10, 1, cycle_momentum=False, anneal="cosine")
    for _ in range(40):
        rates.append([group["lr"] for group in muon.param_groups])
        equal([group["momentum"] for group in muon.param_groups], [0.8, 0.8])
        muon.step(); advance(scheduler)
    rates = np.array(rates)
    close(rates.max(0), [0.2, 0.03], eps=1e-12)  # each group its own peak, one shape
    close(rates[:, 0] / 0.2, rates[:, 1] / 0.03, eps=1e-9)
    down = np.linspace(0, np.pi, 31)  # from step 9, the peak, to step 39
    close(rates[9:, 0], 0.2e-4 + (0.2 - 0.2e-4) * (1 + np.cos(down)) / 2, eps=1e-9)
    last = record(floor := sgd(), one_cycle(floor, 0.2, 4, 10, 1, final_lr=0.07), 40)[0]
    close((last[0], last.max(), last[-1]), (0.002, 0.2, 0.07 * 0.2), eps=1e-9)


def test_one_cycle_refuses_what_makes_no_sense():
    refused(lambda: one_cycle(sgd(), 1, 2, 2, final_lr=0), contains="final_lr must be above 0")
    refused(lambda: one_cycle(sgd(), 1, 2, 2, final_lr=1.1), contains="final_lr must be above 0 and at most 1")
    refused(lambda: one_cycle(sgd(), 1, 2, 2, anneal="step"), contains="anneal must be one of")
    refused(lambda: one_cycle(sgd(), -1, 2, 2), contains="max_lr must be above 0")
    refused(lambda: one_cycle(sgd(), float("nan"), 2, 2), contains="max_lr must be above 0")
    refused(lambda: one_cycle(sgd(), float("inf"), 2, 2), contains="max_lr must be above 0")
    refused(lambda: one_cycle(sgd(), 1, 2, 2, max_lr_epoch=0), contains="max_lr_epoch must be")


def test_the_other_schedules_against_numbers_written_down():
    def rates_of(name, **given):
        optimizer = torch.optim.SGD(
            [dict(params=[nn.Parameter(torch.zeros(2))], lr=r, orthogonal=o)
             for r, o in ((9.0, False), (0.03, True))], momentum=0.9)
        optimizer.param_groups[0]["initial_lr"] = 7.0  # left by another schedule
        scheduler, seen = make_schedule(name, optimizer, 0.2, 4, 10, **given), []
        for _ in range(40):
            seen.append([group["lr"] for group in optimizer.param_groups])
            equal([group["momentum"] for group in optimizer.param_groups], [0.9, 0.9])
            optimizer.step(); advance(scheduler)
        return np.array(seen)
    equal(rates_of("Constant"), np.tile([0.2, 0.03], (40, 1)))
    once = sgd(); make_schedule("Step", once, max_lr=0.2, epochs=1, steps_per_epoch=1)
    equal(once.param_groups[0]["lr"], 0.2)  # its only step
    close(rates_of("Step"), np.outer([1] * 20 + [0.1] * 10 + [0.01] * 10, [0.2, 0.03]), eps=1e-12)
    close(rates_of("Cosine"),
          np.outer((1 + np.cos(np.pi * np.arange(40) / 40)) / 2, [0.2, 0.03]), eps=1e-12)
    close(rates_of("OneCycle", cycle_momentum=False).max(0), [0.2, 0.03], eps=1e-12)
    refused(lambda: rates_of("step"), contains="name must be one of ('OneCycle', 'Constant',")


def three_groups(rates=(0.02, 0.1, 0.0), **more):
    return torch.optim.SGD([dict(params=[nn.Parameter(torch.zeros(1))], lr=rate, **more)
                            for rate in rates], momentum=0.9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_groups_keep_their_share_of_the_highest_rate(name):
    def rates_of(optimizer):
        scheduler, seen = make_schedule(name, optimizer, 0.3, 4, 10), []
        for _ in range(40):
            seen.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step(); advance(scheduler)
        return np.array(seen)
    curve = rates_of(three_groups([7.0]))  # of a single group, whatever rate it had
    equal(curve.max(), 0.3)
    close(rates_of(three_groups()), np.outer(curve, [0.2, 1, 0]), eps=1e-12)
    equal(rates_of(three_groups([0.03] * 3)), np.tile(curve, (1, 3)))  # equal ones bit for bit
    equal(rates_of(three_groups([0.0] * 3)), np.tile(curve, (1, 3)))  # nothing was said of them
    mixed = three_groups()
    mixed.add_param_group(dict(params=[nn.Parameter(torch.zeros(1))], lr=5.0, orthogonal=True))
    close(rates_of(mixed), np.outer(curve, [0.2, 1, 0, 5 / 0.3]), eps=1e-12)


def test_a_run_keeps_the_rates_of_groups_and_is_another_one_with_other_rates(tmp_path):
    def go(rates, **more):
        model = small_network()
        groups = [dict(params=[*model[:2].parameters()], lr=rates[0]),
                  dict(params=[*model[2:].parameters()], lr=rates[1])]
        optimizer, seen = torch.optim.SGD(groups, momentum=0.9), []
        class Notes:
            def after_step(self, run): seen.append([g["lr"] for g in run.optimizer.param_groups])
        history = train_test_loop(model, "cpu", tiny(), tiny(), max_LR=0.1, EPOCHS=2, seed=0,
                                  optimizer=optimizer, hooks=[Notes()], run_dir=tmp_path, **more)
        return history, np.array(seen)
    history, seen = go((0.001, 0.01))
    close(seen[:, 0], seen[:, 1] / 10, eps=1e-12)
    equal(history.column("lr"), [seen[2, 1], seen[5, 1]])  # of the fastest group
    refused(lambda: go((0.005, 0.01)), contains="lr is [0.001, 0.01] there, [0.005, 0.01] was asked for")


def test_a_recipe_knows_the_schedules_and_the_ways_to_anneal():
    hints = get_type_hints(Recipe, include_extras=True)
    equal(get_args(get_args(hints["schedule"])[0]), SCHEDULES)
    for way in get_args(get_args(hints["anneal"])[0]): one_cycle(sgd(), 1, 2, 2, anneal=way)


# ---- one pass

def test_evaluate_is_the_mean_over_images():
    model = small_network().train()
    loss, accuracy = evaluate(model, tiny(), precision="float32")
    assert model.training
    with torch.no_grad(): logits = model.eval()(pixels).numpy().astype(float)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    close(loss, -log_p[np.arange(70), truth].mean(), eps=1e-5)  # 70 images in batches of 32, 32, 6
    close(accuracy, 100 * (logits.argmax(1) == truth.numpy()).mean(), eps=1e-5)
    refused(lambda: evaluate(model, []), contains="loader is empty")
    # evaluate leaves no trace, whatever the processor wants
    narrow = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.Flatten(), nn.Linear(768, 10))
    evaluate(narrow, tiny(), precision="float32")
    assert type(narrow[0]) is nn.Conv2d


def test_evaluate_gives_each_layer_its_own_mode_back():
    model = small_network().train(); model[0].eval()  # mixed modes
    modes = [module.training for module in model.modules()]
    def criterion(logits, labels):
        assert not any(module.training for module in model.modules())
        raise RuntimeError("in the middle")
    with pytest.raises(RuntimeError, match="in the middle"): evaluate(model, tiny(), criterion)
    equal([module.training for module in model.modules()], modes)
    evaluate(model, tiny(), precision="float32")
    equal([module.training for module in model.modules()], modes)


class Talks(nn.Module):
    def __init__(self, inside): super().__init__(); self.inside = inside
    def forward(self, x): return {"loss": x.mean(), "logits": self.inside(x)}


def test_evaluate_takes_networks_and_batches_from_elsewhere():
    bare = small_network().eval()
    with torch.no_grad(): logits = bare(pixels)
    expected = (nn.functional.cross_entropy(logits, truth).item(),
                100 * (logits.argmax(1) == truth).float().mean().item())
    batches = [{"image": pixels[:40], "label": truth[:40]}, (pixels[40:], truth[40:], "more")]
    for other in (nn.DataParallel(bare), Talks(bare), nn.DataParallel(Talks(bare)),
                  copy.deepcopy(bare).double()):
        close(evaluate(other, batches, precision="float32"), expected, eps=1e-4)
    for kind in (torch.half, torch.bfloat16):
        low = copy.deepcopy(bare).to(kind)
        with torch.no_grad(): rounded = copy.deepcopy(low).float()(pixels)
        close(evaluate(low, batches, precision="float32")[0],
              nn.functional.cross_entropy(rounded, truth).item(), eps=1e-4)
        close(evaluate(low, batches, precision="bfloat16")[0], expected[0], eps=0.05)
        equal({value.dtype for value in low.parameters()}, {kind})
    refused(lambda: evaluate(bare, [(pixels[:, :1], truth)]), exc=ValueError,
            contains="images of shape (1, 32, 32) do not fit the model")
    refused(lambda: evaluate(bare, [pixels]), exc=TypeError, contains="must give images and labels")


def test_a_criterion_computes_in_float32():
    kinds = []
    def criterion(logits, labels):
        kinds.append((logits @ logits.T).dtype)  # a product, which autocast would lower
        return cross_entropy(logits, labels)
    evaluate(small_network(), tiny(), criterion, precision="bfloat16")
    train_step(small_network(), pixels, truth, sgd(), criterion, torch.bfloat16)
    equal({*kinds}, {torch.float32})


def test_train_epoch_is_the_update_written_out():
    model, by_hand = small_network(), small_network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loss, accuracy = train_epoch(model, tiny(), optimizer, cross_entropy)
    velocity, sums, right = [0] * len(list(by_hand.parameters())), 0, 0
    for images, labels in tiny():
        logits = by_hand(images)
        batch_loss = -logits.log_softmax(1)[range(len(labels)), labels].mean()
        gradients = torch.autograd.grad(batch_loss, list(by_hand.parameters()))
        velocity = [0.9 * v + g for v, g in zip(velocity, gradients)]
        with torch.no_grad():
            for p, v in zip(by_hand.parameters(), velocity): p -= 0.05 * v
        sums += batch_loss.item() * len(labels)
        right += (logits.argmax(1) == labels).sum().item()
    close(loss, sums / 70, eps=1e-5); close(accuracy, 100 * right / 70, eps=1e-5)
    for a, b in zip(model.parameters(), by_hand.parameters()):
        close(a.detach(), b.detach(), eps=1e-5)


# A network without batch norm, whose gradient is the mean over images; 70 images in batches of 8.
def no_norm():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))


@pytest.mark.parametrize("accumulate, size, same_as", ((2, 8, 16), (4, 16, 64), (7, 3, 21), (9, 8, 72)))
def test_gradients_of_several_batches_make_one_update(accumulate, size, same_as):
    def trained(size, **more):
        model, steps = no_norm(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = one_cycle(optimizer, 0.3, 1, math.ceil(70 / same_as))
        result = train_epoch(model, tiny(size), optimizer, cross_entropy, scheduler,
                             after_step=lambda: steps.append(optimizer.param_groups[0]["lr"]), **more)
        return model, result, steps
    wanted, result, steps = trained(same_as)
    model, ours, our_steps = trained(size, accumulate=accumulate)
    for a, b in zip(model.parameters(), wanted.parameters()): close(a.detach(), b.detach(), eps=1e-5)
    close(ours, result, eps=1e-4); equal(our_steps, steps)
    assert not torch.equal(next(model.parameters()), next(no_norm().parameters()))


def test_accumulation_in_a_run(tmp_path):
    class Counts:
        steps = 0
        def after_step(self, run): self.steps += 1
    recipe, count = Recipe(precision="float32", accumulate=2, average=0.9), Counts()
    whole, resumed = small_network(), small_network()
    ask = dict(max_LR=0.1, EPOCHS=3, seed=0, recipe=recipe)
    history = train_test_loop(whole, "cpu", tiny(16), tiny(), hooks=[count], **ask)  # five batches
    equal(count.steps, 9)
    close(history.column("lr")[-1], 0.1 * 1e-4, eps=1e-9)  # the schedule comes to its end
    cut = loop(Fails(tiny(16), 8), tiny(), run_dir=tmp_path, **ask)
    equal(without_time(cut), without_time(history)[:1])
    refused(lambda: loop(tiny(16), tiny(), run_dir=tmp_path, **ask | dict(recipe=Recipe(
        precision="float32", average=0.9))), contains="accumulate is 2 there, 1 was asked for")
    again = train_test_loop(resumed, "cpu", tiny(16), tiny(), run_dir=tmp_path, **ask)
    equal(without_time(again), without_time(history)); same_weights(whole, resumed)
    refused(lambda: train_epoch(no_norm(), tiny(), sgd(), cross_entropy, accumulate=0),
            contains="accumulate must be at least 1, got 0")
    refused(lambda: Recipe(accumulate=0), exc=ValueError, contains="accumulate")


def test_the_step_of_a_loss_that_is_nan_counts_updates():
    broken = pixels.clone(); broken[2 * 25] = float("nan")
    loader = DataLoader(TensorDataset(broken, truth), 2)  # the 26th of 35 batches
    refused(lambda: train_epoch(small_network(), loader, sgd(), cross_entropy, accumulate=3),
            contains="nan at step 9 of epoch")


def test_a_checkpoint_of_a_version_that_had_fewer_fields_goes_on(tmp_path):
    ask = dict(max_LR=0.1, EPOCHS=2, seed=0, recipe=exact, run_dir=tmp_path)
    loop(Fails(tiny(), 4), tiny(), **ask)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["setup"]["accumulate"]
    torch.save(state, tmp_path / "checkpoint.pt")
    equal(len(loop(tiny(), tiny(), **ask)), 2)


# ---- loaders and networks from elsewhere train as they are evaluated

class Stream(IterableDataset):
    def __iter__(self): return iter(zip(pixels, truth))


class Counted(Stream):
    def __len__(self): return 70


Batch, Turned = namedtuple("Batch", "images labels"), namedtuple("Turned", "target image")
in_three = [*zip(pixels.split(32), truth.split(32))]


@pytest.mark.parametrize("loader", (
    in_three, tuple(in_three), [[*pair] for pair in in_three],
    [{"image": x, "label": y} for x, y in in_three], [Batch(*pair) for pair in in_three],
    [Turned(y, x) for x, y in in_three], [(x, y, "more") for x, y in in_three],
    DataLoader(Counted(), 32), DataLoader(TensorDataset(pixels, truth, torch.arange(70)), 32),
    tiny(), [(x.double(), y.int()) for x, y in in_three], [(x, y.byte()) for x, y in in_three],
    [(x, torch.eye(10).long()[y]) for x, y in in_three]), ids=range(13))
def test_every_form_of_batches_is_trained_on(loader):
    def of(loader):
        trained = loop(loader, loader, max_LR=0.1, EPOCHS=2, seed=0, recipe=exact)
        model = small_network()
        predict(model, loader); find_mistakes(model, loader)
        curve = range_test(model, loader, start_lr=1e-3, end_lr=1e3, num_iter=40, rule="lowest",
                           precision="float32")
        return [value for row in without_time(trained) for value in row.values()] + [
            *curve.losses, curve.suggestion, *evaluate(model, loader, precision="float32")]
    close(of(loader), of(tiny()), eps=1e-4)


@pytest.mark.parametrize("batch, words, kind", (
    ((pixels[0], truth[0]), "images must have shape (N, C, H, W), got (3, 32, 32)", ValueError),
    ((truth, pixels), "images must have shape (N, C, H, W), got (70,)", ValueError),
    ((pixels, truth[0]), "labels must be one class for each image, shape (N,), or shares of all classes, (N, K), got shape ()", ValueError),
    ((pixels, truth[:, None]), "or shares of all classes, (N, K), got shape (70, 1)", ValueError),
    ((pixels, truth.float()), "labels must be whole numbers, got float32", TypeError),
    ((pixels.numpy(), truth.numpy()), "got tuple of ndarray, ndarray", TypeError),
    (((pixels, pixels), truth), "got tuple of tuple of", TypeError),
    (dict(image=pixels, x=pixels + 1, y=truth), "got dict of image: a tensor", TypeError)), ids=range(8))
def test_batches_that_are_refused_by_all(batch, words, kind):
    model = small_network()
    for use in (lambda: train_epoch(model, [batch], sgd(), cross_entropy), lambda: range_test(model, [batch]),
                lambda: evaluate(model, [batch]), lambda: predict(model, [batch]),
                lambda: loop([batch], tiny(), **quick)):
        refused(use, contains=words, exc=kind)


def test_an_empty_batch_is_not_trained_on():
    model, batches = small_network(), [*in_three, (pixels[:0], truth[:0])]
    for use in (lambda: train_epoch(model, batches, sgd(), cross_entropy), lambda: range_test(model, batches),
                lambda: train_epoch(model, batches, sgd(), cross_entropy, accumulate=2)):
        refused(use, contains="is empty", exc=ValueError)
    close(evaluate(model, batches), evaluate(model, in_three))


def test_a_loader_without_a_length_is_evaluated_and_not_trained_on():
    endless, model = DataLoader(Stream(), 32), small_network()
    for use in (evaluate, lambda *given: predict(*given).accuracy, lambda *given: len(find_mistakes(*given)),
                lambda *given: range_test(*given, start_lr=1e-3, end_lr=1e3, rule="lowest")):
        equal(use(model, endless), use(model, tiny()))
    equal(without_time(loop(tiny(), endless, seed=0, **quick)), without_time(loop(tiny(), tiny(), seed=0, **quick)))
    refused(lambda: loop(endless, tiny(), **quick), exc=TypeError,
            contains="train_loader must have a length, as the schedule is planned for all its batches: ob")
    once = (pair for pair in in_three)
    refused(lambda: loop(once, tiny(), **quick), exc=TypeError, contains="train_loader must be a loader that can")
    refused(lambda: loop(tiny(), once, **quick), exc=TypeError, contains="got generator, which ends after one")
    equal(evaluate(model, once), evaluate(model, in_three))  # nobody has read of it
    class Foreign:
        def __len__(self): return 3
        def __iter__(self): return iter(in_three)
    refused(lambda: loop(Foreign(), tiny(), **quick), exc=TypeError, contains="or have a method set_epoch(seed, e")


@pytest.mark.parametrize("form", ("logits", "tuple", "object", "convolution"))
def test_networks_with_more_than_logits_train(form):
    class Wraps(nn.Module):
        def __init__(self): super().__init__(); self.inside = small_network()
        def forward(self, x):
            out = self.inside(x)
            return dict(logits=dict(loss=out.mean(), logits=out), tuple=(out, x),
                        object=namedtuple("Out", "aux logits")(out, out), convolution=out[..., None, None])[form]
    plain = train_test_loop(small_network(), "cpu", tiny(), tiny(), seed=0, **quick)
    other = train_test_loop(Wraps(), "cpu", tiny(), tiny(), seed=0, **quick)
    equal(without_time(other), without_time(plain))
    given = dict(start_lr=1e-3, end_lr=1e3, rule="lowest")
    equal(range_test(Wraps(), tiny(), **given), range_test(small_network(), tiny(), **given))


def test_a_batch_of_one_image_and_batch_norm():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    optimizer, one = torch.optim.SGD(model.parameters(), lr=0.1), [(pixels[:1], truth[:1])]
    for use in (lambda: train_epoch(model, one, optimizer, cross_entropy), lambda: range_test(model, one)):
        refused(use, exc=ValueError, contains="a batch of one image is too little for batch norm: choose a different batch_")
    train_epoch(small_network(), one, sgd(), cross_entropy)  # its maps have more than one place
    evaluate(model, one)


def test_a_loader_computes_in_float32_whatever_the_network_does():
    kinds = []
    class Computes(list):
        def __iter__(self):
            for images, labels in in_three:
                kinds.append((images.flatten(1) @ torch.eye(3072)).dtype)
                yield torch.stack([image.half() for image in images]), labels
    model = small_network()
    evaluate(model, Computes(), precision="bfloat16")
    train_epoch(model, Computes(), sgd(), cross_entropy, dtype=torch.bfloat16)
    equal({*kinds}, {torch.float32})


def test_train_step_detaches_what_it_returns():
    step = train_step(small_network(), pixels[:4], truth[:4], sgd(), cross_entropy, torch.float32)
    equal(step[0].shape, (4, 10)); assert not step[1].requires_grad


@pytest.mark.parametrize("first", (0, 19, 20, 33))  # batches of two: 35 steps
def test_a_loss_that_is_nan_is_found_and_its_step_named(first):
    broken = pixels.clone(); broken[2 * first] = float("nan")
    loader = DataLoader(TensorDataset(broken, truth), 2)
    still = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    refused(lambda: train_epoch(small_network(), loader, still, cross_entropy, label="epoch 3/9"),
            contains=f"nan at step {first + 1} of epoch 3/9")


def test_a_step_waits_for_no_value_of_a_device(monkeypatch):
    "The device `meta` has shapes and no values: whatever needs one, as a processor that waits for its GPU, fails."
    monkeypatch.setattr("cifar_gradcam.train.autocast", lambda *_: contextlib.nullcontext())
    images, labels = synthetic_images(20, np.random.default_rng(0))
    soft = nn.functional.one_hot(torch.as_tensor(labels), 10).float().numpy()
    network = small_network().to("meta")
    for name, targets in (("SGD", labels), ("Muon", labels), ("Muon", soft)):
        batches = BatchedImages(AugmentedImages(images, targets, plain_transform()), 8, device="meta")
        optimizer, average = make_optimizer(name, network, 0.1, weight_decay=1e-3), Average(network, 0.9)
        for x, y in batches:
            logits, loss = train_step(network, x, y, optimizer, cross_entropy, torch.float32)
            average.update_parameters(network)
            equal((loss.device.type, number_right(logits, y).device.type), ("meta", "meta"))
        with pytest.raises((RuntimeError, NotImplementedError)): loss.item()


def test_losses_are_read_every_twenty_updates(monkeypatch):
    # By count, not by the clock: several processes must stop at the same step.
    reads, real = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: reads.append(len(tensor)) or real(tensor))
    def reads_of(size, accumulate=1):
        reads.clear()
        train_epoch(small_network(), tiny(size), sgd(), cross_entropy, accumulate=accumulate)
        return [*reads]
    equal(reads_of(35), [2])
    equal(reads_of(2), [20, 15])
    equal(reads_of(1, accumulate=2), [40, 30])


def test_what_an_epoch_adds_to_each_step():
    "Calls beside the network's, the criterion's and the optimizer's: to count, and to find what is not finite."
    class Constant(nn.Module):
        def __init__(self): super().__init__(); self.logits = nn.Parameter(torch.zeros(1, 10))
        def forward(self, x): return self.logits.expand(len(x), 10)
    def epoch(batches):
        network = Constant()
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        return calls(lambda: train_epoch(network, [(pixels[:4], truth[:4])] * batches, optimizer, cross_entropy))
    def step():
        network = Constant()
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        return calls(lambda: train_step(network, pixels[:4], truth[:4], optimizer, cross_entropy, torch.float32))
    assert (epoch(12) - epoch(2)) / 10 - step() <= 16


def test_train_epoch_refuses_an_empty_loader():
    assert issubclass(LossIsNaN, FloatingPointError)
    refused(lambda: train_epoch(small_network(), [], sgd(), cross_entropy), contains="loader is empty")


def test_accuracy_and_loss_of_a_batch():
    logits = torch.tensor([[3.0, 1, 2], [0, 1, 2], [5, 4, 6]])
    equal(number_right(logits, torch.tensor([0, 1, 2])), 2)
    equal(number_right(logits, torch.tensor([[0.1, 0.8, 0.1], [0.4, 0, 0.6], [0, 0.3, 0.7]])), 2)
    equal(one_number(torch.tensor(0.5)), 0.5)
    refused(lambda: one_number(torch.zeros(4)), contains="got shape (4,)", exc=ValueError)
    each = nn.CrossEntropyLoss(reduction="none")
    for measure in (lambda: train_epoch(small_network(), tiny(), sgd(), each),
                    lambda: evaluate(small_network(), tiny(), each)):
        refused(measure, contains="criterion must give one number, the mean loss of a batch, got sh")


def test_soft_labels():
    certain, other = torch.eye(10)[truth], torch.eye(10)[(truth + 3) % 10]
    mixed, turned = 0.7 * certain + 0.3 * other, (truth + 3) % 10
    def trained_on(labels, criterion=cross_entropy):
        network, loader = small_network(), DataLoader(TensorDataset(pixels, labels), 32)
        before = evaluate(network, loader, criterion, precision="float32")
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        return before, train_epoch(network, loader, optimizer, criterion)
    plain, soft, blend = map(trained_on, (truth, certain, mixed))
    # As certain ones they are the plain ones; mixed, the loss is the mean of both.
    for a, b in ((plain[0], soft[0]), (plain[1], soft[1])): close(a, b, eps=1e-5)
    turned = evaluate(small_network(), DataLoader(TensorDataset(pixels, turned), 32), precision="float32")
    close(blend[0][0], 0.7 * plain[0][0] + 0.3 * turned[0], eps=1e-5)
    equal(blend[0][1], plain[0][1])  # right is who names the class with the largest share
    close(trained_on(certain, lambda logits, labels: ((logits - labels)**2).mean())[0][0],
          ((small_network().eval()(pixels) - certain)**2).mean().item(), eps=1e-5)
    smooth = nn.CrossEntropyLoss(label_smoothing=0.2)
    close(trained_on(certain, smooth)[1], trained_on(truth, smooth)[1], eps=1e-5)


# ---- the loop

quick = dict(max_LR=0.1, EPOCHS=1)
exact = Recipe(precision="float32")


def test_what_the_loop_refuses():
    for wrong in ("Lion", 3):
        refused(lambda: loop(tiny(), tiny(), optimizer=wrong, **quick),  # noqa: B023
                contains="optimizer\n  Input should be 'SGD', 'Muon'")
    refused(lambda: loop(tiny(), tiny(), lr_scheduler="step", **quick),
            contains="lr_scheduler must be one of ('OneCycle', 'Constant', 'Step', 'Cosine', None)")
    refused(lambda: loop(tiny(), [], **quick), contains="test_loader is empty")
    refused(lambda: loop([], tiny(), **quick), contains="train_loader is empty")
    refused(lambda: loop(tiny(), tiny(), EPOCHS=0), exc=ValueError, contains="epochs\n  Input")
    refused(lambda: loop(tiny(), tiny(), max_LR=-1), exc=ValueError, contains="max_lr\n  Input")
    refused(lambda: train_test_loop(small_network(), "tpu", tiny(), tiny(), **quick),
            contains="device must be")
    model = small_network()
    mine = torch.optim.SGD(model.parameters(), lr=0.007)
    refused(lambda: train_test_loop(model, "cpu", tiny(), tiny(), optimizer=mine, lr=0.1),
            contains="lr must be None beside an optimizer, which has its own, got 0.1")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_with_every_schedule(name):
    for schedule in (*SCHEDULES, None):
        rate = dict(max_LR=0.01) if schedule else dict(lr=0.01)
        result = loop(tiny(), tiny(), EPOCHS=1, optimizer=name, lr_scheduler=schedule, **rate)
        assert np.isfinite(result.rows[0]["test_loss"]) and result.rows[0]["lr"] > 0


def test_optimizer_objects_and_what_arguments_override():
    model = small_network()
    mine = torch.optim.SGD(model.parameters(), lr=0.007)
    result = train_test_loop(model, "cpu", tiny(), tiny(), EPOCHS=1, optimizer=mine, lr_scheduler=None)
    equal(result.rows[0]["lr"], 0.007)
    # the original's own line, with a criterion of one's own
    adam = torch.optim.Adam(model.parameters())
    result = train_test_loop(model, "cpu", tiny(), tiny(), 0.01, EPOCHS=1, optimizer=adam,
                             criterion=nn.CrossEntropyLoss())
    assert result.rows[0]["lr"] < 0.01
    # the recipe counts where no argument is given, and the argument where one is
    result = loop(tiny(), tiny(), 0.02, recipe=Recipe(epochs=2, max_lr=0.5))
    equal(len(result), 2); close(result.rows[-1]["lr"], 0.02 / 10_000, eps=1e-12)
    model = small_network()
    mine = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.003))  # a tensor, which a schedule changes in place
    rates = train_test_loop(model, "cpu", tiny(), tiny(), 0.02, 2, optimizer=mine).column("lr")
    close(rates[-1], 0.02 / 10_000, eps=1e-9); assert rates[0] > 0.001 and {*map(type, rates)} == {float}
    result = loop(tiny(), tiny(), lr_scheduler=None, EPOCHS=1, lr=0.003)
    refused(lambda: loop(tiny(), tiny(), EPOCHS=1, lr=0.003), contains="lr must be None beside lr_scheduler 'OneCycle'")
    refused(lambda: loop(tiny(), tiny(), 0.1, EPOCHS=1, lr_scheduler=None), contains="max_LR must be None without a schedule")
    equal(result.rows[0]["lr"], 0.003)


def test_the_model_is_plain_again_after_training():
    model = small_network()
    train_test_loop(model, "cpu", tiny(), tiny(), **quick)
    assert type(model[0][0]) is nn.Conv2d


class Watches:
    "A hook with every moment."
    def __init__(self): self.moments, self.run = [], None
    def __getattr__(self, moment):
        def note(run, *details):
            self.run = run
            if moment == "begin": run.parts["kept"] = self.kept = nn.Linear(1, 1)
            if moment == "before_test": nn.init.constant_(self.kept.weight, len(run.history) + 1)
            self.moments.append((moment, len(run.history), *details))
        return note


def test_hooks_are_told_of_each_moment_in_order():
    watch = Watches()
    history = loop(tiny(), tiny(), max_LR=0.1, EPOCHS=2, recipe=exact, hooks=[watch])
    names = [moment[0] for moment in watch.moments]
    epoch = ["after_step"] * 3 + ["before_test", "after_epoch"]
    equal(names, ["prepare", "begin", *epoch, *epoch, "end"])
    equal([done for name, done in watch.moments if name == "after_epoch"], [1, 2])
    assert watch.run.history is history


def test_a_hook_may_put_something_into_the_checkpoint_and_in_the_tested_models_place(tmp_path):
    class Doubtful(nn.Module):
        def __init__(self, model): super().__init__(); self.model = model
        def forward(self, x): return self.model(x) * 0
    class Doubts:
        def begin(self, run): run.tested = Doubtful(run.model)
    plain = dict(max_LR=0.1, EPOCHS=2, seed=0, recipe=exact)
    doubtful = loop(tiny(), tiny(), hooks=[Doubts()], **plain)
    close(doubtful.column("test_loss"), [np.log(10)] * 2, eps=1e-5)
    equal(doubtful.column("train_loss"), loop(tiny(), tiny(), **plain).column("train_loss"))
    watch = Watches()
    cut = loop(Fails(tiny(), 4), tiny(), run_dir=tmp_path, hooks=[watch], **plain)
    equal(len(cut), 1)
    equal([type(moment[2]) for moment in watch.moments if moment[0] == "interrupted"], [KeyboardInterrupt])


def test_a_part_that_a_hook_adds_is_restored_too(tmp_path):
    class Mean:
        def __init__(self): self.seen = []
        def begin(self, run): run.parts["mean"] = self.mean = Average(run.model, 0.9)
        def after_step(self, run): self.mean.update_parameters(run.model)
        def end(self, run): self.seen.append(self.mean.n_averaged.item())
    plain, whole, cut, again = dict(max_LR=0.1, seed=0, recipe=exact), Mean(), Mean(), Mean()
    loop(tiny(), tiny(), EPOCHS=2, hooks=[whole], **plain)
    loop(Fails(tiny(), 4), tiny(), EPOCHS=2, run_dir=tmp_path, hooks=[cut], **plain)
    loop(tiny(), tiny(), EPOCHS=2, run_dir=tmp_path, hooks=[again], **plain)
    equal(again.seen, whole.seen)
    for one, other in zip(whole.mean.parameters(), again.mean.parameters()): assert torch.equal(one, other)
    equal(len(loop(Fails(tiny(), 1), tiny(), EPOCHS=2, hooks=[Mean()], **plain)), 0)  # Ctrl-C in the first epoch
    refused(lambda: loop(tiny(), tiny(), EPOCHS=3, run_dir=tmp_path / "other", hooks=[Mean()], **plain) if loop(
        Fails(tiny(), 4), tiny(), EPOCHS=3, run_dir=tmp_path / "other", **plain) else None, contains="belongs to another network or optimizer")


# ---- runs that are interrupted

@pytest.mark.parametrize("average", (None, 0.9))
@pytest.mark.parametrize("optimizer", ("SGD", "Muon"))
def test_a_run_that_was_cut_off_continues_bit_for_bit(tmp_path, optimizer, average):
    recipe = Recipe(precision="float32", average=average, optimizer=optimizer, final_lr=0.07)
    ask = dict(max_LR=0.1, EPOCHS=3, seed=0, recipe=recipe)
    whole, resumed = small_network(), small_network()
    history = train_test_loop(whole, "cpu", tiny(), tiny(), **ask)
    close(history.column("lr")[-1], 0.007, eps=1e-9)
    equal(history.column("test_loss")[-1], evaluate(whole, tiny(), precision="float32")[0])
    cut = loop(Fails(tiny(), 4), tiny(), run_dir=tmp_path, **ask)
    equal(without_time(cut), without_time(history)[:1])
    again = train_test_loop(resumed, "cpu", tiny(), tiny(), run_dir=tmp_path, **ask)
    equal(without_time(again), without_time(history)); same_weights(whole, resumed)


@pytest.mark.parametrize("in_folder", (False, True))
@pytest.mark.parametrize("batches", (2, 4))  # in the first, in the second epoch
def test_ctrl_c_leaves_whole_epochs(tmp_path, batches, in_folder):
    model, start = small_network(), small_network()
    folder = dict(run_dir=tmp_path) if in_folder else {}
    ask = dict(seed=0, max_LR=0.1, EPOCHS=3, recipe=exact, **folder)
    cut = train_test_loop(model, "cpu", Fails(tiny(), batches), tiny(), **ask)
    equal(len(cut), batches // 3)
    if not cut.rows: same_weights(model, start)
    else: equal(cut.column("test_loss"), [evaluate(model, tiny(), precision="float32")[0]])


def test_after_ctrl_c_the_model_is_the_averaged_one_of_the_last_row():
    averaged = small_network()
    cut = train_test_loop(averaged, "cpu", Fails(tiny(), 4), tiny(), max_LR=0.1, EPOCHS=3,
                          seed=0, recipe=Recipe(precision="float32", average=0.9))
    equal(cut.column("test_loss"), [evaluate(averaged, tiny(), precision="float32")[0]])


def test_a_loss_that_is_nan_after_a_good_epoch_and_a_checkpoint_of_another_run(tmp_path):
    model = small_network()
    ask = dict(max_LR=0.1, seed=0, recipe=exact, run_dir=tmp_path)
    bad = Fails(tiny(), 4, nan=True)  # three batches an epoch: the fifth is the second of epoch 2
    refused(lambda: train_test_loop(model, "cpu", bad, tiny(), EPOCHS=3, **ask),
            contains="nan at step 2 of epoch 2/3")
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    for name, value in model.state_dict().items(): assert torch.equal(value, kept[name]), name
    equal(len(History.load(tmp_path / "history.csv")), 1)
    def again(**other): return loop(tiny(), tiny(), **dict(EPOCHS=3) | ask | other)
    for other, message in (
            (dict(EPOCHS=5), "epochs is 3 there, 5 was asked for"),
            (dict(seed=1), "seed is 0 there, 1 was asked for"),
            (dict(max_LR=0.2), "max_lr is 0.1 there, 0.2 was asked for"),
            (dict(optimizer="Adam"), "optimizer is 'SGD' there, 'Adam' was asked for"),
            (dict(lr_scheduler="Step"), "lr_scheduler is 'OneCycle' there, 'Step' was asked for"),
            # a field of the recipe that the loop itself never reads
            (dict(recipe=Recipe(precision="float32", sync_batchnorm=True)),
             "sync_batchnorm is False there, True was asked for"),
            (dict(recipe=Recipe(precision="bfloat16")), "dtype is 'torch.float32' there, 'torch.bf")):
        refused(lambda: again(**other), contains=message)  # noqa: B023
    again(seed=None)  # goes on with its own seed
    equal(load_checkpoint(tmp_path / "checkpoint.pt")["setup"]["seed"], 0)
    again(recipe=Recipe(precision="float32", device="cpu"))  # where it runs is free


def test_two_loops_in_one_folder(tmp_path):
    class Waits(Fails):
        def __iter__(self):
            with ThreadPoolExecutor(1) as elsewhere:
                again = elsewhere.submit(loop, tiny(), tiny(), run_dir=tmp_path, **quick)
                refused(again.result, exc=FolderIsBusy, contains="another run works in")
            return iter(self.loader)
    equal(len(loop(Waits(tiny(), 0), tiny(), run_dir=tmp_path, **quick)), 1)
    with hold_folder(tmp_path):  # by a caller in the same thread, as `train_run` does it
        equal(len(loop(tiny(), tiny(), run_dir=tmp_path, seed=None, **quick)), 1)


# ---- the peak

@pytest.fixture(scope="module")
def separable():
    class Images: data, targets = synthetic_images(500, np.random.default_rng(0))
    def loader(): return BatchedImages(Images, 50)
    return loader


def test_without_a_peak_there_is_one_range_test_and_it_is_kept(tmp_path, separable):
    loader = separable()
    seed_epoch(loader, 0, 2**31)
    by_sgd = range_test(small_network(), loader, precision="float32").suggestion
    ask = dict(EPOCHS=2, seed=0, recipe=exact)
    peaks = []
    class Notes:
        def begin(self, run): peaks.append(run.max_lr)
    for optimizer in ("SGD", "Muon"):  # SGD's where the optimizer is Muon
        loop(loader, tiny(), optimizer=optimizer, hooks=[Notes()], **ask | dict(EPOCHS=1))
    equal(peaks, [by_sgd, by_sgd])
    cut = loop(Fails(loader, 100 + 15), tiny(), run_dir=tmp_path, **ask)
    equal(json.loads((tmp_path / "range_test.json").read_text())["suggestion"], by_sgd)
    equal(load_checkpoint(tmp_path / "checkpoint.pt")["setup"]["max_lr"], by_sgd)
    whole = loop(Fails(loader, 10), tiny(), run_dir=tmp_path, **ask)  # asks for no second one
    equal((len(cut), len(whole)), (1, 2))
    (tmp_path / "checkpoint.pt").unlink()  # killed in its first epoch, maybe with another optimizer
    (tmp_path / "range_test.json").write_text('{"suggestion": 0.05}')
    loop(loader, tiny(), run_dir=tmp_path, **ask | dict(EPOCHS=1))
    equal(load_checkpoint(tmp_path / "checkpoint.pt")["setup"]["max_lr"], by_sgd)
    equal(json.loads((tmp_path / "range_test.json").read_text())["suggestion"], by_sgd)


def test_a_whole_run_from_soft_labels_with_its_range_test(separable):
    loader = separable()
    loader.labels = 0.7 * torch.eye(10)[loader.labels] + 0.03
    assert loop(loader, tiny(), EPOCHS=1, seed=0).rows[0]["train_loss"] > 0


@pytest.mark.parametrize("asked, used", ((0.0, 0.0), (None, 0.9), (0.85, 0.85)))
def test_momentum_is_cycled_or_as_the_recipe_says(asked, used):
    class Notes:
        def begin(self, run): self.run = run
    notes = Notes()
    loop(tiny(), tiny(), hooks=[notes], recipe=Recipe(momentum=asked, precision="float32"), **quick)
    equal(notes.run.optimizer.defaults["momentum"], used)


def test_label_smoothing_is_for_training_only():
    class Notes:
        def begin(self, run): self.losses = run.criterion, run.test_criterion
    notes, smoothed = Notes(), Recipe(label_smoothing=0.2)
    loop(tiny(), tiny(), hooks=[notes], recipe=smoothed, **quick)
    equal([loss.label_smoothing for loss in notes.losses], [0.2, 0])
    mine = nn.MultiMarginLoss()
    loop(tiny(), tiny(), criterion=mine, hooks=[notes], recipe=smoothed, **quick)
    equal(notes.losses, (mine, mine))


# ---- curves and records

def test_curves_from_a_history_four_arguments_or_four_lists():
    lists = [1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]
    rows = [dict(zip(COLUMNS, (1, 0.1, *values, 60.0))) for values in zip(*lists)]
    for drawn in (show_accuracy_loss(History(rows)), show_accuracy_loss(*lists), show_accuracy_loss(lists)):
        equal([list(line.get_ydata()) for ax in drawn.axes for line in ax.lines],
              [lists[0], lists[2], lists[1], lists[3]])
    refused(lambda: show_accuracy_loss([[1], [2]]), contains="four lists, got 2")
    refused(lambda: show_accuracy_loss([1], [2]), contains="four lists, got 2")
    plt.close("all")


def test_what_chapter_04_says_of_the_schedules():
    tuned_on, arms = load_series("schedule-peaks"), load_series("schedules")
    for shape in ("Constant", "Step", "Cosine", "OneCycle", "OneCycle-cosine"):
        accuracies = {rate: tuned_on[f"{shape}-{rate:g}"][0].accuracy
                      for rate in (0.02, 0.05, 0.1, 0.2, 0.5, 1)}
        top = max(accuracies.values())
        error = np.sqrt(top * (100 - top) / 5000)  # of an accuracy from 5,000 images
        best = min(rate for rate, accuracy in accuracies.items() if accuracy >= top - error)
        equal(arms[shape][0].recipe.max_lr, best)
    for shape in ("Constant", "Step", "Cosine"):
        assert compare_arms(arms["OneCycle"], arms[shape]).low > 1
        if shape != "Constant": assert compare_arms(arms["OneCycle-cosine"], arms[shape]).low > 0.9
    level = compare_arms(arms["OneCycle-cosine"], arms["OneCycle"])
    assert level.low < 0 < level.high
    momentum = compare_arms(arms["OneCycle-momentum"], arms["OneCycle"])
    assert -1 < momentum.low < 0 < momentum.high < 1.5
    one_cycle_, cosine = (np.array([run.history.column("test_accuracy") for run in arms[shape]])
                          for shape in ("OneCycle", "Cosine"))
    apart = one_cycle_ - cosine
    assert apart[:, 0].min() < 0 < apart[:, 0].max()  # no lead before the last epoch
    assert abs(apart.mean(0)[1:3]).max() < 1.2 and apart[:, 3].min() > 2


def test_what_chapter_04_says_of_the_first_real_run():
    lines, baselines = load_series("tutorial")["tutorial"], load_series("baselines")
    real = lines[0]
    equal(real.recipe, Recipe())
    close(real.range_test.suggestion, 0.0167, eps=5e-5)
    close(real.history.column("lr")[4], real.range_test.suggestion, eps=1e-5)  # the peak, at epoch 5
    tested, trained = (np.array(real.history.column(f"{on}_accuracy")) for on in ("test", "train"))
    equal((np.flatnonzero(np.diff(tested) < 0) + 2).tolist(), [10, 13])
    assert (tested > trained).all() and 86.5 < trained[-1] < 87.5
    original = baselines["original_sgd"][0].recipe
    equal((original.max_lr, original.flip, original.momentum, original.pad), (0.464, "none", None, 2))
    equal(round(original.max_lr / real.range_test.suggestion), 28)
    equal([round(original.max_lr / run.range_test.suggestion) for run in lines], [28, 31, 20])
    behind = compare_arms(lines, baselines["original_sgd"])
    equal((f"{behind.mean:.1f}", behind.high < 0), ("-0.5", True))
    ahead = [np.mean([run.accuracy for run in baselines[name]]) - reported
             for name, reported in (("original_sgd", 91.74), ("original", 91.81))]
    assert -0.4 < ahead[0] < 0 < ahead[1] < 0.4


def test_what_chapter_04_says_of_peaks_in_20_epochs():
    long, again = ({arm: runs for arm, runs in load_series(name).items()} for name in ("peaks-long", "peak-chosen"))
    ends = {arm: run.accuracy for arm, (run,) in long.items()}
    equal(max(ends, key=ends.get), "0.2")
    assert max(ends.values()) - min(ends.values()) < 1.2
    for arm, (run,) in long.items():
        equal(run.recipe, Recipe(width=16, hold_out=20_000, max_lr=None if arm == "range-test" else float(arm)))
    gains = np.subtract(*([run.accuracy for run in again[arm]] for arm in ("0.2", "range-test")))
    equal(([run.recipe.seed for run in again["0.2"]], f"{gains.mean():.1f}"), ([1, 2, 3], "0.4"))
    equal((gains > 0).tolist(), [True, True, False])
    full = {arm: run for arm, (run,) in load_series("peaks-full").items()}
    for arm, run in full.items(): equal(run.recipe, Recipe(hold_out=20_000, max_lr=None if arm == "range-test" else 0.2))
    equal(f"{full['0.2'].accuracy - full['range-test'].accuracy:+.1f}", "+0.2")
    assert 11 < 0.2 / full["range-test"].range_test.suggestion < 13


# ---- never wrong without a word

@pytest.mark.parametrize("average", [None, 0.5])
def test_a_test_loss_that_is_nan_ends_the_run_and_the_whole_epochs_stay(tmp_path, average):
    "A step with a rate of 1e20: batch norm keeps the training loss finite, its statistics overflow."
    class Jumps:
        def after_epoch(self, run):
            run.optimizer.param_groups[0]["lr"] = 1e20
            self.state = copy.deepcopy(run.model.state_dict())
    for folder in (tmp_path, None):
        network, jumps = small_network(), Jumps()
        how = dict(EPOCHS=3, lr_scheduler=None, seed=0, run_dir=folder, hooks=[jumps], recipe=Recipe(average=average))
        refused(train_test_loop, args=[network, "cpu", tiny(70), tiny(70)], kwargs=how, exc=LossIsNaN,
                contains="the test loss is NaN or infinite after epoch 2/3")
        for name, value in jumps.state.items(): assert torch.equal(network.state_dict()[name], value), name
    rows = History.load(tmp_path / "history.csv").rows
    equal((len(rows), len(load_checkpoint(tmp_path / "checkpoint.pt")["history"])), (1, 1))
    assert "nan" not in (tmp_path / "history.csv").read_text()


def test_the_test_loss_of_a_criterion_that_gives_nan():
    def broken(logits, labels): return logits.mean() * float("inf" if not logits.requires_grad else 1)
    refused(lambda: evaluate(small_network(), tiny(), broken), contains="the loss is", exc=ValueError)
    refused(lambda: loop(tiny(), tiny(), EPOCHS=2, lr=0.1, criterion=broken, lr_scheduler=None), exc=LossIsNaN,
            contains="the test loss is NaN or infinite after epoch 1/2")


def test_nan_in_weights_or_test_images_is_no_accuracy():
    broken = small_network()
    with torch.no_grad(): broken[-1].bias[:] = float("nan")
    refused(lambda: evaluate(broken, tiny()), exc=ValueError,
            contains="the model gives NaN or infinity for image no. 0 of the batch: its weights hold")
    refused(lambda: evaluate(small_network(), Fails(tiny(), 1, nan=True)), exc=ValueError,
            contains="images hold NaN or infinity: no. 0 of the batch")


several = (torch.rand(70, 10, generator=torch.Generator().manual_seed(2)) > 0.7).float()

@pytest.mark.parametrize("labels, message", [
    (several, "several labels an image are not measured"), (truth[:, None], "labels must be one class for each image, shape (N,)"),
    (truth.float(), "labels must be whole numbers, got"),
    (truth.where(truth != 3, -100), "got -100"), (truth - 1, "got -1"), (truth + 3, "got 10"),
    (torch.eye(5)[truth % 5], "labels, as shares, must be of 10 classes, got 5")])
def test_labels_that_are_no_classes_are_not_counted(labels, message):
    loader = DataLoader(TensorDataset(pixels, labels), 32)
    def mean(logits, labels): return logits.mean()
    measures = (lambda: evaluate(small_network(), loader, mean), lambda: number_right(torch.zeros(70, 10), labels),
                lambda: train_epoch(small_network(), loader, sgd(), mean))
    for measure in measures:
        with pytest.raises((ValueError, TypeError)) as fault: measure()
        assert message in str(fault.value)


def test_one_output_is_not_counted():
    one = nn.Sequential(small_network(), nn.Linear(10, 1))
    def binary(logits, labels): return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    loader = DataLoader(TensorDataset(pixels, truth % 2), 32)
    for measure in (lambda: train_epoch(one, loader, sgd(), binary), lambda: evaluate(one, loader, binary)):
        refused(measure, contains="the model has a single output, and softmax over one number is always 1", exc=ValueError)


def broken(part, value=math.nan):  # the data, and one image of the second batch is not finite
    return [(torch.where(torch.arange(len(x))[:, None, None, None] == 3, value, x) if i == part else x, y)
            for i, (x, y) in enumerate(tiny())]


def test_images_that_are_not_finite_are_told_from_a_rate_that_is_too_high():
    def train(value, accumulate):
        network = small_network()
        train_epoch(network, broken(1, value), torch.optim.SGD(network.parameters(), 0.1), cross_entropy,
                    accumulate=accumulate)
    for value in (math.nan, math.inf):
        for accumulate in (1, 2):
            refused(train, args=(value, accumulate), exc=LossIsNaN, contains="the images of that batch hold NaN")
        refused(max_lr, args=(small_network(), broken(1, value), False), contains="images hold NaN or infinity: no. 3")
    network = small_network()
    network[-1].bias.data[2] = math.nan
    refused(lambda: train_test_loop(network, "cpu", tiny(), tiny(), 0.1, 1), exc=LossIsNaN, contains="no update came before")


@pytest.mark.parametrize("labels, message", [
    (truth + 1, "labels must be from 0 to 9, got 10"), (truth * 3, "labels must be from 0 to 9, got"),
    (truth[:-1], "labels must be one class for each of 70 images"),
    (nn.functional.one_hot(truth, 12).float(), "labels, as shares, must be of 10 classes, got 12")])
def test_labels_that_are_no_classes_in_training(labels, message):
    batches = [(pixels, labels)]
    before = small_network()
    network = copy.deepcopy(before)
    for use in (lambda: train_test_loop(network, "cpu", batches, tiny(), 0.1, 1),
                lambda: train_epoch(network, batches, torch.optim.SGD(network.parameters(), 0.1), cross_entropy),
                lambda: max_lr(network, batches, plot=False)): refused(use, contains=message)
    for name, weight in before.named_parameters(): assert torch.equal(weight, network.get_parameter(name))


def test_one_output_is_refused_before_a_step():
    one = nn.Sequential(nn.Flatten(), nn.Linear(3072, 1))
    def binary(logits, labels): return logits.sum() * 0
    for use in (lambda: train_test_loop(one, "cpu", [(pixels, truth % 2)], tiny(), 0.1, 1, criterion=binary),
                lambda: max_lr(one, [(pixels, truth % 2)], plot=False, criterion=binary)):
        refused(use, contains="the model has a single output")


@pytest.mark.parametrize("frozen, make, message", [
    (False, lambda network: torch.optim.SGD(small_network().parameters(), 0.1), "optimizer must hold parameters of model"),
    (False, lambda network: torch.optim.LBFGS(network.parameters()), "got LBFGS, which asks"),
    (True, lambda network: None, "all have requires_grad=False"),
    (True, lambda network: torch.optim.SGD(network.parameters(), 0.1), "all have requires_grad=False")])
def test_optimizers_that_would_not_train_the_network(frozen, make, message):
    network = small_network().requires_grad_(not frozen)
    refused(lambda: train_test_loop(network, "cpu", tiny(), tiny(), 0.1, 1, optimizer=make(network)), contains=message)
    refused(lambda: range_test(network, tiny(), make(network)), contains=message)


def test_a_sum_is_no_mean():
    summed = nn.CrossEntropyLoss(reduction="sum")
    for use in (lambda: evaluate(small_network(), tiny(), summed), lambda: loop(tiny(), tiny(), 0.1, 1, criterion=summed),
                lambda: max_lr(small_network(), tiny(), plot=False, criterion=summed)):
        refused(use, contains="the mean loss of a batch, got its sum")


def test_training_images_are_looked_at_as_test_images_are():
    bytes_ = [((60 * x + 120).clamp(0, 255).byte(), y) for x, y in tiny()]
    with pytest.warns(UserWarning, match="were they normalized"): loop(bytes_, tiny(), 0.01, 1)
    with pytest.warns(UserWarning, match="were they normalized"): range_test(small_network(), bytes_, num_iter=100)
    with pytest.warns(UserWarning, match="drop_last=True: its last 6 images"):
        evaluate(small_network(), tiny(drop_last=True))
    equal(evaluate(small_network(), DataLoader(Stream(), 16, drop_last=True)), evaluate(small_network(), [*tiny(16)][:4]))


def test_a_range_test_without_a_peak_asks_for_one():
    refused(lambda: loop([(pixels[:2], truth[:2])], tiny(), EPOCHS=1, criterion=lambda z, y: z.sum() * 0 + 1),
            contains="give one, max_LR=0.1 say (in a terminal: --max-lr 0.1)")


def test_a_folder_with_a_checkpoint_of_another_network_or_a_damaged_curve(tmp_path):
    loop(tiny(), tiny(), 0.1, 1, seed=0, run_dir=tmp_path / "run")
    other = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    refused(lambda: train_test_loop(other, "cpu", tiny(), tiny(), 0.1, 1, seed=0, run_dir=tmp_path / "run"),
            contains="belongs to another network or optimizer")
    for text in ('{"suggestion": "x"}', '{"lrs": [', "[]", "{}"):
        (tmp_path / "run" / "range_test.json").write_text(text)
        refused(lambda: loop(tiny(), tiny(), EPOCHS=1, run_dir=tmp_path / "run"), contains="range_test.json cannot be read")
    (tmp_path / "run" / "checkpoint.pt").unlink(); (tmp_path / "run" / "checkpoint.pt").mkdir()
    with pytest.raises(IsADirectoryError): loop(tiny(), tiny(), EPOCHS=1, run_dir=tmp_path / "run")  # not "delete it"
