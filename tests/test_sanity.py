"Sanity checks: a network that forgets, and how alike two maps are."
import copy

import numpy as np
import pytest
import torch
from scipy import stats
from tools import close, equal, refused
from torch import nn

from cifar_gradcam.gradcam import explain
from cifar_gradcam.mistakes.sanity import (
    likeness_while_forgetting, randomized, rank_correlation, sanity_check,
    structural_similarity)
from cifar_gradcam.resnet import ResNet18

STAGES = ["trained", "linear", "layer4.1", "layer4.0", "layer3.1", "layer3.0", "layer2.1",
          "layer2.0", "layer1.1", "layer1.0", "bn1", "conv1"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ResNet18(width=8).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def pairs():  # of maps; the second ones have many equal values
    torch.manual_seed(0)
    a, b = torch.rand(6, 16, 16), (torch.rand(6, 16, 16) * 5).floor() / 5
    b[3:] = (a[3:] + b[3:]) / 2
    return a, b


def test_rank_correlation_against_scipy():
    a, b = pairs()
    expected = [stats.spearmanr(p.flatten(), q.flatten()).statistic for p, q in zip(a, b)]
    close(rank_correlation(a, b), np.array(expected), eps=1e-6)
    close(rank_correlation(a, a**3), np.ones(6), eps=1e-6)
    assert rank_correlation(a, torch.zeros_like(a)).isnan().all()


def plain_ssim(p, q):  # a loop over the places of the window
    g = np.exp(-np.add.outer((np.arange(11) - 5)**2, (np.arange(11) - 5)**2) / 4.5)
    g, values = g / g.sum(), []
    for i in range(len(p) - 10):
        for j in range(len(p) - 10):
            u, v = p[i:i + 11, j:j + 11], q[i:i + 11, j:j + 11]
            mu, mv = (g * u).sum(), (g * v).sum()
            su, sv = (g * (u - mu)**2).sum(), (g * (v - mv)**2).sum()
            s = (g * (u - mu) * (v - mv)).sum()
            values.append((2 * mu * mv + 1e-4) * (2 * s + 9e-4)
                          / ((mu**2 + mv**2 + 1e-4) * (su + sv + 9e-4)))
    return np.mean(values)


def test_structural_similarity_against_a_plain_loop():
    a, b = pairs()
    plain = [plain_ssim(p, q) for p, q in zip(a.double().numpy(), b.double().numpy())]
    close(structural_similarity(a, b), np.array(plain), eps=1e-4)
    close(structural_similarity(a, a), np.ones(6), eps=1e-5)


def test_the_network_forgets_from_the_top(network):
    trained, states = copy.deepcopy(network), {}
    for value in trained.state_dict().values():  # nothing is as torch draws it or sets it
        if value.is_floating_point(): value.add_(0.1)
    for name, state in randomized(trained, seed=3):
        if name in ("linear", "conv1"): states[name] = copy.deepcopy(state.state_dict())
    old = trained.state_dict()
    same = {name: [k for k in old if torch.equal(old[k], state[k])]
            for name, state in states.items()}
    equal(len(same["linear"]), len(old) - 2)
    equal([k for k in same["conv1"] if "num_batches" not in k], [])
    assert torch.equal(dict(randomized(trained, 3))["conv1"].conv1.weight,
                       states["conv1"]["conv1.weight"])


def test_a_wrapped_network_forgets_as_it_does_alone(network):
    equal([name for name, _ in randomized(nn.DataParallel(network))], STAGES)
    for (_, alone), (_, wrapped) in zip(randomized(network, 3), randomized(nn.DataParallel(network), 3)): same = alone, wrapped
    for one, other in zip(*(part.parameters() for part in same)): assert torch.equal(one, other)


def test_weights_that_would_stay_are_refused():
    class Scaled(nn.Module):
        def __init__(self): super().__init__(); self.scale = nn.Parameter(torch.ones(3, 1, 1))
        def forward(self, x): return self.scale * x
    for model in (nn.Sequential(Scaled(), nn.Flatten(), nn.Linear(3072, 10)), Scaled()):
        refused(lambda model=model: list(randomized(model)), contains="got Scaled without reset_parameters")
    attention = nn.Sequential(nn.MultiheadAttention(4, 2))
    before = attention[0].in_proj_weight.clone()
    *_, (_, forgotten) = randomized(attention)
    assert not torch.equal(forgotten[0].in_proj_weight, before)


def test_the_random_state_is_left_alone(network):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for _ in randomized(network): pass
    assert torch.equal(torch.get_rng_state(), state)


def test_sanity_check(network, images):
    targets = network(images).argmax(1)
    before = copy.deepcopy(network.state_dict())
    check = sanity_check(network, images, targets, "eigencam", "layer3")
    equal(check["stages"], STAGES)
    equal([tuple(check[k].shape) for k in ("rank", "ssim", "other_rank", "other_ssim")],
          [(12, 5), (12, 5), (5,), (5,)])
    close(check["ssim"][0], np.ones(5), eps=1e-5)
    close(check["rank"][1], np.ones(5), eps=1e-4)  # EigenCAM sees no classes
    maps = explain(network, images, targets, "eigencam", "layer3")
    close(check["other_rank"], rank_correlation(maps, maps.roll(1, 0)), eps=1e-4)
    for name, value in network.state_dict().items(): equal(value, before[name])
    refused(lambda: sanity_check(network, images[:1], targets[:1]),
            contains="at least 2, got 1")


def test_likeness_of_each_image_against_scipy(network, images):
    targets = network(images).argmax(1)
    alike = likeness_while_forgetting(network, images, targets)
    equal([*alike], STAGES)
    for row in (0, 3):
        maps = {name: explain(state, images[[row]], targets[[row]]).flatten().numpy()
                for name, state in randomized(network)}
        by_hand = [0.0 if not np.ptp(maps[name]) or not np.ptp(maps["trained"]) else
                   stats.spearmanr(maps["trained"], maps[name]).statistic for name in STAGES]
        close([values[row].item() for values in alike.values()], by_hand, eps=1e-3)
