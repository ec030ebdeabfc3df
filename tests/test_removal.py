"Removing pixels: orders, fillings, ROAD, curves, controls and intervals."
import copy

import numpy as np
import pytest
import torch
from tools import close, equal, refused
from torch import nn
from torch.nn import functional as F

from cifar_gradcam.mistakes.removal import (
    _fill, all_logits, banded, BASELINES, blank_images, bootstrap_interval, class_probability,
    control_maps, CONTROLS, impute, insertion_deletion, neighbour_sum, probability_of,
    removal_order, removed_pixels, ROAD_SHARES, road_scores, step_counts)


def seeded(seed): return torch.Generator().manual_seed(seed)


class WeightedSum(nn.Module):
    "Two classes; the probability of the first is a weighted mean of the pixels."
    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        p = (x.mean(1) * self.weights).sum((1, 2)).clamp(1e-9, 1 - 1e-9)
        return torch.stack([p, 1 - p], 1).log()


WEIGHTS = torch.rand(32, 32, generator=seeded(0))**8
TOY = WeightedSum(WEIGHTS / WEIGHTS.sum())
BEST = TOY.weights.detach().expand(64, 32, 32)
WHITE, FIRST_CLASS = torch.ones(64, 3, 32, 32), torch.zeros(64, dtype=torch.long)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(),
                         nn.Flatten(), nn.Linear(8 * 49, 10)).eval()


@pytest.fixture(scope="module")
def images(): return F.avg_pool2d(torch.randn(20, 3, 34, 34, generator=seeded(1)), 3, 1)


@pytest.fixture(scope="module")
def maps():  # with many zeros, as after a ReLU
    return F.interpolate(torch.randn(20, 1, 4, 4, generator=seeded(2)).relu(), 32)[:, 0]


def test_order_of_removal():
    equal(removal_order(torch.tensor([[[0.1, 0.9], [0.5, 0.2]]])).tolist(), [[[3, 0], [1, 2]]])
    several = torch.rand(5, 7, 3)
    values = several.flatten(1).gather(1, removal_order(several).flatten(1).argsort(1))
    assert (values.diff(dim=1) <= 0).all()
    equal(removal_order(several, 3).tolist(), removal_order(several, 3).tolist())
    refused(lambda: removal_order(several[0]), contains="maps must have shape (N, H, W)")
    refused(lambda: removal_order(several / 0 * 0), contains="maps hold NaN")


def test_equal_pixels_are_drawn_at_random():
    ties = removal_order(torch.zeros(2000, 2, 2))  # every place equally often first
    equal(ties.flatten(1).sort(1).values.unique(dim=0).tolist(), [[0, 1, 2, 3]])
    close(ties.float().mean(0), np.full((2, 2), 1.5), eps=0.15)


def test_removed_pixels_are_counted_as_a_percentile_counts(maps):
    order = removal_order(maps)
    for share in (10, 20, 40, 50, 60, 80, 90):
        values = np.arange(1024) / 1024
        kept = (values < np.percentile(values, 100 - share)).sum()
        for first in ("most", "least"):
            equal((~removed_pixels(order, share, first)).flatten(1).sum(1).tolist(), [kept] * 20)
    assert not (removed_pixels(order, 40) & removed_pixels(order, 40, "least")).any()
    for share in (0, 100, 0.2, 12.5):  # 0.2 is no share of 100
        refused(lambda share=share: removed_pixels(order, share), contains="whole number between 0 and 100")
    refused(lambda: removed_pixels(order, 20, "all"), contains="first must be 'most' or 'least'")


def test_imputation_fills_holes_and_nothing_else(images, maps):
    gone = removed_pixels(removal_order(maps), 60)
    constant = torch.full_like(images, 0.7)
    close(impute(constant, gone, noise=0), constant, eps=1e-3)
    equal(impute(images, gone).masked_fill(gone[:, None], 0),
          images.masked_fill(gone[:, None], 0))
    added = (impute(images, gone) - impute(images, gone, noise=0)).movedim(1, -1)[gone]
    close(added.std().item(), 0.01, eps=5e-4)
    equal(impute(images, torch.zeros_like(gone)), images)


def test_imputed_pixels_are_means_of_their_neighbours(images, maps):
    gone = removed_pixels(removal_order(maps), 40)
    filled = impute(images, gone, noise=0)
    kernel = torch.tensor([[1., 2, 1], [2, 0, 2], [1, 2, 1]])[None, None] / 12
    def around(x): return F.conv2d(x.flatten(0, 1)[:, None], kernel, padding=1).reshape(x.shape)
    wrong = (around(filled) / around(torch.ones_like(filled)) - filled).movedim(1, -1)[gone]
    assert wrong.abs().max() < 1e-3
    tall = banded(32, images)
    close(neighbour_sum(images[:2], tall, tall), around(images[:2]), eps=1e-5)


def test_which_pixels_are_removed_may_be_told_on_another_device_than_the_images():
    "A mask of the processor for images elsewhere: only the first number read of them stops it here."
    images, removed = torch.zeros(2, 3, 8, 8, device="meta"), torch.zeros(2, 8, 8, dtype=torch.bool)
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
        _fill(images, removed, torch.zeros_like(images))


def test_what_was_removed_may_be_missing(images):
    removed = torch.zeros(2, 32, 32, dtype=torch.bool); removed[:, 4:9, 4:9] = True
    holes = images[:2].clone(); holes[0, :, 5, 5] = torch.nan
    equal(impute(holes, removed, noise=0), impute(images[:2], removed, noise=0))
    holes[0, :, 0, 0] = torch.nan
    refused(lambda: impute(holes, removed), contains="images must be finite where they are not removed")


def test_imputation_refuses(images, maps):
    gone = removed_pixels(removal_order(maps), 60)
    refused(lambda: impute(images, torch.ones_like(gone)), contains="at least one pixel")
    refused(lambda: impute(images, gone[:3]), contains="removed (N, H, W), got")
    refused(lambda: impute(images, gone.float()), contains="removed must be bool")
    refused(lambda: impute(images[:2], gone[:2], tolerance=0),
            contains="no solution within a tolerance")


def test_probabilities(network, images):
    logits = network(images).detach()
    targets, others = logits.argmax(1), logits.argmin(1)
    close(all_logits(network, images, batch_size=7, precision="float32"), logits, eps=1e-4)
    p = logits.softmax(1)
    close(class_probability(network, images, targets, batch_size=7, precision="float32"),
          p.max(1).values, eps=1e-3)
    pair = p.gather(1, torch.stack([targets, others], 1))
    close(probability_of(logits, targets, others), pair[:, 0] / pair.sum(1), eps=1e-5)


def test_road_is_half_the_mean_difference(network, images, maps):
    targets = network(images).argmax(1)
    ranks = (1023 - removal_order(maps)) / 1024  # all different
    flat = torch.full_like(images, 0.3)          # nothing to remove
    close(road_scores(network, flat, targets, maps, noise=0, precision="float32")["score"],
          np.zeros(20), eps=1e-3)
    road = road_scores(network, images, targets, ranks, precision="float32")
    equal([tuple(road[k].shape) for k in ("most", "least", "score")], [(4, 20), (4, 20), (20,)])
    close(road["score"], ((road["least"] - road["most"]) / 2).mean(0), eps=1e-6)
    filled = impute(images, removed_pixels(removal_order(ranks), ROAD_SHARES[1], "least"))
    close(road["least"][1], class_probability(network, filled, targets, precision="float32"),
          eps=1e-5)
    reverse = road_scores(network, images, targets, -ranks, precision="float32")
    close(reverse["score"], -road["score"], eps=1e-5)


def test_road_refuses(network, images, maps):
    targets = network(images).argmax(1)
    refused(lambda: road_scores(network, images, targets, maps[:3]),
            contains="maps must have shape (20, 32")
    refused(lambda: road_scores(network, images, targets[:3], maps),
            contains="each of 20 images")
    refused(lambda: road_scores(network, images[:0], targets[:0], maps[:0]),
            contains="images is empty")


def test_insertion_and_deletion_of_a_known_network():
    best = insertion_deletion(TOY, WHITE, FIRST_CLASS, BEST, precision="float32")
    random = torch.rand(64, 32, 32, generator=seeded(1))
    blind = insertion_deletion(TOY, WHITE, FIRST_CLASS, random, precision="float32")
    worst = insertion_deletion(TOY, WHITE, FIRST_CLASS, -BEST, precision="float32")
    assert (worst["insertion_area"] < blind["insertion_area"]).all()
    falling = TOY.weights.detach().flatten().sort(descending=True).values.double().numpy()
    close(worst["insertion"][4, 0].item(), falling[-256:].sum(), eps=1e-5)
    ends = best["insertion"][0], best["insertion"][-1]
    again = insertion_deletion(TOY, WHITE, FIRST_CLASS, BEST, ends=ends, precision="float32")
    for name in best: equal(again[name], best[name])
    equal(step_counts(1024, 4), [0, 64, 256, 576, 1024])


def test_baselines():
    equal(blank_images(WHITE, "mean").abs().max().item(), 0)
    close(blank_images(WHITE, "blur"), WHITE, eps=1e-5)
    equal(BASELINES, ("mean", "blur"))


def test_insertion_and_deletion_refuse():
    def refuses(text, maps=BEST, *how, **more):
        refused(lambda: insertion_deletion(TOY, WHITE, FIRST_CLASS, maps, *how, **more),
                contains=text)
    refuses("baseline must be one of ('mean', 'blur'), got 'black'", BEST, "black")
    refuses("steps must be at least 2, got 1", steps=1)
    refuses("maps must have", BEST[:2])


def test_controls():
    for kind in CONTROLS:
        made = control_maps(kind, 5, seed=4)
        equal((tuple(made.shape), made.min() >= 0, made.max() <= 1), ((5, 32, 32), True, True))
        equal(made, control_maps(kind, 5, seed=4))
        equal(control_maps(kind, 2, (12, 20)).shape, (2, 12, 20))
    bell = control_maps("centred Gaussian", 1)[0]
    equal(bell, bell.T)
    equal(bell, bell.flip(0))
    equal(bell.argmax().item(), 15 * 32 + 15)
    refused(lambda: control_maps("square", 1), contains="kind must be one of ('random pixels'")


def test_a_network_that_looks_at_the_middle_is_explained_by_the_spot():
    bell = control_maps("centred Gaussian", 1)[0]
    middle = WeightedSum(bell / bell.sum())
    areas = {kind: insertion_deletion(middle, WHITE, FIRST_CLASS, control_maps(kind, 64),
                                      precision="float32")["insertion_area"].mean().item()
             for kind in CONTROLS}
    equal(max(areas, key=areas.get), "centred Gaussian")
    for kind in CONTROLS[:2]: close(areas[kind], 0.5, eps=0.02)


def test_bootstrap_against_the_closed_form_and_against_counts():
    rng = np.random.default_rng(0)
    ease = rng.normal(0, 1, 300)
    a, b = ease + rng.normal(0.3, 0.3, 300), ease + rng.normal(0.2, 0.3, 300)
    half = 1.96 * a.std(ddof=1) / np.sqrt(300)
    close(np.array(bootstrap_interval(a)), np.array([a.mean() - half, a.mean() + half]),
          eps=0.1 * half)
    often = rng.multinomial(300, np.full(300, 1 / 300), 4000)  # how often each image is drawn
    close(np.array(bootstrap_interval(a)), np.percentile(often @ a / 300, (2.5, 97.5)),
          eps=0.1 * half)
    assert np.diff(bootstrap_interval(a - b))[0] < np.diff(bootstrap_interval(a))[0] / 2
    assert bootstrap_interval(a, confidence=0.5)[0] > bootstrap_interval(a)[0]


def test_bootstrap_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(1)
    hits = [low < 0 < high for low, high in
            (bootstrap_interval(rng.normal(0, 1, 100), draws=500) for _ in range(300))]
    assert 0.90 < np.mean(hits) < 0.985


def test_bootstrap_of_few_and_of_bad_values():
    equal(bootstrap_interval([2.0] * 9), (2.0, 2.0))
    equal(bootstrap_interval([1.0]), (1.0, 1.0))
    for values in ([], np.zeros((2, 3))):
        refused(lambda values=values: bootstrap_interval(values),
                contains="one number for each image")


def test_no_probability_from_nan_or_from_one_output(network, images):
    one, broken = nn.Sequential(network, nn.Linear(10, 1)), copy.deepcopy(network)
    with torch.no_grad(): broken[-1].bias[3] = torch.nan
    targets = torch.zeros(len(images), dtype=torch.long)
    for model, text in ((one, "the model has a single output"), (broken, "look at 5.bias")):
        refused(class_probability, args=[model, images, targets], contains=text, exc=ValueError)


def test_targets_that_are_no_classes_and_values_that_are_no_numbers():
    logits = torch.zeros(2, 10)
    for wrong in ([3, 12], [-1, 2]):
        refused(probability_of, args=(logits, torch.tensor(wrong)), contains=f"targets must be from 0 to 9, got {wrong}")
        refused(probability_of, args=(logits, torch.tensor([1, 2]), torch.tensor(wrong)), contains="against must be from 0")
    refused(lambda: bootstrap_interval([1, float("nan"), 2]), contains="values must be finite, got nan")
