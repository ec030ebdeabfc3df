"Covering the cells of a picture: Shapley values against their definition and Captum, and facts of one answer."
import copy
import json
from itertools import permutations

import pytest
import torch
from captum.attr import ShapleyValues
from tools import close, equal, refused
from torch import nn

from cifar_gradcam.lab.facts import facts_row, found_of
from cifar_gradcam.mistakes.covering import (
    cell_values, cover, covered_logits, draw_facts, facts, GAMES, in_words, LEAST, places,
    strongest)

CLASSES = [f"class {k}" for k in range(10)]
WAYS = "three ways of covering (mean colour, blur, imputed)"


def smooth_images(n, channels=3, h=32, w=32, seed=1):
    noise = torch.randn(n, channels, h + 4, w + 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.avg_pool2d(noise, 5, 1) * 3


class Linear(nn.Module):
    "Three classes; each logit is a weighted sum of the pixels."
    def __init__(self, channels=3, h=32, w=32, seed=0):
        super().__init__()
        weights = torch.randn(3, channels, h, w, generator=torch.Generator().manual_seed(seed))
        self.weights = nn.Parameter(weights / 10)

    def forward(self, x): return torch.einsum("nchw,kchw->nk", x, self.weights)


class Constant(nn.Module):
    "The same answer to every image."
    def __init__(self, classes=3):
        super().__init__()
        self.logits = nn.Parameter(torch.arange(classes).float())

    def forward(self, x): return self.logits.expand(len(x), -1)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 2), nn.ReLU(),
                         nn.Flatten(), nn.Linear(16 * 25, 16), nn.Tanh(), nn.Linear(16, 10)).eval()


@pytest.fixture(scope="module")
def images(): return smooth_images(3)


def cells_as_pixels(values, h, w):
    "Each pixel's cell, by its own reading of the grid."
    g = values.shape[-1]
    return torch.stack([torch.stack([values[..., y * g // h, x * g // w] for x in range(w)], -1)
                        for y in range(h)], -2)


def by_definition(score, cells):
    "Shapley values as the mean over all orders; score(set of covered cells)."
    values, orders = torch.zeros(cells).double(), [*permutations(range(cells))]
    known = {}
    def ask(covered):
        if covered not in known: known[covered] = score(covered)
        return known[covered]
    for order in orders:
        for k, cell in enumerate(order):
            values[cell] += ask(frozenset(order[:k])) - ask(frozenset(order[:k + 1]))
    return values / len(orders)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize(("h", "w", "grid"), [(32, 32, 4), (19, 26, 4), (13, 40, 3)])
def test_only_covered_cells_change(game, h, w, grid):
    x = smooth_images(5, h=h, w=w)
    covered = torch.rand(5, grid, grid, generator=torch.Generator().manual_seed(3)) < 0.4
    covered[0] = False
    out, hidden = cover(x, covered, game), cells_as_pixels(covered, h, w)
    changed = (out != x).any(1)
    equal(changed & ~hidden, torch.zeros_like(changed))
    assert (changed == hidden).float().mean() > 0.99
    if game == "mean": equal(out[hidden[:, None].expand_as(out)].abs().max().item(), 0.0)


def test_covered_whole():
    x, every = smooth_images(2), torch.ones(2, 4, 4).bool()
    equal(cover(x, every, "imputed"), torch.zeros_like(x))
    equal(cover(x, every, "mean"), torch.zeros_like(x))
    assert cover(x, every, "blur").std() > 0
    equal(cover(x, ~every, "imputed"), x)


def test_refused_covers(images):
    none = torch.zeros(3, 4, 4).bool()
    refused(lambda: cover(images, none, "white"), contains="game must be one of ('mean', 'blur', 'imputed'), got 'white'")
    refused(lambda: cover(images, torch.zeros(3, 33, 33).bool()), contains="grid must be from 1 to 32")
    small = smooth_images(3, h=8, w=20)
    refused(lambda: cover(small, torch.zeros(3, 9, 9).bool()), contains="grid must be from 1 to 8, as the images have 8 × 20")
    refused(lambda: cover(small, none, "blur"), contains="blur needs images of at least 13 × 13 pixels, got 8 × 20")
    equal(cover(small, ~none), torch.zeros_like(small))


@pytest.mark.parametrize("game", ["mean", "blur"])  # Captum replaces features by those of one image
def test_captum_agrees(network, images, game):
    targets = torch.tensor([1, 4, 7])
    mask = cells_as_pixels(torch.arange(4).reshape(2, 2), 32, 32)
    blank = cover(images, torch.ones(3, 2, 2).bool(), game)
    theirs = ShapleyValues(network).attribute(images, blank, targets, feature_mask=mask)
    theirs = theirs.detach()[:, 0, ::16, ::16]
    ours, errors = cell_values(network, images, targets, grid=2, game=game, exact=True)
    close(ours.float(), theirs, eps=1e-5)
    equal(errors, torch.zeros_like(errors))


@pytest.mark.parametrize("game", GAMES)
def test_exact_is_the_definition(network, images, game):
    def score(covered):
        cells = torch.tensor([cell in covered for cell in range(4)]).reshape(1, 2, 2)
        logits = network(cover(images[:1], cells, game))[0]
        return (logits[2] - logits[5]).item()
    values, _ = cell_values(network, images[:1], [2], [5], grid=2, game=game, exact=True)
    close(values.flatten(), by_definition(score, 4), eps=1e-5)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("h", "w"), [(32, 32), (15, 22)])
def test_a_linear_network_has_a_closed_form(exact, h, w):
    x, net, grid = smooth_images(2, h=h, w=w), Linear(h=h, w=w), 3
    values, errors = cell_values(net, x, [0, 2], [1, 1], grid=grid, exact=exact)
    each = (x * (net.weights[[0, 2]] - net.weights[1])).sum(1).detach()  # a pixel's part of the margin
    cells = cells_as_pixels(torch.arange(9).reshape(3, 3), h, w)
    wanted = torch.stack([each[:, cells == cell].sum(1) for cell in range(9)], 1).reshape(2, 3, 3)
    close(values.float(), wanted, eps=1e-4)
    assert errors.max() < 1e-4


def test_exact_with_sixteen_cells():
    x, net = smooth_images(1), Linear()
    values, _ = cell_values(net, x, [0], exact=True, batch_size=512)
    each = (x * net.weights[0]).sum(1).detach()[0]
    close(values[0].float(), each.unflatten(0, (4, 8)).unflatten(2, (4, 8)).sum((1, 3)), eps=1e-4)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("how", [dict(grid=4, pairs=2), dict(grid=5, pairs=3), dict(grid=2, exact=True), dict(grid=1)])
def test_values_sum_to_what_covering_all_costs(network, images, game, how):
    targets, against = [0, 3, 9], [5, 5, 5]
    values, _ = cell_values(network, images, targets, against, game=game, **how)
    ends = [covered_logits(network, images, torch.arange(3), torch.full((3, how["grid"], how["grid"]), all_of_it), game)
            for all_of_it in (False, True)]
    whole, blank = (end[range(3), targets] - end[range(3), against] for end in ends)
    close(values.sum((1, 2)).float(), whole - blank, eps=1e-5)


def test_equal_cells_have_equal_values():
    class Largest(nn.Module):  # of three cells; the fourth is nothing
        def forward(self, x):
            cells = x.mean(1).unflatten(1, (2, 16)).unflatten(3, (2, 16)).mean((2, 4)).flatten(1)
            return torch.stack([cells[:, :3].amax(1), cells[:, 0] * 0], 1)
    values, _ = cell_values(Largest(), torch.ones(1, 3, 32, 32), [0], grid=2, exact=True)
    close(values.flatten(), torch.tensor([1 / 3, 1 / 3, 1 / 3, 0]), eps=1e-6)


def test_sampled_values_are_near_the_exact_ones(network, images):
    exact, _ = cell_values(network, images, [1, 2, 3], grid=3, exact=True)
    few, wide = cell_values(network, images, [1, 2, 3], grid=3, pairs=8)
    many, narrow = cell_values(network, images, [1, 2, 3], grid=3, pairs=128)
    assert ((few - exact).abs() < 6 * wide + 1e-4).float().mean() > 0.95
    assert ((many - exact).abs() < 5 * narrow + 1e-5).all()
    assert narrow.mean() < wide.mean() / 2


def test_an_image_has_its_own_orders(network, images):
    together = cell_values(network, images, [1, 1, 1], seed=5, pairs=2)
    for i in range(3):
        alone = cell_values(network, images[i:i + 1], [1], seed=5 + i, pairs=2)
        close(alone[0][0], together[0][i], eps=1e-5)
    again = cell_values(network, images, [1, 1, 1], seed=5, pairs=2, batch_size=7)
    close(again[0], together[0], eps=1e-5)
    other = cell_values(network, images, [1, 1, 1], seed=6, pairs=2)
    assert (other[0] - together[0]).abs().max() > 1e-4


def test_the_network_comes_back_as_it_was(network, images):
    network.train()
    before = [p.clone() for p in network.parameters()]
    with torch.inference_mode(): cell_values(network, images[:1], [0], pairs=2)
    assert network.training
    network.eval()
    equal(all((a == b).all().item() for a, b in zip(before, network.parameters())), True)


@pytest.mark.parametrize("game", GAMES)
def test_nothing_changes(game, images):
    for x in (images, torch.full_like(images, 0.7)):
        values, errors = cell_values(Constant(), x, [2, 2, 2], [0, 0, 0], game=game, pairs=2)
        equal(values, torch.zeros(3, 4, 4).double())
        equal(errors, torch.zeros(3, 4, 4).double())


def test_refused_values(network, images):
    refused(lambda: cell_values(network, images, [1, 2, 3], grid=5, exact=True), contains="exact needs at most 16 cells, got a grid of 5 × 5")
    refused(lambda: cell_values(network, images, [1, 2, 3], pairs=1), contains="pairs must be at least 2")
    refused(lambda: cell_values(network, images, [1, 2, 10]), contains="targets must be from 0 to 9")
    refused(lambda: cell_values(network, images, [1, 2, -1]), contains="targets must be from 0 to 9")
    refused(lambda: cell_values(network, images, [1, 2, 3], [1, 0, 0]), contains="against must differ from targets")
    refused(lambda: cell_values(network, images, [1, 2, 3], [10, 0, 0]), contains="against must be from 0 to 9")
    refused(lambda: cell_values(network, images, [1, 2]), contains="targets must be one class for each of 3 images")
    refused(lambda: cell_values(network, images[:0], []), contains="images is empty")
    refused(lambda: cell_values(network, images * float("nan"), [1, 2, 3]), contains="NaN")
    refused(lambda: cell_values(network, images, [1, 2, 3], grid=0), contains="grid must be from 1 to 32")
    refused(lambda: cell_values(network, images, [1, 2, 3], grid=33), contains="grid must be from 1 to 32")
    refused(lambda: cell_values(network, images, [1, 2, 3], batch_size=0), contains="batch_size must be at least 1")


class Spot(nn.Module):
    "Says class 1 by the brightness of one cell of 4 × 4, against a constant class 0; class 2 is far behind."
    def __init__(self, cell, channels=3):
        super().__init__()
        self.cell, self.conv = cell, nn.Conv2d(channels, 8, 1)  # weights, for the device

    def forward(self, x):
        n, _, h, w = x.shape
        g = torch.arange(h)[:, None] * 4 // h * 4 + torch.arange(w) * 4 // w
        bright = x.mean(1)[:, g == self.cell].mean(1)
        return torch.stack([torch.ones(n), 3 * bright, torch.full((n,), -5.0)], 1)


@pytest.mark.parametrize(("h", "w", "channels"), [(32, 32, 3), (28, 36, 1)])
def test_facts_of_a_spot(h, w, channels):
    # A bright cell on a dark picture: hidden by the mean colour, the blur or its neighbours it is less bright.
    x = torch.full((channels, h, w), -1.0)
    x[:, h // 4:h // 2, w // 2:3 * w // 4] = 1.0  # row 2, column 3
    found = facts(Spot(6, channels), x, 0)
    equal((found["predicted"], found["other"], found["true"]), (1, 0, 0))
    for key in ("holds", "halves", "turns", "cover", "keeps"): equal((key, found[key]), (key, [6]))
    equal((found["costliest"], found["opposes"]), (6, []))
    text = in_words(found, ["ship", "airplane", "cat"])
    equal(text, "The network answers airplane, but the class is ship. If the cell in row 2, column 3 (centre) is covered, "
          f"the answer becomes ship, in all {WAYS}.")
    right = facts(Spot(6, channels), x, 1)
    equal((right["predicted"], right["other"], right["true"]), (1, 0, 1))
    equal(in_words(right, ["ship", "airplane", "cat"]),
          text.replace("but the class is ship", "which is right, and its second choice is ship"))
    norm = dict(mean=(0.5,) * channels, std=(0.25,) * channels)
    fig = draw_facts(x, found, ["ship", "airplane", "cat"], **norm)
    equal(len(fig.axes), 5)
    assert fig.axes[0].get_title() == "says airplane\nagainst ship"


def test_a_cell_that_helps_in_one_game_costs_in_none():
    class Bright(Spot):
        def forward(self, x): return torch.stack([torch.zeros(len(x)), 50 + 16 * x.mean((1, 2, 3)), torch.full((len(x),), -5.0)], 1)
    x = torch.full((3, 32, 32), -2.0)  # darker than the mean colour, with which the answer grows surer
    x[:, 8:16, 16:24] = -1.0
    found = facts(Bright(6), x, 1)
    equal([game["most"] for game in found["games"].values()], [6] * 3)
    equal([max(game["falls"]) > 0 for game in found["games"].values()], [False, True, True])
    assert found["costliest"] is None and "costs" not in in_words(found, "abc")


def test_facts_say_nothing_if_nothing_changes(images):
    for x in (images[0], torch.zeros(3, 32, 32)):
        found = facts(Constant(), x, 0)
        for key in ("holds", "opposes", "halves", "turns", "cover"): equal((key, found[key]), (key, []))
        assert found["costliest"] is None
        equal(in_words(found, "abc"), "The network answers c, but the class is a. No cell clearly counts in any of the "
              f"{WAYS}. No place can be named.")
        draw_facts(x, found, "abc")


def test_facts_of_a_constant_image_are_finite(network):
    found = facts(network, torch.full((3, 32, 32), 0.5), 3)
    every = [v for game in found["games"].values() for key in ("values", "errors", "falls") for v in game[key]]
    assert torch.tensor(every).isfinite().all()
    # A blur changes nothing, and what is imputed next to nothing: no cell may pass for evidence.
    equal([found[key] for key in ("holds", "opposes", "halves", "turns")], [[], [], [], []])
    assert max(map(abs, found["games"]["blur"]["values"])) < LEAST


def test_facts_are_of_the_games_they_name(network, images):
    found = facts(network, images[0], 3, pairs=2)
    target, other = found["predicted"], found["other"]
    equal([*found["games"]], [*GAMES])
    whole = covered_logits(network, images[:1], torch.tensor([0]), torch.zeros(1, 4, 4).bool())[0]
    close(found["margin"], (whole[target] - whole[other]).item(), eps=1e-5)
    for game, part in found["games"].items():
        for cell in (0, 5, 15):
            hidden = torch.eye(16)[cell].bool().reshape(1, 4, 4)
            logits = network(cover(images[:1], hidden, game))[0]
            close(found["margin"] - part["falls"][cell], (logits[target] - logits[other]).item(), eps=1e-4)
            equal(cell in part["turns"], logits.argmax().item() == other)
        holds = [c for c in range(16) if part["values"][c] > max(2 * part["errors"][c], LEAST)]
        equal(part["holds"], holds)
    for key in ("holds", "opposes", "halves", "turns"):
        equal(found[key], sorted(set.intersection(*(set(part[key]) for part in found["games"].values()))))


def test_a_cover_of_two_cells():
    class Either(nn.Module):  # bright cells 5 or 10, one is enough
        def __init__(self): super().__init__(); self.a, self.b = Spot(5), Spot(10)
        def forward(self, x): return torch.maximum(self.a(x), self.b(x))
    x = torch.full((3, 32, 32), -1.0)
    x[:, 8:16, 8:16] = x[:, 16:24, 16:24] = 1.0
    found = facts(Either(), x, 0)
    equal((found["turns"], found["cover"]), ([], [5, 10]))
    assert len(found["keeps"]) == 1
    text = in_words(found, ["ship", "airplane", "cat"])
    assert "If the cells in row 2, column 2 and row 3, column 3 (centre) are covered together, the answer becomes ship, in all " in text


def test_places():
    equal(places([0], 4), "row 1, column 1 (upper left)")
    equal(places([15], 4), "row 4, column 4 (lower right)")
    equal(places([6, 5, 2], 4), "row 1, column 3 and row 2, columns 2 and 3 (upper centre and centre)")
    equal(places([0, 3, 12, 15], 4), "row 1, columns 1 and 4 and row 4, columns 1 and 4")
    equal(places([0, 5, 9], 4), "row 1, column 1; row 2, column 2 and row 3, column 2 (upper left and centre)")
    equal(places([0], 1), "row 1, column 1")


SILENT = dict(holds=[], opposes=[], halves=[], turns=[], cover=[], keeps=[], costliest=None)
FIRST, NINTH, BOTH = ("row 1, column 1 (upper left)", "row 3, column 1 (middle left)",
                      "row 1, column 1 and row 3, column 1 (upper left and middle left)")


@pytest.mark.parametrize(("said", "text"), [
    (dict(turns=[0], cover=[0]), f"If the cell in {FIRST} is covered, the answer becomes a, in all {WAYS}."),
    (dict(turns=[0, 8], cover=[8]),
     f"If the cell in {NINTH} is covered, the answer becomes a (1 other cell does the same alone), in all {WAYS}."),
    (dict(turns=[0, 3, 8], cover=[8], halves=[0, 3, 8]),
     f"If the cell in {NINTH} is covered, the answer becomes a (2 other cells do the same alone), in all {WAYS}."),
    (dict(cover=[0, 8], halves=[0]), f"If the cells in {BOTH} are covered together, the answer becomes a, in all {WAYS}."),
    (dict(cover=[0, 1, 2, 3, 4], halves=[0]), f"If the cell in {FIRST} is covered, b loses half of its lead or more, in all {WAYS}."),
    (dict(halves=[0, 8], costliest=8),
     f"If any one of the cells in {BOTH} is covered, b loses half of its lead or more, in all {WAYS}."),
    (dict(cover=[0, 1, 2, 3, 4], costliest=0), f"Of all cells, the cell in {FIRST} costs b most if it is covered, in all {WAYS}."),
    (dict(turns=[0], cover=[0], holds=[0], opposes=[8]),  # the same cell is not named twice, and what opposes is not told
     f"If the cell in {FIRST} is covered, the answer becomes a, in all {WAYS}."),
    (dict(halves=[8], holds=[0, 8], costliest=8), f"If the cell in {NINTH} is covered, b loses half of its lead or more, in all "
     f"{WAYS}. By an estimate, the cells in {BOTH} are evidence for b rather than a, in all three."),
    (dict(holds=[0], opposes=[8]), f"By an estimate, the cell in {FIRST} is evidence for b rather than a, in all {WAYS}."),
    (dict(holds=[0, 3, 6, 10, 13]), "By an estimate, the cells in row 1, columns 1 and 4; row 2, column 3; row 3, column 3 and "
     f"row 4, column 2 are evidence for b rather than a, in all {WAYS}."),
    (dict(opposes=[8], costliest=0), f"Of all cells, the cell in {FIRST} costs b most if it is covered, in all {WAYS}.")])
def test_each_kind_of_sentence(said, text):
    found = SILENT | dict(predicted=1, other=0, true=0, grid=4, games=dict.fromkeys(GAMES, {"blank": 0})) | said
    equal(in_words(found, "abc"), f"The network answers b, but the class is a. {text}")
    assert in_words(found | {"true": 1}, "abc").startswith("The network answers b, which is right, and its second choice is a. ")


def test_words_claim_only_what_all_games_say():
    # What one or two games say on top changes no sentence. If they have nothing in common, no place is named.
    draw, seen = torch.Generator().manual_seed(0), set()
    for _ in range(200):
        lists = (torch.rand(3, 4, 16, generator=draw) < torch.rand(4, 1, generator=draw)).tolist()
        games = {game: {key: [c for c in range(16) if row[c]] for key, row in zip(("holds", "opposes", "halves", "turns"), rows)}
                 for game, rows in zip(GAMES, lists)}
        said = {key: sorted(set.intersection(*(set(game[key]) for game in games.values()))) for key in games["mean"]}
        found = SILENT | said | dict(predicted=1, other=0, true=0, grid=4, games=games, cover=said["turns"][:1])
        text = in_words(found, "abc")
        agreed = dict.fromkeys(GAMES, said)
        if strongest(found)[0]: equal(in_words(found | {"games": agreed}, "abc"), text)
        else: assert text.endswith(f"The {WAYS} disagree. No place can be named."), text
        assert text.count(". ") <= 2 and ";" not in text.replace("; row", "")
        seen.add(text.count(". "))
    equal(seen, {1, 2})


def test_words_of_a_record(network, images):
    row = facts_row(network, images[0], 3, seed=2)
    found = facts(network, images[0], 3, seed=2)
    equal(in_words(found_of(json.loads(json.dumps(row))), CLASSES), in_words(found, CLASSES))
    mute = copy.deepcopy(network)
    nn.init.zeros_(mute[-1].weight)
    row = facts_row(mute, images[0], 0, seed=2)
    assert in_words(found_of(row), CLASSES).endswith(f"No cell clearly counts in any of the {WAYS}. No place can be named.")


def test_an_infinite_logit_is_no_silence(network, images):
    class Masked(nn.Module):
        def __init__(self): super().__init__(); self.inner = network
        def forward(self, x): return self.inner(x).index_fill(1, torch.tensor([4]), -float("inf"))
    refused(lambda: cell_values(Masked(), images[:1], [4], grid=2), contains="is infinite")
    refused(lambda: facts(Masked(), images[0], 4), contains="is infinite")


def test_refused_facts(network, images):
    refused(lambda: facts(network, images, 0), contains="image must be one tensor of shape (C, H, W), got (3, 3, 32, 32)")
    refused(lambda: facts(network, images[0], 10), contains="true must be a class from 0 to 9, got 10")
    refused(lambda: facts(network, images[0], 1.5), contains="true must be a class from 0 to 9, got 1.5")
    refused(lambda: facts(Constant(1), images[0], 0), contains="the model has a single output")
    refused(lambda: facts(network, images[0] * float("nan"), 0), contains="NaN")
    refused(lambda: facts(network, images[0], 0, grid=33), contains="grid must be from 1 to 8")
    refused(lambda: facts(network, images[0, :, :3], 0), contains="grid must be from 1 to 3")


@pytest.mark.parametrize("game", GAMES)
def test_pictures_are_filled_in_full_precision(network, images, game):
    hidden, seen = torch.zeros(1, 4, 4).bool(), []
    hidden[0, 1, 2] = hidden[0, 2, 2] = True
    hook = network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    try: covered_logits(network, images[:1], torch.tensor([0]), hidden, game, precision="bfloat16")
    finally: hook.remove()
    close(seen[-1], cover(images[:1], hidden, game), eps=1e-5)


def test_numbers_that_are_not_whole_are_named(small):
    image = torch.zeros(3, 32, 32)
    refused(lambda: cell_values(small, image[None], [0], grid=2.5), contains="grid must be a whole number, got 2.5")
    refused(lambda: cell_values(small, image[None], [0], pairs=2.5), contains="pairs must be a whole number, got 2.5")
    refused(lambda: facts(small, image, 0, grid=2.5), contains="grid must be from 1 to 8")
    refused(lambda: facts(small, image, "cat"), contains="true must be a class from 0 to")
