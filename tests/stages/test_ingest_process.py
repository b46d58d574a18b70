"""The ingest child as a process: light, killable, replaced, held up by a slow consumer, never left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_feeds import ALL, QUICK, kinds, of
from live_servers import Answer, serving, stream

from vidcomp.stages import ingest_talk
from vidcomp.stages.ingest import Event, Lost, Opened, Picture, UrlFeed

HANGS = "import ctypes; ctypes.PyDLL(None).sleep(600)"  # in C, holding the GIL


def children() -> set[str]:
    """Process ids of our children, threads' and zombies included."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before, open_files = children(), len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    until = time.monotonic() + 30  # the servers' threads end by and by
    while len(os.listdir("/proc/self/fd")) > open_files and time.monotonic() < until:
        time.sleep(0.02)
    assert children() <= before
    assert len(os.listdir("/proc/self/fd")) <= open_files


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return stream(tmp_path / "data.ts")


def test_the_child_imports_nothing_heavy() -> None:
    code = "import sys, vidcomp.stages.ingest_child; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "sklearn", "scipy", "ray", "pydantic"} & set(done.stdout.split())


def test_a_child_that_dies_is_replaced(data: bytes) -> None:
    def endless(answer: Answer) -> None:
        answer.live(data)
        answer.freeze()

    with serving({"/a": endless}) as server:
        feed = UrlFeed(server.url("/a"), ALL, **{**QUICK, "read_timeout_s": 20.0})
        events = list[Event]()
        reading = feed.events()
        for event in reading:
            events.append(event)
            if len(of(events, Picture)) == 10 and isinstance(event, Picture):
                assert feed._process is not None
                os.kill(feed._process._popen.pid, signal.SIGKILL)
            if len(of(events, Opened)) == 2 and isinstance(event, Picture):
                break
        reading.close()
    (lost,) = of(events, Lost)
    assert lost.reason == "crashed"
    assert "SIGKILL" in lost.message


def test_a_child_that_hangs_is_killed_and_replaced(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_talk, "MARGIN_S", 0.5)
    with serving({"/a": lambda answer: answer.whole(data)}) as server:
        feed = UrlFeed(server.url("/a"), ALL, **{**QUICK, "open_timeout_s": 0.2})
        ours, feed._argv = feed._argv, [sys.executable, "-c", HANGS]
        events = list[Event]()
        for event in feed.events():
            events.append(event)
            feed._argv = ours
            monkeypatch.setattr(ingest_talk, "MARGIN_S", 5.0)
    assert kinds(events) == ["Lost", "Retry", "Opened", "Ended"]
    assert of(events, Lost)[0].reason == "timeout"


def test_the_child_dies_with_its_parent(data: bytes) -> None:
    def frozen(answer: Answer) -> None:
        answer.live(data)
        answer.freeze()

    code = (
        "import sys; from vidcomp.stages.ingest import *; from vidcomp.stages.sample import Sampling\n"
        "feed = UrlFeed(sys.argv[1], Sampling(every=1), read_timeout_s=600)\n"
        "for event in feed.events(): print(feed._process._popen.pid, flush=True)"
    )
    with serving({"/a": frozen}) as server:
        pipe = subprocess.PIPE
        with subprocess.Popen([sys.executable, "-c", code, server.url("/a")], stdout=pipe, text=True) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            parent.kill()
            parent.wait(30)
        until = time.monotonic() + 30
        while time.monotonic() < until and alive(pid):
            time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_feed_that_is_dropped_takes_its_child_along(data: bytes) -> None:
    with serving({"/a": lambda answer: answer.whole(data)}) as server:
        reading = UrlFeed(server.url("/a"), ALL).events()
        next(reading)
        del reading
        gc.collect()
