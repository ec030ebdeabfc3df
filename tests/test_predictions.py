"Answers of a model, kept: making the record, reading it, measuring it, drawing it."
import copy, json, warnings
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tools import close, differ, equal, refused

from cifar_gradcam.engine.batches import BatchedImages
from cifar_gradcam.data import CIFAR10_MEAN, CIFAR10_STD, CLASSES, DatasetInfo
from cifar_gradcam.mistakes.predictions import (
    accuracy_interval, at_temperature, calibrate, confusion_matrix,
    DISPUTED_LABELS, expected_calibration_error, fingerprint, fit_temperature, images_of, percent,
    panel_grid, plot_confusion, plot_reliability, predict, Predictions, RANKINGS,
    reference_predictions, reliability_bins, show_predictions, SHOWN_TO_PEOPLE,
    wilson_interval, worst)
from cifar_gradcam.gradcam import find_mistakes
from cifar_gradcam.resnet import ResNet18
from cifar_gradcam.train import evaluate

@pytest.fixture(scope="module")
def record(): return reference_predictions()

@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return ResNet18(width=2)

@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")

draws = torch.Generator().manual_seed(0)
images, truth = torch.randn(48, 3, 32, 32, generator=draws), torch.arange(48) % 10
few, some = images[:12], truth[:12]
batches = [{"pixel_values": few[:8], "labels": some[:8]}, (few[8:], some[8:], ["name"] * 4)]

def record_of(logits, labels, classes=CLASSES):
    "A record made by hand."
    labels = np.asarray(labels)
    return Predictions(np.arange(len(labels)), labels, np.asarray(logits, np.float32),
                       tuple(classes), "by hand")

def loader_of(images, truth, **how):
    return DataLoader(TensorDataset(images, truth), batch_size=32, **how)

class Talks(nn.Module):
    "A network whose output has another form."
    def __init__(self, network, form): super().__init__(); self.network, self.form = network, form
    def forward(self, x): return self.form(self.network(x))

# The record

def test_a_record_agrees_with_torch_and_with_evaluate(record, small):
    loss, accuracy = evaluate(small, [(images, truth)], precision="float32")
    answers = predict(small, [(images, truth)])
    close(answers.accuracy, accuracy, eps=1e-3)
    close(answers.loss.mean(), loss, eps=1e-3)
    equal((answers.labels, answers.indices), (truth.numpy(), np.arange(48)))
    equal({str(answers.logits.dtype), str(answers.probabilities.dtype)}, {"float32"})
    logits, labels = torch.tensor(record.logits), torch.tensor(record.labels)
    close(record.probabilities, logits.softmax(1).numpy(), eps=1e-6)
    close(record.loss, nn.functional.cross_entropy(logits, labels, reduction="none").numpy(),
          eps=1e-4)
    equal(record.predicted, record.probabilities.argmax(1))
    close(record.confidence, record.probabilities.max(1))

def test_parts_of_a_record(record):
    equal(len(record[3]), 1)
    equal(len(record[np.int64(3)]), 1)
    equal(record[[5, 1]].indices, np.array([5, 1]))
    equal(record[-2:].indices, record.indices[-2:])
    assert not record[~record.correct].correct.any()
    equal(record[record.correct].accuracy, 100.0)
    equal(len(record[:0]), 0)
    refused(lambda: record[len(record)], exc=IndexError)
    equal((record.seen, record[:5].seen), (len(record), len(record)))
    with_images = replace(record[:4], images=images[:4])
    equal(with_images[::-1].images, images[:4].flip(0))
    surest = record[:50].most_confident()
    equal(sorted(surest.indices), np.arange(50))
    assert (np.diff(surest.confidence) <= 0).all()

def test_what_is_saved_comes_back(record, tmp_path):
    kept = replace(record[:7], images=images[:7], seen=20)
    for number, part in enumerate((record, kept)):
        part.save(tmp_path / f"{number}.npz")
        again = Predictions.load(tmp_path / f"{number}.npz")
        for field in fields(Predictions):
            equal(getattr(again, field.name), getattr(part, field.name))
        equal((str(again.logits.dtype), again.classes), ("float32", CLASSES))
    equal(again[[2, 0]].images, images[[2, 0]])

def test_damaged_and_missing_files(record, tmp_path):
    path = tmp_path / "record.npz"
    record[:50].save(path)
    path.write_bytes(path.read_bytes()[:500])
    refused(lambda: Predictions.load(path), contains="is not a record of predictions")
    np.savez(path, labels=record.labels)
    refused(lambda: Predictions.load(path), contains="is not a record of predictions")
    refused(lambda: Predictions.load(tmp_path / "missing.npz"), exc=FileNotFoundError)

def test_a_record_knows_its_model(small):
    answers, other = predict(small, batches), copy.deepcopy(small)
    answers.check_model(small)
    equal(fingerprint(other), fingerprint(small))
    equal(fingerprint(other.to(memory_format=torch.channels_last)), fingerprint(small))
    with torch.no_grad(): other.linear.bias[0] += 1e-3
    refused(lambda: answers.check_model(other), contains="must be the one that made the record, "
            f"with weights {answers.weights}")
    other.linear.bias, other.bn1.running_mean = small.linear.bias, other.bn1.running_mean + 1
    refused(lambda: answers.check_model(other), contains="got weights")

def test_a_record_made_by_hand_is_checked():
    refused(lambda: record_of(np.zeros((3, 10)), [0, 1]),
            contains="labels must have shape (3,), as there are 3 rows of logits, got (2,)")
    refused(lambda: record_of(np.zeros((2, 10)), [0., 1.]), exc=TypeError,
            contains="labels must be whole numbers, got float64")
    refused(lambda: record_of(np.full((1, 10), np.nan), [0]), contains="logits hold NaN or infinity")
    refused(lambda: record_of(np.zeros(10), [0]), contains="logits must have shape (N, 10)")

# predict

def test_names_are_the_datasets_and_shares_count_by_the_largest():
    class Own(TensorDataset): info = DatasetInfo(("night", "day", "dusk"))
    shares = torch.tensor([[0.2, 0.1, 0.7], [0.6, 0.4, 0.0]])
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))
    for labels in (shares, torch.tensor([2, 0])):
        dataset = Own(images[:2], labels)
        named = predict(network, DataLoader(dataset, 2))
        equal((named.classes, named.labels.tolist()), (Own.info.classes, [2, 0]))
        drawn = show_predictions(named, dataset)
        equal([ax.get_title().split("✓ ")[1].split()[0] for ax in drawn.axes], ["dusk", "night"])
    equal(predict(network, DataLoader(dataset, 2), classes="abc").classes, (*"abc",))

def test_any_loader_mode_and_precision(small):
    "The layers are as before afterwards."
    small.train()
    kinds = [type(module) for module in small.modules()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = predict(small, loader_of(images, truth), "float32")
    equal((small.training, [type(module) for module in small.modules()]), (True, kinds))
    small.eval()
    rounded = predict(small, loader_of(images[:16], truth[:16]), "bfloat16")
    close(rounded.probabilities, plain.probabilities[:16], eps=0.05)
    assert (rounded.logits != plain.logits[:16]).any()
    close(predict(small, loader_of(images, truth)).logits, plain.logits, eps=1e-5)

class Pixels:  # what `BatchedImages` needs of a dataset
    def __init__(self, data, targets): self.data, self.targets = data, targets
    def __len__(self): return len(self.data)

def test_batched_images_are_a_loader(small):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), dtype=np.uint8)
    still = BatchedImages(Pixels(pixels, truth.tolist()), 16, pad=0, flip="none", cutout=0,
                          shuffle=False)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CIFAR10_MEAN, CIFAR10_STD))
    scaled = (torch.from_numpy(pixels).movedim(3, 1) / 255 - mean) / std
    close(predict(small, still).logits, predict(small, loader_of(scaled, truth)).logits, eps=1e-3)
    still.shuffle = True
    refused(lambda: predict(small, still), contains="got a shuffled one")

@pytest.mark.parametrize("images, truth, how, text", [
    (images[:0], truth[:0], {}, "loader is empty: there is nothing to predict"),
    (images, truth, {"shuffle": True}, "loader must go through its images in order"),
    (images[:, :, :16, :16], truth, {}, "images must have shape (N, 3, 32, 32), got (32, 3, 16, 16)"),
    (images[0], truth[:3], {}, "images must have shape (N, C, H, W), got (3, 32, 32)"),
    (images, truth + 9, {}, "labels must be from 0 to 9, got"),
    (images * float("nan"), truth, {}, "images hold NaN or infinity: no. 0 of the batch")])
def test_bad_input_is_refused(small, images, truth, how, text):
    refused(lambda: predict(small, loader_of(images, truth, **how)), contains=text)

def test_images_that_are_not_normalised_are_told(small):
    for odd in (images * 60, images.clamp(0, 1)):
        with pytest.warns(UserWarning, match="were they normalized"):
            predict(small, loader_of(odd, truth))
    refused(lambda: predict(small, loader_of(images, truth), classes=("cat", "dog")),
            contains="classes must be 10 names, one for each output of the model, got 2")

def test_networks_in_wrappers(small):
    plain = predict(small, batches)
    for other in (nn.DataParallel(small), torch.compile(small, backend="eager")):
        answers = predict(other, batches)
        close(answers.logits, plain.logits, eps=1e-6)
        answers.check_model(small)  # one fingerprint, whatever it is wrapped in
    for form in (lambda y: (y, None), lambda y: {"loss": y.mean(), "logits": y}):
        close(predict(Talks(small, form), batches).logits, plain.logits, eps=1e-6)

@pytest.mark.parametrize("kind, eps", [(torch.half, 0.01), (torch.bfloat16, 0.1), (torch.double, 1e-5)])
def test_networks_in_other_number_formats(small, kind, eps):
    low = copy.deepcopy(small).to(kind)
    before = fingerprint(low)
    answers = predict(low, [batches[0], (few[8:].to(kind), some[8:])])
    close(answers.logits, predict(small, batches).logits, eps=eps)
    rounded = copy.deepcopy(low).float()  # the same numbers, computed in float32
    close(predict(low, batches).logits, predict(rounded, batches).logits, eps=1e-5)
    equal((answers.weights, fingerprint(low)), (before, before))
    _, accuracy = evaluate(low, batches, precision="float32")
    close(accuracy, predict(low, batches).accuracy, eps=1e-4)

def test_inside_inference_mode(small):
    plain = predict(small, batches)
    with torch.inference_mode():
        (locked := ResNet18(width=2)).load_state_dict(small.state_dict())
        for network, pixels in ((small, few.clone()), (locked, few)):
            close(predict(network, [(pixels, some.clone())]).logits, plain.logits, eps=1e-5)
    assert locked.linear.weight.is_inference()

def test_other_sizes_channels_and_classes(small):
    two = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(4, 2)).half()
    answers = predict(two, [(torch.randn(3, 1, 20, 12), torch.tensor([0, 1, 1]))], classes="ab")
    equal((answers.logits.shape, answers.classes), ((3, 2), ("a", "b")))
    refused(lambda: predict(two, batches, classes="ab"),
            contains="images of shape (3, 32, 32) do not fit the model")
    refused(lambda: predict(small, [few]), exc=TypeError,
            contains="the loader must give images and labels, or a dictionary of both")
    refused(lambda: predict(Talks(small, lambda y: (y, y[:, :5])), batches), exc=TypeError,
            contains="the model must return logits of shape (N, classes)")
    soft = 0.6 * nn.functional.one_hot(some, 10) + 0.04  # the largest share is the label
    equal(predict(small, [(few, soft)]).labels, some.numpy())
    refused(lambda: predict(small, [(few, torch.rand(12))]), exc=TypeError,
            contains="labels must be whole numbers, got float32")
    refused(lambda: predict(small, [(few, some[:7])]),
            contains="labels must be one class for each of 12 images, got shape (7,)")

# Intervals, classes, pairs

def plain_wilson(right, n, z=1.9599639845):
    "The formula of the text, for one number."
    share, scale = right / n, 1 + z**2 / n
    middle = (share + z**2 / (2 * n)) / scale
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / scale
    return middle - half, middle + half

def test_wilsons_interval(record):
    for right, n in ((0, 10), (10, 10), (8723, 10000), (9530, 10000), (1, 3)):
        close(wilson_interval(right, n), plain_wilson(right, n), eps=1e-9)
        for level in (0.5, 0.95, 0.999):
            theirs = binomtest(right, n).proportion_ci(level, method="wilson")
            close(wilson_interval(right, n, level), (theirs.low, theirs.high), eps=1e-12)
    close(wilson_interval([0, 3], [10, 4])[0][0], 0, eps=1e-9)
    equal([end.shape for end in wilson_interval([[1, 2]], 4)], [(1, 2)] * 2)
    close(wilson_interval(5, 9, confidence=0.682689492), plain_wilson(5, 9, 1), eps=1e-6)
    refused(lambda: wilson_interval(0, 0), contains="n must be at least 1, got 0")
    refused(lambda: wilson_interval(5, 4), contains="right must be from 0 to n")
    low, high = accuracy_interval(record)
    assert low < record.accuracy < high
    refused(lambda: accuracy_interval(record[:0]),
            contains="record is empty: there is nothing to measure")

def test_confusion_counted_by_hand(record):
    for part in (record, record[:7], record[record.labels != 3], record[record.predicted != 3]):
        pairs = part.labels * 10 + part.predicted
        equal(confusion_matrix(part), np.bincount(pairs, minlength=100).reshape(10, 10))
    equal(np.trace(confusion_matrix(record)), (record.labels == record.predicted).sum())
    equal(confusion_matrix(record[:0]), np.zeros((10, 10), int))

def test_the_matrix_drawn(record):
    written = [int(text.get_text()) for text in plot_confusion(record).axes[0].texts]
    equal(np.reshape(written, (10, 10)), confusion_matrix(record))
    many = record_of(np.eye(100)[[3, 3, 99]], [3, 7, 99], map(str, range(100)))
    fig = plot_confusion(many)  # no counts that nobody could read
    equal((len(fig.axes[0].texts), len(fig.axes[0].get_xticklabels())), (0, 100))
    equal((fig.axes[0].images[0].get_array()[7, 3], fig.get_figwidth() < 20), (1, True))
    refused(lambda: plot_confusion(record[:0]), contains="record is empty")

# Calibration

def plain_ece(confidence, correct, bins=15):
    "By a plain loop; edges belong to the bin below them."
    total = 0
    for m in range(bins):
        inside = [i for i, c in enumerate(confidence) if m / bins < c <= (m + 1) / bins]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            mean = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) * abs(accuracy - mean)
    return 100 * total / len(confidence)

def two_classes(confidence, right):
    "A record with these confidences in class 0, of which `right` say the truth."
    confidence = np.asarray(confidence, dtype=float)
    logits = np.stack([np.log(confidence), np.log(1 - confidence)], 1)
    return record_of(logits, 1 - np.asarray(right, dtype=int), ("yes", "no"))

def test_calibration_error(record):
    confidence, correct = record.confidence.astype(float).tolist(), record.correct.tolist()
    for bins in (1, 10, 15):
        close(expected_calibration_error(record, bins), plain_ece(confidence, correct, bins), 1e-9)
    close(expected_calibration_error(two_classes([0.8] * 10, [1] * 6 + [0] * 4)), 20, eps=1e-4)
    close(expected_calibration_error(two_classes([0.6] * 5, [1, 1, 1, 0, 0])), 0, eps=1e-4)
    mixed = two_classes([0.9] * 10 + [0.7] * 30, [1] * 10 + [0] * 15 + [1] * 15)
    close(expected_calibration_error(mixed), (10 * 10 + 30 * 20) / 40, eps=1e-4)
    sure = record_of([[0, 0], [200, 0]], [0, 0], ("yes", "no"))  # 0.5 and 1 exactly
    equal(reliability_bins(sure, 4)["count"], [0, 1, 0, 1])
    equal(reliability_bins(record)["count"].sum(), len(record))
    refused(lambda: reliability_bins(record, 0), contains="bins must be at least 1, got 0")
    refused(lambda: expected_calibration_error(record[:0]), contains="record is empty")

def test_bins_of_equal_mass(record):
    "Against a sorted list, cut up."
    by_mass = reliability_bins(record, 7, equal_mass=True)
    order = np.argsort(record.confidence, kind="stable")
    starts = [-(-k * len(record) // 7) for k in range(8)]
    equal(by_mass["count"], np.diff(starts))
    for k, (start, end) in enumerate(zip(starts, starts[1:])):
        close(by_mass["confidence"][k], record.confidence[order[start:end]].mean(), eps=1e-5)
        close(by_mass["accuracy"][k], record.correct[order[start:end]].mean(), eps=1e-9)
    close(expected_calibration_error(record, 1, True), expected_calibration_error(record, 1))

def test_the_reliability_diagram(record):
    fig, groups = plot_reliability(record, title="now"), reliability_bins(record)
    heights = [bar.get_height() for bar in fig.axes[0].containers[0]]
    close(heights, 100 * groups["accuracy"][groups["count"] > 0])
    equal([text.get_text() for text in fig.axes[0].texts], [f"{k:,}" for k in groups["count"] if k])
    equal(fig.axes[0].get_title(), f"now ECE {expected_calibration_error(record):.2f}")

def test_temperature_comes_back(record):
    "Labels drawn from known probabilities; the fit against SciPy's search."
    draws = np.random.default_rng(0)
    honest = 2 * draws.standard_normal((5_000, 10))
    chances = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = (draws.random((5_000, 1)) < chances.cumsum(1)).argmax(1)
    for factor in (0.5, 1, 2.5):
        made = record_of(factor * honest, labels)
        temperature = fit_temperature(made)
        close(temperature, factor, eps=0.1 * factor)
        theirs = minimize_scalar(lambda t, made: at_temperature(made, np.exp(t)).loss.mean(),
                                 args=(made,), bounds=(-3, 3), method="bounded",
                                 options={"xatol": 1e-6})
        close(temperature, np.exp(theirs.x), eps=1e-3)
        cooled = at_temperature(made, temperature)
        equal(cooled.predicted, made.predicted)
        assert expected_calibration_error(cooled) < 3
        if factor == 2.5: assert expected_calibration_error(made) > 10
    all_right, all_wrong = (record_of(5 * np.eye(10), (np.arange(10) + k) % 10) for k in (0, 1))
    close(fit_temperature(all_right), 0.05, eps=1e-6)
    close(fit_temperature(all_wrong), 20, eps=1e-6)
    equal(at_temperature(record, 2.0).weights, record.weights)
    refused(lambda: at_temperature(record, 0), contains="temperature must be above 0, got 0")
    refused(lambda: fit_temperature(record[:0]), contains="record is empty")

def test_calibrate(record):
    one, two = record[:5000], record[5000:]
    result = calibrate(one, two)
    equal(json.loads(json.dumps(result)), result)  # plain numbers
    equal((result["held_out_images"], result["test_images"]), (len(one), len(two)))
    close(result["temperature"], fit_temperature(one), 1e-9)
    cooled = replace(two, logits=two.logits / result["temperature"])
    for which, part in (("before", two), ("after", cooled)):
        close([result[which][k] for k in ("error", "loss", "accuracy")],
              [expected_calibration_error(part), part.loss.mean(), part.accuracy], 1e-4)
    refused(lambda: calibrate(replace(one, weights="other"), two), contains="of one network")

# The worst, and pictures

def test_the_worst_first(record):
    for by in RANKINGS:
        ten = worst(record, by, 10)
        values = getattr(ten, by)
        equal(values, np.sort(values)[::-1])
    equal(worst(record, "loss", 1).loss.max(), record.loss.max())
    assert not ten.correct.any()
    equal(ten.confidence[0], record.confidence[~record.correct].max())
    equal(len(worst(record[record.correct], "confidence")), 0)
    refused(lambda: worst(record, "size"), contains="by must be one of ('loss', 'confidence'), got 'size'")
    refused(lambda: worst(record, n=0), contains="n must be at least 1, got 0")

def test_predictions_drawn(record):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CIFAR10_MEAN, CIFAR10_STD))
    scaled = (torch.from_numpy(pixels).movedim(3, 1) / 255 - mean) / std
    dataset = [*zip(scaled, record.labels[:100].tolist())]
    ten = record[:100].most_confident()[-10:]
    ten = replace(ten, labels=np.where(np.arange(10) < 5, ten.labels, ten.predicted))
    for i, label in zip(ten.indices, ten.labels): dataset[i] = (scaled[i], int(label))
    fig = show_predictions(ten, dataset, 4, {int(ten.indices[0]): "here"})
    equal([ax.get_xlabel() for ax in fig.axes], ["here"] + [""] * 9)
    equal([bool(ax.spines["top"].get_visible()) for ax in fig.axes], [True] + [False] * 9)
    for i, ax in enumerate(fig.axes):
        close(ax.images[0].get_array(), pixels[ten.indices[i]] / 255, eps=1e-5)
        answer, true = (CLASSES[part[i]] for part in (ten.predicted, ten.labels))
        lines = ax.get_title().split("\n")
        equal(lines[0], f"no. {ten.indices[i]}")
        equal([line for line in lines[1:] if line[0] in "✗✓"],
              [f"✗ {answer}"] * (answer != true) + [f"✓ {true}"])
    equal(images_of(ten[3], dataset), scaled[ten.indices[[3]]])
    refused(lambda: show_predictions(record[:0], dataset), contains="there is nothing to show")
    refused(lambda: show_predictions(ten, dataset, 0), contains="columns must be at least 1")
    shifted = replace(ten, labels=(ten.labels + 1) % 10)
    refused(lambda: show_predictions(shifted, dataset),
            contains="dataset must be the one the record was made from")
    beyond = replace(ten, indices=ten.indices + len(dataset))
    refused(lambda: show_predictions(beyond, dataset), contains="None in the dataset")

@pytest.mark.parametrize("n_panels, columns", [(1, 1), (1, 10), (3, 2), (3, 3), (4, 1), (4, 2), (4, 5)])
def test_pictures_of_a_grid_stand_apart_and_inside(n_panels, columns):
    picture = np.zeros((4, 4, 3))
    n = columns + 1
    panels = [([picture] * n, ["title"] * n, None)] * n_panels
    fig = panel_grid(panels, columns, head=0.5, foot=0.3, width=3)
    equal(len(fig.axes), n * n_panels)
    width, height = fig.get_size_inches()
    boxes = [ax.get_position().bounds for ax in fig.axes]
    boxes = [(x * width, y * height, w * width, h * height) for x, y, w, h in boxes]
    for i, (x, y, w, h) in enumerate(boxes):
        assert x >= 0 and y >= 0.3 - 1e-9 and x + w <= width + 1e-9 and y + h <= height - 0.5 + 1e-9
        assert w > 0.6 and abs(w - h) < 1e-6
        for other_x, other_y, *_ in boxes[:i]:
            assert (abs(other_x - x) > w or abs(other_y - y) > h + 0.49)

def test_probabilities_as_a_reader_expects_them():
    equal([percent(p) for p in (0, 1e-5, 0.0005, 0.5, 0.9994, 0.9996, 1)],
          ["0.0 %", "< 0.1 %", "0.1 %", "50.0 %", "99.9 %", "> 99.9 %", "100.0 %"])

def test_labels_that_people_disputed():
    equal((len(DISPUTED_LABELS), len(SHOWN_TO_PEOPLE)), (54, 275))  # 0.54 % of 10,000 images
    assert set(DISPUTED_LABELS) <= set(SHOWN_TO_PEOPLE)
    equal(list(SHOWN_TO_PEOPLE), sorted(set(SHOWN_TO_PEOPLE)))
    equal(sum(choice in CLASSES for choice in DISPUTED_LABELS.values()), 18)
    differ(DISPUTED_LABELS[1227], "cat")

# Never wrong without a word

def test_one_output_gives_no_record(small):
    one = nn.Sequential(small, nn.Linear(10, 1))
    refused(lambda: predict(one, [(few, 0 * some)], classes=("tumour",)), contains="the model has a single output")
    refused(lambda: record_of(np.zeros((2, 1)), [0, 0], ("tumour",)), contains="classes must be two or more, got 1")

@pytest.mark.parametrize("labels, text", [
    (torch.eye(10)[:12 - 2] + torch.eye(10)[[*range(1, 10), 0]], "several labels an image are not measured"),
    (some[:10, None], "labels must be one class for each image, shape (N,)"), (torch.ones(10, 1), "labels must be one class for each image, shape (N,)"),
    (torch.eye(7)[some[:10] % 7], "labels, as shares, must be of 10 classes, got 7")])
def test_labels_that_are_no_classes(small, labels, text):
    refused(lambda: predict(small, [(few[:10], labels)]), contains=text)

def test_every_pass_tells_of_images_that_are_not_normalised(small):
    for ask in (evaluate, find_mistakes, predict):
        with pytest.warns(UserWarning, match="were they normalized"):
            ask(small, loader_of(images.clamp(0, 1), truth))


def test_measures_of_nothing_or_of_the_same():
    record = record_of(np.eye(10, dtype=np.float32), range(10))
    refused(lambda: record[:0].accuracy, contains="record is empty")
    refused(lambda: calibrate(record, record), contains="held_out must be of other images than test")
    refused(lambda: wilson_interval(2.7, 10), contains="right and n must be whole numbers, got 2.7 and 10")
    refused(lambda: wilson_interval(2, 10, confidence=95), contains="confidence must be between 0 and 1, got 95")
    refused(lambda: record_of(np.array([[0.0] * 9 + [-np.inf]]), [0]), contains="-inf in row 0 for class 9")


def test_classes_in_another_order_than_the_datasets():
    dataset = TensorDataset(torch.zeros(4, 3, 32, 32), torch.arange(4))
    dataset.classes = CLASSES
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    refused(lambda: predict(network, DataLoader(dataset, 2), classes=CLASSES[::-1]), contains="classes must be in label order")
    equal(predict(network, DataLoader(dataset, 2), classes="abcdefghij").classes, tuple("abcdefghij"))
