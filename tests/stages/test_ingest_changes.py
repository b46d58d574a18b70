"""A network source that changes on the way: its clock, its size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from live_feeds import ALL, QUICK, kinds, lost, of, told
from live_servers import serving, stream, with_tone

from vidcomp.stages.ingest import Jumped, Lost, Opened, Picture, Resized, Sound, UrlFeed
from vidcomp.stages.sample import Sampling


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return stream(tmp_path / "data.ts")


@pytest.mark.parametrize(("first_s", "second_s"), [(10.0, 3610.0), (4000.0, 400.0), (10.0, 9.0), (50000.0, 10000.0)])
def test_a_clock_that_jumps_is_told_and_followed(tmp_path: Path, first_s: float, second_s: float) -> None:
    parts = [stream(tmp_path / f"{n}.ts", start_s=s, seed=n) for n, s in enumerate((first_s, second_s))]
    with serving({"/a": lambda answer: answer.live(b"".join(parts))}) as server:
        feed = UrlFeed(server.url("/a"), Sampling(fps=2.0), **QUICK)
        events = told(feed, lost())
    assert kinds(events) == ["Opened", "Jumped", "Lost"]
    (jump,) = of(events, Jumped)
    assert (jump.from_s, jump.to_s) == pytest.approx((first_s + 2, second_s))
    times = [shot.pts_s for shot in of(events, Picture)]
    assert times == pytest.approx([start + k / 2 for start in (first_s, second_s) for k in range(4)], abs=0.021)
    at = events.index(jump)
    assert [e.pts_s >= second_s for e in events[at + 1 :] if isinstance(e, Picture)] == [True] * 4


def test_a_ts_clock_that_wraps_goes_on(tmp_path: Path) -> None:
    data = stream(tmp_path / "a.ts", start_s=(1 << 33) / 90000 - 1.0)
    with serving({"/a": lambda answer: answer.live(data)}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, **QUICK), lost())
    assert kinds(events) == ["Opened", "Lost"]
    steps_s = np.diff([shot.pts_s for shot in of(events, Picture)])
    assert steps_s.tolist() == pytest.approx([0.04] * 49)


@pytest.mark.parametrize(("first_s", "second_s"), [(10, 3610), (3610, 10), (12, 10)])
def test_sound_follows_a_clock_that_jumps(tmp_path: Path, first_s: int, second_s: int) -> None:
    starts_s = (first_s, second_s)
    loud = [with_tone(tmp_path / f"{s}.ts", sound_s=0.0, start_s=s).read_bytes() for s in starts_s]
    with serving({"/a": lambda answer: answer.live(b"".join(loud))}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, audio_rate=8000, **QUICK), lost())
    at = events.index(of(events, Jumped)[0])
    for part, start_s in zip((events[:at], events[at:]), starts_s, strict=True):
        blocks = of(part, Sound)
        assert sum(len(block.samples) for block in blocks) == pytest.approx(8000 * 2, abs=800)
        assert all(start_s - 0.1 <= block.start_s < start_s + 3 for block in blocks)


def test_frames_of_another_size_go_on_in_the_first_size(tmp_path: Path) -> None:
    small, large = stream(tmp_path / "a.ts"), stream(tmp_path / "b.ts", start_s=12.0, size=(128, 96))
    with serving({"/a": lambda answer: answer.live(large if answer.number else small + large)}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, **QUICK), lost(2))
    assert kinds(events) == ["Opened", "Resized", "Lost", "Retry", "Opened", "Jumped", "Resized", "Lost"]
    assert {(event.width, event.height) for event in of(events, Opened)} == {(64, 48)}
    assert {(event.width, event.height) for event in of(events, Resized)} == {(128, 96)}
    assert {shot.data.shape for shot in of(events, Picture)} == {(48, 64, 3)}
    assert len(of(events, Picture)) == 150


def test_a_frame_over_the_limit_is_refused(data: bytes) -> None:
    with serving({"/a": lambda answer: answer.live(data)}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, max_retries=0, max_pixels=64 * 48 - 1))
    assert of(events, Lost)[0].reason == "too_large"


def test_memory_over_the_limit_is_refused(tmp_path: Path) -> None:
    """Some decoders crash of it, which costs the child only."""
    large = stream(tmp_path / "a.ts", count=6, size=(1920, 1080))
    with serving({"/a": lambda answer: answer.whole(large)}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, max_retries=0, max_memory_bytes=100 << 20))
    assert of(events, Lost)[0].reason in ("too_large", "crashed")
