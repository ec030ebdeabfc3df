"The training step that the page `train_here` runs: one ONNX graph, compared with torch."
import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tools import close, equal
from torch.nn import functional as F

for needed in ("onnx", "onnxscript", "onnxruntime"): pytest.importorskip(needed)
sys.path.insert(0, str(Path(__file__).parents[1] / "checks"))
train_app, train_judge = map(importlib.import_module, ("train_app", "train_judge"))


@pytest.fixture(scope="module", params=train_app.NETWORKS)
def name(request): return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {graph: tmp_path_factory.mktemp(graph) for graph in train_app.NETWORKS.values()}
    for graph, name in zip(made, ("small", "plain")):  # the graph of the plain network has the shortcuts too, times 0
        train_app.write_step(made[graph] / "step.onnx", train_app.network_of(name))
        train_app.write_test(made[graph] / "test.onnx", train_app.network_of(name))
    return made


@pytest.fixture
def folder(folders, name): return folders[train_app.NETWORKS[name]]


@pytest.fixture(scope="module")
def batches():
    random = torch.Generator().manual_seed(0)
    return [(torch.randn(64, 3, 32, 32, generator=random), torch.randint(10, (64,), generator=random)) for _ in range(6)]


def session(path):
    import onnxruntime
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_each_step_is_torchs_step(folder, name, batches):
    "Torch, in float64, decides at each ReLU as the graph did. What it would have decided otherwise is next to zero, and changes a step little."
    step, row = session(train_judge.with_decisions(folder / "step.onnx")), train_app.pack(train_app.network_of(name, 3))
    for k, (images, labels) in enumerate(batches):
        rate = 0.05 * (k + 1)
        after, loss, *passed = step.run(None, {"row": row.numpy(), "images": images.numpy(), "labels": labels.numpy(), "rate": np.array(rate, np.float32)})
        wanted, wanted_loss, otherwise = train_judge.torch_step(name, row, images, labels, rate, [torch.tensor(p) > 0 for p in passed])
        close(loss, wanted_loss, eps=1e-5)
        at_most, share = train_judge.apart(name, torch.tensor(after), wanted)
        assert at_most < 1e-5 and share < 2e-5, (k, at_most, share, otherwise)
        assert len(otherwise) < 10 and max(map(abs, otherwise), default=0) < 1e-5, otherwise
        own, *_ = train_judge.torch_step(name, row, images, labels, rate)
        assert (own - wanted).norm() < 0.01 * (own - row).norm()
        assert (wanted - row).abs().max() > 1e-3  # it did move
        row = wanted.float()


def test_no_step_with_webgpu_stops_in_the_middle_to_wait_for_the_processor(folder):
    "There is no LogSoftmax in WebGPU, and no whole number of 64 bits: the labels become numbers of 32 bits before anything else."
    import onnx
    nodes, seen, name = onnx.load(folder / "step.onnx").graph.node, [], "labels"
    while not seen or seen[-1] != "Cast":
        [user] = [node for node in nodes if name in node.input]
        seen, name = [*seen, user.op_type], user.output[0]
    equal(seen, ["Reshape", "Equal", "Cast"])
    assert "LogSoftmax" not in {node.op_type for node in nodes}


def test_the_test_gives_torchs_logits_and_its_maps_add_up_to_them(folder, name, batches):
    network = train_app.network_of(name, 1).train()
    with torch.no_grad():
        for images, _ in batches: network(images)  # running statistics of their own
    network.eval()
    images = torch.cat([images for images, _ in batches])[:train_app.TESTED]
    logits, maps = session(folder / "test.onnx").run(None, {"row": train_app.pack(network).numpy(), "images": images.numpy()})
    with torch.no_grad(): close(logits, network(images).numpy(), eps=1e-5)
    close(maps.sum((2, 3)) + network[-1].bias.detach().numpy(), logits, eps=1e-5)
    equal(maps.shape, (train_app.TESTED, 10, 4, 4))


def test_an_epoch_with_a_smooth_activation_is_torchs_epoch(tmp_path):
    "With ReLU, a rounding decides whether a value passes, and torch does not agree with itself for long."
    network = train_app.network_of(seed=2, activation=torch.nn.SiLU).train()
    step, row = session(train_app.write_step(tmp_path / "step.onnx", network)), train_app.pack(network).numpy()
    optimizer, random = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9), torch.Generator().manual_seed(1)
    for _ in range(31):
        images, labels = torch.randn(64, 3, 32, 32, generator=random), torch.randint(10, (64,), generator=random)
        row, _ = step.run(None, {"row": row, "images": images.numpy(), "labels": labels.numpy(), "rate": np.array(0.1, np.float32)})
        optimizer.zero_grad(); F.cross_entropy(network(images), labels).backward(); optimizer.step()
    wanted = train_app.pack(network, {part: optimizer.state[p]["momentum_buffer"] for part, p in network.named_parameters()})
    close(row, wanted.numpy(), eps=1e-4)


def test_the_deep_networks_differ_by_the_shortcut_alone():
    deep, plain = (train_app.network_of(name, 4) for name in ("shortcuts", "plain"))
    assert all(map(torch.equal, deep.parameters(), plain.parameters()))
    equal(sum(isinstance(module, torch.nn.Conv2d) for module in plain.modules()), 15)  # as the page says
    assert not torch.equal(deep(torch.ones(2, 3, 32, 32)), plain(torch.ones(2, 3, 32, 32)))


def test_a_network_begins_as_torchs_does(name):
    many = torch.stack([train_app.pack(train_app.network_of(name, seed)) for seed in range(20)])
    start = 0
    for one in train_app.beginnings(train_app.network_of(name)):
        part = many[:, start:start + one["length"]]
        if "bound" in one:
            assert part.abs().max() <= one["bound"] < 1.05 * part.abs().max()
            close(part.std().item() / one["bound"], 3 ** -0.5, eps=0.03)
        else: assert (part == one["value"]).all()
        start += one["length"]
    equal(start, many.shape[1])


def test_the_still_figure_of_the_page_is_drawn_from_the_record():
    page = train_app.PAGE.read_text(encoding="utf-8")
    assert re.search(r"<svg id=\"th-figure\".*?</svg>", page, re.S)[0] == train_app.still()
    ways = json.loads(train_app.RECORD.read_text(encoding="utf-8"))["ways"]
    ends = {name: one["losses"][-1] for name, one in ways.items()}
    equal((list(ends), min(ends, key=ends.get)), (list(train_app.WAYS), "one cycle to 0.3"))  # what the label of the figure says


def test_the_page_says_of_the_deep_networks_what_the_record_has():
    page, about = train_app.PAGE.read_text(encoding="utf-8"), json.loads(train_app.RECORD.read_text(encoding="utf-8"))
    small, plain, shortcuts = (f"{min(ends):.2f} to {max(ends):.2f}" for ends in (about["ways"]["one cycle to 0.3"]["ends"], *(about["networks"][name]["ends"] for name in ("plain", "shortcuts"))))
    for said in (f"ended at {plain}, that of the small network at {small}.", f"With shortcuts the deep network, from the same weights, ended at {shortcuts}."): assert said in page
    for name in train_app.NETWORKS:
        count = sum(p.numel() for p in train_app.network_of(name).parameters())
        assert f"{count / 1000:.0f} thousand" in page
