"The networks beside formulas, torchvision and pytorch-cifar; what is refused; the table of layers."
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from tools import close, equal

from cifar_gradcam.resnet import (
    MODELS, BasicBlock, CifarBlock, CifarResNet, ResNet, ResNet18, ResNet34, select_model)

# Shapes and numbers of parameters need no numbers: on the meta device nothing is computed.
META = torch.device("meta")


def count(model): return sum(p.numel() for p in model.parameters())
def scaled(z): return z / (1 + 1e-5) ** 0.5  # a fresh batch norm in eval mode
def zeros(n=2): return torch.zeros(n, 3, 32, 32)


def branch_of(block, x):
    "The branch of a block in its formula, written with functions."
    out = F.relu(scaled(F.conv2d(x, block.conv1.weight, stride=2, padding=1)))
    return scaled(F.conv2d(out, block.conv2.weight, padding=1))


def test_the_projection_beside_its_formula():
    torch.manual_seed(0)
    block, x = BasicBlock(64, 128, stride=2).eval(), torch.randn(2, 64, 8, 8)
    assert block(x).shape == (2, 128, 4, 4)
    around = scaled(F.conv2d(x, block.shortcut[0].weight, stride=2))
    close(block(x).detach(), F.relu(branch_of(block, x) + around).detach(), eps=1e-5)
    # a projection exactly if shapes differ
    assert [len(BasicBlock(*a).shortcut) for a in ((8, 8), (8, 16), (8, 8, 2))] == [0, 2, 2]


@pytest.mark.parametrize("shortcut", [True, False])
def test_the_papers_block_beside_its_formula(shortcut):
    torch.manual_seed(0)
    block, x = CifarBlock(6, 12, 2, shortcut).eval(), torch.randn(2, 6, 8, 8)
    around = torch.zeros(2, 12, 4, 4)
    if shortcut: around[:, :6] = x[:, :, ::2, ::2]
    close(block(x).detach(), F.relu(branch_of(block, x) + around).detach(), eps=1e-5)


def test_a_block_without_its_branch_is_the_relu():
    x = torch.randn(2, 6, 8, 8)
    nn.init.zeros_((block := CifarBlock(6, 6, 1, True)).bn2.weight)
    equal(block(x).detach(), F.relu(x))


@pytest.mark.parametrize("model, images, fault, message", [
    (ResNet18, torch.zeros(1, 3, 64, 64), ValueError, r"shape \(N, 3, 32, 32\), got \(1, 3, 64, 64\)"),
    (ResNet18, torch.zeros(3, 32, 32), ValueError, r"got \(3, 32, 32\)"),
    (ResNet18, torch.zeros(1, 3, 32, 32, dtype=torch.uint8), TypeError, "floats, got torch.uint8"),
    (lambda width: CifarResNet(20, width=width), torch.zeros(1, 3, 64, 64), ValueError,
     r"shape \(N, 3, 32, 32\)")])
def test_images_of_another_form_are_refused(model, images, fault, message):
    with pytest.raises(fault, match=message): model(width=4)(images)


@pytest.mark.parametrize("model", [ResNet18, lambda width: CifarResNet(20, width=width)])
@pytest.mark.parametrize("side", [16, 24, 32])
def test_smaller_images_are_for_training_only(model, side):
    model, images, seen = model(width=8), torch.randn(2, 3, side, side), []
    last = model.layer4 if hasattr(model, "layer4") else model.layer3
    last.register_forward_hook(lambda module, args, out: seen.append(out))
    close(model(images), model.linear(seen[0].mean((2, 3))), 1e-5)
    model.eval()
    if side == 32: model(images)
    else:
        with pytest.raises(ValueError, match=rf"shape \(N, 3, 32, 32\), got \(2, 3, {side}, {side}\)"): model(images)


def test_classes_width_and_blocks():
    assert ResNet18(num_classes=7, width=8)(zeros()).shape == (2, 7)
    assert ResNet34(width=8)(zeros()).shape == (2, 10)
    narrow = ResNet18(width=8)
    assert narrow(zeros()).shape == (2, 10)
    assert [len(stage[1].bn2.weight) for stage in (narrow.layer1, narrow.layer4)] == [8, 64]
    assert ResNet(BasicBlock, (1, 1, 1, 1), width=8)(zeros()).shape == (2, 10)
    assert CifarResNet(8, False, 7, 4)(zeros()).shape == (2, 7)


@pytest.mark.parametrize("model", [ResNet18, lambda width: CifarResNet(20, width=width)])
def test_no_channels_are_refused(model):
    with pytest.raises(ValueError, match="width must be at least 1 channel, got 0"): model(width=0)


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth):
    with pytest.raises(ValueError, match=rf"depth must be 6n \+ 2, from 8, got {depth}"): CifarResNet(depth)


@pytest.mark.parametrize("make, depth, parameters", [(ResNet18, 18, 11_173_962), (ResNet34, 34, 21_282_122)])
def test_layers_and_parameters(make, depth, parameters):
    with META: model = make()
    assert count(model) == parameters
    layers = [name for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert sum("shortcut" not in name for name in layers) == depth


@pytest.mark.parametrize("depth, million", [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_the_networks_of_table_6(depth, million):
    with META: net, plain = CifarResNet(depth), CifarResNet(depth, False)
    assert round(count(net) / 1e6, 1 if million == 1.7 else 2) == million
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in net.modules()) == depth
    assert ({k: v.shape for k, v in net.state_dict().items()}
            == {k: v.shape for k, v in plain.state_dict().items()})


@pytest.mark.parametrize("make, theirs", [(ResNet18, torchvision.models.resnet18), (ResNet34, torchvision.models.resnet34)])
def test_beside_torchvision(make, theirs):
    torch.manual_seed(0)
    images, ours = torch.randn(16, 3, 32, 32), make()
    twin = theirs(num_classes=10)
    twin.conv1, twin.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    with torch.no_grad():
        for m in ours.modules():
            if isinstance(m, nn.BatchNorm2d): m.momentum = None  # statistics of its own: a plain mean
        ours.train()(images)
        twin.load_state_dict({key.replace("shortcut", "downsample").replace("linear", "fc"): value
                              for key, value in ours.state_dict().items()}, strict=True)
        close(ours.eval()(images[:4]), twin.eval()(images[:4]), eps=1e-5)


def norm_entries(name, p):
    entries = {f"{name}.{key}": (p,) for key in ("weight", "bias", "running_mean", "running_var")}
    return entries | {f"{name}.num_batches_tracked": ()}


def block_entries(name, q, p):
    wanted = {f"{name}.conv1.weight": (p, q, 3, 3)} | norm_entries(f"{name}.bn1", p)
    wanted |= {f"{name}.conv2.weight": (p, p, 3, 3)} | norm_entries(f"{name}.bn2", p)
    if q == p: return wanted
    return (wanted | {f"{name}.shortcut.0.weight": (p, q, 1, 1)}
            | norm_entries(f"{name}.shortcut.1", p))


def test_names_and_shapes_are_pytorch_cifars():
    # what its ResNet18 saves, by rule: strict loading works
    wanted = {"conv1.weight": (64, 3, 3, 3)} | norm_entries("bn1", 64)
    for stage, (q, p) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512)), start=1):
        wanted |= block_entries(f"layer{stage}.0", q, p) | block_entries(f"layer{stage}.1", p, p)
    wanted |= {"linear.weight": (10, 512), "linear.bias": (10,)}
    with META: names = {key: tuple(value.shape) for key, value in ResNet18().state_dict().items()}
    assert list(names.items()) == list(wanted.items())
    assert len(names) == 122


def test_shapes_of_the_stages():
    with META: model, images = ResNet18(), torch.zeros(1, 3, 32, 32)
    shapes = {}
    for name in ("conv1", "layer1", "layer2", "layer3", "layer4", "linear"):
        getattr(model, name).register_forward_hook(
            lambda module, args, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    model.eval()(images)
    assert shapes == dict(conv1=(64, 32, 32), layer1=(64, 32, 32), layer2=(128, 16, 16),
                          layer3=(256, 8, 8), layer4=(512, 4, 4), linear=(10,))
    assert sum(isinstance(m, BasicBlock) for m in model.modules()) == 8
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.modules()) == 0
    assert model.linear.out_features == 10


def test_the_table_changes_nothing(capsys):
    def built(show):
        torch.manual_seed(0)
        return select_model("cpu", show=show), torch.rand(1)
    shown, after_shown = built(True)
    assert "Total params: 11,173,962" in capsys.readouterr().out
    silent, after_silent = built(False)
    assert capsys.readouterr().out == ""
    for key, value in silent.state_dict().items(): equal(shown.state_dict()[key], value)
    equal(after_shown, after_silent)
    assert shown.training and not any(m._forward_hooks for m in shown.modules())


@pytest.mark.parametrize("name", MODELS)
def test_each_name_makes_a_network(name):
    assert MODELS[name](width=8, num_classes=3)(zeros()).shape == (2, 3)


def test_models_by_name(capsys):
    assert count(select_model("cpu", "ResNet34", show=False)) == 21_282_122
    assert capsys.readouterr().out == ""
    many = select_model("cpu", show=False, num_classes=100)
    assert count(many) == 11_173_962 + 90 * 513  # 512 weights and a bias for each further class
    assert many(zeros()).shape == (2, 100)
    for wrong, message in ((dict(name="ResNet50"), "name must be one of ('ResNet18', 'ResNet34', 'ResNet20',"),
                           (dict(num_classes=0), "num_classes must be at least 1, got 0"),
                           (dict(device="tpu"), "device must be")):
        with pytest.raises(ValueError) as fault: select_model(**dict(device="cpu", show=False) | wrong)
        assert message in str(fault.value)
