"Downloads from small servers on this machine: slow, silent, cut off, wrong, without ranges, and good ones."
import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cifar_gradcam.engine import download
from cifar_gradcam.engine.download import fetch_file, file_fault

CONTENT = bytes(range(256)) * 6_000  # 1.5 MB: a bar of two steps
MD5 = hashlib.md5(CONTENT).hexdigest()
OTHER = CONTENT[::-1]


class Answers(BaseHTTPRequestHandler):
    "What each address does is in its name; those that know ranges begin with `part`."
    def do_GET(self):
        server, name, asked = self.server, self.path[1:], self.headers["Range"]
        server.asked.append((name, asked))
        if name == "silent": return server.over.wait()
        if name == "gone": return self.send_error(404)
        body, start = OTHER if "other" in name else b"who are you?" if "page" in name else CONTENT, 0
        if asked and name.startswith("part"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body): return self.send_error(416)
        body = body[start:]
        self.send_response(206 if start else 200)
        if "endless" not in name: self.send_header("Content-Length", len(body))
        self.end_headers()
        if "cut" in name: body = body[:len(body) // 2]
        try:
            if "held" in name: server.over.wait()
            if "stalls" in name or "drips" in name:
                self.wfile.write(body[:100_000])
                if "stalls" in name: return server.over.wait()
                for place in range(100_000, len(body)):
                    if server.over.wait(0.02): return
                    self.wfile.write(body[place:place + 1])
            self.wfile.write(body)
        except OSError: pass  # who asked has gone

    def log_message(self, *_): pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads, server.asked, server.over = True, [], threading.Event()
    server.at = lambda *names: [f"http://127.0.0.1:{server.server_port}/{name}" for name in names]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def path(tmp_path): return tmp_path / "new" / "file.bin"


def partial(path): return path.with_name(f"file.bin.{MD5[:8]}.partial")


def others(path):  # beside the file and its lock
    return sorted(p.name for p in path.parent.iterdir() if p.suffix != ".lock" and p != path)


def begin(path, content):
    path.parent.mkdir()
    partial(path).write_bytes(content)


@pytest.mark.parametrize("name", ["part", "plain", "plain-endless"])
def test_a_file_is_fetched_once(server, path, name):
    assert fetch_file(server.at(name), str(path), MD5, "it") == path
    assert path.read_bytes() == CONTENT and others(path) == []
    fetch_file(server.at(name), path, MD5, "it")
    assert server.asked == [(name, None)]
    with pytest.raises(TypeError, match="urls must be a list of addresses, got 'http"): fetch_file(*server.at(name), path, MD5, "it")


@pytest.mark.parametrize("name, some", [("part-drips", True), ("plain-stalls", True), ("silent", False)])
def test_who_is_slow_is_left_for_the_next(server, path, name, some, capsys):
    # The next one goes on where the slow one stopped.
    fetch_file(server.at(name, "part"), path, MD5, "it", rate=3e5, seconds=0.4)
    assert path.read_bytes() == CONTENT
    (first, _), (second, asked) = server.asked
    assert (first, second) == (name, "part")
    assert (asked is not None) == ("MB on" in capsys.readouterr().out) == some


def test_if_all_are_slow_each_may_be_slower(path, monkeypatch):
    calls = []

    def receive(url, partial, label, rate, *_):
        calls.append((url, rate))
        if rate > 12_000: raise TimeoutError("only 13 kB a second")
        partial.write_bytes(CONTENT)
    monkeypatch.setattr(download, "_receive", receive)
    fetch_file(["a", "b"], path, MD5, "it")
    assert calls == [("a", 300e3), ("b", 300e3), ("a", 60e3), ("b", 60e3), ("a", 12e3)]


def test_pace_is_asked_of_each_window(server, path):
    # A good start excuses nothing: 100,000 bytes at once are fast for a moment only.
    with pytest.raises(ConnectionError, match="part-drips: only 0 kB a second"):
        fetch_file(server.at("part-drips"), path, MD5, "it", rate=1e5, seconds=0.2)
    assert len(server.asked) == 3


def test_cut_off_and_gone_on_with(server, path):
    fetch_file(server.at("part-cut", "part"), path, MD5, "it")
    half = len(CONTENT) // 2
    assert server.asked == [("part-cut", None), ("part", f"bytes={half}-")]
    assert path.read_bytes() == CONTENT and others(path) == []


def test_cut_off_each_time(server, path):
    # Three tries, each with half of the rest; then an error, no file, and the next call needs an eighth.
    with pytest.raises(ConnectionError) as fault: fetch_file(server.at("part-cut"), path, MD5, "it")
    assert "it could not be fetched:" in str(fault.value) and "part-cut: cut off, 0.2 MB early" in str(fault.value)
    assert f"{partial(path)} is kept" in str(fault.value)
    assert not path.exists() and partial(path).read_bytes() == CONTENT[:len(CONTENT) // 8 * 7]
    server.asked.clear()
    fetch_file(server.at("part"), path, MD5, "it")
    assert server.asked == [("part", f"bytes={len(CONTENT) // 8 * 7}-")]
    assert path.read_bytes() == CONTENT


def test_without_ranges_it_starts_again(server, path):
    fetch_file(server.at("plain-cut", "plain"), path, MD5, "it")
    assert path.read_bytes() == CONTENT and others(path) == []


def test_wrong_bytes_are_never_taken(server, path):
    with pytest.raises(ConnectionError) as fault: fetch_file(server.at("part-other", "gone"), path, MD5, "it")
    assert f"part-other: what came has md5 {hashlib.md5(OTHER).hexdigest()}, should be {MD5}" in str(fault.value)
    assert "gone: HTTP Error 404" in str(fault.value)
    assert server.asked == [("part-other", None), ("gone", None)]  # once each: it would be the same
    assert not path.exists() and others(path) == []
    fetch_file(server.at("part-other", "part"), path, MD5, "it")
    assert path.read_bytes() == CONTENT


def test_wrong_bytes_are_not_laid_at_the_door_of_the_next(server, path):
    # Half of another file, then the rest of the right one: the good server is asked again, for everything.
    fetch_file(server.at("part-other-cut", "part"), path, MD5, "it")
    assert server.asked[1:] == [("part", f"bytes={len(CONTENT) // 2}-"), ("part", None)]
    assert path.read_bytes() == CONTENT and others(path) == []


@pytest.mark.parametrize("page", ["plain-page", "plain-page-endless"])
def test_a_page_in_its_place_does_not_cost_what_came(server, path, page):
    fetch_file(server.at("part-cut", page, "part"), path, MD5, "it")
    assert server.asked[2:] == [("part", f"bytes={len(CONTENT) // 2}-")] and path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["part", "plain"])
@pytest.mark.parametrize("left", [b"another archive", OTHER, OTHER + b"longer"], ids=["short", "equal", "long"])
def test_what_another_archive_left(server, path, name, left):
    begin(path, left)
    path.with_name("file.bin.0123abcd.partial").write_bytes(b"of another md5")
    fetch_file(server.at(name), path, MD5, "it")
    assert path.read_bytes() == CONTENT and others(path) == ["file.bin.0123abcd.partial"]
    # Who sends everything need not be asked again, except if it is less than what is here.
    assert len(server.asked) == (1 if name == "plain" and len(left) <= len(CONTENT) else 2)


def test_stopped_just_before_the_end(server, path):
    begin(path, CONTENT)  # whole, and not renamed yet
    fetch_file(server.at("part"), path, MD5, "it")
    assert path.read_bytes() == CONTENT and server.asked == [("part", f"bytes={len(CONTENT)}-")]


def test_a_wrong_file_stays_until_the_right_one_is_there(server, path):
    path.parent.mkdir()
    path.write_bytes(b"half an arch")
    assert "has md5" in file_fault(path, MD5)
    with pytest.raises(ConnectionError): fetch_file(server.at("part-cut"), path, MD5, "it")
    assert path.read_bytes() == b"half an arch"
    fetch_file(server.at("part"), path, MD5, "it")
    assert file_fault(path, MD5) is None


def test_a_file_that_is_there_needs_no_lock(path, monkeypatch):
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    monkeypatch.setattr(download, "FileLock", lambda _: 1 / 0)  # as in a folder that may only be read
    assert fetch_file([], path, MD5, "it") == path


def test_addresses_of_other_kinds(server, path, tmp_path):
    (tmp_path / "copy").write_bytes(CONTENT)
    with pytest.raises(ConnectionError, match="no address: unknown url type"): fetch_file(["no address"], path, MD5, "it")
    fetch_file([*server.at("gone"), (tmp_path / "copy").as_uri()], path, MD5, "it")
    assert path.read_bytes() == CONTENT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk without room, which Linux has")
def test_a_full_disk_is_no_fault_of_an_address(server, path):
    path.parent.mkdir()
    partial(path).symlink_to("/dev/full")
    with pytest.raises(OSError) as fault: fetch_file(server.at("part", "plain"), path, MD5, "it")
    assert fault.value.errno == errno.ENOSPC and len(server.asked) == 1 and not path.exists()


PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
import sys
from cifar_gradcam.engine.download import fetch_file
url, *rest = sys.argv[1:]
print(fetch_file([url], *rest).stat().st_size)
"""


def in_a_process(server, name, path):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *server.at(name), path, MD5, "it"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(what, process):
    while not what(): assert process.poll() is None and not time.sleep(0.01)


def test_two_processes_at_once(server, path):
    # The first is kept waiting until the second has had time to come to the lock.
    first = in_a_process(server, "part-held", path)
    wait_until(lambda: server.asked, first)
    second = in_a_process(server, "part-held", path)
    time.sleep(1)
    server.over.set()
    for process in (first, second):
        out, err = process.communicate(timeout=60)
        assert out.splitlines()[-1] == str(len(CONTENT)), err
    assert len(server.asked) == 1 and path.read_bytes() == CONTENT and others(path) == []


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_ctrl_c_leaves_a_part_to_go_on_from(server, path):
    process = in_a_process(server, "part-stalls", path)
    wait_until(lambda: partial(path).exists() and partial(path).stat().st_size >= 90_000, process)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    came = partial(path).read_bytes()
    assert not path.exists() and came == CONTENT[:len(came)]
    fetch_file(server.at("part"), path, MD5, "it")
    assert server.asked[-1] == ("part", f"bytes={len(came)}-") and path.read_bytes() == CONTENT
