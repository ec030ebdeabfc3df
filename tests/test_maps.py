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
    faithfulness_command, faithfulness_record, faithfulness_table, holm, image_scores, map_name,
    measure, MEASURES, p_value, QUICK, rank_table, recommend, rounded_mean, score_differences)
from cifar_gradcam.mistakes.removal import (
    all_logits, control_maps, CONTROLS, insertion_deletion, road_scores)
from cifar_gradcam.resnet import ResNet18

SMALL = dict(images=30, costly_images=4, sanity_images=4, steps=3, precision="float32",
             maps=(("random blobs", ()), ("gradcam", ("layer4",)), ("scorecam", ("layer4",))),
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


# ---- the plan


def test_names_of_maps():
    equal(len(all_maps()), 3 + 5 * 5 + 2 * 4 + 3)
    equal(len({map_name(*what) for what in all_maps()}), len(all_maps()))
    equal(map_name("gradcam", "layer4", "contrast"), "gradcam layer4 contrast")
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
    close(np.array(entry["scores"]["deletion blur"]) / 1e4, curve["deletion_area"].numpy(),
          eps=2e-4)


def test_what_else_a_record_holds(network, record):
    equal([entry["images"] for entry in record["maps"].values()], [30, 30, 4])
    equal((answered_wrong(record).sum() >= 15, record["finished"]), (True, True))
    equal(record["sanity"]["gradcam layer3"]["rank"][0], 1.0)
    equal({type(m) for m in network.modules() if isinstance(m, nn.Conv2d)}, {nn.Conv2d})


def test_an_interrupted_measurement_goes_on(network, dataset, record, tmp_path):
    file, seen, passes = tmp_path / "record.json", [], 2 * 4 + 4 * (3 - 1)
    def count(module, inputs):
        if sum(seen) > limit: raise KeyboardInterrupt
        seen.append(len(inputs[0]))
    hook = network.register_forward_pre_hook(count)
    try:
        limit = 40 + 3 * 30 + 30 * passes + 20 * passes  # answers, ends, one map, a part of the second
        refused(lambda: measure(network, dataset, file, **SMALL), exc=KeyboardInterrupt)
        halted, limit = json.loads(file.read_text()), np.inf
        seen.clear()
        again, rest = measure(network, dataset, file, **SMALL), sum(seen)
        seen.clear()
        straight, whole = measure(network, dataset, **SMALL), sum(seen)
    finally: hook.remove()
    equal(([*halted["maps"]], halted["finished"]), (["random blobs"], False))
    equal(whole - rest, 40 + 30 * passes)  # neither the answers nor the finished map twice
    def scores(record): return {name: entry["scores"] for name, entry in record["maps"].items()}
    equal(scores(again), scores(straight))
    equal(json.loads(file.read_text()), again)


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
    equal((recommend(few)["challengers"], recommend(few)["choice"]), (["layercam layer3"] * 2, "gradcam layer4"))
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
def contrast(network, dataset):
    maps = [(*pair, target) for target in ("predicted", "contrast") for pair in (("random blobs", ()), ("gradcam", ("layer4",)))]
    return measure(network, dataset, **SMALL | dict(images=12, maps=maps, sanity=[]))


def test_the_contrast(network, dataset, contrast):
    x, wrong = images_of(dataset, contrast), answered_wrong(contrast)
    said, true, other = (np.array(contrast[k]) for k in ("predicted", "labels", "against"))
    equal(other[wrong], true[wrong])
    assert (other != said).all()
    said, other = torch.tensor(said), torch.tensor(other)
    for name, maps in (("gradcam layer4", explain(network, x, said, against=other)),
                       ("random blobs", control_maps("random blobs", 12))):
        road = road_scores(network, x, said, maps, against=other, precision="float32")["score"]
        close(image_scores(contrast, f"{name} contrast"), road.numpy(), eps=2e-4)
    equal({row["name"] for row in rank_table(contrast)}, {"random blobs", "gradcam layer4"})
    equal({row["name"] for row in rank_table(contrast, target="contrast")}, {"random blobs contrast", "gradcam layer4 contrast"})


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
    equal(faithfulness_table(MADE_UP).count("\n"), 5)


def test_maps_are_compared_on_the_images_they_share():
    close(compare_maps(MADE_UP, "b", "a"), [-0.15] * 3, eps=1e-9)
    close(compare_maps(MADE_UP, "a", "b", "deletion mean"), [-0.15] * 3, eps=1e-9)
    close(score_differences(MADE_UP, "a", "b"), np.full(20, 0.15), eps=1e-9)
    close(compare_maps(MADE_UP, "b", "a", images=np.arange(40) < 3), [-0.15] * 3, eps=1e-9)


def test_the_best_control():
    equal(best_control(MADE_UP), "centred Gaussian")
    equal(best_control(MADE_UP, "deletion blur"), "random pixels")
    refused(lambda: best_control({"maps": {}}), contains="record holds no controls")
    refused(lambda: best_control(MADE_UP, "raod"), contains="measure must be one of ")


def test_scores_refuse_unknown_names():
    refused(lambda: image_scores(MADE_UP, "c"), contains="name must be one of centred Gaussian")
    refused(lambda: image_scores(MADE_UP, "a", "ROAD"), contains="measure must be one of road")


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
    equal(p_value(gains[:1]), 1.0)
    equal([p_value(np.full(5, v)) for v in (0.5, 0.0)], [0.0, 1.0])


def test_a_lucky_map_does_not_survive():
    rng = np.random.default_rng(3)  # the control, and 8 maps that are only luck: one beats it
    draws = {f"m{k}": entry_of(rng.normal(0, 0.1, 40)) for k in range(8)}
    lucky = rank_table({"maps": {"random pixels": entry_of(np.zeros(40))} | draws})
    equal([any(row[k] for row in lucky) for k in ("beats", "survives")], [True, False])


def test_the_recommended_map_is_better_where_it_was_not_chosen_both_times():
    equal(recommend(MADE_UP, "a")["choice"], "a")
    two = {"maps": MADE_UP["maps"] | {"old": entry_of(LUCK + 0.02), "odd": entry_of(
        np.where(np.arange(40) % 2, LUCK - 0.2, LUCK + 0.5))}}
    three = {"maps": {k: two["maps"][k] for k in ("centred Gaussian", "old", "a")}}
    advice = recommend(three, "old")
    equal((advice["challengers"], advice["choice"], advice["beats"]), (["a", "a"], "a", True))
    close(advice["leads"], np.full((2, 3), 0.08), eps=1e-9)
    pair = {name: entry_of(LUCK, 2) for name in ("centred Gaussian", "a")}  # one image a half
    equal(recommend({"maps": pair}, "a")["choice"], "a")
    lucky = recommend(two, "old")  # the best of the even images is bad on the odd ones
    equal((lucky["challengers"], lucky["choice"]), (["odd", "a"], "old"))
    assert lucky["leads"][0][2] < 0 < lucky["leads"][1][1]
    odd, sign = np.arange(40) % 2, (-1)**(np.arange(40) // 2)
    def among(**leads): return {"maps": three["maps"] | {name: entry_of(LUCK + 0.02 + lead) for name, lead in leads.items()}}
    once = recommend(among(a=np.where(odd, 0.08, 0.001 + 0.05 * sign)), "old")
    equal((once["challengers"], once["choice"]), (["a", "a"], "old"))  # chosen twice, sure on one half only
    twice = recommend(among(a=0.2 - 0.1 * odd, b=0.1 + 0.1 * odd), "old")
    equal((twice["challengers"], twice["choice"]), (["a", "b"], "old"))  # both are sure, but not the same map
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
    equal(faithfulness_command(network, dataset, few, images=6, sanity=[],
                               maps=[*maps, ("scorecam", ("layer1",))], steps=2), 0)
    equal(json.loads(few.read_text())["settings"]["costly_images"], 6)
    text = capsys.readouterr().out
    assert "Recommended: " in text and "random blobs" in text
    # All there are, where there are fewer than the default, or than were asked for.
    for asked, told in ({}, 500), (dict(images=60), 60), (dict(quick=True), QUICK["images"]):
        equal(faithfulness_command(network, dataset[:15], tmp_path / f"fifteen{told}.json", **dict(
            images=None, sanity=[], maps=maps, steps=2) | asked), 0)
        assert f"--images 15: all test images there are, in place of {told}" in capsys.readouterr().out
    refused(lambda: faithfulness_command(network, dataset, file / "no" / "where.json"),
            contains="out: there is no folder", exc=FileNotFoundError)


def test_a_record_of_shares_is_that_of_their_classes(network, dataset):
    how = dict(images=4, costly_images=2, sanity_images=2, maps=(("random pixels", ()),), sanity=())
    plain = measure(network, dataset, **how)
    soft = [(image, 0.6 * torch.eye(10)[label] + 0.04) for image, label in dataset]
    equal(measure(network, soft, **how)["labels"], plain["labels"])
    several = [(image, share > 0) for image, share in soft]
    refused(lambda: measure(network, several, **how), contains="several labels an image are not measured", exc=ValueError)
