"The page of one mistake: facts, words and maps of one image, as numbers, as a figure and as files."
import copy
import json

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from tools import close, equal, refused
from torch.nn import functional as F

from cifar_gradcam.data import CLASSES, denormalize
from cifar_gradcam.gradcam import signed_maps
from cifar_gradcam.mistakes.covering import facts, in_words
from cifar_gradcam.mistakes.page import draw_explanation, explain_mistake, mistake_page
from cifar_gradcam.mistakes.removal import all_logits
from cifar_gradcam.resnet import ResNet18


@pytest.fixture(scope="module")
def network():  # untrained, but with answers that are far apart
    torch.manual_seed(0)
    model = ResNet18(width=8).eval()
    with torch.no_grad(): model.linear.weight.mul_(8)
    return model


@pytest.fixture(scope="module")
def images():
    return F.avg_pool2d(torch.randn(3, 3, 34, 34, generator=torch.Generator().manual_seed(1)), 3, 1)


@pytest.fixture(scope="module")
def answers(network, images): return all_logits(network, images, precision="float32").argsort(1)


@pytest.fixture(scope="module")
def page(network, images, answers):  # a mistake: the true class is the second likeliest
    return explain_mistake(network, images[0], int(answers[0, -2]), seed=5, draw=False)


@pytest.fixture(scope="module")
def mute(network):  # all its maps are empty, and no answer ever changes
    model = copy.deepcopy(network)
    with torch.no_grad(): model.linear.weight.zero_()
    return model


def test_the_page_is_plain_and_names_the_classes(network, images, answers, page):
    assert json.loads(json.dumps(page, allow_nan=False)) == page
    p = network(images[:1])[0].softmax(0)
    first, second = (int(answers[0, place]) for place in (-1, -2))
    equal((page["predicted"], page["true"], page["against"], page["mistake"]),
          (CLASSES[first], CLASSES[second], CLASSES[second], True))
    close(page["probability"]["predicted"], p[first].item(), eps=1e-4)
    close(page["probability"]["against"], p[second].item(), eps=1e-4)
    close(np.array(page["image"]) / 255, denormalize(images[0]), eps=0.51 / 255)


def test_the_page_has_the_facts_and_their_words(network, images, answers, page):
    found = facts(network, images[0], int(answers[0, -2]), seed=5)
    equal(page["facts"], found)
    equal(page["sentence"], in_words(found))
    other = facts(network, images[0], int(answers[0, -2]), seed=6)
    assert other["games"] != found["games"]  # the seed is handed on


def test_maps_of_the_page_add_up_to_logits_and_margin(network, images, answers, page):
    first, second = (int(answers[0, place]) for place in (-1, -2))
    grids = {name: np.array(entry["grid"]) for name, entry in page["maps"].items()}
    close(grids["contrast"], grids["predicted"] - grids["against"], eps=1e-4)
    b, p = network.linear.bias.detach(), network(images[:1])[0].softmax(0).detach()
    close(grids["contrast"].sum() + (b[first] - b[second]).item(), page["maps"]["contrast"]["score"], eps=1e-3)
    close(np.log(float(p[first] / p[second])), page["maps"]["contrast"]["score"], eps=1e-2)
    close(page["maps"]["contrast"]["score"], page["facts"]["margin"], eps=1e-3)
    alone, score = signed_maps(network, images[:1], [second])
    close(grids["against"], alone[0].numpy(), eps=1e-4)
    close(page["maps"]["against"]["score"], score.item(), eps=1e-4)


def test_what_is_drawn(page):
    framed = page | {"facts": page["facts"] | {"holds": [2, 9]}}
    fig = draw_explanation(framed)
    axes = [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]
    equal((len(axes), len(fig.axes)), (8, 10))
    close(axes[0].images[0].get_array(), np.array(page["image"]) / 255)
    close(axes[4].images[0].get_array(), np.array(page["image"]) / 255, eps=1e-6)
    equal([len(ax.patches) for ax in axes], [0] * 4 + [4] * 4)  # two frames of two lines
    limits = {ax.images[0].get_clim() for ax in axes[5:]}
    largest = max(abs(v) for game in page["facts"]["games"].values() for v in game["values"])
    equal(limits, {(-largest, largest)})
    for ax, game in zip(axes[5:], page["facts"]["games"].values()):
        close(ax.images[0].get_array().ravel(), game["values"])
    equal(fig.get_suptitle().split(), page["sentence"].split())
    assert max(map(len, fig.get_suptitle().split("\n"))) <= 105
    plt.close(fig)


def test_a_right_answer_is_no_mistake(network, images, answers):
    plt.close("all")  # of other tests in this process
    good = explain_mistake(network, images[1], int(answers[1, -1]))
    equal((good["mistake"], good["against"]), (False, CLASSES[answers[1, -2]]))
    assert good["sentence"].startswith(f"The network answers {good['true']}, which is right, and its second choice is {good['against']}.")
    equal(len(plt.get_fignums()), 1)  # drawn without being asked
    plt.close("all")


def test_the_page_as_files(network, images, tmp_path):
    plt.close("all")  # of other tests in this process
    dataset = [(image, 0) for image in images]
    picture, numbers = mistake_page(network, dataset, 2, tmp_path / "pages")
    equal((picture.name, numbers.name), ("image_2.png", "image_2.json"))
    written = json.loads(numbers.read_text())
    equal(written["index"], 2)
    equal(written["facts"], facts(network, images[2], 0, seed=2))  # the orders are those of a record
    assert picture.stat().st_size > 10_000 and not plt.get_fignums()
    refused(lambda: mistake_page(network, dataset, 3, tmp_path), exc=ValueError, contains="index must be from 0 to 2, got 3")
    refused(lambda: mistake_page(network, dataset, -1, tmp_path), contains="got -1")


def test_labels_as_shares_and_labels_that_are_none(mute, images, answers, tmp_path):
    said = answers[:, -1].tolist()
    shares = torch.eye(10)[[(said[0] + 1) % 10, *said[1:]]] * 0.6 + 0.04
    blank = json.loads(mistake_page(mute, [*zip(images, shares)], 0, tmp_path)[1].read_text())
    equal(blank["true"], CLASSES[int(shares[0].argmax())])
    assert "No cell clearly counts" in blank["sentence"]
    refused(lambda: mistake_page(mute, [*zip(images, shares > 0)], 0, tmp_path), contains="several labels", exc=ValueError)


@pytest.mark.parametrize("text, how", [
    ("image must be one tensor of shape (C, H, W), got (1, 3, 32, 32)", {"image": torch.zeros(1, 3, 32, 32)}),
    ("image must be one tensor of shape (C, H, W), got list", {"image": [1]}),
    ("true must be a class from 0 to 9, got 10", {"true": 10}),
    ("true must be a class from 0 to 9, got -1", {"true": -1}),
    ("classes must be 10 names, one for each output of the model, got 3", {"classes": "abc"}),
    ("NaN or infinity", {"image": torch.full((3, 32, 32), torch.nan)})])
def test_explain_mistake_refuses(network, images, text, how):
    refused(lambda: explain_mistake(network, **{"image": images[0], "true": 0} | how), exc=ValueError, contains=text)
