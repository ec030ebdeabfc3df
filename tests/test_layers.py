"Layers of networks that nobody has described: found, laid out, exported."
import copy
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision
from tools import close, equal, make_small, refused
from torch import nn
from torch.utils.checkpoint import checkpoint

from cifar_gradcam.engine import layers as its_module
from cifar_gradcam.engine.devices import lay_side_by_side
from cifar_gradcam.engine.layers import (
    export_onnx, last_spatial_layer, target_layer, tokens_as_maps)
from cifar_gradcam.engine.models import (
    logits_for, plain_network, unwrap)
from cifar_gradcam.gradcam import explain
from cifar_gradcam.resnet import MODELS, ResNet18

images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
targets = torch.tensor([3, 5])


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
    assert last_spatial_layer(summed, images) is summed[2] is target_layer(summed, "2")
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
                contains="as '4' is quantized: pass")
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
        refused(explain, args=[vit, images, targets, "gradcam", maps], contains="do not count")
        refused(lambda: explain(vit, images, targets), exc=ValueError, contains="lay tokens out as maps")
    nn.init.zeros_(vit.heads.head.weight)
    refused(lambda: last_spatial_layer(vit, images), exc=ValueError,
            contains="tokens_as_maps(model, name) as layer: explain(…, layers=layer), where name is the last")


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
    kept, layer = [], target_layer(network, layers[0] if isinstance(layers, list) else layers)
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
    monkeypatch.setattr(its_module, "find_spec", lambda name: True)
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
    monkeypatch.setattr(its_module, "find_spec", lambda name: None)
    refused(lambda: export_onnx(small, tmp_path / "a.onnx"), exc=ImportError,
            contains='needs onnx and onnxscript: pip install "cifar_gradcam[onnx]"')


def test_nothing_is_exported_that_gives_nan(small, tmp_path):
    path = tmp_path / "net.onnx"
    small.head.bias.data[0] = torch.nan
    for layers in (None, "second"):
        refused(export_onnx, args=[small, path, images, layers], exc=ValueError, contains="look at head.bias")
    for wrong, words in ((images * torch.nan, "images hold NaN"), (images[0], "do not fit the model"),
                         (images[:, :1], "do not fit the model")):
        refused(export_onnx, args=[make_small(), path, wrong, "second"], exc=ValueError, contains=words)
    assert not [*tmp_path.iterdir()]


def test_what_cannot_be_exported_says_why(small, tmp_path):
    small.first[0].register_forward_hook(lambda layer, inputs, out: out.numpy().any() and None)
    refused(export_onnx, args=[small, tmp_path / "net.onnx", images, "second"], exc=ValueError,
            contains="the model cannot be exported: ")
    assert not [*tmp_path.iterdir()]
    hooked = make_small()
    hooked.first[1].register_full_backward_hook(lambda *given: None)
    hooked.second[0].register_full_backward_hook(lambda *given: None)  # in front of a ReLU in place
    assert export_onnx(hooked, tmp_path / "net.onnx", images, "second").exists()


@pytest.mark.parametrize("method", ["gradcam", "layercam", "ablationcam"])
def test_patches_that_do_not_count_have_no_map(vit, method):
    with tokens_as_maps(vit, "encoder.ln") as maps:
        refused(explain, args=[vit, images, targets, method, maps], exc=ValueError,
                contains="patches at the layer do not count")


def test_refusals_of_a_layout_stand_alone():
    model, x = Tokens(1), torch.randn(2, 3, 48, 64)
    with tokens_as_maps(model, "blocks.0", skip=5) as maps, pytest.raises(ValueError) as fault:
        explain(model, x, [0, 1], layers=maps)
    assert "have no clear layout" in str(fault.value) and "do not fit" not in str(fault.value)
