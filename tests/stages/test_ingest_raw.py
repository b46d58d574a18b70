"""Raw frames on a descriptor: every one in its place, whole or told of, at their own pace, and no wait without end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from live_feeds import kinds, of, told
from media import pictures

from vidcomp.stages.ingest import Ended, Lost, Opened, Picture, RawFeed
from vidcomp.stages.sample import Sampling, Shown

WIDTH, HEIGHT = 64, 48
SIZE = WIDTH * HEIGHT * 3


@contextmanager
def written(data: bytes, *, step: int = 1 << 16, keep_open: bool = False) -> Iterator[int]:
    """The reading end of a pipe into which `data` goes, `step` bytes at a time."""
    read, write = os.pipe()

    def put() -> None:
        for at in range(0, len(data), step):
            os.write(write, data[at : at + step])
        if not keep_open:
            os.close(write)

    thread = threading.Thread(target=put)
    thread.start()
    try:
        yield read
    finally:
        thread.join()
        os.close(read)
        if keep_open:
            os.close(write)


def feed_of(fd: int, rule: Sampling, fps: float = 10.0, *, wait: bool = False) -> RawFeed:
    return RawFeed(fd, WIDTH, HEIGHT, fps, rule, wait=wait)


@pytest.mark.parametrize("rule", [Sampling(fps=3.0), Sampling(every=4), Sampling(every=1)], ids=["fps", "every", "all"])
@pytest.mark.parametrize("step", [1 << 16, 1000])
def test_the_frames_of_the_plan_come_as_they_were_written(rule: Sampling, step: int) -> None:
    frames = list(pictures(30))
    times = np.arange(30) / 10.0
    plan = rule.plan(Shown(times, 3.0, np.ones(30, bool))).tolist()
    with written(b"".join(frame.tobytes() for frame in frames), step=step) as fd:
        events = told(feed_of(fd, rule))
    shots = of(events, Picture)
    assert [shot.number for shot in shots] == plan
    assert [shot.pts_s for shot in shots] == times[plan].tolist()
    assert all(np.array_equal(shot.data, frames[shot.number]) for shot in shots)
    assert kinds(events) == ["Opened", "Ended"]
    opened = events[0]
    assert isinstance(opened, Opened)
    assert (opened.width, opened.height, opened.fps, opened.audio_rate) == (WIDTH, HEIGHT, 10.0, None)
    assert events[-1] == Ended("end", 3.0)


def test_a_file_is_read_too(tmp_path: Path) -> None:
    frames = list(pictures(5))
    path = tmp_path / "raw"
    path.write_bytes(b"".join(frame.tobytes() for frame in frames))
    with path.open("rb") as file:
        shots = of(told(RawFeed(file, WIDTH, HEIGHT, 25.0, Sampling(every=1))), Picture)
    assert all(np.array_equal(shot.data, frame) for shot, frame in zip(shots, frames, strict=True))


@pytest.mark.parametrize("left", [1, SIZE - 1])
def test_a_short_last_frame_is_told_of(left: int) -> None:
    with written(bytes(2 * SIZE + left)) as fd:
        events = told(feed_of(fd, Sampling(every=1)))
    assert kinds(events) == ["Opened", "Lost", "Ended"]
    (lost,) = of(events, Lost)
    assert lost.reason == "closed"
    assert f"{left} of its {SIZE} bytes" in lost.message
    assert len(of(events, Picture)) == 2
    assert events[-1] == Ended("end", 0.2)


def test_no_frames_at_all() -> None:
    with written(b"") as fd:
        events = told(feed_of(fd, Sampling()))
    assert kinds(events) == ["Opened", "Ended"]
    assert events[-1] == Ended("end", None)


@pytest.mark.parametrize("begun", [0, SIZE + 5])
def test_cancel_ends_a_read_that_waits(begun: int) -> None:
    with written(bytes(begun), keep_open=True) as fd:
        feed = feed_of(fd, Sampling(every=1))
        timer = threading.Timer(0.2, feed.cancel)
        timer.start()
        events = told(feed)
        timer.join()
    assert events[-1] == Ended("cancelled", 0.1 if begun else None)


def test_cancel_ends_a_wait_for_a_frames_time() -> None:
    with written(bytes(3 * SIZE)) as fd:
        feed = feed_of(fd, Sampling(every=1), fps=1e-3, wait=True)
        timer = threading.Timer(0.2, feed.cancel)
        timer.start()
        events = told(feed)
        timer.join()
    assert len(of(events, Picture)) == 1
    assert isinstance(events[-1], Ended)
    assert events[-1].why == "cancelled"


def test_cancel_before_and_after() -> None:
    with written(bytes(SIZE)) as fd:
        feed = feed_of(fd, Sampling())
        feed.cancel()
        assert told(feed) == [Ended("cancelled", None)]
        feed.cancel()
        feed.close()


def test_frames_wait_for_their_time_if_asked() -> None:
    with written(bytes(5 * SIZE)) as fd:
        begun_s = time.monotonic()
        came_s = list[float]()
        for event in feed_of(fd, Sampling(every=1), fps=20.0, wait=True).events():
            if isinstance(event, Picture):
                came_s.append(time.monotonic() - begun_s)
    assert all(came >= n / 20 for n, came in enumerate(came_s))
    assert len(came_s) == 5


def test_pictures_are_the_receivers_own() -> None:
    frames = list(pictures(4))
    with written(b"".join(frame.tobytes() for frame in frames)) as fd:
        shots = of(told(feed_of(fd, Sampling(every=1))), Picture)
    assert not any(np.shares_memory(one.data, other.data) for one, other in pairwise(shots))
    assert all(shot.data.flags.writeable for shot in shots)


def test_nothing_leaks() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with written(bytes(SIZE)) as fd:
            told(feed_of(fd, Sampling()))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("width", "height", "fps"), [(0, 1, 1.0), (1, -1, 1.0), (1, 1, 0.0), (1, 1, float("nan"))])
def test_sizes_and_rates_that_make_no_sense(width: int, height: int, fps: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        RawFeed(0, width, height, fps, Sampling())
