"A whole batch at once: windows, changes, draws, and the loader made of them."
import numpy as np
import pytest
import torch
from PIL import Image
from tools import calls, close, equal

from cifar_gradcam.augment import (
    AugmentedImages, hold_out, plain_transform, seed_epoch, seed_transform, train_transform)
from cifar_gradcam.data import CIFAR10_MEAN
from cifar_gradcam.engine.batches import FLIPS, BatchedImages, Changes, change_batch, crop_windows, draw_changes
from cifar_gradcam.engine.datasets import synthetic_images

IMAGES, LABELS = synthetic_images(200, np.random.default_rng(0))
FEW = AugmentedImages(IMAGES, LABELS, plain_transform())


def test_batch_is_what_the_pipeline_makes_one_by_one():
    import albumentations as A
    telling = A.Compose(train_transform(seed=5).transforms, save_applied_params=True)
    seed_transform(telling, 5)
    one_by_one, drawn = [], []
    for image in IMAGES:
        result = telling(image=image)
        applied = dict(result["applied_transforms"])
        left, top, _, _ = applied["RandomCrop"]["crop_coords"]
        cutout_left, cutout_top = map(int, applied["CoarseDropout"]["holes"][0][:2])
        drawn.append((top, left, "HorizontalFlip" in applied, cutout_top, cutout_left))
        one_by_one.append(result["image"])
    at_once = change_batch(crop_windows(IMAGES, pad=4), torch.arange(200), Changes(*map(torch.tensor, zip(*drawn))), 16)
    close(at_once, torch.stack(one_by_one), 1e-5)
    equal((at_once == 0).all(1), (torch.stack(one_by_one) == 0).all(1))  # the same cutouts
    assert len({d[:2] for d in drawn}) > 60  # of 81 crops
    assert 60 < sum(d[2] for d in drawn) < 140
    assert at_once.is_contiguous(memory_format=torch.channels_last)


def test_windows_are_a_view_of_the_padded_images():
    windows = crop_windows(IMAGES[:30], pad=4)
    assert windows[:, 1:].data_ptr() - windows.data_ptr() == 40 * 3  # one row further
    padded = np.pad(IMAGES[:30], ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    equal(windows[7, 2, 5].view(32, 32, 3).numpy(), padded[7, 2:34, 5:37])
    whole = crop_windows(IMAGES[:3], pad=0)
    equal(whole.reshape(3, 32, 32, 3).numpy(), IMAGES[:3])
    nothing = torch.zeros(3, dtype=torch.long)
    plainly = change_batch(whole, torch.arange(3), Changes(nothing, nothing, nothing.bool(), nothing, nothing), cutout=0)
    close(plainly[0], plain_transform()(image=IMAGES[0])["image"], 1e-5)


def test_without_changes_it_is_the_test_pipeline():
    still = BatchedImages(FEW, 64, pad=0, flip="none", cutout=0, shuffle=False)
    images, labels = map(torch.cat, zip(*still))
    close(images, torch.stack([FEW[i][0] for i in range(200)]), 1e-5)
    equal((labels.tolist(), len(still)), (FEW.targets, 4))


def test_alternating_flips_show_both_sides():
    still = BatchedImages(FEW, 64, pad=0, flip="none", cutout=0, shuffle=False)
    images = torch.cat([x for x, _ in still])
    turns = BatchedImages(FEW, 64, pad=0, flip="alternating", cutout=0, shuffle=False)
    seed_epoch(turns, 3, 0)
    first, second, third = (torch.cat([x for x, _ in turns]) for _ in range(3))
    assert torch.equal(first, third) and torch.equal(first.flip(3), second) and not torch.equal(first, second)
    seed_epoch(turns, 3, 1)
    assert torch.equal(torch.cat([x for x, _ in turns]), second)
    assert 70 < (first == images).flatten(1).all(1).sum() < 130


def test_small_images_in_the_first_epochs_are_what_pillow_makes_of_the_large_ones():
    whole, small = BatchedImages(FEW, 64), BatchedImages(FEW, 64, sizes=(16, 24))
    for epoch, side in enumerate((16, 24, 32, 32)):
        for loader in (whole, small): seed_epoch(loader, 3, epoch)
        for (large, labels), (images, same) in zip(whole, small):
            equal((images.shape, labels.tolist()), ((len(large), 3, side, side), same.tolist()))
            assert images.is_contiguous(memory_format=torch.channels_last)
            by_pillow = [[Image.fromarray(plane.numpy()).resize((side, side), Image.Resampling.BILINEAR) for plane in image] for image in large[:20]]
            close(images[:20], torch.tensor(np.array([[np.asarray(plane) for plane in image] for image in by_pillow])), 1e-5)


def test_same_seed_and_epoch_same_batches():
    moving = BatchedImages(FEW, 64, cutout=8)

    def pass_of(seed, epoch):
        seed_epoch(moving, seed, epoch)
        return [torch.cat(parts) for parts in zip(*moving)]
    again = pass_of(1, 2)
    pass_of(1, 0)
    for a, b in zip(again, pass_of(1, 2)): assert torch.equal(a, b)
    for seed, epoch in ((1, 3), (2, 2)): assert not torch.equal(again[1], pass_of(seed, epoch)[1])
    equal(again[1].bincount(), torch.tensor(FEW.targets).bincount())
    assert ((again[0] == 0).all(1).sum((1, 2)) >= 64).all()


def test_a_batch_costs_few_calls():
    def of_a_pass(batch_size): return calls(lambda: list(BatchedImages(FEW, batch_size, flip="alternating", cutout=8)))
    assert (of_a_pass(10) - of_a_pass(40)) / 15 <= 38  # to draw it, and to make it


def test_a_batch_is_made_of_what_was_drawn_for_it():
    "All draws of a pass are made before its first batch, in the order in which earlier versions made them: by batch."
    moving = BatchedImages(FEW, 64, cutout=8, cutout_share=0.5)
    seed_epoch(moving, 3, 1)
    generator = torch.Generator().set_state(moving.generator.get_state())
    for _ in range(2):  # the second pass goes on drawing
        order = torch.randperm(200, generator=generator)
        for chosen, (images, labels) in zip(order.split(64), moving, strict=True):
            changes = draw_changes(len(chosen), 4, 8, generator, 0.5)
            assert torch.equal(images, change_batch(moving.windows, chosen, changes, 8))
            equal(labels, moving.labels[chosen])


@pytest.mark.parametrize("flip", FLIPS)
def test_shares_of_several_processes_make_up_the_batch(flip):
    whole = BatchedImages(AugmentedImages(IMAGES[:50], LABELS[:50], plain_transform()), 16, flip=flip, cutout=8,
                          cutout_share=0.5)

    def passes(rank=0, processes=1):  # two epochs, each batch's images and labels
        batches = []
        for epoch in (0, 1):
            seed_epoch(whole, 3, epoch)
            batches += list(whole.shares(rank, processes))
        return batches
    for batch, *shares in zip(passes(), *(passes(rank, 3) for rank in range(3))):
        for everything, *parts in zip(batch, *shares): assert torch.equal(everything, torch.cat(parts))
    equal([len(labels) for _, labels in passes(2, 3)][:4], [5, 5, 5, 0])  # 2 images, 3 processes


def test_every_crop_and_cutout_is_drawn():
    top, left, mirrored, cutout_top, cutout_left = draw_changes(
        4000, pad=4, cutout=8, generator=torch.Generator().manual_seed(0))
    for drawn, n in ((top, 9), (left, 9), (cutout_top, 25), (cutout_left, 25), (mirrored.long(), 2)):
        counts = drawn.bincount(minlength=n)
        assert len(counts) == n
        assert ((counts - 4000 / n)**2 / (4000 / n)).sum() < n + 6 * (2 * n)**0.5  # chi-square


def test_half_of_the_images_cut_in_the_originals_colour():
    copies = AugmentedImages(np.tile(IMAGES, (5, 1, 1, 1)), np.tile(LABELS, 5), plain_transform())
    half = BatchedImages(copies, 1000, 0, "none", 8, cutout_share=0.5, cutout_fill="brighter")
    images, bright = next(iter(half))[0], torch.tensor(CIFAR10_MEAN)
    squares = (images == bright[:, None, None]).all(1).sum((1, 2))
    assert set(squares.tolist()) == {0, 64}
    assert abs((squares == 64).float().mean() - 0.5) < 0.08


@pytest.mark.parametrize("arguments, message", [
    (dict(flip="maybe"), r"flip must be one of \('none'"), (dict(pad=32), "pad must be from 0 to 31 pixels, got 32"),
    (dict(cutout=33), "cutout must be from 0 to 32 pixels"), (dict(batch_size=0), "batch_size must be at least 1"),
    (dict(cutout_share=0), "cutout_share must be above 0 and at most 1, got 0"), (dict(cutout_share=1.5), "got 1.5"),
    (dict(cutout_fill="pink"), r"cutout_fill must be one of \('mean', 'brighter'\), got 'pink'")])
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message): BatchedImages(FEW, **arguments)


def test_soft_labels_and_any_number_of_classes():
    shares = np.array([[0.1, 0.9, 0], [0.5, 0.2, 0.3]])
    soft = AugmentedImages(IMAGES[:2], shares, plain_transform(), ("a", "b", "c"))
    _, labels = next(iter(BatchedImages(soft, 2, 0, "none", 0, shuffle=False)))
    close(labels.numpy(), shares, 1e-6)
    equal((labels.dtype, labels.shape), (torch.float32, (2, 3)))

    class Bare: data, targets = IMAGES[:2], [3, 40]  # it does not say how many classes there are
    equal(BatchedImages(Bare, 2, shuffle=False).labels.tolist(), [3, 40])

    class Few: data, targets = IMAGES[:2], [3]
    with pytest.raises(ValueError, match="labels must be as many as images"): BatchedImages(Few)


def test_own_statistics():
    info = ("a", "b"), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    own = AugmentedImages(IMAGES[:12], LABELS[:12] % 2, plain_transform(*info[1:]), *info)
    images, labels = map(torch.cat, zip(*BatchedImages(own, 5, pad=0, flip="none", cutout=0, shuffle=False)))
    close(images, torch.stack([own[i][0] for i in range(12)]), 1e-5)
    equal(labels.tolist(), own.targets)
    assert len(BatchedImages(hold_out(own, 2)[0], 5)) == 2
