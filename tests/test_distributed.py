"Chapter 19: several processes train as one; the processes of these tests compute on the CPU."
import contextlib
import io
import multiprocessing
import os
import pickle
import runpy
import shutil
import socket
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tools import close, equal, refused
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

from cifar_gradcam.augment import download_data, seed_epoch
from cifar_gradcam.engine import distributed
from cifar_gradcam.engine.batches import BatchedImages
from cifar_gradcam.engine.distributed import (
    by_first, check_device, from_first, has_own_share, process_count, process_group, process_rank,
    Processes, rows_of_all, several_started, SharedLoader, silence, SumOverAll, synchronized,
    Together, usual_hooks)
from cifar_gradcam.engine.recipes import train_run
from cifar_gradcam.engine.runs import (
    Averaged, Checkpoints, FolderIsBusy, History, hold_folder, load_checkpoint, Recipe)
from cifar_gradcam.engine.weights import read_state_dict
from cifar_gradcam.train import LossIsNaN, train_test_loop

# Processes start from a server that has imported everything, where the system can fork.
starter = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
if hasattr(os, "fork"): starter.set_forkserver_preload(["cifar_gradcam.engine.recipes"])

few_steps = Recipe(epochs=2, batch_size=16, max_lr=0.05, max_lr_epoch=1, pipeline="batched",
                   precision="float32", sync_batchnorm=True)
averaging = replace(few_steps, average=0.9)


# ---- what the processes do

def start(rank, n, port, folder, job, given):
    "In each process: what a job returns or raises, and prints, goes into a file."
    where = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=n, LOCAL_WORLD_SIZE=n,
                 MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    os.environ.update({name: str(value) for name, value in where.items()})
    torch.set_num_threads(1)
    warnings.simplefilter("error")  # also what torch warns of in C++
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try: result = job(**given)
        except BaseException as fault: result = fault
    Path(folder, f"result{rank}").write_bytes(pickle.dumps((result, printed.getvalue())))


def small_network(seed=0):
    torch.manual_seed(seed)
    sizes = (3, 8), (8, 16)
    layers = [nn.Sequential(nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False),
                            nn.BatchNorm2d(o), nn.ReLU()) for i, o in sizes]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


class Fails:
    "A loader with which one process fails after so many batches."
    def __init__(self, loader, after, kind): self.loader, self.left, self.kind = loader, after, kind
    def __len__(self): return len(self.loader)
    def set_epoch(self, seed, epoch): self.loader.set_epoch(seed, epoch)
    def shares(self, rank, processes):
        for images, labels in self.loader.shares(rank, processes):
            self.left -= rank == 1
            if self.left < 0 and self.kind == "interrupted": raise KeyboardInterrupt
            yield images * (float("nan") if self.left < 0 else 1), labels


class Named(nn.Module):
    "A network that answers as those of transformers do."
    def __init__(self, inside): super().__init__(); self.inside = inside
    def forward(self, images): return dict(logits=self.inside(images), images=images)


def train(root, recipe, limit=50, fails=None, run_dir=None, named=False, **more):
    "History and weights of a run of the small network, whose weights differ at first."
    model = small_network(seed=int(os.environ.get("RANK", 0)))
    args = dict(batch_size=recipe.batch_size)
    train_data, test_data, *loaders, _ = download_data(args, root, "synthetic", limit)
    if recipe.pipeline == "batched":
        plain = dict(args, pad=0, flip="none", cutout=0, shuffle=False)
        loaders = BatchedImages(train_data, **args), BatchedImages(test_data, **plain)
    training, testing = loaders
    if fails: training = Fails(training, *fails)
    if named:
        seed_epoch(training, 0, 0)
        training, model = [dict(y=y, image=x) for x, y in training], Named(model)
    history = train_test_loop(model, "cpu", training, testing, recipe=recipe, run_dir=run_dir,
                              **dict(seed=0) | more)
    return history.rows, {name: value.numpy() for name, value in model.state_dict().items()}


def script(path): return runpy.run_path(path, run_name="__main__")["result"]


def rows_and_gradients(unused=None):
    "Rows of different length, one of them none, and the gradient of a loss of all of them."
    with process_group():
        rank, n = process_rank(), process_count()
        part = torch.arange(2. * rank, 4. * rank).reshape(rank, 2).requires_grad_()
        together = rows_of_all(part)
        (together ** 2).sum().backward()
        labels = rows_of_all(torch.full((rank,), rank))
        first = from_first(lambda: {"rank": torch.tensor(rank), "n": n})
        try: by_first(lambda: 1 / (rank + 0))
        except ZeroDivisionError as error: fault = str(error)
        return together.tolist(), part.grad.tolist(), labels.tolist(), int(first["rank"]), fault


# ---- starting them

def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    download_data(None, folder, "synthetic", 50)  # once, and not by several at the same time
    return folder


@pytest.fixture
def run(folder):
    "What each of n processes returned or raised, and what it printed."
    def run(n, job=train, **given):
        if n == 1:
            with contextlib.redirect_stdout(io.StringIO()) as printed: result = job(**given)
            return [(result, printed.getvalue())]
        port = free_port()
        team = [starter.Process(target=start, args=(rank, n, port, folder, job, given))
                for rank in range(n)]
        for process in team: process.start()
        for process in team: process.join(1200)  # they end by themselves, or wait for ever
        waiting = [process for process in team if process.is_alive()]
        for process in waiting: process.kill()
        assert not waiting, "they wait for each other"
        return [pickle.loads((folder / f"result{rank}").read_bytes()) for rank in range(n)]
    return run


def agree(one, several, eps=1e-4):
    "Each process against the single one: table and weights; and one of them speaks."
    (rows, weights), _ = one[0]
    for (theirs, state), _ in several:
        for name in ("train_loss", "test_loss"):
            close([row[name] for row in theirs], [row[name] for row in rows], eps=eps)
        for name, value in weights.items(): close(state[name], value, eps=10 * eps)
        for name, value in several[0][0][1].items():
            assert np.array_equal(state[name], value), name  # equal in all, bit for bit
    equal([printed.count("epoch ") for _, printed in several], [1] + [0] * (len(several) - 1))


def without_time(rows): return [row | {"seconds": 0} for row in rows]


# ---- one process

def test_one_process_knows_nothing_of_the_others(monkeypatch):
    equal((process_count(), process_rank(), several_started()), (1, 0, False))
    equal(by_first(lambda: 7), 7); refused(lambda: by_first(lambda: 1 / 0), exc=ZeroDivisionError)
    equal([type(hook) for hook in usual_hooks(Recipe(average=0.9))], [Averaged, Checkpoints])
    for variables in ({}, dict(RANK="0", WORLD_SIZE="1", MASTER_ADDR="x", MASTER_PORT="1"),
                      dict(WORLD_SIZE="2", RANK="1")):  # none, alone, not torch's
        with monkeypatch.context() as patch:
            for name, value in variables.items(): patch.setenv(name, value)
            with process_group(): equal(process_count(), 1)
    for name, value in dict(RANK="0", WORLD_SIZE="2", MASTER_ADDR="x", MASTER_PORT="1").items():
        monkeypatch.setenv(name, value)
    equal([type(hook) for hook in usual_hooks(Recipe())], [Processes])


def test_samplers_that_deal_the_images_out_are_recognised(folder):
    train_data, *_ = download_data(None, folder, "synthetic", 50)
    sampler = DistributedSampler(train_data, 2, 0)
    batches = BatchSampler(sampler, 8, False)
    for given, theirs in ((dict(sampler=sampler), True), (dict(batch_sampler=batches), True),
                          (dict(shuffle=True), False)):
        equal(has_own_share(DataLoader(train_data, **given)), theirs)
    equal(has_own_share(BatchedImages(train_data, 14)), False)


def test_a_range_test_needs_whole_batches(folder):
    train_data, *_ = download_data(None, folder, "synthetic", 50)
    own = DataLoader(train_data, 8, sampler=DistributedSampler(train_data, 2, 0))
    run = SimpleNamespace(enter=lambda context: None, device=torch.device("cpu"), seed=0, max_lr=None,
                          model=small_network(), train_loader=own, lr_scheduler="OneCycle")
    hook = Processes(Checkpoints())
    refused(lambda: hook.prepare(run), contains="max_LR must be given if a sampler deals the images out")
    run.lr_scheduler = None; hook.prepare(run)
    run.lr_scheduler, run.max_lr = "OneCycle", 0.1; hook.prepare(run)


def test_silence_ends(monkeypatch, capsys):
    for before in (None, "0", "1"):
        monkeypatch.delenv("TQDM_DISABLE", raising=False)
        if before: monkeypatch.setenv("TQDM_DISABLE", before)
        with pytest.raises(RuntimeError), silence():
            print("not to be seen"); equal(os.environ["TQDM_DISABLE"], "1")
            raise RuntimeError
        equal(os.environ.get("TQDM_DISABLE"), before)
    equal(capsys.readouterr().out, "")


def test_devices_that_several_processes_can_use(monkeypatch):
    check_device(torch.device("cuda", 7))  # alone: any
    monkeypatch.setattr(distributed, "process_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for name in ("cpu", "cuda", "cuda:1"): check_device(torch.device(name))
    for name in ("mps", "cuda:0"):
        refused(lambda: check_device(torch.device(name)),  # noqa: B023
                contains=f"with a GPU for each process, got '{name}' for one of 2 processes on 2 GPUs")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    refused(lambda: check_device(torch.device("cuda")), contains="one of 3 processes on 2 GPUs")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    refused(lambda: check_device(torch.device("mps")), contains="got 'mps' for one of 3 processes on 0 GPUs")
    check_device(torch.device("cpu"))


def test_a_worker_that_reads_a_script_joins_no_group(monkeypatch):
    for name, value in dict(RANK="1", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    refused(process_group().__enter__, exc=RuntimeError, contains="below `if __name__ ==")


def test_two_processes_do_not_take_one_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for name, value in dict(RANK="1", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    def join():
        with process_group(): pass
    refused(join, contains="LOCAL_RANK is not set")


@pytest.fixture
def group_of_one():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("dtype, eps", ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)))
def test_synchronised_batch_norm_alone_is_torchs(group_of_one, dtype, eps):
    torch.manual_seed(0)
    ours, theirs = nn.BatchNorm2d(5), nn.BatchNorm2d(5)
    for norm in (ours, theirs):
        norm.load_state_dict(dict(norm.state_dict(), weight=torch.arange(1., 6),
                                  bias=torch.arange(5.) / 10))
    x, up = (3 * torch.randn(4, 5, 6, 7) + 2).to(dtype), torch.randn(4, 5, 6, 7)
    results = []
    with synchronized(ours):
        for norm in (ours, theirs):
            given = x.clone().requires_grad_()
            out = norm(given)
            equal(out.dtype, dtype)
            (out.float() * up).sum().backward()
            results.append((out, given.grad, norm.weight.grad, norm.bias.grad,
                            norm.running_mean, norm.running_var, norm.num_batches_tracked))
    for a, b in zip(*results): close(a.detach().float(), b.detach().float(), eps=eps * 5)
    equal(type(ours), nn.BatchNorm2d)
    with synchronized(ours): close(ours.eval()(x), theirs.eval()(x), eps=eps)
    with synchronized(nn.BatchNorm2d(5)) as norm: equal(len(norm(torch.randn(4, 5, 2, 2))[:0]), 0)


def test_batch_norm_that_cannot_be_synchronised():
    for wrong in (dict(affine=False), dict(track_running_stats=False), dict(momentum=None)):
        refused(synchronized(nn.BatchNorm2d(5, **wrong)).__enter__, contains="got BatchNorm2d")


def test_a_network_together_and_its_loader_alone(group_of_one):
    network, images, labels = small_network().eval(), torch.randn(3, 3, 32, 32), torch.arange(3)
    with torch.no_grad(): equal(Together(network)(images), network(images))
    (batch,) = SharedLoader([(images, labels)])
    equal(batch[0], images); equal(batch[1], labels)
    with torch.no_grad(): equal(Together(network, whole=True)(images), network(images))
    (batch,) = SharedLoader([(images, labels)], images_too=True)
    equal(batch[0], images); equal(batch[1], labels)
    equal(len(SharedLoader([1, 2])), 2)
    equal(SumOverAll.apply(labels), labels)


# ---- several processes

def test_rows_of_all_and_their_gradients(run):
    for rank, (result, _) in enumerate(run(3, rows_and_gradients)):
        together, gradient, labels, first, fault = result
        rows = [[2., 3.], [4., 5.], [6., 7.]]  # none of process 0, one of 1, two of 2
        equal((together, labels, first, fault), (rows, [1, 2, 2], 0, "division by zero"))
        own = rows[rank * (rank - 1) // 2:][:rank]
        equal(gradient, [[3 * 2 * value for value in row] for row in own])  # DDP takes the mean


def test_shares_of_different_size_and_empty_ones_with_averaged_weights(run, folder, tmp_path):
    "50 images in batches of 16; Ctrl-C in one of two; continued by one, and by three."
    undisturbed = run(1, root=folder, recipe=averaging)
    agree(undisturbed, run(3, root=folder, recipe=averaging))
    cut = run(2, root=folder, recipe=averaging, fails=(5, "interrupted"), run_dir=tmp_path / "1")
    equal([type(fault) for fault, _ in cut][1], KeyboardInterrupt)
    assert isinstance(cut[0][0], BaseException)
    equal(len(History.load(tmp_path / "1" / "history.csv")), 1)
    shutil.copytree(tmp_path / "1", tmp_path / "3")
    for n in (1, 3):
        agree(undisturbed, run(n, root=folder, recipe=averaging, run_dir=tmp_path / str(n)))


@pytest.mark.parametrize("recipe", (
    replace(few_steps, pipeline="albumentations", accumulate=3),
    replace(few_steps, optimizer="Muon")), ids=("albumentations", "Muon"))
def test_two_processes_train_as_one(run, folder, recipe):
    agree(run(1, root=folder, recipe=recipe), run(2, root=folder, recipe=recipe), eps=2e-3)


def test_two_processes_read_batches_and_answers_by_their_names(run, folder):
    "Fifty images in batches of 16: four batches, and three of them make an update."
    given = dict(root=folder, recipe=replace(averaging, accumulate=3), named=True)
    agree(run(1, **given), run(2, **given), eps=2e-3)


@pytest.mark.parametrize("more", ({}, dict(sync_batchnorm=False, average=0.9)))
def test_frozen_stages_stay_as_they_are_in_all_processes(run, folder, tmp_path, more):
    tiny = replace(few_steps, epochs=1, data="synthetic", limit=50, width=8)
    run(1, job=train_run, recipe=tiny, out=tmp_path / "first", root=folder)
    frozen = replace(tiny, weights=str(tmp_path / "first"), freeze="layer3", **more)
    several = run(2, job=train_run, recipe=frozen, out=tmp_path / "frozen", root=folder)
    equal([len(history) for history, _ in several], [1, 1])
    equal([printed.count("frozen: all up to layer3") for _, printed in several], [1, 0])
    before, after = (read_state_dict(tmp_path / name / "weights.safetensors") for name in ("first", "frozen"))
    for name, value in before.items():
        if not name.startswith(("layer4", "linear")): assert torch.equal(value, after[name]), name
    assert not torch.equal(before["layer4.1.bn2.weight"], after["layer4.1.bn2.weight"])


def test_a_loss_that_is_nan_in_one_process_ends_all(run, folder, tmp_path):
    ended = run(2, root=folder, recipe=few_steps, fails=(5, "nan"), run_dir=tmp_path)
    for fault, _ in ended:
        assert isinstance(fault, LossIsNaN) and "nan at step 2 of epoch 2/2" in str(fault), fault
    equal(len(History.load(tmp_path / "history.csv")), 1)


def test_one_range_test_for_all_on_whole_batches(run, folder, tmp_path):
    search = replace(few_steps, epochs=1, max_lr=None, batch_size=32)
    for n in (1, 2): run(n, root=folder, recipe=search, limit=320, run_dir=tmp_path / str(n))
    peaks = [load_checkpoint(tmp_path / str(n) / "checkpoint.pt")["setup"]["max_lr"] for n in (1, 2)]
    equal(*peaks)


def test_a_folder_that_another_run_holds_is_refused_to_all(run, folder, tmp_path):
    with hold_folder(tmp_path):
        for fault, _ in run(2, root=folder, recipe=few_steps, run_dir=tmp_path):
            assert isinstance(fault, FolderIsBusy), fault


def test_a_script_with_a_sampler_of_its_own(run, folder, tmp_path):
    "Its sampler is told the epoch, no order is frozen; and no warning, for each is an error."
    (tmp_path / "script.py").write_text(f'''
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from cifar_gradcam.all import download_data, train_test_loop
from cifar_gradcam.resnet import ResNet18

dist.init_process_group("gloo")
train_data, test_data, *_, test_loader, _ = download_data(
    dict(batch_size=16), {str(folder)!r}, "synthetic", limit=32)
sampler = DistributedSampler(train_data)
train_loader = DataLoader(train_data, batch_size=8, sampler=sampler)
test_loader = DataLoader(test_data, batch_size=8, sampler=DistributedSampler(test_data, shuffle=False))
model = DistributedDataParallel(ResNet18(width=8))
history = train_test_loop(model, "cpu", train_loader, test_loader, max_LR=0.1, EPOCHS=2)
result = history.rows, sampler.epoch, list(sampler)
dist.destroy_process_group()
''')
    ran = run(2, script, path=str(tmp_path / "script.py"))
    (rows, epoch, first), (again, _, second) = (result for result, _ in ran)
    equal((len(rows), epoch, without_time(rows)), (2, 1, without_time(again)))
    frozen = DistributedSampler(range(32), 2, 0)
    assert list(frozen) != first and sorted(first + second) == list(range(32))
    equal([printed.count("epoch ") for _, printed in ran], [1, 0])
