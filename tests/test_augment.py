"The pipeline of one image, the seeds of its draws, and the loaders."
import multiprocessing
import warnings

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import KFold
from tools import close, differ, equal, refused
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, RandomSampler, Subset, TensorDataset
from torchvision.transforms import Compose, RandomHorizontalFlip

from cifar_gradcam.augment import (
    FILLS, LOADER_DEFAULTS, AugmentedImages, _loader_arguments, download_data, folds, hold_out, load_datasets, make_loaders, plain_transform,
    seed_epoch, seed_transform, seed_worker, train_transform)
from cifar_gradcam.data import CIFAR10_MEAN, CIFAR10_STD, CLASSES, dataset_labels, denormalize
from cifar_gradcam.engine.datasets import DataError, synthetic_images

MEAN, STD = np.array(CIFAR10_MEAN), np.array(CIFAR10_STD)
IMAGES, LABELS = synthetic_images(200, np.random.default_rng(0))
NOISE = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
COORDINATES = np.zeros((32, 32, 3), np.uint8)  # each pixel says where it came from: red the row, green the column
COORDINATES[..., 0], COORDINATES[..., 1] = np.mgrid[:32, :32]


@pytest.fixture(autouse=True)
def synthetic_folder(tmp_path_factory, monkeypatch):
    "Generated files stay out of the user's cache, and no variable decides which data is meant."
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("CIFAR_GRADCAM_DATA", raising=False)


def read_draw(image):  # without cutout -> first row and column of the crop, flipped
    level = np.rint(denormalize(image) * 255).astype(int)
    flipped = level[16, 15, 1] > level[16, 16, 1]
    if flipped: level = level[:, ::-1]
    return level[16, 16, 0] - 12, level[16, 16, 1] - 12, flipped


def cut(fill):  # one 16 x 16 cutout
    return A.CoarseDropout(num_holes_range=(1, 1), hole_height_range=(16, 16), hole_width_range=(16, 16), fill=fill,
                           p=1.0)


def test_plain_transform_normalises_and_can_be_undone():
    plain = plain_transform()(image=IMAGES[0])["image"]
    close(plain.numpy(), ((IMAGES[0] / 255 - MEAN) / STD).transpose(2, 0, 1), 1e-5)
    equal((plain.shape, plain.dtype), ((3, 32, 32), torch.float32))
    again = plain_transform()
    equal(again(image=IMAGES[0])["image"], again(image=IMAGES[0])["image"])
    equal(np.rint(denormalize(plain) * 255).astype(np.uint8), IMAGES[0])


def test_colour_of_the_cutout_by_order_and_fill():
    normalize = A.Normalize(mean=CIFAR10_MEAN, std=CIFAR10_STD)
    grey = tuple(round(255 * mean) for mean in CIFAR10_MEAN)
    orders = {"black": [cut(0), normalize], "grey": [cut(grey), normalize],
              "mean": [normalize, cut(CIFAR10_MEAN)], "zero": [normalize, cut(0)]}
    images = {name: A.Compose(steps, seed=3)(image=IMAGES[0])["image"] for name, steps in orders.items()}
    corner = tuple(np.argwhere((images["zero"] == 0).all(-1))[0])
    close(images["black"][corner], -MEAN / STD, 1e-5)
    close(images["mean"][corner], MEAN, 1e-6)
    equal(images["zero"][corner].tolist(), [0, 0, 0])
    assert 0 < abs(images["grey"][corner]).max() < 0.5 / 255 / STD.min()


def test_where_cutouts_lie():
    def share_inside(x): return (min(x, 16) - max(x - 15, 0) + 1) / 17  # first rows 0 to 16
    inside = np.array([share_inside(x) for x in range(32)])
    over = np.array([sum(c - 8 <= x < c + 8 for c in range(32)) / 32 for x in range(32)])
    close((inside[15], inside[0], over[15]), (16 / 17, 1 / 17, 16 / 32))
    dropout, blank = A.Compose([cut(0)], seed=0), np.ones((32, 32, 3), np.float32)
    hidden = np.stack([dropout(image=blank)["image"][..., 0] == 0 for _ in range(2000)])
    centres, x = np.random.default_rng(0).integers(0, 32, (2, 2000, 1)), np.arange(32)
    rows, columns = ((x >= c - 8) & (x < c + 8) for c in centres)  # cut off at the edge
    hidden_paper = rows[:, :, None] & columns[:, None, :]
    for share, part in ((inside, hidden), (over, hidden_paper)):
        assert abs(np.outer(share, share) - part.mean(0)).max() < 0.06
    equal({int(v) for v in hidden.sum((1, 2))}, {256})
    assert hidden_paper.sum((1, 2)).min() < 100 and hidden_paper.sum((1, 2)).max() == 256


def test_crops_and_flips_are_all_drawn():
    transform = train_transform(cutout=0, seed=0)
    draws = np.array([read_draw(transform(image=COORDINATES)["image"]) for _ in range(2000)])
    equal(draws[:, :2].min(0).tolist() + draws[:, :2].max(0).tolist(), [0, 0, 8, 8])
    for column in (0, 1):
        counts = np.bincount(draws[:, column], minlength=9)
        assert ((counts - 2000 / 9)**2 / (2000 / 9)).sum() < 8 + 4 * np.sqrt(2 * 8)  # 8 degrees of freedom
    assert abs(draws[:, 2].mean() - 0.5) < 4 * 0.5 / np.sqrt(2000)


def test_same_seed_same_draws():
    transform = train_transform()
    seed_transform(transform, 4)
    first = [transform(image=NOISE)["image"] for _ in range(3)]
    seed_transform(transform, 4)
    equal([transform(image=NOISE)["image"] for _ in range(3)], first)
    transform = train_transform(seed=4)  # the same by the argument
    equal([transform(image=NOISE)["image"] for _ in range(3)], first)

    def drawn_with(seed): return train_transform(seed=seed)(image=NOISE)["image"]
    equal(drawn_with(7), drawn_with(7))
    differ(drawn_with(7), drawn_with(8))
    assert len({drawn_with(None).sum().item() for _ in range(5)}) > 1


def test_arguments_do_what_they_say():
    for p in (0.0, 1.0):
        transform = train_transform(flip=p, cutout=0)
        equal({bool(read_draw(transform(image=COORDINATES)["image"])[2]) for _ in range(20)}, {p == 1})
    transform = train_transform(pad=0, cutout=0, flip=0)
    equal(transform(image=NOISE)["image"], plain_transform()(image=NOISE)["image"])
    assert (train_transform(cutout=7)(image=NOISE)["image"] == 0).all(0).sum() == 49
    assert (train_transform(cutout=32)(image=NOISE)["image"] == 0).all()


def test_half_of_the_images_cut_in_the_originals_colour():
    transform = train_transform(0, 0, 8, 1, cutout_share=0.5, cutout_fill="brighter")
    copies = AugmentedImages(IMAGES, LABELS, transform)
    bright = torch.tensor(FILLS["brighter"])[:, None, None]
    squares = torch.stack([(copies[i % 200][0] == bright).all(0).sum() for i in range(1000)])
    assert set(squares.tolist()) == {0, 64}
    assert abs((squares == 64).float().mean() - 0.5) < 0.08


@pytest.mark.parametrize("arguments, message", [
    (dict(pad=32), "pad must be from 0 to 31 pixels, got 32"), (dict(pad=-1), "got -1"),
    (dict(flip=1.5), "flip must be a probability, got 1.5"), (dict(flip=-0.1), "got -0.1"),
    (dict(cutout=33), "cutout must be from 0 to 32 pixels, got 33"), (dict(cutout=-1), "got -1"),
    (dict(cutout_share=0), "cutout_share must be above 0 and at most 1, got 0"), (dict(cutout_share=1.5), "got 1.5"),
    (dict(cutout_fill="pink"), r"cutout_fill must be one of \('mean', 'brighter'\), got 'pink'")])
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message): train_transform(**arguments)


def test_order_of_geometry_and_normalisation():
    normalize = A.Normalize(mean=CIFAR10_MEAN, std=CIFAR10_STD)

    def largest_difference(mode):
        moves = [A.PadIfNeeded(40, 40, border_mode=mode, fill=0), A.RandomCrop(32, 32), A.HorizontalFlip(p=0.5)]
        images = []
        for steps in (moves + [normalize], [normalize] + moves):
            pipeline = A.Compose(steps)
            seed_transform(pipeline, 1)
            images.append(pipeline(image=IMAGES[0])["image"])
        return abs(images[0] - images[1]).max()
    assert largest_difference(cv2.BORDER_REFLECT_101) < 1e-6
    close(largest_difference(cv2.BORDER_CONSTANT), (MEAN / STD).max(), 1e-5)


def test_one_stream_for_all_steps():
    # The first image's crop row and its flip, over seeds; then, in one stream, the flip of image 2n, which with the same
    # seed in each step reads the number that chose the crop's row in image n.
    def correlations(reseed):
        transform, first = train_transform(cutout=0), []
        for seed in range(300):
            reseed(transform, seed)
            first.append(read_draw(transform(image=COORDINATES)["image"]))
        reseed(transform, 0)
        stream = np.array([read_draw(transform(image=COORDINATES)["image"]) for _ in range(600)])
        first = np.array(first)
        return np.corrcoef(first[:, 0], first[:, 2])[0, 1], np.corrcoef(stream[:300, 0], stream[0::2, 2])[0, 1]

    def share_seed(transform, seed): transform.set_random_seed(seed)
    assert all(r < -0.8 for r in correlations(share_seed))
    assert all(abs(r) < 4 / np.sqrt(300) for r in correlations(seed_transform))


PAIR = np.stack([IMAGES[0], NOISE])


@pytest.mark.parametrize("images, labels, message", [
    (PAIR.transpose(0, 3, 1, 2), [7, 0], "images must have shape (N, 32, 32, 3)"),
    (PAIR / 255, [7, 0], "images must be uint8"), (PAIR[0], [7], "(32, 32, 3)"),
    (PAIR, [7, 10], "labels must be from 0 to 9, got 10"), (PAIR, [7], "labels must be as many as images"),
    (PAIR, [7, -1], "labels must be from 0 to 9, got -1"), (PAIR, [7.0, 0.5], "labels must be whole numbers")])
def test_images_that_are_refused(images, labels, message):
    with pytest.raises((ValueError, TypeError)) as fault: AugmentedImages(images, labels, plain_transform())
    assert message in str(fault.value)


def test_images_with_a_pipeline():
    two = AugmentedImages(PAIR, np.array([7, 0]), plain_transform())
    equal((len(two), two.targets, two[1][1]), (2, [7, 0], 0))
    equal(np.rint(denormalize(two[1][0]) * 255).astype(np.uint8), NOISE)


def test_any_number_of_classes_and_soft_labels():
    def of_two(labels, classes): return AugmentedImages(PAIR, labels, plain_transform(), classes)
    equal(of_two([0, 11], range(12)).targets, [0, 11])
    with pytest.raises(ValueError, match="labels must be from 0 to 11, got 12"): of_two([0, 12], range(12))
    shares = np.array([[0.1, 0.9, 0], [0.5, 0.2, 0.3]])
    soft = of_two(shares, ("a", "b", "c"))
    equal((soft[0][1].dtype, dataset_labels(soft).tolist()), (torch.float32, [1, 0]))
    _, labels = next(iter(DataLoader(soft, 2)))
    close(labels.numpy(), shares, 1e-6)
    equal((labels.dtype, labels.shape), (torch.float32, (2, 3)))
    with pytest.raises(ValueError, match=r"must have shape \(2, 2\), got \(2, 3\)"): of_two(shares, "ab")
    with pytest.raises(ValueError, match="must be 0 or more and sum to 1"): of_two(2 * shares, "abc")
    close(hold_out(soft, 1)[0].targets.sum(), 1, 1e-6)


def two_epochs(dataset, **args):
    loader = DataLoader(dataset, batch_size=4, num_workers=2, **args)
    return torch.stack([torch.cat([images for images, _ in loader]) for _ in range(2)])


def test_workers_draw_for_themselves():
    same = AugmentedImages(np.stack([NOISE] * 8), [7] * 8, train_transform(seed=0))
    copied = two_epochs(same)
    equal(copied[0, :4], copied[0, 4:])
    equal(copied[0], copied[1])
    assert len({image.sum().item() for image in copied.flatten(0, 1)}) == 4
    torch.manual_seed(0)
    seeded = two_epochs(same, worker_init_fn=seed_worker)
    assert len({image.sum().item() for image in seeded.flatten(0, 1)}) == 16
    torch.manual_seed(0)
    equal(two_epochs(same, worker_init_fn=seed_worker), seeded)
    for around in (Subset(same, range(8)), ConcatDataset([Subset(same, range(3)), same])):
        images = two_epochs(around, worker_init_fn=seed_worker)
        differ(images[0, :4], images[0, 4:8])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_epoch_is_a_function_of_seed_and_number(num_workers):
    data = AugmentedImages(IMAGES[:40], LABELS[:40], train_transform())
    loader = DataLoader(data, batch_size=8, shuffle=True, num_workers=num_workers,
                        worker_init_fn=seed_worker if num_workers else None)

    def epoch_of(seed, epoch):
        seed_epoch(loader, seed, epoch)
        return [torch.cat(parts) for parts in zip(*loader)]
    first = epoch_of(1, 8)
    epoch_of(1, 7)
    again, other, other_seed = epoch_of(1, 8), epoch_of(1, 9), epoch_of(2, 8)
    equal(first[0], again[0])
    equal(first[1], again[1])
    for k in (0, 1): differ(first[k], other[k])
    differ(first[0], other_seed[0])


def test_seeds_of_loaders_with_samplers_of_their_own():
    data = AugmentedImages(IMAGES[:40], LABELS[:40], train_transform())
    loader = DataLoader(data, batch_size=8, shuffle=True)
    with pytest.raises(ValueError, match="at least 0, got -1 and 0"): seed_epoch(loader, -1, 0)
    with pytest.raises(ValueError, match="at least 0, got 0 and -1"): seed_epoch(loader, 0, -1)
    own = torch.utils.data.RandomSampler(data, generator=torch.Generator())
    kept = own.generator
    seed_epoch(DataLoader(data, sampler=own), 0, 0)
    assert own.generator is kept
    no_transform = DataLoader(TensorDataset(torch.arange(50)), shuffle=True)

    def order(seed):
        seed_epoch(no_transform, seed, 0)
        return torch.cat([x for x, in no_transform])
    equal(order(1), order(1))
    differ(order(1), order(2))


@pytest.mark.parametrize("as_batches", [False, True])
def test_sampler_that_counts_epochs_is_told_which_one_it_is(as_batches):
    numbers = TensorDataset(torch.arange(12))

    def shares(epoch):  # what two processes get of it
        both = []
        for rank in (0, 1):
            sampler = torch.utils.data.DistributedSampler(numbers, 2, rank)
            given = dict(sampler=sampler, batch_size=3)
            if as_batches: given = dict(batch_sampler=torch.utils.data.BatchSampler(sampler, 3, False))
            loader = DataLoader(numbers, **given)
            seed_epoch(loader, 0, epoch)
            both += torch.cat([part for part, in loader]).tolist()
        return both
    passes = [shares(epoch) for epoch in (0, 1, 0)]
    equal(passes[0], passes[2])
    differ(passes[0], passes[1])
    for seen in passes: equal(sorted(seen), list(range(12)))


def test_each_part_of_several_datasets_is_seeded():
    parts = [AugmentedImages(IMAGES[:8], LABELS[:8], train_transform()) for _ in range(2)]
    loader = DataLoader(ConcatDataset(parts), 4)
    def epoch_of(epoch):
        seed_epoch(loader, 0, epoch)
        return torch.cat([images for images, _ in loader])
    first = epoch_of(0)
    equal(first, epoch_of(0)); differ(first, epoch_of(1)); differ(first[:8], first[8:])  # draws of their own
    refused(lambda: make_loaders(parts[0], ConcatDataset(parts)), contains="test_data must not be augmented")


@pytest.mark.parametrize("made", (
    lambda data: DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 4, False)),
    lambda data: DataLoader(data, 4, sampler=RandomSampler(data), generator=torch.Generator())))
def test_an_order_from_the_global_generator_is_seeded_too(made):
    loader, orders = made(TensorDataset(torch.arange(12))), []
    for epoch in (0, 0, 1):
        seed_epoch(loader, 0, epoch)
        orders.append(torch.cat([part for part, in loader]).tolist())
    equal(orders[0], orders[1]); differ(orders[0], orders[2])


def test_an_order_may_be_a_list():
    numbers = TensorDataset(torch.arange(4))
    for loader in (DataLoader(numbers, batch_sampler=[[3, 1], [0, 2]]), DataLoader(numbers, 2, sampler=[3, 1, 0, 2])):
        seed_epoch(loader, 0, 0)
        equal(torch.cat([part for part, in loader]), [3, 1, 0, 2])


def test_transforms_with_draws_of_their_own_are_left_alone():
    # Such as torchvision's, which use torch's generator.
    numbers, passes = TensorDataset(torch.arange(8)), []
    numbers.transform = RandomHorizontalFlip()
    for epoch in (0, 1, 0):
        loader = DataLoader(numbers, 4, shuffle=True, num_workers=1, worker_init_fn=seed_worker)
        seed_epoch(loader, 0, epoch)
        passes.append(torch.cat([part for part, in loader]).tolist())
    equal(passes[0], passes[2])
    differ(passes[0], passes[1])


def test_loaders_without_warnings():
    # No warning, although pinned memory was asked for; drop_last is for training only.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, test_data, train_loader, test_loader, classes = download_data(
            dict(batch_size=64, shuffle=True, pin_memory=True, drop_last=True), source="synthetic", limit=100)
        images, labels = next(iter(train_loader))
        equal([len(labels) for _, labels in train_loader], [64])
        equal([len(labels) for _, labels in test_loader], [64, 36])
    equal([str(w.message) for w in caught if "pin_memory" in str(w.message)], [])
    equal(classes, CLASSES)
    equal(torch.cat([labels for _, labels in test_loader]).tolist(), test_data.targets)
    equal((images.shape, labels.dtype), ((64, 3, 32, 32), torch.int64))
    assert ((images == 0).all(1).sum((1, 2)) == 256).all()
    equal((len(train_loader.dataset), len(test_loader.dataset)), (100, 100))
    equal(LOADER_DEFAULTS, dict(shuffle=True, batch_size=128))


@pytest.mark.parametrize("more", [{}, dict(num_workers=2)])
def test_torchs_seed_makes_the_loaders_repeatable(more):
    def first_batch(seed):
        torch.manual_seed(seed)
        loader = download_data(dict(batch_size=8) | more, source="synthetic", limit=50)[2]
        return next(iter(loader))[0]
    equal(first_batch(3), first_batch(3))
    differ(first_batch(3), first_batch(4))


def test_generators_of_loaders():
    # The default does not touch torch's global stream, and a generator of one's own is left alone.
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    _, _, loader, tests, _ = download_data(source="synthetic", limit=50)
    equal(torch.random.get_rng_state(), before)
    assert loader.generator is not tests.generator
    mine = torch.Generator().manual_seed(5)
    loader = download_data(dict(generator=mine), source="synthetic", limit=50)[2]
    assert loader.generator is mine and mine.initial_seed() == 5


def test_loader_arguments_that_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="source must be one of .* got 'imagenet'"): download_data(source="imagenet")
    with pytest.raises(ValueError, match="limit must be at least 1 image, got 0"): download_data(limit=0)
    with pytest.raises(ValueError, match="loader_args must not hold 'sampler'"): download_data(dict(sampler=range(5)))
    with pytest.raises(ValueError, match="persistent_workers must be False, got True"):
        download_data(dict(num_workers=2, persistent_workers=True))
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(RuntimeError, match="put what the script does below `if __name__ =="):
        download_data(dict(num_workers=1), source="synthetic")
    _loader_arguments(dict(num_workers=0))


@pytest.fixture
def flowers(tmp_path):
    rng = np.random.default_rng(0)
    for part, n in (("train", 48), ("test", 12)):
        for i, (stripes, label) in enumerate(zip(*synthetic_images(n, rng, n_classes=3))):
            path = tmp_path / "flowers" / part / ("daisy", "rose", "tulip")[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(stripes[:, 5:27]).save(path)  # narrower than it is high
    return tmp_path / "flowers"


def test_own_pictures_through_both_pipelines_and_held_out(flowers):
    data, _, _, _, names = download_data(dataset=flowers)
    assert (len(data), names) == (48, ("daisy", "rose", "tulip"))
    for label, path in zip(data.targets, data.files): assert names[label] == path.parent.name
    training, testing = load_datasets(source=str(flowers))
    fourth, info = np.float32(testing.data[3]) / 255, testing.info
    close(testing[3][0].numpy(), ((fourth - np.float32(info.mean)) / np.float32(info.std)).transpose(2, 0, 1), 1e-5)
    assert abs(testing[3][0][:, :, 0]).max() < 0.51 / 255 / min(info.std)  # the mean, rounded
    unmoved = train_transform(pad=0, flip=0, cutout=0, mean=info.mean, std=info.std)
    close(unmoved(image=testing.data[3])["image"], testing[3][0], 1e-6)
    rest, held = hold_out(training, 10)
    for part in (rest, held):
        assert part.info == training.info
        for label, path, pixels in zip(part.targets, part.files, part.data):
            assert names[label] == path.parent.name
            equal(pixels, training.data[training.files.index(path)])
    close(held[0][0], plain_transform(*training.info[1:])(image=held.data[0])["image"], 1e-6)
    known = training.info._replace(mean=(0.5,) * 3)
    assert load_datasets(source=str(flowers), info=known)[1].info == known


def test_data_sets_by_name(flowers, tmp_path, monkeypatch):
    # As real as the source or the variable says.
    given = dict(root=tmp_path, limit=120)
    data, _, _, _, names = download_data(dataset="CIFAR100", source="synthetic", **given)
    assert (len(names), len(data), max(data.targets)) == (100, 120, 99)
    assert data.info.mean != CIFAR10_MEAN
    with monkeypatch.context() as patch:
        patch.setenv("CIFAR_GRADCAM_DATA", "synthetic")
        for dataset, n in (("CIFAR100", 100), ("CIFAR10", 10), (flowers, 3)):
            assert len(download_data(dataset=dataset, **given)[4]) == n
    assert len(download_data(source=str(flowers))[4]) == 3

    def no_network(*_, **__): raise OSError("no network")
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(DataError, match="CIFAR-100 is not complete"): download_data(dataset="CIFAR100", root=tmp_path)
    for given, message in ((dict(dataset="folder"), "or a folder of pictures, got 'folder'"),
                           (dict(dataset=flowers, source="synthetic"), "source must be None beside"),
                           (dict(dataset="CIFAR100", source="CIFAR10"), "a dataset, got 'CIFAR10'")):
        with pytest.raises(ValueError, match=message): download_data(**given)


def test_hold_out():
    images = AugmentedImages(IMAGES, LABELS, train_transform())
    rest, held = hold_out(images, 50)
    assert (len(rest), len(held)) == (150, 50)
    both = np.concatenate([rest.data, held.data])
    assert sorted(map(bytes, both)) == sorted(map(bytes, images.data))  # each image once
    label_of = {bytes(image): label for image, label in zip(images.data, images.targets)}
    for data in (rest, held): equal(data.targets, [label_of[bytes(x)] for x in data.data])
    equal(hold_out(images, 50)[1].data, held.data)
    assert rest.transform is images.transform
    with pytest.raises(ValueError, match="n must be from 1 to 199 images, got 200"): hold_out(images, 200)


def test_folds():
    images = AugmentedImages(IMAGES[:50], LABELS[:50], train_transform(), files=range(50))
    for k in (2, 7, 50):
        pairs = list(folds(images, k))
        held = [held.files for _, held in pairs]
        equal(sorted(sum(held, ())), list(range(50)))  # each image is held out once
        equal(sorted(map(len, held)), sorted(len(part) for _, part in KFold(k).split(range(50))))
        for rest, held in pairs:
            equal(sorted(rest.files + held.files), list(range(50)))
            for part in (rest, held):
                equal(part.data, images.data[list(part.files)])
                equal(part.targets, [images.targets[i] for i in part.files])
                assert part.info == images.info
            assert rest.transform is images.transform
            equal(held[0][0], plain_transform()(image=held.data[0])["image"])
    equal([held.files for _, held in folds(images, 3)], [held.files for _, held in folds(images, 3, seed=0)])
    differ([held.files for _, held in folds(images, 3)], [held.files for _, held in folds(images, 3, seed=1)])
    for k in (1, 51):
        with pytest.raises(ValueError, match=f"k must be from 2 to 50 folds, got {k}"): folds(images, k)


def test_a_part_of_a_part():
    images = AugmentedImages(IMAGES[:50], LABELS[:50], train_transform(), files=range(50))
    some = Subset(Subset(images, range(10, 40)), range(0, 30, 2))
    for rest, held in (hold_out(some, 5), *folds(some, 3)):
        equal(sorted(rest.files + held.files), list(range(10, 40, 2)))
        equal((len(held), held.targets), (5, [images.targets[i] for i in held.files]))
        equal(held[0][0], plain_transform()(image=held.data[0])["image"])
    foreign = TensorDataset(torch.arange(9))
    for part in (lambda: hold_out(foreign, 3), lambda: list(folds(foreign, 3))):
        with pytest.raises(TypeError, match="train_data must be AugmentedImages, got TensorDataset"): part()


def test_what_gives_no_order_is_refused():
    seed_epoch([1, 2], 0, 0); seed_epoch((1, 2), 0, 0)  # the same batches in each pass
    class Foreign: pass
    with pytest.raises(TypeError, match=r"or have a method set_epoch\(seed, epoch\), got Foreign"): seed_epoch(Foreign(), 0, 0)


def test_test_images_that_would_be_augmented():
    images = AugmentedImages(*synthetic_images(20, np.random.default_rng(0)), train_transform())
    parts = torch.utils.data.random_split(images, [10, 10])
    for train, test in (parts, (images, images), (images, Subset(parts[1], [1]))):
        with pytest.raises(ValueError, match="test_data must not be augmented, got RandomCrop"): make_loaders(train, test)
    flipped = TensorDataset(torch.zeros(2, 3, 32, 32))
    flipped.transform = Compose([RandomHorizontalFlip()])
    with pytest.raises(ValueError, match="got RandomHorizontalFlip"): make_loaders(images, flipped)
    make_loaders(*hold_out(images, 10))


@pytest.mark.parametrize("part", [lambda images: hold_out(images, 0.2), lambda images: folds(images, 2.5)])
def test_parts_are_whole_numbers(part):
    images = AugmentedImages(*synthetic_images(20, np.random.default_rng(0)), train_transform())
    with pytest.raises(ValueError, match="must be from"): part(images)
