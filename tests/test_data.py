"Looking at data: statistics, colours, labels, figures, and the guard of images and labels."
import math

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from tools import close, equal
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision import transforms

from cifar_gradcam.augment import AugmentedImages, plain_transform, train_transform
from cifar_gradcam.data import (
    CIFAR10_MEAN, CIFAR10_STD, CLASSES, DatasetInfo, class_names, channel_counts, channel_statistics, check_colours, check_images, dataset_labels,
    denormalize, hard_labels, info_of, picture_grid, show_class_samples, show_image_rgb, show_random_samples)
from cifar_gradcam.engine.datasets import synthetic_images

PLAIN = transforms.Compose([transforms.ToTensor(), transforms.Normalize(CIFAR10_MEAN, CIFAR10_STD)])


class Stripes(Dataset):
    "Synthetic images as torchvision's CIFAR10 hands them out."
    classes = list(CLASSES)

    def __init__(self):
        self.data, labels = synthetic_images(200, np.random.default_rng(0))
        self.targets = labels.tolist()

    def __len__(self): return len(self.data)

    def __getitem__(self, i): return PLAIN(self.data[i]), self.targets[i]


@pytest.fixture(scope="module")
def stripes(): return Stripes()


@pytest.fixture(scope="module")
def loader(stripes): return DataLoader(stripes, batch_size=50)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def levels(ax): return np.rint(np.asarray(ax.images[0].get_array()) * 255).astype(np.uint8)


def test_statistics_are_those_of_numpy(stripes):
    for part in (stripes.data, stripes.data[:1], synthetic_images(1003, np.random.default_rng(1))[0]):
        exact, (mean, std) = part / 255, channel_statistics(part)
        close(mean, exact.mean((0, 1, 2)), eps=1e-9)
        close(std, exact.std((0, 1, 2)), eps=1e-9)
    equal(channel_counts(stripes.data).sum(1), [stripes.data[..., 0].size] * 3)
    equal(channel_statistics(np.full((2, 4, 4, 3), 255, np.uint8))[0], [1, 1, 1])


def test_statistics_refuse_what_is_no_image(stripes):
    with pytest.raises(ValueError, match="images is empty"): channel_statistics(stripes.data[:0])
    with pytest.raises(ValueError, match=r"got float64 of shape \(5, 32"): channel_statistics(stripes.data[:5] / 255)
    with pytest.raises(ValueError, match=r"got uint8 of shape \(32, 32, 3\)"): channel_counts(stripes.data[0])


def test_std_within_images_is_torchs(stripes):
    within = stripes.data[:50].std(axis=(1, 2), ddof=1).mean(0) / 255
    close(within, torch.tensor(stripes.data[:50] / 255).std(dim=(1, 2)).mean(0).numpy(), eps=1e-9)


def test_denormalize_undoes_normalisation(stripes, loader):
    images, _ = next(iter(loader))
    assert np.array_equal(np.rint(denormalize(images) * 255), stripes.data[:len(images)])
    mean_std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    raw = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    normal = transforms.Normalize(*mean_std)(raw)
    close(denormalize(normal, *mean_std), raw.movedim(1, -1).numpy(), eps=1e-6)
    close(denormalize(normal[0], *mean_std), raw[0].movedim(0, -1).numpy(), eps=1e-6)
    assert denormalize(torch.full((3, 2, 2), 9.0)).max() == 1  # cut off, so that imshow can draw it
    denormalize(normal.requires_grad_())  # also in the middle of a training step
    with pytest.raises(ValueError, match=r"got \(4, 1, 8, 8\)"): denormalize(torch.zeros(4, 1, 8, 8))
    with pytest.raises(ValueError, match=r"got \(8, 8\)"): denormalize(torch.zeros(8, 8))


def test_labels_of_datasets_and_subsets(stripes, loader, monkeypatch):
    targets = stripes.targets
    equal(dataset_labels(stripes), targets)
    equal(dataset_labels(Subset(stripes, [5, 3])), [targets[5], targets[3]])
    equal(dataset_labels(Subset(Subset(stripes, [5, 3, 8]), [2])), [targets[8]])
    images, labels = next(iter(loader))
    equal(dataset_labels(TensorDataset(images, labels)), labels.numpy())
    shares = torch.tensor([[0.2, 0.8], [0.7, 0.3]])  # without `targets`, and as shares of several classes: the largest
    equal(dataset_labels(TensorDataset(images[:2], shares)), [1, 0])

    class Large(Dataset):  # as torchvision's with a `target_transform`: it gives other labels than its `targets`
        targets, target_transform = [0, 9], staticmethod(lambda label: int(label > 4))
        def __len__(self): return 2
        def __getitem__(self, i): return images[i], self.target_transform(self.targets[i])
    equal(dataset_labels(Large()), [0, 1])

    class Mixed(TensorDataset): targets = shares.numpy()
    equal(dataset_labels(Subset(Mixed(images[:2], shares), [1, 0])), [0, 1])

    def refuse(self, i): raise AssertionError("loads an image")
    monkeypatch.setattr(Stripes, "__getitem__", refuse)
    assert len(dataset_labels(Subset(stripes, range(7)))) == 7


def test_hard_labels():
    shares = np.array([[0.2, 0.5, 0.3], [0.9, 0.0, 0.1]])
    equal(hard_labels(shares), np.array([1, 0]))
    equal(hard_labels(np.array([7, 3])), [7, 3])
    equal(hard_labels(torch.tensor(shares)), torch.tensor([1, 0]))


def test_picture_grid_leaves_places_empty():
    pictures = [np.zeros((4, 4)), None, np.ones((2, 3, 3)), np.zeros((1, 1))]
    fig = picture_grid(pictures, ["a", "b"], n_cols=3, row_names=["upper", "lower"])
    equal([len(ax.images) for ax in fig.axes], [1, 0, 1, 1, 0, 0])
    equal([ax.get_title() for ax in fig.axes], ["a", "b", "", "", "", ""])
    equal([ax.get_ylabel() for ax in fig.axes[::3]], ["upper", "lower"])
    assert len(picture_grid(pictures[:1]).axes) == 1


def test_random_samples(stripes, loader):
    fig = show_random_samples(loader, CLASSES, n=7, n_cols=3, seed=1)
    chosen = np.random.default_rng(1).permutation(len(stripes))[:7]
    equal([ax.get_title() for ax in fig.axes], [CLASSES[stripes.targets[i]] for i in chosen] + ["", ""])
    for ax, i in zip(fig.axes, chosen):  # what is drawn is the original, pixel by pixel
        assert np.array_equal(levels(ax), stripes.data[i])
    three = Subset(stripes, range(3))
    for few in (three, DataLoader(three)):  # fewer than asked for: all of them
        assert sum(len(ax.images) for ax in show_random_samples(few).axes) == 3
    with pytest.raises(ValueError, match="n must be at least 1, got 0"): show_random_samples(loader, n=0)
    with pytest.raises(ValueError, match="n_cols must be at least 1"): show_random_samples(loader, n_cols=0)


def test_class_samples(stripes, loader):
    fig = show_class_samples(loader, CLASSES, n=3, seed=0)
    rows = np.reshape(fig.axes, (10, 3))
    equal([row[0].get_ylabel() for row in rows], list(CLASSES))
    label_of = {image.tobytes(): label for image, label in zip(stripes.data, stripes.targets)}
    for label, row in enumerate(rows):  # each drawn image is one of its class
        for ax in row: assert label_of[levels(ax).tobytes()] == label
    # A class with fewer images than asked for, and one with none: the row is there, and says so.
    cats, ships = (np.flatnonzero(dataset_labels(stripes) == k) for k in (3, 8))
    few = DataLoader(Subset(stripes, [*cats[:2], *ships[:5]]), batch_size=1)
    rows = np.reshape(show_class_samples(few, n=4).axes, (10, 4))
    drawn = {row[0].get_ylabel(): sum(len(ax.images) for ax in row) for row in rows}
    assert (drawn["cat"], drawn["ship"], drawn["bird\n(none here)"]) == (2, 4, 0)
    assert len(drawn) == 10
    with pytest.raises(ValueError, match="there is a label 9"): show_class_samples(loader, CLASSES[:9])
    with pytest.raises(ValueError, match="n must be at least 1, got 0"): show_class_samples(loader, n=0)


def test_image_as_numbers(stripes, loader):
    fig = show_image_rgb(loader, CLASSES, index=4, size=6)
    assert fig.axes[0].get_title() == CLASSES[stripes.targets[4]]
    for c in range(3):
        assert np.array_equal(fig.axes[c + 1].images[0].get_array(), stripes.data[4][..., c])
        values = [int(text.get_text()) for text in fig.axes[c + 4].texts]
        equal(values, stripes.data[4][13:19, 13:19, c].ravel())
    for index in (-1, len(stripes)):
        with pytest.raises(IndexError, match=f"index must be from 0 to {len(stripes) - 1}, got {index}"):
            show_image_rgb(loader, index=index)
    with pytest.raises(ValueError, match="size must be from 1 to 32"): show_image_rgb(loader, size=33)


@pytest.mark.parametrize("show", [show_random_samples, show_class_samples, show_image_rgb])
def test_nothing_to_show(stripes, show):
    with pytest.raises(ValueError, match="loader is empty"): show(DataLoader(Subset(stripes, [])))


@pytest.mark.parametrize("labels", [torch.tensor([1, 1, 0, 1]), torch.eye(2)[[1, 1, 0, 1]]])
def test_each_data_set_is_drawn_with_its_own_names_and_colours(labels):
    class Own(TensorDataset): info = DatasetInfo(("night", "day"), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(Subset(Own(transforms.Normalize(*Own.info[1:])(pixels), labels), [2, 0, 1]), 2)
    equal(info_of(loader), Own.info)
    fig = show_random_samples(loader, n=3, seed=0)
    equal(sorted(ax.get_title() for ax in fig.axes), ["day", "day", "night"])
    equal([row.get_ylabel() for row in show_class_samples(loader, n=1).axes], ["night", "day"])
    fig = show_image_rgb(loader)
    assert fig.axes[0].get_title() == "night"
    close(fig.axes[0].images[0].get_array(), 255 * pixels[2].movedim(0, -1).numpy(), eps=0.51)
    assert show_image_rgb(loader, "xy").axes[0].get_title() == "x"


def test_info_without_one_is_that_of_cifar10(stripes):
    equal(info_of(stripes), DatasetInfo())
    equal(info_of([]), DatasetInfo())


GOOD = synthetic_images(4, np.random.default_rng(0))[0]


@pytest.mark.parametrize("images, labels, message", [
    (GOOD[0], [0], "images must have shape (N, 32, 32, 3), got (32, 32, 3)"),
    (GOOD[..., 0], [0] * 4, "images must have shape (N, 32, 32, 3), got (4, 32, 32)"),
    (GOOD[:, :28], [0] * 4, "images must have shape (N, 32, 32, 3), got (4, 28, 32, 3)"),
    (GOOD / 255, [0] * 4, "images must be uint8 (0 to 255), got float64"),
    (GOOD.astype(np.int64), [0] * 4, "images must be uint8 (0 to 255), got int64"),
    (GOOD, [0] * 3, "labels must be as many as images, shape (4,), got shape (3,)"),
    (GOOD, np.eye(4, dtype=int), "got shape (4, 4)"),
    (GOOD, [0.0] * 4, "labels must be whole numbers, got float64"),
    (GOOD, ["cat"] * 4, "labels must be whole numbers, got <U3"),
    (GOOD, [0, 1, 2, 10], "labels must be from 0 to 9, got 10"),
    (GOOD, [0, -1, 2, 3], "labels must be from 0 to 9, got -1"),
    (GOOD, np.ones((4, 3)) / 3, "labels, as shares, must have shape (4, 10), got (4, 3)"),
    (GOOD, np.eye(10)[:4] * 2, "must be 0 or more and sum to 1, got [2. 0."),
    (GOOD, np.eye(10)[[0, 1, 2, 0]] * [1.5, *[1] * 9] - 0.5 * np.eye(10)[[1, 1, 1, 1]], "in row 0"),
    (GOOD, np.eye(10)[:4] * [1, 1, np.nan, *[1] * 7], "in row 0")])
def test_images_and_labels_that_are_refused(images, labels, message):
    with pytest.raises((ValueError, TypeError)) as fault: check_images(images, labels)
    assert message in str(fault.value)


def test_images_and_labels_that_are_taken(stripes):
    check_images(stripes.data, stripes.targets)
    check_images(GOOD[:0], [])
    check_images(GOOD, [0, 1, 2, 99], 100)
    check_images(GOOD, [0, 1, 2, 10**6], None)
    check_images(GOOD, np.full((4, 10), 0.1, np.float32))
    check_images(GOOD, np.eye(7)[:4], None)
    with pytest.raises(ValueError, match="must be from 0 to 99, got 100"): check_images(GOOD, [0, 1, 2, 100], 100)
    with pytest.raises(ValueError, match="must be 0 or more, got -1"): check_images(GOOD, [0, 1, 2, -1], None)


EYE = np.eye(10, dtype=np.float32)

@pytest.mark.parametrize("labels, message", [
    (EYE[:3] + EYE[1:4], "labels, as shares, must be 0 or more and sum to 1"),
    (0 * EYE[:3], "in row 0: several labels an image are not measured"),
    (EYE[:3] * np.nan, "in row 0: several labels an image are not measured"),
    (2 * EYE[:3] - EYE[1:4], "must be 0 or more and sum to 1"),
    (np.array([[3], [1], [1]]), "labels must be one class for each image, shape (N,), or shares of all classes, (N, K), got shape (3, 1)"),
    (np.ones((3, 1)), "labels must be one class for each image, shape (N,), or shares of all classes, (N, K), got shape (3, 1)"),
    (np.array(3), "or shares of all classes, (N, K), got shape ()"),
    (EYE[:3, :7], "labels, as shares, must be of 10 classes, got 7"),
    (np.array([0.0, 1, 2]), "labels must be whole numbers, got float64"),
    (np.array([False, True, True]), "labels must be whole numbers, got bool"),
    (np.array([1, -1, 2]), "labels must be from 0 to 9, got -1"),
    (np.array([1, 10, 2]), "labels must be from 0 to 9, got 10")])
def test_labels_that_name_no_class_are_refused(labels, message):
    for form in (labels, torch.from_numpy(labels)):
        with pytest.raises((ValueError, TypeError)) as fault: hard_labels(form, 10)
        assert message in str(fault.value)


def test_labels_are_looked_at_wherever_they_are_drawn_or_counted():
    "The number of classes need not be known."
    several = TensorDataset(torch.zeros(3, 3, 32, 32), torch.from_numpy(EYE[:3] + EYE[1:4]))
    unknown = TensorDataset(torch.zeros(3, 3, 32, 32), torch.tensor([0, -1, -1]))
    for dataset, message in ((several, "several labels an image"), (unknown, "labels must be 0 or more, got -1")):
        for show in (dataset_labels, show_random_samples, show_class_samples):
            with pytest.raises(ValueError, match=message): show(dataset)


def test_of_equal_shares_the_first_counts():
    for form in (np.array, torch.tensor):
        equal(hard_labels(form([[0.5, 0, 0.5], [0, 0.5, 0.5]]), 3), form([0, 1]))
        equal(hard_labels(form([[0, 1], [1, 0]]) > 0), form([1, 0]))  # one-hot, as bool
        equal(hard_labels(form([2, 0])), form([2, 0]))
    equal(len(hard_labels(np.array([]), 10)), 0)


def test_what_the_data_says_of_itself():
    nameless = TensorDataset(torch.zeros(2, 3, 32, 32), torch.zeros(2))
    equal((info_of(nameless), info_of(DataLoader(nameless), ()).classes), (DatasetInfo(), ()))
    equal(info_of(DataLoader(Stripes()), ()), DatasetInfo())


@pytest.mark.parametrize("mean, std, message", [
    (CIFAR10_MEAN, (0, 0.2, 0.2), "std must be three numbers above 0"), (CIFAR10_MEAN, (math.nan,) * 3, "std must be"),
    ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), "mean must be .* by 255"), (CIFAR10_MEAN, (58.4, 57.1, 57.4), "std must be"),
    ((0.5, 0.5), (0.5, 0.5), "mean must be three"), (CIFAR10_MEAN, -np.array(CIFAR10_STD), "std must be")])
def test_colours_that_no_pixels_have(mean, std, message, stripes):
    for use in (plain_transform, lambda mean, std: train_transform(mean=mean, std=std),
                lambda mean, std: denormalize(torch.zeros(3, 4, 4), mean, std),
                lambda mean, std: AugmentedImages(stripes.data, stripes.targets, None, mean=mean, std=std)):
        with pytest.raises(ValueError, match=message): use(mean, std)
    check_colours((0, 0, 0), (1, 1, 1))  # pixels as they are


def test_names_of_classes_where_they_do_not_fit(stripes):
    for show in (show_random_samples, show_class_samples, lambda *given: show_image_rgb(*given, index=int(np.argmax(stripes.targets)))):
        with pytest.raises(ValueError, match="classes must name every label: 1 names"): show(stripes, ("a",))
        with pytest.raises(ValueError, match="classes must be in label order, airplane, automobile"): show(stripes, CLASSES[::-1])
    show_random_samples(stripes, [f"Klasse {k}" for k in range(10)])  # a translation
    listed = Subset(stripes, range(4))
    listed.info = DatasetInfo(list(CLASSES))  # as torchvision gives them
    equal(class_names(listed), CLASSES)
    plt.close("all")


def test_the_centre_of_a_larger_image():
    image = torch.zeros(3, 64, 48)
    image[:, 28:36, 20:28] = 0.5
    fig = show_image_rgb(TensorDataset(image[None], torch.tensor([0])), index=0)
    assert len({text.get_text() for text in fig.axes[-1].texts}) == 1
    plt.close(fig)
