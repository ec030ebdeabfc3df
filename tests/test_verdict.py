"One mistake: removals, the rule, the page, and the codes of many mistakes."
import copy
import json

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from scipy import stats
from tools import close, equal, refused
from torch.nn import functional as F

from cifar_gradcam.data import CLASSES
from cifar_gradcam.gradcam import explain
from cifar_gradcam.mistakes.predictions import fingerprint
from cifar_gradcam.mistakes.removal import (
    all_logits, class_probability, control_maps, impute, removal_order, removed_pixels)
from cifar_gradcam.mistakes.sanity import randomized
from cifar_gradcam.mistakes.verdict import (
    check_verdict, compare_falls, draw_explanation, explain_mistake, jittered,
    judge_mistakes, LEAST_FALL, LEAST_WINS, MISTAKE_SHARES, mistake_page,
    removal_curves, rival_maps, shipped_verdicts, verdict_of, VERDICTS, write_verdicts)
from cifar_gradcam.mistakes.sanity import likeness_while_forgetting
from cifar_gradcam.resnet import ResNet18


@pytest.fixture(scope="module")
def network():  # untrained, but with answers that are far apart
    torch.manual_seed(0)
    model = ResNet18(width=8).eval()
    with torch.no_grad(): model.linear.weight.mul_(8)
    return model


@pytest.fixture(scope="module")
def images():
    return F.avg_pool2d(torch.randn(6, 3, 34, 34, generator=torch.Generator().manual_seed(1)), 3, 1)


@pytest.fixture(scope="module")
def answers(network, images): return all_logits(network, images, precision="float32").argsort(1)


@pytest.fixture(scope="module")
def page(network, images, answers):  # a mistake: the true class is the second likeliest
    return explain_mistake(network, images[0], int(answers[0, -2]), repeats=3, draw=False)


@pytest.fixture(scope="module")
def mute(network):  # all its maps are empty
    model = copy.deepcopy(network)
    with torch.no_grad(): model.linear.weight.zero_()
    return model


def heat_of(page):
    grid = torch.tensor(page["maps"]["predicted"]["grid"])[None, None].relu()
    return F.interpolate(grid, (32, 32), mode="bilinear")[0]


def test_the_page_is_plain_and_names_the_classes(network, images, answers, page):
    assert json.loads(json.dumps(page, allow_nan=False)) == page
    p = network(images[:1])[0].softmax(0)
    first, second = (int(answers[0, place]) for place in (-1, -2))
    equal((page["predicted"], page["true"], page["mistake"]),
          (CLASSES[first], CLASSES[second], True))
    close(page["probability"]["predicted"], p[first].item(), eps=1e-4)
    close(page["probability"]["against"], p[second].item(), eps=1e-4)
    again = explain_mistake(network, images[0], second, repeats=3, draw=False)
    equal(again["sentence"], page["sentence"])


def test_maps_of_the_page_add_up_to_logits_and_margin(network, images, answers, page):
    grids = {name: np.array(entry["grid"]) for name, entry in page["maps"].items()}
    close(grids["contrast"], grids["predicted"] - grids["against"], eps=1e-4)
    first, second = (int(answers[0, place]) for place in (-1, -2))
    b, p = network.linear.bias.detach(), network(images[:1])[0].softmax(0).detach()
    close(grids["contrast"].sum() + (b[first] - b[second]).item(),
          page["maps"]["contrast"]["score"], eps=1e-3)
    close(np.log(float(p[first] / p[second])), page["maps"]["contrast"]["score"], eps=1e-2)


def test_curves_of_the_page_are_removals_by_its_maps(network, images, answers, page):
    guess, other = answers[[0], -1], answers[[0], -2]
    for s, share in enumerate(MISTAKE_SHARES):  # the first copy of a map is not moved
        filled = impute(images[:1], removed_pixels(removal_order(heat_of(page)), share), noise=0)
        alone = class_probability(network, filled, guess, precision="float32").item()
        close(page["removal"]["predicted"]["curves"]["map"][s][0], alone, eps=0.05)
    pairwise = class_probability(network, images[:1], guess, other, precision="float32").item()
    close(pairwise, page["removal"]["contrast"]["whole"], eps=1e-4)
    p = network(images[:1])[0].softmax(0)
    close(pairwise, (p[guess] / (p[guess] + p[other])).item(), eps=1e-4)
    equal([len(v) for v in page["removal"]["contrast"]["curves"].values()], [3, 3, 3])


def test_removal_curves_keep_the_parts_apart(network, images, answers, page):
    parts = removal_curves(network, images[0],
                           {"random": torch.rand(2, 32, 32), "map": heat_of(page)})
    equal([tuple(part.shape) for part in parts.values()], [(3, 2, 10), (3, 1, 10)])
    for s in range(3):
        close(parts["map"][s, 0].softmax(0)[answers[0, -1]].item(),
              page["removal"]["predicted"]["curves"]["map"][s][0], eps=0.05)


def test_the_sanity_check_of_the_page(network, images, answers, page):
    target = answers[[0], -1]
    alike = likeness_while_forgetting(network, images[:1], target)
    equal([*alike], [*page["sanity"]])
    close([v.item() for v in alike.values()], [*page["sanity"].values()], eps=1e-6)
    maps = {name: explain(state, images[:1], target).flatten().numpy()
            for name, state in randomized(network)}
    by_hand = [0.0 if np.ptp(m) == 0 else stats.spearmanr(maps["trained"], m).statistic
               for m in maps.values()]
    close([*page["sanity"].values()], by_hand, eps=1e-3)


def test_checks_of_a_verdict(network, images, answers):
    guess = int(answers[0, -1])
    own, spot = explain(network, images[:1], [guess])[0], control_maps("centred Gaussian", 1)[0]
    checks = check_verdict(network, images[0], guess, {"own": own, "spot": spot}, seed=7)
    equal(sorted(checks), ["own", "spot"])
    rivals = rival_maps((32, 32), 8, 7)
    left = removal_curves(network, images[0], {
        "own": jittered(own, 8, 9), "spot": jittered(own, 8)} | rivals, 7)
    whole = network(images[:1])[0].softmax(0)[guess].item()
    falls = {k: whole - v.softmax(2)[..., guess].mean(0) for k, v in left.items()}
    for rival in rivals:
        close(checks["own"][rival]["control"], falls[rival].mean().item(), eps=0.02)
        close(checks["own"][rival]["fall"], falls["own"].mean().item(), eps=0.02)
    equal(checks["spot"]["centre"]["beats"], False)  # it does not beat itself


def test_the_rule():
    won, lost = ({"fall": 0.3, "control": 0.1, "wins": 1.0, "beats": beats}
                 for beats in (True, False))
    for random, centre, wanted in ((won, won, "beats both"), (won, lost, "centre"),
                                   (lost, won, "random"), (lost, lost, "neither")):
        both = {"random": random, "centre": centre}
        equal(verdict_of(both, False), wanted)
        equal(verdict_of(both, False, alike=0.6), "insensitive")
        equal(verdict_of(both, True, alike=0.6), "empty")


def test_falls_are_compared_in_pairs():
    own = torch.tensor([0.5, 0.5, 0.4])
    equal(compare_falls(own, torch.tensor([0.1, 0.2]))["beats"], True)
    equal(compare_falls(own, own)["wins"], 0.5)
    equal(compare_falls(own, own - 0.01)["beats"], False)  # fewer than 2 points
    equal(compare_falls(own, torch.tensor([0.6, 0.0, 0.0, 0.0]))["wins"], 0.75)
    equal(compare_falls(own, torch.tensor([0.6, 0.0, 0.0, 0.0]))["beats"], True)
    equal(compare_falls(own, torch.tensor([0.6, 0.6, 0.0, 0.0]))["beats"], False)


def test_copies_are_moved_by_two_pixels_at_most():
    copies = jittered(torch.arange(1024.).reshape(32, 32), 50)
    equal(copies[0], torch.arange(1024.).reshape(32, 32))
    moves = {int(c[16, 16]) - 16 * 33 for c in copies}
    assert moves <= {32 * i + j for i in range(-2, 3) for j in range(-2, 3)}
    assert len(moves) > 12


def test_a_right_answer_is_no_mistake(network, images, answers):
    good = explain_mistake(network, images[1], int(answers[1, -1]), repeats=2, draw=False)
    equal((good["mistake"], good["against"]), (False, CLASSES[answers[1, -2]]))
    assert good["against"] != good["true"]
    assert good["sentence"].startswith(f"Not a mistake: it is a {good['true']}. ")
    fig = draw_explanation(good)
    equal(len(fig.axes), 4 + 1 + 3)
    plt.close(fig)


def test_the_page_as_files(mute, images, tmp_path):
    dataset = [(image, 0) for image in images]
    picture, numbers = mistake_page(mute, dataset, 1, tmp_path / "pages", repeats=2)
    equal((picture.name, numbers.name), ("image_1.png", "image_1.json"))
    blank = json.loads(numbers.read_text())
    equal((blank["index"], blank["verdicts"]["predicted"]), (1, "empty"))
    assert picture.stat().st_size > 10_000
    refused(lambda: mistake_page(mute, dataset, 6, tmp_path), exc=ValueError,
            contains="index must be from 0 to 5, got 6")
    refused(lambda: mistake_page(mute, dataset, -1, tmp_path), contains="got -1")


@pytest.mark.parametrize("text, how", [
    ("image must be one tensor of shape (3, H, W), got (1, 3, 32, 32)",
     {"image": torch.zeros(1, 3, 32, 32)}),
    ("image must be one tensor of shape (3, H, W), got list", {"image": [1]}),
    ("true must be a class from 0 to 9, got 10", {"true": 10}),
    ("true must be a class from 0 to 9, got -1", {"true": -1}),
    ("repeats must be at least 2, got 1", {"repeats": 1}),
    ("NaN or infinity", {"image": torch.full((3, 32, 32), torch.nan)})])
def test_explain_mistake_refuses(network, images, text, how):
    refused(lambda: explain_mistake(network, **{"image": images[0], "true": 0} | how),
            exc=ValueError, contains=text)


def test_judged_together_as_alone(network, mute, images, answers):
    targets = answers[:2, -1]
    codes = judge_mistakes(network, images[:2], targets, repeats=8)
    for code, image, order in zip(codes, images, answers):
        alone = explain_mistake(network, image, int(order[-2]), draw=False)
        near = [abs(c["wins"] - LEAST_WINS) < 0.1
                or abs(c["fall"] - c["control"] - LEAST_FALL) < 0.02
                for c in alone["removal"]["predicted"]["comparisons"].values()]
        if not any(near): equal(code, alone["verdicts"]["predicted"])
    equal(judge_mistakes(mute, images[:1], targets[:1], 2), ["empty"])


def test_verdicts_are_written_and_continued(network, mute, images, answers, tmp_path):
    file = tmp_path / "verdicts.json"
    some = [(images[0], int(answers[0, -2])), (images[1], int(answers[1, -1]))]  # wrong, right
    record = write_verdicts(network, some, file)
    equal(json.loads(file.read_text()), record)
    equal((list(record["verdicts"]), record["weights"]), (["0"], fingerprint(network)))
    assert set(record["verdicts"].values()) <= set(VERDICTS)
    kept = record | {"verdicts": {"0": "kept"}}  # a run that was cut goes on
    file.write_text(json.dumps(kept))
    equal(write_verdicts(network, some, file), kept)
    refused(lambda: write_verdicts(mute, some, file), exc=ValueError,
            contains="holds verdicts with other settings (weights ")
    file.write_text("half")
    refused(lambda: write_verdicts(network, some, file), exc=ValueError,
            contains="holds no verdicts")


def test_shipped_verdicts_belong_to_the_shipped_weights(network):
    equal(shipped_verdicts(network), {})


def test_labels_as_shares_and_labels_that_are_none(network, mute, images, answers, tmp_path):
    said = answers[:, -1].tolist()
    shares = torch.eye(10)[[(said[0] + 1) % 10, *said[1:]]] * 0.6 + 0.04
    record = write_verdicts(mute, [*zip(images, shares)], tmp_path / "a.json")
    equal(record["verdicts"], write_verdicts(
        mute, [*zip(images, shares.argmax(1).tolist())], tmp_path / "b.json")["verdicts"])
    equal(json.loads(mistake_page(mute, [*zip(images, shares)], 0, tmp_path)[1].read_text())["true"],
          CLASSES[int(shares[0].argmax())])
    for labels, text in ((shares > 0, "several labels an image are not measured"), ([-1] * 6, "got -1")):
        refused(write_verdicts, args=[mute, [*zip(images, labels)], tmp_path / "c.json"], contains=text, exc=ValueError)
    refused(lambda: mistake_page(mute, [*zip(images, shares > 0)], 0, tmp_path), contains="several labels", exc=ValueError)


def test_names_must_be_as_many_as_outputs(network, images):
    "Else three classes of one's own would be called airplane, automobile and bird."
    three = copy.deepcopy(network)
    three.linear = torch.nn.Linear(64, 3)
    refused(lambda: explain_mistake(three, images[0], 2, draw=False), exc=ValueError,
            contains="classes must be 3 names, one for each output of the model, got 10")
