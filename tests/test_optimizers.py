"Chapter 09: optimizers, initialisation, averages and the whitened first convolution."
import copy, math

import numpy as np
import pytest
import torch
from tools import calls, close, equal
from torch import nn
from torch.nn import functional as F

from cifar_gradcam.engine.datasets import synthetic_images
from cifar_gradcam.engine.optimizers import (
    Average, decay_groups, fold_first, initialize, make_optimizer, Muon, OPTIMIZERS, orthogonalize, step_on_sphere,
    whiten_first, Whitened)
from cifar_gradcam.resnet import ResNet18


@pytest.fixture(autouse=True)
def seeded(): torch.manual_seed(0)


def test_decay_is_for_weights_alone():
    groups = decay_groups(ResNet18(), 5e-4)
    equal([g["weight_decay"] for g in groups], [5e-4, 0.0])
    equal([{p.ndim for p in g["params"]} for g in groups], [{2, 4}, {1}])
    equal(sum(p.numel() for g in groups for p in g["params"]), 11_173_962)
    with pytest.raises(ValueError, match="weight_decay must be at least 0, got -1"): decay_groups(ResNet18(8), -1)


def test_initialisation():
    model = initialize(ResNet18(), "he", zero_last=True)
    he_weight = model.layer3[0].conv1.weight.detach()  # 256 channels out, 3 x 3
    close(he_weight.std().item(), math.sqrt(2 / (256 * 9)), 3e-4)
    equal([b.bn2.weight.abs().sum().item() for b in model.layer2], [0.0, 0.0])
    equal(model.layer2[0].bn1.weight.min().item(), 1.0)
    with torch.no_grad():  # a block of the same width now passes on what it gets
        x = torch.rand(2, 64, 8, 8)
        close(model.layer1[1].eval()(x), x, 1e-6)


def test_initialisation_of_torch_changes_nothing():
    plain = ResNet18(width=8)
    torch.manual_seed(0)
    same = initialize(ResNet18(width=8))
    for a, b in zip(plain.parameters(), same.parameters(), strict=True): assert torch.equal(a, b)
    with pytest.raises(ValueError, match=r"scheme must be one of \('torch', 'he'\), got 'orthogonal'"):
        initialize(plain, "orthogonal")


@pytest.mark.parametrize("shape", [(64, 27), (64, 576), (200, 200)])
def test_orthogonalised_singular_values_go_through_the_polynomial(shape):
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(0, -1.5, shape[1]))
    u, s, v = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    s = start = s / np.linalg.norm(s)
    for _ in range(5): s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5  # on them alone
    close(orthogonalize(matrix).numpy(), (u * s) @ v, 1e-4)
    assert 0.65 < s[start > 0.01].min() and s.max() < 1.25, (s[start > 0.01].min(), s.max())
    rough = orthogonalize(matrix, dtype=torch.bfloat16)
    assert (rough - orthogonalize(matrix)).norm() < 0.05 * rough.norm()
    equal(rough.dtype, torch.float32)


def test_orthogonalise_zeros_and_what_is_no_matrix():
    equal(orthogonalize(torch.zeros(3, 4)), torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"matrix must have 2 axes or more, got shape \(3,\)"):
        orthogonalize(torch.zeros(3))


def test_a_step_on_the_sphere_keeps_the_norm():
    weight = nn.Conv2d(8, 16, 3).weight.detach()
    before = weight.clone()
    step_on_sphere([weight], [torch.zeros(16, 72)], 0.1)
    close(weight.norm().item(), 4.0, 1e-5)
    close(weight / weight.norm(), before / before.norm(), 1e-6)  # only rescaled
    direction, start = orthogonalize(torch.randn(16, 72)), weight.clone()
    step_on_sphere([weight], [direction], 0.1)
    stepped = start - 0.1 * direction.view_as(start)
    close(weight, stepped * 4 / stepped.norm(), 1e-5)


def trained(make, steps=6):
    model = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 7, bias=False))
    optimizer = make(model)
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(model(torch.randn(30, 12)), torch.randn(30, 7)).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def test_muon_without_orthogonal_groups_is_sgd():
    options = dict(lr=0.05, momentum=0.8, weight_decay=0.01)
    ours = trained(lambda model: Muon(model.parameters(), **options))
    torch.manual_seed(0)
    torchs = trained(lambda model: torch.optim.SGD(model.parameters(), nesterov=True, **options))
    for a, b in zip(ours, torchs, strict=True): close(a, b, 1e-6)


def after_random_gradients(kind, **options):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(7, 20))
    optimizer = kind([weight], lr=0.05, momentum=0.8, weight_decay=0.0, **options)
    for _ in range(6):
        weight.grad = torch.randn(7, 20)
        optimizer.step()
    return weight.detach()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has had its Muon since 2.9")
def test_muon_without_a_fixed_norm_is_that_of_torch():
    def free_rule(weights, updates, lr, dtype):
        for weight, update in zip(weights, updates): weight.sub_(orthogonalize(update, dtype=dtype), alpha=lr)

    torchs = after_random_gradients(torch.optim.Muon)
    free = after_random_gradients(Muon, orthogonal=True, dtype=torch.bfloat16, rule=free_rule)
    close(free, torchs, 5e-3)  # torch computes in bfloat16
    fixed = after_random_gradients(Muon, orthogonal=True, dtype=torch.bfloat16)
    assert (fixed - torchs).abs().max() > 0.1  # the norm does make a difference
    close(fixed.norm().item(), math.sqrt(7), 1e-5)
    # The reason for ours: torch's takes matrices only.
    with pytest.raises(ValueError, match="2D"): torch.optim.Muon(nn.Conv2d(3, 4, 3).parameters())


def test_muon_steps_where_there_is_a_gradient_and_can_be_kept_and_copied():
    weight = nn.Parameter(torch.randn(16, 8, 3, 3))
    optimizer, before = Muon([weight], lr=0.1, orthogonal=True), weight.detach().clone()
    optimizer.step()  # a parameter without gradient stays
    equal(weight.detach(), before)
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    close(weight.norm().item(), 4.0, 1e-5)
    other = Muon([weight], lr=0.2)
    other.load_state_dict(optimizer.state_dict())
    equal((other.param_groups[0]["lr"], other.param_groups[0]["orthogonal"]), (0.1, True))
    equal(other.state[weight]["momentum_buffer"], weight.grad)
    twin = copy.deepcopy(Muon([weight], lr=0.1, orthogonal=True, dtype=torch.bfloat16))
    twin.param_groups[0]["params"][0].grad = torch.randn_like(weight)
    twin.step()  # a copy works, and in the same precision
    equal(twin.dtype, torch.bfloat16)


# Equal rows and equal columns, equal rows alone, more rows than columns, square.
SHAPES = ((8, 8, 3, 3), (8, 8, 3, 3), (8, 3, 3, 3), (32, 8, 1, 1), (40, 3, 3, 3), (16, 16, 1, 1), (5, 9))


def one_by_one(weight, gradient, velocity, lr, m):
    "Muon's step for one matrix, as the papers write it."
    velocity = m * velocity + gradient
    x = (gradient + m * velocity).flatten(1)
    x = x / (x.norm() + 1e-7)
    for _ in range(5): x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    radius = math.sqrt(len(weight))
    weight = radius * weight / weight.norm() - lr * x.reshape(weight.shape)
    return radius * weight / weight.norm(), velocity


@pytest.mark.parametrize("dtype, eps", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_all_weights_together_step_as_each_alone(dtype, eps, layout):
    weights = [torch.randn(shape, dtype=dtype) for shape in SHAPES]
    weights = [w.to(memory_format=layout) if w.ndim == 4 else w for w in weights]
    params, velocities = [nn.Parameter(w.clone()) for w in weights], [torch.zeros_like(w) for w in weights]
    optimizer = Muon(params, lr=0.05, momentum=0.8, orthogonal=True, dtype=dtype)
    for step in range(3):
        for i, p in enumerate(params):
            p.grad = torch.randn_like(p) if (step, i) != (1, 2) else None
            if p.grad is not None:
                weights[i], velocities[i] = one_by_one(weights[i], p.grad, velocities[i], 0.05, 0.8)
        optimizer.step()
    for p, weight, velocity in zip(params, weights, velocities, strict=True):
        assert (p.detach() - weight).norm() < eps * weight.norm()
        assert (optimizer.state[p]["momentum_buffer"] - velocity).norm() < eps * velocity.norm()


def test_a_short_run_ends_where_steps_of_one_weight_at_a_time_end():
    "In double precision, in which twenty steps do not blow the rounding up to what can be seen."
    images, labels = synthetic_images(60, np.random.default_rng(0))
    x, y = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255 - 0.5, torch.as_tensor(labels).long()

    def alone(weights, updates, lr, dtype):
        for weight, update in zip(weights, updates):
            weight.copy_(one_by_one(weight, update, torch.zeros_like(update), lr, 0)[0])

    def run(**options):
        torch.manual_seed(0)
        network = ResNet18(width=8).double()
        weights = [p for p in network.parameters() if p.ndim == 4]
        others = [p for p in network.parameters() if p.ndim != 4]
        optimizer = Muon([dict(params=weights, orthogonal=True), dict(params=others)], lr=0.05, dtype=torch.double, **options)
        for step in range(20):
            optimizer.zero_grad()
            F.cross_entropy(network(x[step % 3::3]), y[step % 3::3]).backward()
            optimizer.step()
        return network, (network(x).argmax(1) == y).double().mean().item()
    (together, accuracy), (each, same) = run(), run(rule=alone)
    equal(accuracy, same)
    assert accuracy > 0.5  # it has learned
    for a, b in zip(together.parameters(), each.parameters(), strict=True): close(a.detach(), b.detach(), 1e-6)


def test_a_stack_is_orthogonalised_as_its_matrices():
    for shape in ((4, 6, 11), (2, 3, 11, 6), (1, 5, 5)):
        stack = torch.randn(shape, dtype=torch.double)
        each = [orthogonalize(matrix, dtype=torch.double) for matrix in stack.flatten(0, -3)]
        close(orthogonalize(stack, dtype=torch.double).flatten(0, -3), torch.stack(each), 1e-12)


def test_a_step_makes_few_calls_however_many_weights_there_are():
    "On a GPU each call costs microseconds, whatever it computes: a matrix at a time it would be 50 a matrix."
    def step_of(copies):
        params = [nn.Parameter(torch.randn(8, 8, 3, 3)) for _ in range(copies)]
        vectors = [nn.Parameter(torch.randn(8)) for _ in range(copies)]
        optimizer = Muon([dict(params=params, orthogonal=True), dict(params=vectors, weight_decay=0.1)], lr=0.1)
        for p in params + vectors: p.grad = torch.randn_like(p)
        optimizer.step()
        return calls(optimizer.step)
    assert step_of(1) <= 60
    assert step_of(11) - step_of(1) <= 10 * 5  # to flatten, pad, cut and shape one matrix
    network = ResNet18(width=8)
    optimizer = make_optimizer("Muon", network, 0.1, weight_decay=5e-4)
    for p in network.parameters(): p.grad = torch.randn_like(p)
    optimizer.step()
    assert calls(optimizer.step) <= 250
    average = Average(network, 0.9)
    average.update_parameters(network)
    assert calls(lambda: average.update_parameters(network)) <= 4


def test_a_state_of_earlier_versions_goes_on():
    weights = [torch.randn(8, 8, 3, 3), torch.randn(8, 3, 3, 3), torch.randn(8)]
    kept = dict(state={i: dict(momentum_buffer=torch.randn_like(w)) for i, w in enumerate(weights)}, param_groups=[
        dict(lr=0.05, momentum=0.8, orthogonal=True, weight_decay=0, params=[0, 1]),
        dict(lr=0.1, momentum=0.8, orthogonal=False, weight_decay=0, params=[2])])
    params = [nn.Parameter(w.clone()) for w in weights]
    optimizer = Muon([dict(params=params[:2], orthogonal=True), dict(params=params[2:])], lr=1)
    optimizer.load_state_dict(copy.deepcopy(kept))
    for p in params: p.grad = torch.randn_like(p)
    optimizer.step()
    for i in (0, 1):
        velocity = kept["state"][i]["momentum_buffer"]
        close(params[i].detach(), one_by_one(weights[i], params[i].grad, velocity, 0.05, 0.8)[0], 1e-5)
    velocity = 0.8 * kept["state"][2]["momentum_buffer"] + params[2].grad
    close(params[2].detach(), weights[2] - 0.1 * (params[2].grad + 0.8 * velocity), 1e-6)


def test_muon_refuses_settings_out_of_range():
    plain = nn.Linear(3, 3)
    for options, message in (
            (dict(lr=-1), "lr must be at least 0, got -1"),
            (dict(lr=math.nan), "lr must be at least 0, got nan"),
            (dict(lr=1, momentum=1), "momentum must be from 0 to below 1, got 1"),
            (dict(lr=1, orthogonal=True), r"two or more axes, got shape \(3,\)")):
        with pytest.raises(ValueError, match=message): Muon(plain.parameters(), **options)


def test_decay_where_the_norm_is_fixed_is_an_error():
    matrices, plain = [nn.Parameter(torch.randn(4, 5))], nn.Linear(3, 3)
    for groups, options in (  # of the whole, inherited, of one group
            (matrices, dict(orthogonal=True, weight_decay=5e-4)),
            ([dict(params=matrices, orthogonal=True)], dict(weight_decay=5e-4)),
            ([dict(params=matrices, orthogonal=True, weight_decay=5e-4)], {})):
        with pytest.raises(ValueError, match="weight_decay must be 0 in orthogonal groups, whose norm is fixed, "
                                             "got 0.0005"):
            Muon(groups, lr=1, **options)
    mixed = Muon([dict(params=matrices, orthogonal=True, weight_decay=0.0), dict(params=plain.parameters())],
                 lr=1, weight_decay=5e-4)
    equal([g["weight_decay"] for g in mixed.param_groups], [0.0, 5e-4])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_by_name_has_the_defaults_of_torch(name):
    optimizer = make_optimizer(name, nn.Linear(2, 2), lr=0.02)
    equal((type(optimizer).__name__, optimizer.defaults["lr"]), (name, 0.02))
    if name not in ("SGD", "Muon"):
        equal(optimizer.defaults, getattr(torch.optim, name)(nn.Linear(2, 2).parameters(), lr=0.02).defaults)
    with pytest.raises(ValueError, match=f"lr must be a number for '{name}', got None"):
        make_optimizer(name, nn.Linear(2, 2))


def test_the_groups_of_an_optimizer():
    model = ResNet18(width=8)
    sgd = make_optimizer("SGD", model, 0.1, momentum=0.8, nesterov=True, weight_decay=5e-4)
    equal([(g["lr"], g["momentum"], g["nesterov"], g["weight_decay"]) for g in sgd.param_groups],
          [(0.1, 0.8, True, 5e-4), (0.1, 0.8, True, 0.0)])
    muon = make_optimizer("Muon", model, 0.1, weight_decay=5e-4, matrix_lr=0.03)
    equal([(g["lr"], g["orthogonal"], g["weight_decay"], len(g["params"])) for g in muon.param_groups],
          [(0.1, False, 5e-4, 1), (0.1, False, 0.0, 41), (0.03, True, 0.0, 20)])
    everywhere = make_optimizer("Adam", model, 0.1, weight_decay=1e-3, decay_all=True)
    equal([(g["weight_decay"], len(g["params"])) for g in everywhere.param_groups], [(1e-3, 21), (1e-3, 41)])
    with pytest.raises(ValueError, match=r"optimizer must be one of \('SGD', "): make_optimizer("Lion", model, 1)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_muon_computes_in_what_the_hardware_has(bfloat16, monkeypatch):
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    monkeypatch.setattr("cifar_gradcam.engine.optimizers.select_precision", lambda device: dtype)
    equal(make_optimizer("Muon", ResNet18(width=8), 0.1).dtype, dtype)


@pytest.mark.parametrize("name, value, default", [
    ("lr", 0.1, None), ("momentum", 0.8, 0.9), ("nesterov", True, False), ("weight_decay", 5e-4, 0.0),
    ("matrix_lr", 0.1, 0.05), ("decay_all", True, False)])
def test_an_object_comes_back_and_settings_beside_it_are_an_error(name, value, default):
    model = nn.Linear(2, 2)
    mine = torch.optim.SGD(model.parameters(), lr=1)
    assert make_optimizer(mine, model) is mine
    with pytest.raises(ValueError, match=f"{name} must be left at {default} beside an optimizer object.*got {value}"):
        make_optimizer(mine, model, **{name: value})


def test_an_average_follows_weights_and_statistics():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    average = Average(model, 0.9)
    for value in (1.0, 2.0, 4.0):
        nn.init.constant_(model[0].weight, value)
        model[1].running_mean.fill_(10 * value)
        average.update_parameters(model)
    by_hand = 0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 4  # the first update copies
    close(average.module[0].weight.detach(), torch.full((4, 3, 1, 1), by_hand), 1e-6)
    close(average.module[1].running_mean, torch.full((4,), 10 * by_hand), 1e-5)
    model[1].num_batches_tracked += 7
    average.update_parameters(model)
    equal((average.module[1].num_batches_tracked.item(), average.n_averaged.item()), (7, 4))
    # The numbers and the names are torch's: a checkpoint of earlier versions goes on.
    update, new = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), copy.deepcopy(model[0])
    torchs = torch.optim.swa_utils.AveragedModel(model[0], multi_avg_fn=update, use_buffers=True)
    ours = Average(model[0], 0.9)
    for _ in range(3):
        nn.init.normal_(new.weight)
        for each in (torchs, ours): each.update_parameters(new)
    for (name, a), (same, b) in zip(torchs.state_dict().items(), ours.state_dict().items(), strict=True):
        equal((name, a), (same, b))
    with pytest.raises(ValueError, match="decay must be between 0 and 1, got 1.0"): Average(model, 1.0)


@pytest.fixture
def pictures(): return torch.randn(50, 3, 32, 32).cumsum(3) / 8  # neighbours are alike


def test_whitened_patches_have_the_covariance_that_the_floor_leaves(pictures):
    whiten = Whitened(pictures, floor=1e-6)
    patches = F.unfold(pictures, 3).movedim(1, 2).reshape(-1, 27)
    close(torch.cov((patches @ whiten.basis.T).T), torch.eye(27), eps=1e-2)


def test_a_step_in_whitened_coordinates(pictures):
    "The network computes the same before and after; in between, a step of SGD goes along basis.T @ basis."
    model = ResNet18(width=8).eval()
    plain, before = model.conv1.weight.detach().clone(), model(pictures[:2]).detach()
    whiten_first(model, pictures)
    close(model(pictures[:2]).detach(), before, eps=1e-4)
    equal([len(g["params"]) for g in make_optimizer("Muon", model, 0.1).param_groups], [1, 41, 20])
    basis = model.conv1.parametrizations.weight[0].basis
    (model.conv1(pictures[:2])**2).mean().backward()
    torch.optim.SGD(model.conv1.parameters(), lr=0.1).step()
    fold_first(model)
    fold_first(model)  # a second time does nothing
    by_hand = plain.clone().requires_grad_()
    gradient, = torch.autograd.grad((F.conv2d(pictures[:2], by_hand, padding=1)**2).mean(), by_hand)
    close(model.conv1.weight.detach(), plain - 0.1 * (gradient.flatten(1) @ basis.T @ basis).view_as(plain), eps=1e-4)
    equal(list(model.state_dict()), list(ResNet18(width=8).state_dict()))
