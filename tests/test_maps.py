"The measurement of maps: what is measured, that it goes on, and what is read from its record."
import json

import numpy as np
import pytest
import torch
from scipy import stats
from tools import close, equal, refused
from torch import nn
from torch.nn import functional as F

from cifar_gradcam.gradcam import explain
from cifar_gradcam.lab import maps as lab
from cifar_gradcam.lab.maps import (
    all_maps, answered_wrong, best_control, compare_maps, draw_images,
    faithfulness_command, faithfulness_record, faithfulness_table, holm, image_gains,
    image_scores, INTEGRATED, integrated_gradients, map_name, measure, MEASURES, p_value, pooled,
    QUICK, rank_table, recommend, rounded_mean, same_maps, scattered, score_differences)
from cifar_gradcam.mistakes.removal import (
    all_logits, blank_images, control_maps, CONTROLS, insertion_deletion, road_scores)
from cifar_gradcam.resnet import ResNet18

SMALL = dict(images=30, costly_images=4, sanity_images=4, steps=3, precision="float32",
             verdicts=0, maps=(("random blobs", ()), ("gradcam", ("layer4",)),
                               ("scorecam", ("layer4",))),
             sanity=(("gradcam", ("layer3",)),))


def seeded(seed): return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ResNet18(width=8).eval()


@pytest.fixture(scope="module")
def dataset(network):  # with right answers and mistakes
    x = F.avg_pool2d(torch.randn(40, 3, 34, 34, generator=seeded(1)), 3, 1)
    said = all_logits(network, x, precision="float32").argmax(1)
    return [(image, int(c + (i % 3 > 0)) % 10) for i, (image, c) in enumerate(zip(x, said))]


@pytest.fixture(scope="module")
def record(network, dataset): return measure(network, dataset, **SMALL)


def images_of(dataset, record): return torch.stack([dataset[i][0] for i in record["indices"]])


# ---- maps of other grain, and Integrated Gradients


def test_pooled_is_a_mean_over_blocks():
    some = torch.rand(3, 32, 32)
    means = some.numpy().reshape(3, 4, 8, 4, 8).mean((2, 4))
    close(F.adaptive_avg_pool2d(some[:, None], 4)[:, 0], means, eps=1e-6)
    close(pooled(some)[:, 0, 0], means[:, 0, 0], eps=1e-6)
    close(pooled(torch.full((1, 32, 32), 0.3)), torch.full((1, 32, 32), 0.3), eps=1e-6)


def test_scattered_draws_in_proportion_without_repetition():
    weights = torch.tensor([[0.5, 0.3], [0.2, 0.0]])
    order = scattered(weights.expand(20_000, 2, 2)).flatten(1)
    shares = np.bincount(order.argmax(1), minlength=4) / 20_000
    close(shares, np.array([0.5, 0.3, 0.2, 0.0]), eps=0.015)
    second = np.bincount(order[order.argmax(1) == 0].argsort(1)[:, -2], minlength=4)
    close(second / second.sum(), np.array([0, 0.6, 0.4, 0]), eps=0.02)
    equal(order.sort(1).values.unique(dim=0).tolist(), [[0, 0.25, 0.5, 0.75]])
    some = torch.rand(3, 32, 32)
    equal(scattered(some, 3), scattered(some, 3))


class Squares(nn.Module):
    "Its logits are sums of squares: a closed form for Integrated Gradients."
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))

    def forward(self, x): return (x * x).sum((1, 2, 3))[:, None] * self.scale


SOME, OF = torch.randn(3, 3, 16, 16, generator=seeded(0)), torch.tensor([0, 1, 2])


def test_integrated_gradients_of_squares():
    squares = Squares()
    parts, lacking = integrated_gradients(squares, SOME, OF, steps=3)
    scale = squares.scale.detach()[OF, None, None, None]
    close(parts, SOME * SOME * scale, eps=1e-4)
    close(lacking, torch.zeros(3), eps=1e-2)
    margin, _ = integrated_gradients(squares, SOME, OF, against=OF.roll(1), steps=3)
    close(margin, SOME * SOME * (scale - scale.roll(1, 0)), eps=1e-4)
    many, batches = torch.randn(70, 3, 4, 4), torch.arange(70) % 3
    close(integrated_gradients(squares, many, batches, batch_size=7)[0][65:],
          integrated_gradients(squares, many[65:], batches[65:])[0], eps=1e-4)


def test_integrated_gradients_in_half_precision_and_from_the_blurred_image():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 4)).half()
    steep, _ = integrated_gradients(linear, SOME, OF, "blur", steps=2)
    close(steep, linear[1].weight.detach().float()[OF].reshape(3, 3, 16, 16)
          * (SOME - blank_images(SOME, "blur")), eps=1e-4)


@pytest.mark.parametrize("text, how", [
    ("steps must be at least 1, got 0", dict(steps=0)),
    ("baseline must be one of", dict(baseline="black")),
    ("against must be from 0 to 2, got 0 to 3", dict(against=[1, 0, 3])),
    ("against must differ from targets", dict(against=OF)),
    ("targets must be from 0 to", dict(targets=OF + 1))])
def test_integrated_gradients_refuse(text, how):
    refused(lambda: integrated_gradients(Squares(), **{"images": SOME, "targets": OF} | how),
            contains=text)


# ---- the plan


def test_names_of_maps():
    equal(len(all_maps()), 3 + 5 * 5 + 2 * 4 + 4 + 5 * 3 + 1 + 2 * 5)
    equal(len({map_name(*what) for what in all_maps()}), len(all_maps()))
    equal(map_name("gradcam", "layer4", "contrast"), "gradcam layer4 contrast")
    equal(map_name("gradcam", "layer3", form="pooled"), "gradcam layer3 pooled")
    equal(map_name("gradcam", ("layer2", "layer3")), "gradcam layer2+layer3")
    equal(map_name("gradcam", "layer4"), "gradcam layer4")
    equal(map_name("random pixels"), "random pixels")
    shipped = faithfulness_record()["settings"]  # the record is about what is measured today
    equal(shipped["maps"], [map_name(*what) for what in all_maps()])
    equal(shipped["sanity"], [map_name(*what) for what in lab.SANITY_MAPS])


@pytest.mark.parametrize("wrong_places, n_wrong", [
    (range(5), 5), (range(40), 25), (range(90), 40)])
def test_half_of_the_images_are_mistakes(wrong_places, n_wrong):
    wrong = np.isin(np.arange(100), wrong_places)
    drawn = draw_images(wrong, 50, 0)
    equal((len(set(drawn)), wrong[drawn].sum()), (50, n_wrong))
    assert draw_images(wrong, 50, 1) != drawn


# ---- the measurement


def test_judging_costs_no_more_passes_than_it_says(network, dataset):
    seen, few = [], dict(SMALL, steps=5, maps=[("random blobs", ())], sanity=[])
    hook = network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    try: measure(network, dataset, **few)
    finally: hook.remove()
    # The answers, three ends, and the judging.
    equal(sum(seen), 40 + 3 * 30 + 30 * (2 * 4 + 4 * (5 - 1)))


def test_scores_are_of_the_functions_they_are_named_after(network, dataset, record):
    entry, x = record["maps"]["gradcam layer4"], images_of(dataset, record)
    equal(len(set(record["indices"])), 30)
    said, logits = torch.tensor(record["predicted"]), network(x).detach()
    close(logits.gather(1, said[:, None])[:, 0], logits.amax(1), eps=1e-4)
    heat = explain(network, x, said)
    road = road_scores(network, x, said, heat, precision="float32")
    close(np.array(entry["scores"]["road"]) / 1e4, road["score"].numpy(), eps=2e-4)
    curve = insertion_deletion(network, x, said, heat, "blur", 3, precision="float32")
    close(np.array(entry["curves"]["deletion blur"]), curve["deletion"].mean(1).numpy(), eps=2e-4)
    close(np.array(entry["scores"]["deletion blur"]) / 1e4, curve["deletion_area"].numpy(),
          eps=2e-4)
    falling = heat.flatten(1).sort(1, descending=True).values
    peak = (falling[:, :102].sum(1) / falling.sum(1)).nan_to_num(0)
    close(np.array(entry["peak"]) / 1e4, peak.numpy(), eps=2e-4)


def test_what_else_a_record_holds(network, record):
    equal([entry["images"] for entry in record["maps"].values()], [30, 30, 4])
    equal((answered_wrong(record).sum() >= 15, record["finished"]), (True, True))
    equal(record["sanity"]["gradcam layer3"]["rank"][0], 1.0)
    equal({type(m) for m in network.modules() if isinstance(m, nn.Conv2d)}, {nn.Conv2d})


def test_the_peak_is_the_share_of_the_hottest_tenth(network, dataset, record):
    x = images_of(dataset, record)[:2]
    ends = {b: (torch.zeros(2, 10),) * 2 for b in ("mean", "blur")}
    subject = lab._Subject(network, x, ends, record)
    def peak(maps): return lab._judge(subject, torch.arange(2), OF[:2], None, maps)[0]["peak"]
    close(peak(torch.ones(2, 32, 32)), torch.full((2,), 102 / 1024), eps=1e-6)
    lone = torch.zeros(1, 32, 32)
    lone[0, 3, 4] = 2
    close(peak(torch.cat([lone - (lone == 0).float(), 0 * lone])), torch.tensor([1.0, 0.0]),
          eps=1e-6)


def test_a_file_of_something_else_is_not_continued(network, dataset, record, tmp_path):
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record))
    equal(measure(network, dataset, file, **SMALL), record)
    refused(lambda: measure(network, dataset, file, **SMALL | {"steps": 4}),
            contains="holds measurement with other settings (steps 3)")
    refused(lambda: measure(ResNet18(width=4), dataset, file, **SMALL),
            contains="other settings (weights")
    file.write_text("not JSON")
    refused(lambda: measure(network, dataset, file, **SMALL), contains="holds no measurement")


def test_a_measurement_goes_on_with_its_own_images_only(network, dataset, record, tmp_path):
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record))
    relabelled = [(image, (label + 1) % 10) for image, label in dataset]
    for changed in (relabelled, dataset[:31]):
        refused(lambda: measure(network, changed, file, **SMALL), exc=ValueError,  # noqa: B023
                contains="record.json was measured on other images")
    file.write_text(json.dumps(record | {"probability": [9900] * 30}))  # of pictures with the same labels
    refused(lambda: measure(network, dataset, file, **SMALL), contains="record.json was measured on other images")


def test_one_image_decides_nothing(record):
    few = json.loads(json.dumps(record)) | {"maps": {}}
    for name, score in (("random blobs", 0), ("gradcam layer4", 0), ("layercam layer3", 900)):
        entry = json.loads(json.dumps(record["maps"]["gradcam layer4"]))
        entry["scores"] = {measure: [score] * 3 for measure in MEASURES}
        few["maps"][name] = entry
    equal((recommend(few)["challenger"], recommend(few)["choice"]), ("layercam layer3", "gradcam layer4"))
    for entry in few["maps"].values(): entry["scores"] = {m: 2 * v for m, v in entry["scores"].items()}
    equal(recommend(few)["choice"], "layercam layer3")


def test_images_are_counted_not_read(record):
    more = json.loads(json.dumps(record))
    for entry in more["maps"].values(): entry["images"] = 500
    equal([row["images"] for row in rank_table(more)], [row["images"] for row in rank_table(record)])


def test_measure_refuses(network, dataset):
    refused(lambda: measure(network, dataset, images=1), contains="images must be from 2 to")
    refused(lambda: measure(network, dataset, images=2, costly_images=1),
            contains="costly_images must be from 2 to")
    refused(lambda: measure(network, dataset, image=2), exc=TypeError, contains="image")


@pytest.mark.parametrize("source", ["real", "synthetic"])
def test_the_record_names_the_data(network, dataset, source):
    quick = SMALL | dict(images=2, costly_images=2, sanity_images=2, maps=[], sanity=[])
    equal(measure(network, dataset, **quick, data=source)["settings"]["data"], source)


@pytest.fixture(scope="module")
def several(network, dataset):  # other targets, other forms, verdicts
    maps = (("random blobs", ()), ("random blobs", (), "true"), ("random blobs", (), "contrast"),
            ("gradcam", ("layer4",), "true"), ("gradcam", ("layer4",), "contrast"),
            ("gradcam", ("layer3",), "predicted", "pooled"),
            ("gradcam", ("layer3",), "predicted", "scattered"), *all_maps()[36:40])
    return measure(network, dataset, **SMALL | dict(images=12, maps=maps, sanity=[], verdicts=2))


def test_targets_and_verdicts_of_a_record(network, dataset, several):
    wrong = answered_wrong(several)
    equal([entry["images"] for entry in several["maps"].values()],
          [12, wrong.sum(), 12, wrong.sum(), 12, 4, 12, 4, 4, 4, 4])
    said, true, other = (np.array(several[k]) for k in ("predicted", "labels", "against"))
    equal(other[wrong], true[wrong])
    assert (other != said).all()
    first_wrong = [str(i) for i, bad in zip(several["indices"], wrong) if bad][:2]
    equal([*several["verdicts"]], first_wrong)
    equal([sorted(v) for v in several["verdicts"].values()],
          [["alike", "checks", "contrast", "predicted"]] * 2)
    logits = all_logits(network, images_of(dataset, several), precision="float32").numpy()
    places = np.arange(12)
    close(logits[places, said] - logits[places, other], np.array(several["margin"]) / 1e4,
          eps=1e-3)


def test_verdicts_of_a_network_of_three_classes():
    torch.manual_seed(0)
    model, images = ResNet18(3, width=8).eval(), torch.randn(6, 3, 32, 32, generator=seeded(1))
    with torch.no_grad(): labels = (model(images).argmax(1) + 1) % 3  # all are mistakes
    quick = SMALL | dict(images=6, maps=SMALL["maps"][:2], sanity=[], verdicts=1)
    equal(len(measure(model, [*zip(images, labels.tolist())], **quick)["verdicts"]), 1)


def test_scores_of_other_targets_and_forms(network, dataset, several):
    x = images_of(dataset, several)
    said, true, other = (torch.tensor(several[k]) for k in ("predicted", "labels", "against"))
    def road(maps, targets, rows=slice(None), against=None):
        return road_scores(network, x[rows], targets[rows], maps, precision="float32",
                           against=None if against is None else against[rows])["score"]
    rows = torch.tensor(np.flatnonzero(answered_wrong(several)))
    coarse = explain(network, x, said, "gradcam", "layer3")
    signed, sizes = (integrated_gradients(network, x[:4], said[:4], b)[0]
                     for b in ("blur", "mean"))
    for name, wanted in (
            ("gradcam layer4 true", road(explain(network, x[rows], true[rows]), true, rows)),
            ("gradcam layer4 contrast",
             road(explain(network, x, said, against=other), said, against=other)),
            ("random blobs true", road(control_maps("random blobs", 12)[rows], true, rows)),
            ("gradcam layer3 pooled", road(pooled(coarse[:4]), said, slice(4))),
            ("gradcam layer3 scattered", road(scattered(coarse), said)),
            ("integrated gradients blur", road(signed.sum(1), said, slice(4))),
            ("|integrated gradients| mean", road(sizes.abs().sum(1), said, slice(4))),
            ("integrated gradients mean pooled", road(pooled(sizes.sum(1)), said, slice(4)))):
        close(image_scores(several, name), wanted.numpy(), eps=3e-3)


def test_tables_are_of_one_target(several):
    equal({row["name"] for row in rank_table(several, target="predicted")},
          {"random blobs", *(f"{k} mean" for k in INTEGRATED), "integrated gradients blur"})
    equal({row["name"] for row in rank_table(several, target="contrast")},
          {"random blobs contrast", "gradcam layer4 contrast"})


def test_rounded_means_leave_out_what_is_not_there():
    equal(rounded_mean(torch.tensor([1.0, 2.0, torch.nan])), 1.5)
    equal(rounded_mean(torch.tensor([torch.nan])), None)


# ---- what is read from a record: map a is the control + 0.1 on every image

LUCK = np.random.default_rng(0).uniform(-0.2, 0.2, 40).round(2)


def entry_of(values, n=40):
    whole = [round(1e4 * v) for v in values[:n]]
    return {"images": n, "seconds": 1, "scores": dict.fromkeys(MEASURES, whole)}


MADE_UP = {"maps": {"centred Gaussian": entry_of(LUCK), "random pixels": entry_of(LUCK - 0.3),
                    "a": entry_of(LUCK + 0.1), "b": entry_of(LUCK - 0.05, 20)}}


def test_rank_table():
    ranked = rank_table(MADE_UP)
    equal(ranked[0]["name"], "a")
    equal({row["name"] for row in ranked if row["beats"]}, {"a"})
    equal([(row["p"], row["survives"]) for row in ranked if row["name"] == "a"], [(0.0, True)])
    equal({row["p"] for row in ranked if row["name"] in CONTROLS}, {None})
    close([ranked[0][k] for k in ("gain", "gain_low", "gain_high")], [0.1] * 3, eps=1e-9)
    equal(rank_table(MADE_UP, "deletion blur")[0]["name"], "random pixels")
    equal(faithfulness_table(MADE_UP).count("\n"), 6)


def test_maps_are_compared_on_the_images_they_share():
    close(compare_maps(MADE_UP, "b", "a"), [-0.15] * 3, eps=1e-9)
    close(compare_maps(MADE_UP, "a", "b", "deletion mean"), [-0.15] * 3, eps=1e-9)
    close(score_differences(MADE_UP, "a", "b"), np.full(20, 0.15), eps=1e-9)
    close(compare_maps(MADE_UP, "b", "a", images=np.arange(40) < 3), [-0.15] * 3, eps=1e-9)


def test_the_best_control():
    equal(best_control(MADE_UP), "centred Gaussian")
    equal(best_control(MADE_UP, "deletion blur"), "random pixels")
    refused(lambda: best_control({"maps": {}}), contains="record holds no controls")


def test_scores_refuse_unknown_names():
    refused(lambda: image_scores(MADE_UP, "c"), contains="name must be one of centred Gaussian")
    refused(lambda: image_scores(MADE_UP, "a", "ROAD"), contains="measure must be one of road")


def test_gains_are_over_the_control_of_the_same_target():
    fake = {"maps": {"random blobs": entry_of([0] * 4, 4), "centred Gaussian": entry_of([.1] * 4, 4),
                     "gradcam layer4": entry_of([.2, .2, .4, .05], 4),
                     "random blobs true": entry_of([.2] * 4, 4) | {"target": "true"},
                     "gradcam layer4 true": entry_of([.2] * 4, 4) | {"target": "true"}}}
    close(image_gains(fake, "gradcam layer4"), np.array([.1, .1, .3, -.05]), eps=1e-9)
    close(image_gains(fake, "gradcam layer4 true"), np.zeros(4), eps=1e-9)


def test_holm_against_his_rule_step_by_step():
    def rejected(p, level):  # the smallest against level / n, the next against level / (n - 1), …
        table = np.zeros(len(p), bool)
        for step, i in enumerate(np.argsort(p)):
            if p[i] > level / (len(p) - step): break
            table[i] = True
        return table
    p_values = np.random.default_rng(0).uniform(0, 1, 40)**4
    for level in (0.01, 0.05, 0.2): equal(holm(p_values) <= level, rejected(p_values, level))
    close(holm([0.01, 0.04, 0.03, 0.005]), np.array([0.03, 0.06, 0.06, 0.02]), eps=1e-12)


def test_p_values_against_scipy():
    gains = np.random.default_rng(1).normal(0.1, 1, 30)
    close(p_value(gains), stats.ttest_1samp(gains, 0).pvalue, eps=1e-12)
    equal([p_value(np.full(5, v)) for v in (0.5, 0.0)], [0.0, 1.0])


def test_a_lucky_map_does_not_survive():
    rng = np.random.default_rng(3)  # the control, and 8 maps that are only luck: one beats it
    draws = {f"m{k}": entry_of(rng.normal(0, 0.1, 40)) for k in range(8)}
    lucky = rank_table({"maps": {"random pixels": entry_of(np.zeros(40))} | draws})
    equal([any(row[k] for row in lucky) for k in ("beats", "survives")], [True, False])


def test_maps_that_are_one():
    near = entry_of(LUCK + 0.1 + np.where(np.arange(40) == 3, 2e-2, 0))  # 0.0005 on average
    twins = {"maps": MADE_UP["maps"] | {"c": near, "c pooled": near | {"form": "pooled"}}}
    equal(same_maps(twins), [["a", "c"]])
    equal(same_maps(MADE_UP), [])
    assert "one map by 2 names: a, c" in faithfulness_table(twins)


def test_the_recommended_map_is_better_where_it_was_not_chosen():
    equal(recommend(MADE_UP, "a")["choice"], "a")
    two = {"maps": MADE_UP["maps"] | {"old": entry_of(LUCK + 0.02), "odd": entry_of(
        np.where(np.arange(40) % 2, LUCK - 0.2, LUCK + 0.5))}}
    three = {"maps": {k: two["maps"][k] for k in ("centred Gaussian", "old", "a")}}
    advice = recommend(three, "old")
    equal((advice["challenger"], advice["choice"], advice["beats"]), ("a", "a", True))
    close(advice["lead"], 0.08, eps=1e-9)
    pair = {name: entry_of(LUCK, 2) for name in ("centred Gaussian", "a")}  # one image a half
    equal(recommend({"maps": pair}, "a")["choice"], "a")
    lucky = recommend(two, "old")  # best on one half, bad on the other: not chosen
    equal((lucky["challenger"], lucky["choice"], lucky["high"] < 0), ("odd", "old", True))
    refused(lambda: recommend(two, "b"), contains="default must be one of")  # half the images


def test_mistakes_of_a_record(record):
    equal(answered_wrong(record).tolist(),
          [a != b for a, b in zip(record["labels"], record["predicted"])])


def test_the_table_of_the_shipped_record_fits_the_page():
    assert max(map(len, faithfulness_table(faithfulness_record()).splitlines())) <= 88


# ---- the command


def test_the_command(network, dataset, tmp_path, capsys):
    file, few = tmp_path / "faithfulness.json", tmp_path / "few.json"
    maps = [(kind, ()) for kind in CONTROLS] + [("gradcam", ("layer4",)), ("layercam", ("layer3",))]
    equal(faithfulness_command(network, dataset, file, quick=True, maps=maps, sanity=[], steps=2), 0)
    equal(json.loads(file.read_text())["settings"]["images"], QUICK["images"])
    # Fewer images than the costly methods would have.
    equal(faithfulness_command(network, dataset, few, images=6, sanity=[], verdicts=0,
                               maps=[*maps, ("scorecam", ("layer1",))], steps=2), 0)
    equal(json.loads(few.read_text())["settings"]["costly_images"], 6)
    text = capsys.readouterr().out
    assert "Recommended: " in text and "random blobs" in text
    # All there are, where there are fewer than the default, or than were asked for.
    for asked, told in ({}, 500), (dict(images=60), 60), (dict(quick=True), QUICK["images"]):
        equal(faithfulness_command(network, dataset[:15], tmp_path / f"fifteen{told}.json", **dict(
            images=None, sanity=[], verdicts=0, maps=maps, steps=2) | asked), 0)
        assert f"--images 15: all test images there are, in place of {told}" in capsys.readouterr().out
    refused(lambda: faithfulness_command(network, dataset, file / "no" / "where.json"),
            contains="out: there is no folder", exc=FileNotFoundError)


def test_a_record_of_shares_is_that_of_their_classes(network, dataset):
    how = dict(images=4, costly_images=2, sanity_images=2, verdicts=0, maps=(("random pixels", ()),), sanity=())
    plain = measure(network, dataset, **how)
    soft = [(image, 0.6 * torch.eye(10)[label] + 0.04) for image, label in dataset]
    equal(measure(network, soft, **how)["labels"], plain["labels"])
    several = [(image, share > 0) for image, share in soft]
    refused(lambda: measure(network, several, **how), contains="several labels an image are not measured", exc=ValueError)
