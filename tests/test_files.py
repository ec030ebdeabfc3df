"Files are whole or not there; progress is a bar, a line a minute, or nothing."
import contextlib
import io
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tqdm import tqdm as tqdm_of_terminals
from tqdm.notebook import tqdm_notebook

from cifar_gradcam.engine import files
from cifar_gradcam.engine.files import (
    cache_folder, check_guard, progress, watched, write_json, write_whole)


class Terminal(io.StringIO):
    def isatty(self): return True


def test_json_is_indented_and_ends_its_line(tmp_path):
    write_json(tmp_path / "a.json", {"epochs": 3})
    assert (tmp_path / "a.json").read_text() == '{\n  "epochs": 3\n}\n'
    write_json(str(tmp_path / "b.json"), [1])  # a path as a string
    assert json.loads((tmp_path / "b.json").read_text()) == [1]


def test_a_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "history.csv"
    write_whole(path, b"new")

    def fails(*_): raise OSError("the machine goes down")
    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="goes down"): write_whole(path, b"newer")
    assert path.read_bytes() == b"new"
    monkeypatch.undo()
    write_whole(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert [p.name for p in tmp_path.iterdir()] == ["history.csv"]  # nothing is left aside


def test_content_that_is_no_json_leaves_the_file(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError): write_json(tmp_path / "a.json", object())
    assert (tmp_path / "a.json").read_text() == "1\n"


def test_the_cache_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "cifar_gradcam"
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # empty: as if it were not set
    assert cache_folder() == Path.home() / ".cache" / "cifar_gradcam"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "cifar_gradcam"
    monkeypatch.setenv("XDG_CACHE_HOME", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere" / "cifar_gradcam"


@pytest.mark.parametrize("screen, bar, seen", [
    (Terminal, tqdm_of_terminals, True), (io.StringIO, tqdm_notebook, True),
    (io.StringIO, tqdm_of_terminals, False)])
@pytest.mark.parametrize("off", ["", "0", "1"])
def test_who_watches(monkeypatch, screen, bar, seen, off):
    # a bar on a terminal and in a notebook, and nowhere if it is switched off
    monkeypatch.setattr(files, "tqdm", bar)
    monkeypatch.setenv("TQDM_DISABLE", off)
    with contextlib.redirect_stderr(screen()): assert watched() == (seen and off != "1")


@pytest.mark.parametrize("screen", [Terminal, io.StringIO])
def test_the_loader_is_asked_once(monkeypatch, screen):
    class CountsPasses(list):
        passes = 0
        def __iter__(self):
            self.passes += 1
            return super().__iter__()
    monkeypatch.setattr(files, "tqdm", tqdm_of_terminals)
    monkeypatch.setenv("TQDM_DISABLE", "0")
    counted = CountsPasses([1, 2, 3])
    with contextlib.redirect_stderr(screen()):
        assert list(progress(counted, "counting", dict(loss=1))) == [1, 2, 3]
    assert counted.passes == 1


def test_lines_in_a_pipe_and_a_bar_on_a_terminal():
    # in a process of its own, whose output is a pipe; then with what says it is a terminal
    program = """
import io, os, sys
from cifar_gradcam.engine.files import progress
go_on = [0, 1]
def go_through(every):
    for step in progress(range(3), "counting", dict(loss=1), every): pass

class Terminal(io.StringIO):
    def isatty(self): return True

go_through(60); go_through(0)
for step in progress(iter(lambda: go_on.pop(), 0), "endless", every=0): pass
os.environ["TQDM_DISABLE"] = "1"; go_through(0)
os.environ["TQDM_DISABLE"] = "0"; sys.stderr = Terminal(); go_through(0)
print("a bar:", "counting:" in sys.stderr.getvalue())
"""
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True,
                          check=True, env=os.environ | {"TQDM_DISABLE": "0"})
    assert done.stdout.splitlines() == [
        *(f"counting: {n} of 3, loss 1" for n in (1, 2, 3)), "endless: 1", "a bar: True"]
    assert done.stderr == ""


@pytest.mark.parametrize("screen", [Terminal, io.StringIO])
def test_steps_without_a_length(monkeypatch, screen):
    class NoLength(list):  # as a DataLoader of an IterableDataset
        def __len__(self): raise TypeError("has no len()")
    monkeypatch.setattr(files, "tqdm", tqdm_of_terminals)
    monkeypatch.setenv("TQDM_DISABLE", "0")
    with contextlib.redirect_stderr(screen()):
        for steps in (NoLength([1, 2, 3]), iter([1, 2, 3]), (n for n in (1, 2, 3))):
            assert list(progress(steps, "counting", every=0)) == [1, 2, 3]


# ---- workers that read the script

def test_a_script_without_a_guard_ends_with_the_reason(tmp_path):
    "What goes to the worker is more than a pipe holds: the parent waits until somebody reads it."
    script = tmp_path / "script.py"
    script.write_text("""
import multiprocessing
from cifar_gradcam.engine.files import check_guard
check_guard()
worker = multiprocessing.get_context("spawn").Process(target=print, args=("x" * 10**6,))
worker.start(); worker.join()
print("the worker ended with", worker.exitcode)
""")
    done = subprocess.run([sys.executable, script], text=True, capture_output=True, timeout=120)
    assert done.stdout == "the worker ended with 1\n"
    assert "RuntimeError: each worker reads this script" in done.stderr
    assert "put what the script does below `if __name__ == " in done.stderr


def test_a_loader_with_workers_is_guarded(monkeypatch):
    class Loader(list): num_workers = 2
    check_guard(); assert list(progress(Loader([1]), "reading")) == [1]
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(RuntimeError, match="put what the script does below"): list(progress(Loader([1]), "reading"))
    assert list(progress([1], "reading")) == [1]  # no workers: nothing starts again


def test_the_ground_floor_imports_nothing_of_the_package():
    program = ("import sys, cifar_gradcam.engine.files; print(sorted(m for m in sys.modules "
               "if m.startswith('cifar_gradcam.') or m == 'torch'))")
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert eval(done.stdout) == ["cifar_gradcam.engine", "cifar_gradcam.engine.files"]


def test_pace_and_time_left(monkeypatch, capsys):
    clock = [0]
    monkeypatch.setattr(files, "tqdm", tqdm_of_terminals)
    monkeypatch.setattr(files.time, "monotonic", lambda: clock[0])
    monkeypatch.setenv("TQDM_DISABLE", "0")
    for steps in (range(10), itertools.count()):
        clock[0] = 0
        for step in progress(steps, "fetching", every=6, unit="MB"):
            clock[0] += 2
            if step == 6: break
    assert capsys.readouterr().out.splitlines() == [
        "fetching: 3 of 10 MB, 0.50 MB/s, 00:14 left", "fetching: 6 of 10 MB, 0.50 MB/s, 00:08 left",
        "fetching: 3 MB, 0.50 MB/s", "fetching: 6 MB, 0.50 MB/s"]
    with contextlib.redirect_stderr(Terminal()) as screen: list(progress(range(3), "fetching", unit="MB"))
    assert "MB/s" in screen.getvalue()


def test_without_a_stream_there_is_no_bar(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(files, "tqdm", tqdm_of_terminals)
    for stream in (None, object()):  # pythonw, or `2>&-`; what only writes
        monkeypatch.setattr(sys, "stderr", stream)
        assert not watched()
        assert list(progress(range(3), "steps")) == [0, 1, 2]
