"Heat maps: the methods against formulas and the grad-cam library, any network, what is refused, what is drawn."
import contextlib, copy, io, warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torchvision
import ttach
from matplotlib import pyplot as plt
from PIL import Image
from pytorch_grad_cam import (
    AblationCAM, EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, ScoreCAM)
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from tools import close, equal, refused
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from cifar_gradcam.data import CLASSES, DatasetInfo, denormalize
from cifar_gradcam.engine.devices import tuned
from cifar_gradcam.engine.figures import SIGNED
from cifar_gradcam.engine.models import check_order, unwrap
from cifar_gradcam.gradcam import (
    check_against, check_drawing, check_explainable, DEFAULT_LAYERS, draw_mistakes, explain,
    find_mistakes, gradcam_maps, GRADIENT_FREE, METHODS, observe, overlay, plot_misclassified,
    Seen, signed_maps, stretch, target_layer, target_layers)
from cifar_gradcam.mistakes.covering import cell_values
from cifar_gradcam.mistakes.predictions import Predictions
from cifar_gradcam.resnet import ResNet18

@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")

# In float64, where two ways of computing must agree below the last block: where the input of a
# ReLU is all but zero, float32 leaves to rounding which side it is on, and the gradients of all
# layers below differ with the side.
draws = torch.Generator().manual_seed(0)
images = torch.randn(16, 3, 32, 32, generator=draws).clamp(-2.5, 2.5)
labels = torch.randint(10, (16,), generator=draws)
others = (labels + 1) % 10

@pytest.fixture(scope="module")
def narrow():
    "A narrow network with random weights, also those of its normalisation."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ResNet18(width=4).eval()
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                for values in (part.running_mean, part.bias): nn.init.uniform_(values, -0.2, 0.2)
                for values in (part.running_var, part.weight): nn.init.uniform_(values, 0.5, 2)
        for values in network.linear.parameters(): nn.init.uniform_(values, -1, 1)
    return network

@pytest.fixture(scope="module")
def exact(narrow): return copy.deepcopy(narrow).double()

@pytest.fixture(scope="module")
def blocks(narrow): return [getattr(narrow, f"layer{i}")[-1] for i in (4, 3, 2, 1)]

class Small(nn.Module):
    def __init__(self, channels=3, n_classes=10):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8),
                                   nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, n_classes)
    def forward(self, x): return self.head(self.second(self.first(x)).mean((2, 3)))

class Talks(nn.Module):
    "A network whose output has another form."
    def __init__(self, network, form): super().__init__(); self.network, self.form = network, form
    def forward(self, x): return self.form(self.network(x))

@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return Small().eval()

wide, some = torch.randn(6, 3, 24, 20, generator=draws), torch.arange(6)
batches = [{"image": wide[:4], "label": some[:4]}, (wide[4:], some[4:], "more")]

def enlarged(maps, size=(32, 32)):
    return stretch(F.interpolate(stretch(maps)[:, None], size, mode="bilinear")[:, 0])

def without_hooks(network): return not any(m._forward_hooks for m in network.modules())

# Ten lines, and what `observe` sees

def test_weights_and_hooks_are_left_alone(narrow):
    "Frozen weights, gradients left alone, no hook left behind, inside no_grad."
    frozen = copy.deepcopy(narrow).requires_grad_(False)
    expected = gradcam_maps(narrow, images[:4], labels[:4], narrow.layer3[-1])
    with torch.no_grad():
        close(gradcam_maps(frozen, images[:4], labels[:4], frozen.layer3[-1]), expected, eps=1e-6)
    narrow.zero_grad(set_to_none=True)
    gradcam_maps(narrow, images[:4], labels[:4], narrow.layer4[-1])
    assert all(p.grad is None for p in narrow.parameters())
    assert not images.requires_grad
    refused(lambda: gradcam_maps(narrow, images[:1, :2], labels[:1], narrow.layer4[-1]))
    assert without_hooks(narrow)

def test_a_layer_that_is_changed_in_place_behind_gives_its_own_map():
    "The map of the convolution, not of what the next layer left of it; in every method."
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    rest = nn.Sequential(nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    plain, in_place = (nn.Sequential(first, act, rest).eval() for act in (nn.ReLU(), nn.ReLU(inplace=True)))
    for layer in (first[0], first[1], rest[0]):
        equal(gradcam_maps(in_place, wide, some, layer), gradcam_maps(plain, wide, some, layer))
        for method in METHODS:
            close(explain(in_place, wide, some, method, layer), explain(plain, wide, some, method, layer), 1e-6)
    assert (observe(in_place, wide, some, [first[1]])[0].A < 0).any()

@pytest.mark.filterwarnings("ignore:images run")
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_changes_its_images_in_place_leaves_ours(channels):
    class Normalising(Small):
        def forward(self, x): return super().forward(x.sub_(0.5).mul_(2))
    torch.manual_seed(0)
    changes, keeps = Normalising(channels).eval(), Small(channels).eval()
    keeps.load_state_dict(changes.state_dict())
    x = torch.randn(6, channels, 24, 20, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    before, shifted = x.clone(), 2 * (x - 0.5)
    for method in METHODS:
        if method == "scorecam": continue  # masks the images before they are shifted
        close(explain(changes, x, some, method, "first"), explain(keeps, shifted, some, method, "first"), 1e-4)
    maps = explain(changes, x, some, "scorecam", "first")
    class Copying(Small):
        def forward(self, x): return super().forward((x - 0.5) * 2)
    copies = Copying(channels).eval(); copies.load_state_dict(keeps.state_dict())
    close(maps, explain(copies, x, some, "scorecam", "first"), 1e-5)
    close(gradcam_maps(changes, x, some, changes.first[0]), gradcam_maps(keeps, shifted, some, keeps.first[0]), 1e-5)
    mistakes = find_mistakes(changes, [(x, some)])
    equal(mistakes.images, before[mistakes.indices])
    equal(x, before)

def test_observe_sees_what_a_plain_backward_pass_has(narrow, blocks):
    "In any order of layers; without gradients; nothing is left behind."
    few, targets = images[:4], labels[:4]
    narrow.zero_grad(set_to_none=True)
    views = observe(narrow, few, targets, blocks)
    equal([type(seen) for seen in views], [Seen] * 4)
    outputs = []
    hooks = [b.register_forward_hook(lambda m, i, o: outputs.append(o)) for b in blocks]
    y = narrow(few).gather(1, targets[:, None])
    for hook in hooks: hook.remove()
    for seen, A, G in zip(views, outputs[::-1], torch.autograd.grad(y.sum(), outputs)[::-1]):
        close(seen.A, A.detach(), eps=1e-4)
        close(seen.G, G, eps=1e-4)
        close(seen.scores, y[:, 0].detach(), eps=1e-4)
    assert all(p.grad is None for p in narrow.parameters())
    assert without_hooks(narrow)
    assert torch.is_grad_enabled()
    seen, = observe(narrow, few, targets, blocks[:1], gradients=False)
    assert seen.G is None
    frozen = copy.deepcopy(narrow).requires_grad_(False)
    inner = [frozen.layer3[-1], frozen.layer2[0].conv1]
    for a, b in zip(observe(frozen, few, targets, inner), (views[1], None)):
        equal((a.G.shape, a.G.abs().max().item() > 0), (a.A.shape, True))
        if b: close(a.G, b.G, eps=1e-5)
    again = observe(narrow, few, targets, [blocks[1], blocks[1]])  # twice the same layer
    equal([torch.equal(again[0].G, again[1].G), len(again)], [True, 2])

def test_quick_layouts_change_nothing(narrow, blocks):
    "With and without `tuned`, which leaves torch's own convolutions behind."
    with tuned(narrow, True):
        by_layout = [seen.A for seen in observe(narrow, images, labels, blocks)]
    for seen, A in zip(observe(narrow, images, labels, blocks), by_layout): close(seen.A, A, eps=1e-3)
    equal({type(m) for m in narrow.modules() if isinstance(m, nn.Conv2d)}, {nn.Conv2d})

# The methods, against formulas and the library

def test_methods_by_their_formulas(exact):
    "One image and one position at a time, in numpy."
    layers = [getattr(exact, f"layer{i}")[-1] for i in (4, 3, 2, 1)]
    views = observe(exact, images[:4].double(), labels[:4], layers)
    for i in range(2):
        A, G = views[1].A[i].numpy(), views[1].G[i].numpy()
        ratio = [[[g * g / (2 * g * g + a.sum() * g**3 + 1e-6) for g in row] for row in plane]
                 for a, plane in zip(A, G)]
        plus = [(np.maximum(G[k], 0) * ratio[k]).sum() for k in range(len(A))]
        wanted = {"gradcam": sum(G[k].mean() * A[k] for k in range(len(A))),
                  "gradcam++": sum(plus[k] * A[k] for k in range(len(A))),
                  "hirescam": sum(G[k] * A[k] for k in range(len(A))),
                  "layercam": sum(np.where(G[k] > 0, G[k], 0) * A[k] for k in range(len(A)))}
        for name, m in wanted.items():
            close(METHODS[name](views[1])[i].numpy() / abs(m).max(), m / abs(m).max(), 1e-4)
    # EigenCAM: its values vary as much as the largest eigenvalue of the covariance says,
    variance = METHODS["eigencam"](views[1])[0].numpy().var(ddof=1)
    largest = np.linalg.eigvalsh(np.cov(views[1].A[0].flatten(1).numpy()))[-1]
    close(variance / largest, 1, eps=1e-3)
    for seen in views:  # and it is bright where the channels are active
        m, active = METHODS["eigencam"](seen), seen.A.mean(1)
        assert ((m * (active - active.mean((1, 2), keepdim=True))).sum((1, 2)) >= 0).all()
    # AblationCAM at the last block, where it can be foretold.
    seen, = observe(exact, images[:2].double(), labels[:2], layers[:1])
    closed = ((seen.G * seen.A).sum((2, 3), keepdim=True) * seen.A).sum(1)
    close(METHODS["ablationcam"](seen) / closed.abs().amax(), closed / closed.abs().amax(), eps=1e-3)

class TurnedEigenCAM(EigenCAM):
    "The library's, with its bright end where the channels are active on average."
    def get_cam_image(self, images, layer, targets, A, G, smooth=False):
        maps = super().get_cam_image(images, layer, targets, A, G, smooth)
        turned = [np.corrcoef(m.ravel(), a.mean(0).ravel())[0, 1] < 0 for m, a in zip(maps, A)]
        return np.where(np.array(turned)[:, None, None], -maps, maps)

LIBRARY = dict(zip(METHODS, (GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, TurnedEigenCAM,
                             ScoreCAM, AblationCAM)))

def by_library(method, model, images, targets, layers, **smoothing):
    "The library's maps, without its progress bars."
    wanted = [ClassifierOutputTarget(int(t)) for t in targets]
    with contextlib.redirect_stderr(io.StringIO()), LIBRARY[method](model, layers) as cam:
        cam.tta_transforms = ttach.Compose([ttach.HorizontalFlip()])
        return torch.from_numpy(cam(images, wanted, **smoothing))

@pytest.fixture(scope="module")
def two(exact):
    "Two images, and the likeliest and the unlikeliest class of each."
    pair = images[:2].double()
    with torch.no_grad(): logits = exact(pair)
    return pair, logits.argmax(1), logits.argmin(1)

@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "hirescam", "layercam", "eigencam"])
def test_quick_methods_agree_with_the_library(exact, method):
    x, targets = images[:6].double(), labels[:6]
    for layer in (exact.layer4[-1], exact.layer3[-1]):
        ours = explain(exact, x, targets, method, layer, batch_size=4)
        close(ours, by_library(method, exact, x, targets, [layer]), eps=1e-4)
        if method == "gradcam": close(ours, enlarged(gradcam_maps(exact, x, targets, layer)), 1e-5)

@pytest.mark.parametrize("method", METHODS)
def test_smoothing_agrees_with_the_library(exact, two, method):
    "With mirrors only. Batches change nothing."
    pair, likeliest, _ = two
    layers = [exact.layer2[-1], exact.layer3[-1]]
    ours = explain(exact, pair, likeliest, method, layers, smooth=True)
    theirs = by_library(method, exact, pair, likeliest, layers, aug_smooth=True)
    close(ours, stretch(theirs), eps=1e-4)
    close(ours, explain(exact, pair, likeliest, method, layers, 1, True), eps=1e-4)
    close(ours.amax((1, 2)), torch.ones(2), eps=1e-5)

def test_smoothing_by_hand(exact):
    x = images[:4].double()
    ways = [explain(exact, part, labels[:4], "hirescam", "layer3") for part in (x, x.flip(3))]
    by_hand = torch.stack([stretch((a + torch.fliplr(b))[None] / 2)[0] for a, b in zip(*ways)])
    for batch_size in (128, 3):
        close(explain(exact, x, labels[:4], "hirescam", "layer3", batch_size, smooth=True), by_hand, 1e-5)

@pytest.mark.parametrize("where, unlikely", [("layer4.0.conv1", False), ("layer3.0.bn2", False),
                                             ("layer3.1", True)])
def test_ablation_by_a_plain_loop(exact, two, where, unlikely):
    "Also of layers that a shortcut by-passes."
    pair, targets = two[0], two[1 + unlikely]
    seen, = observe(exact, pair, targets, [exact.get_submodule(where)], False)
    @torch.no_grad()
    def fall(i, k):
        A = seen.A[[i]].clone(); A[0, k] = 0
        hook = seen.layer.register_forward_hook(lambda m, inputs, out: A)
        y = exact(pair[[i]])[0, targets[i]].item(); hook.remove()
        return seen.scores[i].item() - y
    weights = torch.tensor([[fall(i, k) for k in range(seen.A.shape[1])] for i in range(2)])
    wanted = (weights[:, :, None, None] * seen.A).sum(1)
    ours = METHODS["ablationcam"](seen)
    close(ours / wanted.abs().amax(), wanted / wanted.abs().amax(), eps=1e-4)
    if unlikely:  # where scores are negative the library's is the opposite
        assert (seen.scores < 0).all()
        theirs = by_library("ablationcam", exact, pair, targets, [seen.layer])
        close(enlarged((-ours).relu()), theirs, eps=1e-4)

def test_silent_channels_give_an_empty_map(narrow):
    mute = copy.deepcopy(narrow)
    nn.init.zeros_(mute.layer4[-1].bn2.weight)
    nn.init.constant_(mute.layer4[-1].bn2.bias, -99)
    for method in METHODS:
        equal(explain(mute, images[:2], labels[:2], method, "layer4").abs().max().item(), 0)

@pytest.fixture
def loud(small):  # covering a cell changes its answers by more than rounding does
    loud = copy.deepcopy(small)
    with torch.no_grad(): loud.head.weight.mul_(50)
    return loud

@pytest.mark.parametrize("how", [dict(), dict(game="blur", pairs=3, seed=4), dict(grid=3, pairs=2, batch_size=7),
                                 dict(grid=2, exact=True), dict(grid=8, pairs=2), dict(game="imputed", pairs=2)])
def test_shapley_maps_are_the_values_of_cells(loud, how):
    for against in (None, others[:2]):
        values, _ = cell_values(loud, images[:2], labels[:2], against, **how)
        wanted = torch.where(values > 1e-4, values, 0).float()
        got = explain(loud, images[:2], labels[:2], "shapley", against=against, **how)
        close(got, enlarged(wanted), eps=1e-3)
        equal((got.shape, got.amax((1, 2)).tolist()), ((2, 32, 32), wanted.any(2).any(1).tolist()))

def test_a_shapley_map_is_the_same_in_every_batch(loud):
    together = explain(loud, images[:3], labels[:3], "shapley", seed=5, pairs=2)
    close(explain(loud, images[:3], labels[:3], "shapley", None, 5, seed=5, pairs=2), together, eps=1e-4)
    for i in range(3):  # each image has its own orders
        alone = explain(loud, images[[i]], labels[[i]], "shapley", seed=5 + i, pairs=2)
        close(alone[0], together[i], eps=1e-4)

def test_shapley_of_other_networks(loud, vit):
    expected = explain(loud, images[:2], labels[:2], "shapley", pairs=2)
    double = copy.deepcopy(loud).double()
    close(explain(double, images[:2].double(), labels[:2], "shapley", pairs=2), expected, eps=1e-3)
    half = copy.deepcopy(loud).bfloat16()
    once_more = copy.deepcopy(half).float()  # with the weights as bfloat16 has them
    close(explain(half, images[:2], labels[:2], "shapley", pairs=2),
          explain(once_more, images[:2], labels[:2], "shapley", pairs=2), eps=1e-3)
    equal({p.dtype for p in half.parameters()}, {torch.bfloat16})
    for network, x in ((vit, images[:2]), (nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 20, 10)), wide[:2]),
                       (nn.DataParallel(loud), wide[:2])):
        heats = explain(network, x, [1, 2], "shapley", pairs=2)
        equal((heats.shape, heats.amax((1, 2)).tolist()), ((2, *x.shape[2:]), [1, 1]))

def test_shapley_of_a_network_that_never_changes(loud):
    mute = copy.deepcopy(loud)
    nn.init.zeros_(mute.head.weight)
    plain = torch.full((1, 3, 32, 32), 0.5)  # a blur changes nothing but by rounding
    for network, x, game in ((mute, images[:1], "mean"), (loud, plain, "blur"), (loud, plain * 0, "mean")):
        equal(explain(network, x, [1], "shapley", game=game, pairs=2), torch.zeros(1, 32, 32))

@pytest.mark.parametrize("text, how", [
    ("shapley covers cells of the images and looks at no layer: leave layers and smooth out, got 'second'", dict(layers="second")),
    ("shapley covers cells of the images", dict(smooth=True)),
    ("exact needs at most 16 cells, got a grid of 5 × 5", dict(grid=5, exact=True)),
    ("game must be one of ('mean', 'blur', 'imputed'), got 'white'", dict(game="white")),
    ("targets must be from 0 to 9", dict(targets=[10])),
    ("images hold NaN", dict(images=images[:1] * float("nan"))),
    ("batch_size must be at least 1", dict(batch_size=0)),
    ("against must differ", dict(against=[1]))])
def test_shapley_refuses(loud, text, how):
    refused(lambda: explain(loud, **dict(images=images[:1], targets=[1], method="shapley") | how), contains=text, exc=ValueError)

def test_options_of_shapley_are_not_taken_by_others(loud):
    refused(lambda: explain(loud, images[:1], [1], "gradcam", grid=8, pairs=2), exc=TypeError,
            contains="grid, pairs: only shapley takes them, got 'gradcam'")
    refused(lambda: signed_maps(loud, images[:1], [1], method="shapley"), exc=ValueError, contains="got 'shapley'; explain takes shapley too")

def test_mistakes_are_drawn_with_shapley(loud):
    found = find_mistakes(loud, DataLoader(TensorDataset(images, labels), 8), 2)
    fig = draw_mistakes(loud, found, CLASSES, (1, 2), method="shapley")
    equal(len(fig.axes), 2 * 4 + 1)
    heat = explain(loud, found.images, found.predicted, "shapley", against=found.labels)[0].numpy()
    close(fig.axes[6].images[0].get_array(), overlay(denormalize(found.images[0]), heat), eps=0.02)
    refused(lambda: draw_mistakes(loud, found, CLASSES, (1, 2), method="shapley", scale="one"), contains="got 'shapley'")

def test_stretch_and_enlargement():
    "Against numpy and OpenCV; constant and empty maps."
    scales = torch.tensor([1e-6, 1e-2, 1, 10, 1e4])[:, None, None]
    maps = torch.rand(5, 4, 4, generator=draws) * scales + 3
    for m, s in zip(maps.numpy(), stretch(maps).numpy()):
        close(s, (m - m.min()) / (m.max() - m.min()) if m.max() > m.min() else m * 0)
    equal(stretch(torch.full((2, 4, 4), 0.3)).abs().max().item(), 0)
    equal(stretch(torch.zeros(1, 4, 4)).abs().max().item(), 0)
    grids = torch.rand(3, 4, 4, generator=draws)
    large = F.interpolate(grids[:, None], (32, 32), mode="bilinear")[:, 0].numpy()
    close(large, np.stack([cv2.resize(m, (32, 32)) for m in grids.numpy()]), eps=1e-5)

def test_overlay():
    "Against the library's drawing on a grey image: 8 bits, divided by its maximum."
    grey = np.random.default_rng(0).random((32, 32, 1)).repeat(3, axis=2).astype(np.float32)
    heat = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    theirs = show_cam_on_image(grey, heat, use_rgb=True, colormap=cv2.COLORMAP_INFERNO,
                               image_weight=0.5)
    ours = overlay(grey, heat)
    close(ours / ours.max(), theirs / 255, eps=0.02)
    colour = np.random.default_rng(1).random((8, 8, 3)).astype(np.float32)
    close(overlay(colour, np.zeros((8, 8)), 0)[..., 0], cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY), 1e-3)
    equal(overlay(colour, np.ones((8, 8)), 1)[0, 0], plt.get_cmap("inferno")(1.0)[:3])
    # A colour that is transparent shows the picture, as when Pillow lays one picture on another.
    paper = Image.fromarray((255 * grey).round().astype(np.uint8)).convert("RGBA")
    paper.alpha_composite(Image.fromarray(SIGNED(heat, bytes=True)))
    close(255 * overlay(grey, heat, 1, SIGNED), np.asarray(paper)[..., :3], 2)  # of 255
    refused(lambda: overlay(grey, heat, 1.5), contains="opacity must be from 0 to 1, got")
    refused(lambda: overlay(grey, heat[:4]), contains="got (32, 32, 3) and (4, 32)")

# Layers, and what cannot be explained

def test_layers_by_name_stage_and_submodule(narrow):
    equal(target_layers(narrow, "layer4"), [narrow.layer4[-1]])
    equal(target_layers(narrow), target_layers(narrow, DEFAULT_LAYERS))
    equal(target_layers(narrow, ("layer1", narrow.layer2)), [narrow.layer1[-1], narrow.layer2[-1]])
    refused(lambda: target_layers(narrow, []), contains="layers is empty")
    refused(lambda: target_layers(narrow, ["layer4", None]), contains="got None")
    assert target_layer(narrow, "layer2") is narrow.layer2[-1]
    assert target_layer(narrow, narrow.layer3) is narrow.layer3[-1]
    assert target_layer(narrow, "layer4.0.conv1") is narrow.layer4[0].conv1

@pytest.mark.parametrize("bad, got", [("layer5", "'layer5'"), ("", "''"), (5, "5"), (nn.ReLU(), "ReLU")])
def test_layers_that_are_none(narrow, bad, got):
    refused(lambda: explain(narrow, images, labels, layers=["layer3", bad]), contains=f"got {got}",
            exc=ValueError)
    refused(lambda: target_layer(narrow, bad), contains=f"got {got}", exc=ValueError)
    refused(lambda: target_layer(narrow, bad),
            contains="(conv1, bn1, layer1, layer2, layer3, layer4, linear; or inside")

def test_layers_that_give_no_maps_or_several(narrow):
    refused(lambda: explain(narrow, images, labels, layers="linear"), exc=ValueError,
            contains="one output, of shape (N, channels, h, w), got one of shape (16, 10)")
    unused = ResNet18(width=2).eval(); unused.spare = nn.Conv2d(3, 3, 1)
    refused(lambda: explain(unused, images, labels, layers=["layer4", "spare"]), contains="got none")
    same = nn.ReLU()
    twice = nn.Sequential(nn.Conv2d(3, 4, 1), same, nn.Conv2d(4, 4, 1), same,
                          nn.AdaptiveAvgPool2d(1), nn.Flatten())
    refused(lambda: explain(twice, images, [0] * 16, layers=same), contains="got 2")
    class Pair(nn.Module):  # more than one output
        def forward(self, x): return x, x
    pair = nn.Sequential(Pair(), Talks(nn.Identity(), lambda both: both[0].mean((2, 3))))
    refused(lambda: explain(pair, images, [0] * 16, layers="0"), contains="got one of shape ()")
    assert without_hooks(narrow) and without_hooks(twice) and without_hooks(pair)

@pytest.mark.parametrize("bad", ["GradCAM", "", None, ["gradcam"]])
def test_methods_that_do_not_exist(narrow, bad):
    names = "gradcam, gradcam++, hirescam, layercam, eigencam, scorecam, ablationcam"
    text = f"method must be one of {names}, got {bad!r}"
    refused(lambda: explain(narrow, images, labels, bad), exc=ValueError, contains=text)
    refused(lambda: signed_maps(narrow, images, labels, method=bad), exc=ValueError, contains=text)

@pytest.mark.parametrize("kind, text, changed", [
    (ValueError, "shape (N, C, H, W), got (3, 32, 32)", dict(images=images[0])),
    (ValueError, "images of shape (1, 32, 32) do not fit the model", dict(images=images[:, :1])),
    (ValueError, "shape (N, C, H, W), got (16, 3, 32, 32)", dict(images=images.numpy())),
    (ValueError, "shape (N, C, H, W), got list", dict(images=[1, 2])),
    (ValueError, "images is empty", dict(images=images[:0], targets=labels[:0])),
    (TypeError, "must be normalized floats, got torch.uint8", dict(images=images.byte())),
    (ValueError, "NaN or infinity", dict(images=images * float("nan"))),
    (ValueError, "images of shape (3, 28, 28) do not fit", dict(images=images[..., 2:30, 2:30])),
    (ValueError, "one class for each of 16 images, got shape (15,)", dict(targets=labels[1:])),
    (ValueError, "one class for each of 16 images, got shape ()", dict(targets=3)),
    (TypeError, "must be whole numbers, got torch.float32", dict(targets=labels.float())),
    (ValueError, "targets must be from 0 to 9, as the model has 10 classes, got 10",
     dict(targets=labels * 0 + 10)),
    (ValueError, "the model has 10 classes, got -1", dict(targets=labels * 0 - 1)),
    (ValueError, "batch_size must be at least 1, got 0", dict(batch_size=0)),
    (ValueError, "against must be one class for each of 16 images, got shape (15,)",
     dict(against=others[1:])),
    (ValueError, "against must be one class for each of 16 images, got shape ()", dict(against=3)),
    (ValueError, "against must be from 0 to 9, as the model has 10 classes, got 10",
     dict(against=labels * 0 + 10)),
    (ValueError, "against must be from 0 to 9, as the model has 10 classes, got -1",
     dict(against=labels * 0 - 1)),
    (TypeError, "against must be whole numbers, got torch.float32", dict(against=others.float())),
    (ValueError, f"against must differ from targets, got class {int(labels[5])} in both for image 5",
     dict(against=torch.where(torch.arange(16) == 5, labels, others)))])
def test_what_cannot_be_explained(narrow, kind, text, changed):
    arguments = dict(images=images, targets=labels) | changed
    refused(lambda: explain(narrow, **arguments), contains=text, exc=kind)
    assert without_hooks(narrow) and not narrow.training

def test_checks_give_whole_numbers_on_the_cpu():
    equal(check_explainable(images, labels.tolist()), labels)
    equal(check_explainable(images, labels.numpy()), labels)
    assert check_against(labels, None, "gradcam") is None
    equal(check_against(labels, others.tolist(), "gradcam"), others)

@pytest.mark.parametrize("method", GRADIENT_FREE)
def test_a_contrast_needs_a_gradient(narrow, method):
    text = f"(gradcam, gradcam++, hirescam, layercam), got {method!r}"
    refused(lambda: explain(narrow, images, labels, method, against=others), exc=ValueError, contains=text)
    refused(lambda: signed_maps(narrow, images, labels, others, method), exc=ValueError, contains=text)

def test_images_that_are_not_normalised_are_told(narrow):
    for odd in (torch.rand(4, 3, 32, 32), 255 * torch.rand(4, 3, 32, 32)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            explain(narrow, odd, [0, 1, 2, 3], smooth=True)
        equal(["were they normalized?" in str(w.message) for w in caught], [True])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain(narrow, images[:4].double(), labels[:4])

def test_modes_and_hooks_come_back(narrow):
    network = copy.deepcopy(narrow).train()
    network.layer1.eval()
    expected = [m.training for m in network.modules()]
    maps = explain(network, images[:4], labels[:4])
    refused(lambda: explain(network, images, labels + 10), contains="10 classes", exc=ValueError)
    refused(lambda: explain(network, images[..., 2:30, 2:30], labels), contains="do not fit")
    equal([m.training for m in network.modules()], expected)
    assert without_hooks(network)
    close(maps, explain(narrow, images[:4], labels[:4]), eps=1e-4)
    close(maps, explain(narrow, images[:4], labels[:4], batch_size=1), eps=1e-4)
    with torch.autocast("cpu", torch.bfloat16):  # float32 also inside somebody's autocast
        close(maps, explain(narrow, images[:4], labels[:4]), eps=1e-4)

def test_explain_looks_once(narrow):
    "One forward pass a batch, and nothing more."
    calls = []
    hook = narrow.register_forward_hook(lambda m, inputs, out: calls.append(len(out)))
    try:
        explain(narrow, images, labels, batch_size=7)
        signed_maps(narrow, images, labels, batch_size=9)
        explain(narrow, images[:2], labels[:2], smooth=True)
    finally: hook.remove()
    equal(calls, [7, 7, 2, 9, 7, 2, 2])

# The contrast

class Margin(nn.Module):
    "A network with one output: the margin between two classes of another network."
    def __init__(self, model, p, t):
        super().__init__()
        self.model, self.p, self.t = model, p, t
    def forward(self, x):
        y = self.model(x)
        return (y[:, self.p] - y[:, self.t])[:, None]

@pytest.mark.parametrize("method", [name for name in METHODS if name not in GRADIENT_FREE])
def test_the_contrast_is_the_map_of_the_margin(exact, method):
    pair, x = Margin(exact, 3, 5).eval(), images[:2].double()
    for name in ("layer1", "layer3", "layer4"):
        layer = getattr(exact, name)[-1]
        ours = explain(exact, x, [3] * 2, method, layer, against=[5] * 2)
        close(ours, explain(pair, x, [0] * 2, method, layer), eps=1e-4)
        assert ours.isfinite().all()
        maps, scores = signed_maps(exact, x, [3] * 2, [5] * 2, method, layer)
        opposite, turned = signed_maps(exact, x, [5] * 2, [3] * 2, method, layer)
        close(scores, -turned, eps=1e-5)
        if method in ("gradcam", "hirescam"): close(maps, -opposite, eps=1e-4)
        close(enlarged(maps.relu()), ours, eps=1e-4)

def test_the_contrast_in_batches_and_of_twins(exact):
    x = images[:6].double()
    whole = explain(exact, x, labels[:6], against=others[:6], smooth=True)
    close(explain(exact, x, labels[:6], against=others[:6], smooth=True, batch_size=4), whole, 1e-5)
    twins = copy.deepcopy(exact)  # the same weights for two classes: no map, but no NaN
    with torch.no_grad(): twins.linear.weight[5] = twins.linear.weight[3]
    equal(explain(twins, x[:4], [3] * 4, against=[5] * 4).abs().max().item(), 0)
    mistake = find_mistakes(twins, [(images, 9 - labels)])[:1]
    logits = np.zeros((1, 10), np.float32); logits[0, 5] = 1
    fig = draw_mistakes(twins, replace(mistake, labels=np.array([3]), logits=logits))
    assert fig.axes[3].get_title().endswith("empty")

# Mistakes

def test_mistakes_found_again_one_image_at_a_time(narrow):
    few = find_mistakes(narrow, DataLoader(TensorDataset(images, labels), batch_size=5))
    with torch.no_grad(): logits = [narrow(x[None])[0].numpy() for x in images]
    indices = [i for i, (z, y) in enumerate(zip(logits, labels)) if z.argmax() != y]
    equal(type(few), Predictions)
    equal((few.seen, few.indices.tolist()), (16, indices))
    equal(few.labels.tolist(), labels[indices].tolist())
    equal(few.predicted.tolist(), [int(logits[i].argmax()) for i in indices])
    for i, p in zip(indices, few.probabilities):
        powers = np.exp(logits[i] - logits[i].max())
        close(p, powers / powers.sum(), eps=1e-4)
    equal(few.images, images[indices])
    few.check_model(narrow)
    equal(few.classes, CLASSES)

def test_parts_of_mistakes_and_limits(narrow):
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    mistakes = find_mistakes(narrow, loader)
    equal(mistakes[1].indices.tolist(), mistakes[[1]].indices.tolist())
    equal(mistakes[[2, 0]].images, mistakes.images[[2, 0]])
    equal(sorted(mistakes.most_confident().indices.tolist()), mistakes.indices.tolist())
    assert (np.diff(mistakes.most_confident().confidence) <= 0).all()
    three = find_mistakes(narrow, loader, limit=3)
    equal(three.indices, mistakes.indices[:3])
    assert three.seen < mistakes.seen and three[:1].seen == three.seen
    refused(lambda: find_mistakes(narrow, loader, limit=0), contains="limit must be at least 1, got 0")
    refused(lambda: find_mistakes(narrow, loader, precision="half"), contains="precision must be one of")

def test_loaders_that_are_refused(narrow):
    empty = TensorDataset(torch.zeros(0, 3, 32, 32), torch.zeros(0).long())
    refused(lambda: find_mistakes(narrow, DataLoader(empty)), contains="loader is empty")
    pairs = TensorDataset(torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]))
    shuffled = BatchSampler(RandomSampler(pairs), 2, False)
    for loader in (DataLoader(pairs, shuffle=True), DataLoader(pairs, batch_sampler=shuffled)):
        text = "must go through its images in order, got a shuffled one"
        refused(check_order, args=[loader], exc=ValueError, contains=text)
        refused(find_mistakes, args=[narrow, loader], exc=ValueError, contains=text)
    assert check_order(DataLoader(pairs)) is None
    strange = TensorDataset(torch.zeros(2, 3, 32, 32), torch.tensor([0, 12]))
    network = copy.deepcopy(narrow)
    network.train(); network.layer1.eval()  # a mixture, as in fine-tuning
    refused(lambda: find_mistakes(network, DataLoader(strange)),
            contains="labels must be from 0 to 9, got 12")
    equal((network.training, network.layer1[0].training, network.layer4[0].training),
          (True, False, True))

# What is drawn

@pytest.fixture(scope="module")
def few(narrow): return find_mistakes(narrow, [(images, others)])[:3]

def test_pictures_titles_and_frames(narrow, few):
    "For the mistakes in the loader's order."
    fig = draw_mistakes(narrow, few, CLASSES, (1, 3), scale="alone")
    axes = fig.axes[:-1]  # the last is the colour bar
    equal(len(axes), 12)
    for i in range(3):
        image, for_predicted, for_true, rather = (axes[3 * k + i] for k in range(4))
        equal(image.images[0].get_array(), denormalize(few.images[i]))
        equal(image.get_title(), f"no. {few.indices[i]}")
        for ax, mark, targets, other in (
                (for_predicted, "✗", few.predicted, None), (for_true, "✓", few.labels, None),
                (rather, "✗ − ✓", few.predicted, few.labels[[i]])):
            title, c = ax.get_title(), targets[i]
            if other is None:
                assert title.startswith(f"{mark} {CLASSES[c]}\n")
                p = few.probabilities[i, c].item()
                assert f"{100 * p:.1f} %" in title or p < 0.0005 or p >= 0.9995
            else: assert title.startswith(mark)
            m = explain(narrow, few.images[[i]], [c], against=other)[0].numpy()
            close(ax.images[0].get_array(), overlay(denormalize(few.images[i]), m), eps=0.02)
    blue, green = (plt.matplotlib.colors.to_rgb(f"tab:{c}") for c in ("blue", "green"))
    equal(for_true.spines["top"].get_edgecolor()[:3], blue)
    equal(rather.spines["top"].get_edgecolor()[:3], green)
    equal([text.get_text() for text in fig.legends[0].get_texts()],
          ["✗ predicted class", "✓ true class", "✗ rather than ✓"])

def test_one_scale_undone_is_the_maps_in_units_of_the_logit(narrow, few):
    fig = draw_mistakes(narrow, few, CLASSES, (1, 3))
    raw = {0: signed_maps(narrow, few.images, few.predicted),
           1: signed_maps(narrow, few.images, few.labels),
           2: signed_maps(narrow, few.images, few.predicted, few.labels)}
    most = max(maps.amax().item() for maps, _ in raw.values())
    for k, (maps, scores) in raw.items():
        for i in range(3):
            ax = fig.axes[3 * (k + 1) + i]
            heat = cv2.resize(maps[i].clamp(min=0).numpy(), (32, 32)) / most
            close(ax.images[0].get_array(), overlay(denormalize(few.images[i]), heat), 0.02)
            note, above = ax.get_title().split("\n")[-1], maps[i][maps[i] > 0].sum().item()
            if above: close([float(word) for word in note.split(" of ")], [above, scores[i]], 0.11)
            else: equal(note, "empty")
    equal(fig.axes[-1].get_xticklabels()[1].get_text(), f"{most:.2f}")
    fig = draw_mistakes(narrow, few, CLASSES, (3, 1), negative=True)
    most = max(maps.abs().amax().item() for maps, _ in raw.values())
    heat = (cv2.resize(raw[2][0][1].numpy(), (32, 32)) / most + 1) / 2
    close(fig.axes[10].images[0].get_array(),
          overlay(denormalize(few.images[1]), heat, colours=SIGNED), 0.02)
    equal(len(fig.axes[10].get_title().split("\n")[-1].split()), 4)  # "+2.6 -0.3 of 2.3"
    fig = draw_mistakes(narrow, few, CLASSES, (3, 1), method="eigencam")  # asks for no class
    equal(len(fig.axes), 3 * 3 + 1)

def test_the_scale_that_fits():
    def scale(scale, negative, method="gradcam", layers="layer4"):
        return check_drawing((1, 1), 1, method, layers, scale, negative)[1]
    equal([scale(None, False), scale("alone", False)], ["one", "alone"])
    equal(scale(None, False, "gradcam", ["layer3", "layer4"]), "alone")
    equal(scale(None, False, "scorecam", None), "alone")
    refused(lambda: scale("one", False, "gradcam", ["layer3", "layer4"]), exc=ValueError,
            contains="scale 'one' needs one layer and a method with a gradient, got 'gradcam'")
    refused(lambda: scale("both", False), contains="'alone' or None, got 'both'")
    refused(lambda: scale("alone", True), contains="negative needs scale 'one'")
    equal(check_drawing([4, 5], 20, "gradcam", None, None, False), (5, "one"))

def test_other_methods_and_layers_and_images_alone(narrow, few):
    how = dict(method="hirescam", layers=["layer3", "layer4"])
    loader = DataLoader(TensorDataset(few.images, torch.from_numpy(few.labels)), batch_size=8)
    for fig in (draw_mistakes(narrow, few, CLASSES, (1, 3), **how),
                plot_misclassified(narrow, loader, CLASSES, no_misclf=3, plot_size=(1, 3), **how)):
        m = explain(narrow, few.images[[1]], few.labels[[1]], **how)[0].numpy()
        close(fig.axes[7].images[0].get_array(), overlay(denormalize(few.images[1]), m), eps=0.02)
    fig = plot_misclassified(narrow, loader, CLASSES, no_misclf=2, plot_size=(2, 2), grad_CAM=False)
    equal(len(fig.axes), 2)
    first = f"✗ {CLASSES[few.predicted[0]]} ", f"✓ {CLASSES[few.labels[0]]} "
    assert all(line.startswith(name) for line, name in zip(fig.axes[0].get_title().split("\n"), first))
    assert any("✓ true class" in text.get_text() for text in fig.texts)

def test_fewer_mistakes_than_asked_for_or_none(narrow, few, capsys):
    loader = DataLoader(TensorDataset(few.images, torch.from_numpy(few.labels)))
    fig = plot_misclassified(narrow, loader, no_misclf=20, plot_size=(4, 5))
    equal(capsys.readouterr().out, "20 mistakes were asked for; the model makes 3 in 3 images.\n")
    equal(len(fig.axes), 3 * 4 + 1)
    all_right = DataLoader(TensorDataset(few.images, torch.from_numpy(few.predicted)))
    fig = plot_misclassified(narrow, all_right)
    equal(capsys.readouterr().out, "20 mistakes were asked for; the model makes 0 in 3 images.\n")
    equal([text.get_text() for text in fig.texts], ["no mistakes in 3 images"])

@pytest.mark.parametrize("text, how", [
    ("plot_size (4, 4) has room for 16 images, wanted 20", dict(plot_size=(4, 4))),
    ("plot_size must be two whole numbers, rows and columns, got 20", dict(plot_size=20)),
    ("plot_size must be two whole numbers", dict(plot_size=(-4, -5))),
    ("no_misclf must be at least 1, got 0", dict(no_misclf=0)),
    ("layer1, layer2, layer3, layer4", dict(layers="layer9")),
    ("method must be one of gradcam, gradcam++", dict(method="grad-cam")),
    ("got 'own'", dict(scale="own")),
    ("device must be", dict(device="abacus")),
    ("classes must be 10 names, one for each output of the model, got 2", dict(classes=("a", "b")))])
def test_drawings_that_are_refused(narrow, few, text, how):
    loader = DataLoader(TensorDataset(few.images, torch.from_numpy(few.labels)))
    refused(lambda: plot_misclassified(narrow, loader, **how), contains=text, exc=ValueError)
    if "method" in how: refused(lambda: plot_misclassified(narrow, [], **how), contains=text, exc=ValueError)  # before the search

def test_more_drawings_that_are_refused(narrow, few):
    empty = TensorDataset(torch.zeros(0, 3, 32, 32), torch.zeros(0).long())
    refused(lambda: plot_misclassified(narrow, DataLoader(empty)), contains="loader is empty", exc=ValueError)
    refused(lambda: draw_mistakes(narrow, few, CLASSES, (1, 2)), contains="room for 2")
    refused(lambda: draw_mistakes(narrow, replace(few, images=None)), contains="must hold images")

# Any network

def test_any_wrapper_number_format_and_form_of_output(small):
    "As the network itself."
    parts, in_place = copy.deepcopy(small), copy.deepcopy(small)
    parts.second = torch.compile(parts.second, backend="eager")
    in_place.compile(backend="eager"); in_place(wide)
    with torch.inference_mode(): (locked := Small()).load_state_dict(small.state_dict())
    assert locked.head.weight.is_inference()
    low = {kind: copy.deepcopy(small).to(kind) for kind in (torch.half, torch.bfloat16, torch.double)}
    networks = {"bare": small, "DataParallel": nn.DataParallel(small), "in place": in_place,
                "compiled": torch.compile(nn.DataParallel(small), backend="eager"), "parts": parts,
                "inference": locked, "tuple": Talks(small, lambda y: (y, None)),
                "dict": nn.DataParallel(Talks(small, lambda y: {"loss": y.mean(), "logits": y}))} | low
    with torch.no_grad(): logits = small(wide)
    layers = small.second[-1], small.first[-1]
    last, first = (enlarged(gradcam_maps(small, wide, some, layer), (24, 20)) for layer in layers)
    eigen = explain(small, wide, some, "eigencam")
    for name, other in networks.items():
        eps = 0.05 if name in low and name != torch.double else 1e-4  # rounded weights
        inside = "network." * (name in ("tuple", "dict"))
        close(explain(other, wide, some), last, eps)
        for layer in (f"{inside}first", unwrap(other).get_submodule(f"{inside}first")):
            close(explain(other, wide, some, layers=layer), first, eps)
        close(explain(other, wide, some, "eigencam"), eigen, 2 * eps)
        maps, scores = signed_maps(other, wide, some)
        close(scores, logits.diagonal(), eps)
        mistakes = find_mistakes(other, batches)
        close(mistakes.probabilities, logits.softmax(1)[mistakes.indices].numpy(), eps)
        equal(mistakes.indices, (logits.argmax(1) != some).nonzero()[:, 0].numpy())
        if name in ("parts", "dict", torch.half):
            fig = plot_misclassified(other, batches, no_misclf=1, plot_size=(1, 1))
            equal(len(fig.axes), 5)
    equal({str(p.dtype) for network in low.values() for p in network.parameters()},
          {"torch.float16", "torch.bfloat16", "torch.float64"})  # as they were
    assert all(map(without_hooks, networks.values()))

def test_inside_inference_mode(small):
    "With images, classes and loaders from there."
    wanted = explain(small, wide, some)
    with torch.inference_mode():
        x, targets = wide.clone(), some.clone()
        assert x.is_inference() and targets.is_inference()
        for classes in (targets, some.tolist()): close(explain(small, x, classes), wanted, 1e-5)
        rather = explain(small, x, targets, against=targets + 1)
        mistakes = find_mistakes(small, [(x, targets)])
        draw_mistakes(small, mistakes[:1], CLASSES)
    close(rather, explain(small, wide, some, against=some + 1), 1e-5)
    close(explain(small, x, targets), wanted, 1e-5)
    close(explain(small, mistakes.images, mistakes.labels), wanted[mistakes.indices], 1e-5)

def test_in_the_wrapper_of_several_processes(small, tmp_path):
    "In a group of one."
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    try: close(explain(DistributedDataParallel(small), wide, some), explain(small, wide, some), 1e-5)
    finally: torch.distributed.destroy_process_group()

def test_four_threads_on_one_network(small):
    "As a single one. Seen without the lock: errors in most calls, and wrong maps."
    def job(i):
        method = ("gradcam", "ablationcam", "eigencam", "scorecam")[i % 4]
        if i % 5 == 4: return torch.from_numpy(find_mistakes(small, [(wide, some)]).probabilities)
        return explain(small, wide[i % 3:i % 3 + 2], [i % 10] * 2, method, ("first", None)[i % 2])
    serial = [job(i) for i in range(30)]
    with ThreadPoolExecutor(4) as pool: together = [*pool.map(job, [*range(30)] * 2)]
    for i, maps in enumerate(together): close(maps, serial[i % 30], 1e-4)
    assert without_hooks(small)

def test_one_channel_and_names_and_statistics_of_ones_own():
    torch.manual_seed(0)
    grey, three = Small(1, 3).eval(), ("cup", "chair", "lamp")
    pixels = torch.rand(5, 1, 40, 48, generator=draws)
    loader = [((pixels - 0.4) / 0.2, torch.tensor([0, 1, 2, 0, 1]))]
    mistakes = find_mistakes(grey, loader)
    equal((mistakes.images.shape[1:], mistakes.probabilities.shape[1]), ((1, 40, 48), 3))
    equal(mistakes.classes, ("0", "1", "2"))  # nothing says their names
    image = pixels[mistakes.indices[0]].permute(1, 2, 0).expand(-1, -1, 3).numpy()
    for layers in (None, "first"):
        fig = plot_misclassified(grey, loader, three, no_misclf=1, plot_size=(1, 1), layers=layers,
                                 mean=[0.4], std=[0.2])
        close(fig.axes[0].images[0].get_array(), image, 1e-5)
        equal(fig.axes[1].get_title().split()[1], three[mistakes.predicted[0]])
    refused(lambda: draw_mistakes(grey, mistakes, three), exc=ValueError,
            contains="mean and std must be 1 numbers each, one for each channel of the images, got 3")
    refused(lambda: draw_mistakes(grey, mistakes, ("a", "b"), mean=[0.4], std=[0.2]),
            contains="classes must be 3 names, got 2: pass the class names")
    refused(lambda: find_mistakes(grey, [(pixels, torch.zeros(4, dtype=int))]), exc=ValueError,
            contains="labels must be one class for each of 5 images, got shape (4,)")
    refused(lambda: find_mistakes(grey, [(pixels,)]), exc=TypeError, contains="images and labels")
    # A dataset that says them itself; soft labels count by their largest share.
    class Own(TensorDataset): info = DatasetInfo(three, (0.4,), (0.2,))
    for truth in (loader[0][1], torch.eye(3)[loader[0][1]]):
        own = DataLoader(Own(loader[0][0], truth), 5)
        equal(find_mistakes(grey, own).indices, mistakes.indices)
        for names in (None, "abc"):
            fig = plot_misclassified(grey, own, names, no_misclf=1, plot_size=(1, 1), layers="first")
            close(fig.axes[0].images[0].get_array(), image, 1e-5)
            name = (names or three)[mistakes.labels[0]]
            assert any(f"✓ {name}" in ax.get_title() for ax in fig.axes)

def test_statistics_of_ones_own(small):
    mistakes = find_mistakes(small, batches)
    fig = draw_mistakes(small, mistakes, CLASSES, mean=(0.5,) * 3, std=(0.1,) * 3)
    image = (0.5 + 0.1 * mistakes.images[0]).clamp(0, 1).permute(1, 2, 0).numpy()
    close(fig.axes[0].images[0].get_array(), image, 1e-5)

@pytest.mark.parametrize("name, where", [
    ("resnet18", "layer4.1"), ("mobilenet_v3_small", "features.12.2"),
    ("efficientnet_b0", "features.8.2"), ("googlenet", "inception5b"),
    ("squeezenet1_1", "classifier.2"), ("densenet121", "features.norm5")])
def test_networks_of_torchvision(name, where):
    "The last layer with height and width. In float64, as untrained ones give tiny numbers."
    torch.manual_seed(0)
    more = dict(init_weights=False) if name == "googlenet" else {}
    network = torchvision.models.get_model(name, num_classes=4, **more).eval().double()
    x = torch.randn(1, 3, 64, 64, dtype=torch.double)
    ours = explain(network, x, [3])
    if name == "densenet121":  # changes what its last layer gives, in place
        return close(ours, explain(network, x, [3], layers=where), 1e-9)
    maps = gradcam_maps(network, x, torch.tensor([3]), network.get_submodule(where))
    close(ours, enlarged(maps, (64, 64)), 1e-5)

def test_networks_without_such_a_layer():
    "None of more than one place, or tokens: what to do."
    torch.manual_seed(0)
    network, x = torchvision.models.resnet18(num_classes=4), images[:1]
    refused(lambda: explain(network, x, [3], layers="layer4"), exc=ValueError,
            contains="one of shape (1, 512, 1, 1): pass an earlier layer, or larger images")
    equal(target_layers(network, None, x), [network.layer3[-1]])
    vit = torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 16, num_classes=4)
    for call in (lambda: explain(vit, x, [3]),
                 lambda: plot_misclassified(vit, [(images[:3], torch.tensor([1, 2, 3]))], CLASSES[:4])):
        refused(call, exc=ValueError, contains="lay tokens out as maps")
    refused(lambda: explain(vit, x, [3], layers="encoder.ln"), exc=ValueError,
            contains="got one of shape (1, 17, 16): for tokens, see tokens_as_maps")

# Never wrong without a word

def test_mistakes_of_a_network_that_gives_nan(small):
    "Class 0 is then the answer to everything: among images of class 0 there would be no mistake."
    broken = copy.deepcopy(small)
    with torch.no_grad(): broken.head.bias[:] = torch.nan
    for call in (lambda: find_mistakes(broken, [(wide, some * 0)]), lambda: explain(broken, wide, some),
                 lambda: explain(broken, wide, some, "scorecam"), lambda: signed_maps(broken, wide, some)):
        refused(call, exc=ValueError, contains="its weights hold NaN or infinity, look at head.bias")

class Root(nn.Module):
    "Its gradient at 0 is infinite: times 0, NaN."
    def forward(self, x): return (0 * x).sum((2, 3)).sqrt()

class Centred(nn.Module):
    "Each image on its own scale: a black one has none."
    def forward(self, x): return x / x.std((1, 2, 3), keepdim=True)

class Constant(nn.Module):
    "A channel that is the same everywhere comes first."
    def forward(self, x): return torch.cat([0 * x[:, :1] + 1, x], 1)

def test_maps_that_are_nan_though_the_logits_are_not():
    torch.manual_seed(0)
    root = nn.Sequential(nn.Conv2d(3, 8, 3), Root(), nn.Linear(8, 10)).eval()
    own = nn.Sequential(Centred(), nn.Conv2d(3, 8, 3, padding=1), Constant(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(9, 10)).eval()
    for case in ((root, wide, some, "hirescam", "0"), (own, wide, some, "scorecam", "2")):
        network, x, targets, method, layer = case
        for call, args in ((explain, case), (signed_maps, (network, x, targets, None, method, layer))):
            refused(call, args=args, exc=ValueError,
                    contains=f"{method} gives NaN or infinity though the logits are finite")
    grey = np.full((4, 4), np.nan)
    refused(lambda: overlay(np.zeros((4, 4, 3)), grey), contains="heat holds NaN or infinity", exc=ValueError)

def test_names_that_are_not_as_many_as_outputs(small):
    "Only of data that says nothing of its classes the numbers are the names."
    class Own(TensorDataset): info = DatasetInfo(("cup", "chair"))
    loader = DataLoader(Own(wide, some % 2), 4)
    for call in (lambda: find_mistakes(small, loader), lambda: plot_misclassified(small, loader)):
        refused(call, exc=ValueError, contains="classes must be 10 names, one for each output of the model, got 2")
    mistakes = find_mistakes(small, loader, classes=CLASSES[::-1])
    equal(mistakes.classes, CLASSES[::-1])
    plot_misclassified(small, loader, CLASSES, no_misclf=2)
    refused(lambda: draw_mistakes(small, mistakes, (*CLASSES, "cup")), exc=ValueError,
            contains="classes must be 10 names, got 11: pass the class names")
