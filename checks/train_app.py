"""What the page `train_here` needs and the repository does not hold: a training step and a test as ONNX graphs, and the images.

    python checks/train_app.py FOLDER    the page alone, to be served from FOLDER; needs no Quarto
    python checks/train_app.py --record  trains the three ways of chapter 04 and the two deep networks, each from three seeds:
                                         records/three_ways.json, and the still figure of the page
"""
import json
import math
import re
import sys
import warnings
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from apps import bring_runtime, RUNTIME, RUNTIME_FILES, tell, WEBGPU_FILES, write_alone, write_parts
from readme import HERE

PAGE = HERE / "nbs" / "train_here.qmd"
RECORD = HERE / "cifar_gradcam" / "records" / "three_ways.json"
BATCH, TESTED, MOMENTUM = 64, 100, 0.9   # images in a step, images in a test, and the momentum of chapter 04
TRAIN, TEST, ACROSS = 2000, 500, 50      # images in the file, and how many lie side by side
EPOCHS, SMOOTH = 6, 15
# The three ways of chapter 04: the rates at the start, at the peak and at the end, and the epoch of the peak.
WAYS = {"constant 0.01": (0.01, 0.01, 0.01, 1.5), "constant 0.3": (0.3, 0.3, 0.3, 1.5), "one cycle to 0.3": (0.003, 0.3, 0, 1.5)}
PAIRS = 6                                # of convolutions, in the deep networks
NETWORKS = {"small": "small", "shortcuts": "deep", "plain": "deep"}  # and the graphs that train them
FIRST = 361                              # the test image that is shown first: a dog, which networks from six of six seeds learned
aten = torch.ops.aten


class Pair(nn.Module):
    "Two convolutions that keep the shape. `shortcut` is 1 or 0, a number of the network's row, so that one graph does for both."
    def __init__(self, channels, shortcut):
        super().__init__()
        self.register_buffer("shortcut", torch.tensor(float(shortcut)))
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = (nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x):
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(out + self.shortcut * x)


def network_of(name="small", seed=0, activation=nn.ReLU):
    "The small network of chapter 04. The deep ones are the same with six pairs of convolutions more, all from the same first weights."
    torch.manual_seed(seed)
    layers = [nn.Sequential(nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(o), activation())
              for i, o in ((3, 16), (16, 32), (32, 64))]
    if name != "small": layers[2:2] = [Pair(32, name == "shortcuts") for _ in range(PAIRS)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


# ---- All numbers of a network in training as one row: parameters, momenta, running statistics.
def parts_of(network):
    "Name, shape and start of each part of the row, and the length of the row."
    numbers = {f"p {name}": p for name, p in network.named_parameters()}
    numbers |= {f"m {name}": p for name, p in network.named_parameters()}
    numbers |= {f"s {name}": b for name, b in network.named_buffers() if b.dtype.is_floating_point}
    parts, start = {}, 0
    for name, tensor in numbers.items():
        parts[name] = (tuple(tensor.shape), start)
        start += tensor.numel()
    return parts, start


def pack(network, momenta=None):
    "The row of a network; `momenta` by the name of the parameter, else zero."
    rows = [p.detach().flatten() for _, p in network.named_parameters()]
    rows += [torch.zeros(p.numel()) if momenta is None else momenta[name].flatten() for name, p in network.named_parameters()]
    return torch.cat(rows + [b.flatten() for b in network.buffers() if b.dtype.is_floating_point])


def unpack(row, parts, kind):
    return {name[2:]: row[start:start + math.prod(shape)].view(shape) for name, (shape, start) in parts.items() if name[0] == kind}


def training_step(network):
    "A function: row, images, labels, rate -> the row after a step of SGD with momentum, and the loss before it."
    parts, _ = parts_of(network)
    counts = {name: b for name, b in network.named_buffers() if not b.dtype.is_floating_point}

    def step(row, images, labels, rate):
        parameters = {name: p.detach().requires_grad_() for name, p in unpack(row, parts, "p").items()}
        statistics = {name: b.clone() for name, b in unpack(row, parts, "s").items()}
        used = parameters | statistics | {name: b.clone() for name, b in counts.items()}
        loss = F.cross_entropy(functional_call(network, used, (images,)), labels)
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        momenta = [MOMENTUM * m + g for m, g in zip(unpack(row, parts, "m").values(), gradients)]
        moved = [p.detach() - rate * m for p, m in zip(parameters.values(), momenta)]
        return torch.cat([t.flatten() for t in [*moved, *momenta, *statistics.values()]]), loss.detach()
    return step


# ---- Backward passes in operators that ONNX has
def convolution_backward(back, x, w, bias_sizes, stride, pad, dilation, transposed, out_pad, groups, wanted):
    "By the input: a transposed convolution. By the weights: shifted copies of the input, and one product."
    if transposed or groups != 1 or list(dilation) != [1, 1] or wanted[2]: raise NotImplementedError("only plain convolutions without bias")
    (height, width), (n, channels), (kh, kw) = back.shape[2:], x.shape[:2], w.shape[2:]
    by_input = None
    if wanted[0]:
        more = [x.shape[2 + i] - ((back.shape[2 + i] - 1) * stride[i] - 2 * pad[i] + w.shape[2 + i]) for i in (0, 1)]
        by_input = aten.convolution(back, w, None, stride, pad, [1, 1], True, more, 1)
    padded = aten.constant_pad_nd(x, [pad[1], pad[1], pad[0], pad[0]], 0.0)
    shifted = [padded[:, :, i:i + stride[0] * (height - 1) + 1:stride[0], j:j + stride[1] * (width - 1) + 1:stride[1]]
               .reshape(n, channels, height * width) for i in range(kh) for j in range(kw)]
    product = torch.bmm(torch.cat(shifted, 1), back.reshape(n, -1, height * width).transpose(1, 2)).sum(0)
    return by_input, product.reshape(kh, kw, channels, -1).permute(3, 2, 0, 1), None


def over(values): return values.view(1, -1, 1, 1)


def batch_norm(x, w, b, mean, variance, training, momentum, eps):
    n, found = x.numel() / x.shape[1], x.mean((0, 2, 3), keepdim=True)
    apart = x - found
    spread = (apart * apart).mean((0, 2, 3), keepdim=True)
    scale = (spread + eps).rsqrt()
    mean.copy_(mean * (1 - momentum) + found.flatten() * momentum)
    variance.copy_(variance * (1 - momentum) + spread.flatten() * (momentum * n / (n - 1)))
    return apart * (scale * over(w)) + over(b), found.flatten(), scale.flatten()


def batch_norm_backward(back, x, w, mean, variance, found, scale, training, eps, wanted):
    n, normal = x.numel() / x.shape[1], (x - over(found)) * over(scale)
    by_b, by_w = back.sum((0, 2, 3)), (back * normal).sum((0, 2, 3))
    return (back - over(by_b) / n - normal * (over(by_w) / n)) * over(w * scale), by_w, by_b


# A graphics processor has no kernel for the logarithm of a softmax, nor for the choice by label: it would wait for the other one.
def log_softmax(x, dim, half):
    apart = x - x.amax(dim, keepdim=True)
    return apart - apart.exp().sum(dim, keepdim=True).log()


def one_hot(labels, x): return (labels.view(-1, 1) == torch.arange(x.shape[1])).to(x.dtype)


def nll_loss(x, labels, weight, reduction, ignored):
    return -(x * one_hot(labels, x)).sum() / len(x), torch.tensor(float(len(x)))


def nll_loss_backward(back, x, labels, weight, reduction, ignored, total): return -one_hot(labels, x) * (back / len(x))


def plain_step(network, example):
    "The step without autograd and without changes in place: what ONNX can hold."
    from torch._decomp import core_aten_decompositions
    from torch.fx.experimental.proxy_tensor import make_fx
    table = dict(core_aten_decompositions()) | {
        aten.convolution_backward.default: convolution_backward, aten.native_batch_norm.default: batch_norm,
        aten.native_batch_norm_backward.default: batch_norm_backward, aten._log_softmax.default: log_softmax,
        aten.nll_loss_forward.default: nll_loss, aten.nll_loss_backward.default: nll_loss_backward,
        aten.threshold_backward.default: lambda back, x, least: back * (x > 0).to(back.dtype)}
    unrolled = make_fx(training_step(network), decomposition_table=table)(*example)
    # The running statistics were still written in place: a second pass makes new ones of them.
    graph = make_fx(torch.func.functionalize(unrolled, remove="mutations"))(*example)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


class Test(nn.Module):
    "Row, images -> logits, and the Grad-CAM maps of all classes in units of the logit: after averages, weights are gradients."
    def __init__(self, network):
        super().__init__()
        self.network, self.parts = network, parts_of(network)[0]

    def forward(self, row, images):
        used = unpack(row, self.parts, "p") | unpack(row, self.parts, "s")
        weights, bias = (used.pop(f"{len(self.network) - 1}.{name}") for name in ("weight", "bias"))
        images = functional_call(self.network[:-3], used, (images,))  # without the average, and what follows it
        maps = F.conv2d(images, weights.view(*weights.shape, 1, 1)) / (images.shape[2] * images.shape[3])
        return maps.sum((2, 3)) + bias, maps


def write_graph(module, example, names, outputs, path):
    "Export, and leave out the notes of the exporter: nine tenths of the file."
    import onnx
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants, remove_unused_nodes
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Exporting a model while it is in training mode")  # as it should be
        made = torch.onnx.export(module, example, dynamo=True, input_names=names, output_names=outputs, opset_version=18, verbose=False, optimize=False)
    fold_constants(made.model)  # these five are what counts here of `optimize`, which takes five times as long
    remove_unused_nodes(made.model)
    for tidy in (common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0), common.DeduplicateInitializersPass(),
                 common.CommonSubexpressionEliminationPass()): tidy(made.model)
    made.save(path)
    model = onnx.load(path)
    for parts in (model.graph.node, model.graph.input, model.graph.output, model.graph.initializer):
        for part in parts:
            del part.metadata_props[:]
            part.doc_string = ""
    for k, node in enumerate(model.graph.node): node.name = str(k)
    for notes in (model.graph.metadata_props, model.metadata_props, model.graph.value_info): del notes[:]
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_step(path, network):
    network.train()
    example = (pack(network), torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % 10, torch.tensor(0.1))
    return write_graph(plain_step(network, example), example, ["row", "images", "labels", "rate"], ["new_row", "loss"], path)


def write_test(path, network):
    return write_graph(Test(network.eval()), (pack(network), torch.randn(TESTED, 3, 32, 32)), ["row", "images"], ["logits", "maps"], path)


def beginnings(network):
    "How a network begins, as torch does it: for each part its length, and either a constant or the bound of a uniform draw."
    found = []
    for name, (shape, _) in parts_of(network)[0].items():
        module = network.get_submodule(name[2:].rpartition(".")[0])
        one = {"length": math.prod(shape), "value": float(name.startswith("s") and name.endswith("var"))}
        if name.endswith("shortcut"): one["value"] = module.shortcut.item()
        if name[0] == "p" and isinstance(module, nn.BatchNorm2d): one["value"] = float(name.endswith("weight"))
        if name[0] == "p" and not isinstance(module, nn.BatchNorm2d):
            one = {"length": one["length"], "bound": module.weight[0].numel() ** -0.5}
        found.append(one)
    return found


# ---- Images
def write_images(path):
    "The first images to train on and to test on, side by side in one picture without loss; labels, where they are from, and a sum to check."
    from PIL import Image

    from cifar_gradcam.engine.datasets import cifar10, data_source
    parts = [(cifar10(train=train), n) for train, n in ((True, TRAIN), (False, TEST))]
    images = np.concatenate([np.asarray(data.data[:n]) for data, n in parts])
    labels = [int(label) for data, n in parts for label in data.targets[:n]]
    rows = images.reshape(-1, ACROSS, 32, 32, 3).swapaxes(1, 2).reshape(-1, 32 * ACROSS, 3)
    Image.fromarray(rows).save(path, lossless=True, quality=60, method=4)
    return {"labels": labels, "source": data_source(), "sum": int(images.astype(np.int64).sum())}


# ---- The three ways of chapter 04
def rate_at(way, t, epochs=EPOCHS):
    start, peak, end, at = WAYS[way]
    return float(np.interp(t * epochs, [0, at, epochs], [start, peak, end]))


def train(name, way, seed, loaders):
    "As chapter 04 does: the loss at each step, and the accuracy on 2,000 test images."
    from cifar_gradcam.augment import seed_epoch
    training, tested = loaders
    model, losses, steps = network_of(name, seed), [], EPOCHS * len(training)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=MOMENTUM)
    for epoch in range(EPOCHS):
        seed_epoch(training, seed, epoch)
        for images, labels in training:
            optimizer.param_groups[0]["lr"] = rate_at(way, len(losses) / steps)
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    model.eval()
    with torch.no_grad(): right = torch.cat([model(images).argmax(1) == labels for images, labels in tested])
    return losses, 100 * right.float().mean().item()


def smooth(losses):
    "At each step the mean of the last fifteen."
    return [float(np.mean(losses[max(0, k + 1 - SMOOTH):k + 1])) for k in range(len(losses))]


def record():
    "Train the small network in three ways and the deep ones in the last of them, from three seeds, and write what the page draws of them."
    from cifar_gradcam.augment import download_data
    from cifar_gradcam.engine.batches import BatchedImages
    training, test, *_ = download_data(limit=2000)
    loaders = BatchedImages(training, BATCH), BatchedImages(test, 500, pad=0, flip="none", cutout=0, shuffle=False)

    def found(name, way):
        runs = [train(name, way, seed, loaders) for seed in range(3)]
        return {"losses": [round(x, 3) for x in smooth(np.mean([losses for losses, _ in runs], axis=0))],
                "ends": [round(float(np.mean(losses[-20:])), 3) for losses, _ in runs],
                "accuracies": [round(accuracy, 2) for _, accuracy in runs]}
    about = {"command": "python checks/train_app.py --record", "ways": {way: found("small", way) for way in WAYS},
             "networks": {name: found(name, list(WAYS)[-1]) for name in list(NETWORKS)[1:]}}
    RECORD.write_text(json.dumps(about) + "\n", encoding="utf-8")
    PAGE.write_text(re.sub(r"<svg id=\"th-figure\".*?</svg>", still().replace("\\", r"\\"), PAGE.read_text(encoding="utf-8"), flags=re.S), encoding="utf-8")


def still():
    "The three ways as a drawing for pages without a script and for paper."
    ways = json.loads(RECORD.read_text(encoding="utf-8"))["ways"]
    left, right, low, high = 50, 590, 1.6, 2.4

    def line(points, dash): return f'<polyline points="{" ".join(f"{x:.0f},{y:.0f}" for x, y in points)}" stroke-dasharray="{dash}"/>'
    drawn, texts = [], []
    for k, (way, one) in enumerate(ways.items()):
        n, dash = len(one["losses"]), ("9 5", "2 4", "none")[k]
        def at(share): return left + share * (right - left)
        drawn.append(line([(at(i / n), 190 - 170 * (one["losses"][i] - low) / (high - low)) for i in range(0, n, 3)], dash))
        drawn.append(line([(at(t), 310 - 250 * rate_at(way, t)) for t in (0, 0.25, 1)], dash))
        texts.append(f'<line x1="{left + 180 * k}" y1="355" x2="{left + 40 + 180 * k}" y2="355" stroke-dasharray="{dash}"/>'
                     f'<text x="{left + 46 + 180 * k}" y="360">{way}</text>')
    ticks = [f'<text class="r" x="44" y="{195 - 170 * (v - low) / (high - low):.0f}">{v}</text>' for v in (1.6, 2, 2.4)]
    ticks += [f'<text class="r" x="44" y="{315 - 250 * v:.0f}">{v}</text>' for v in (0, 0.3)]
    ticks += [f'<text class="m" x="{left + 90 * e}" y="332">{e}</text>' for e in range(EPOCHS + 1)]
    return ('<svg id="th-figure" viewBox="0 0 600 372" role="img" aria-label="Above, the training loss of three runs over six epochs. '
            'The run whose rate rises to 0.3 and falls again ends lowest. Below, the three learning rates.">'
            '<path class="axis" d="M50 15V190H590M50 225V310H590"/>' + "".join(drawn + texts + ticks) +
            '<text x="58" y="22">training loss</text><text x="58" y="232">learning rate</text><text x="0" y="332">epoch</text></svg>')


# ---- Everything together
def build_train(folder):
    "Everything into a folder beside the page; train.json says what is there, or why nothing is. Returns the reason."
    return write_parts(folder / "train.json", parts_of_app)


def parts_of_app(folder):
    from cifar_gradcam.data import CIFAR10_MEAN, CIFAR10_STD, CLASSES
    from cifar_gradcam.mistakes.explorer import colour_table
    images = write_images(folder / "images.webp")
    graphs = [write(folder / f"{graph}-{kind}.onnx", network_of(name)) for graph, name in (("small", "small"), ("deep", "plain"))
              for kind, write in (("step", write_step), ("test", write_test))]
    networks = {name: {"graph": graph, "beginnings": beginnings(network_of(name)), "sizes": sizes_of([path for path in graphs if path.name.startswith(graph)])}
                for name, graph in NETWORKS.items()}
    files = [*graphs, folder / "images.webp"]
    bring_runtime(folder, RUNTIME_FILES + WEBGPU_FILES)
    version = sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    return {"version": version, "runtime": RUNTIME, "sizes": sizes_of([folder / "images.webp", folder / "ort.wasm.gz"]),
            "gpu": sizes_of([folder / here for _, here in WEBGPU_FILES]), **images,
            "train": TRAIN, "test": TEST, "across": ACROSS, "batch": BATCH, "tested": TESTED, "epochs": EPOCHS, "smooth": SMOOTH, "first": FIRST,
            "mean": CIFAR10_MEAN, "std": CIFAR10_STD, "classes": CLASSES, "colours": colour_table(), "networks": networks,
            "ways": [{"name": name, "shape": WAYS[name], **found["ways"][name]} for name in WAYS],
            "deep": [{"name": name, **found["networks"][name]} for name in list(NETWORKS)[1:]]}


def sizes_of(paths): return {path.name: path.stat().st_size for path in paths}


def build_alone(folder):
    "The page without the book around it."
    write_alone(PAGE, folder)
    return build_train(folder / "web")


def main(folder="_web"):
    if folder == "--record": return record()
    tell("the page of training", build_alone(Path(folder)), folder, "train_here.html")


if __name__ == "__main__": main(*sys.argv[1:])
