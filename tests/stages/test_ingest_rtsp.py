"""RTSP, from a real server: GStreamer's, run with the system's Python, where it is installed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from live_feeds import QUICK, kinds, of, told

import vidcomp
from vidcomp.stages.ingest import Event, Jumped, Lost, Opened, Picture, Sound, UrlFeed
from vidcomp.stages.sample import Sampling

SERVER = Path(vidcomp.__file__).parent / "scripts" / "rtsp_server.py"
PYTHON = "/usr/bin/python3"
NEEDS = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer"
ELEMENTS = "Gst.init(None); assert all(map(Gst.ElementFactory.find, ('x264enc', 'videotestsrc', 'rtph264pay')))"


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    if not SERVER.is_file() or not Path(PYTHON).exists():
        pytest.skip("scripts/rtsp_server.py or the system's Python is not here")
    tried = subprocess.run([PYTHON, "-c", f"{NEEDS}; {ELEMENTS}"], capture_output=True)
    if tried.returncode:
        pytest.skip("GStreamer's RTSP server is not installed (gir1.2-gst-rtsp-server-1.0 python3-gi, its plug-ins)")


@contextmanager
def feed(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(URL, the server's process)."""
    pipe = subprocess.PIPE
    with subprocess.Popen([PYTHON, str(SERVER), *words], stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip(), server
        finally:
            server.kill()


def shown(count: int) -> Callable[[list[Event]], bool]:
    return lambda events: len(of(events, Picture)) == count


def test_pictures_and_sound_of_one_clock() -> None:
    with feed("--size", "320x240", "--sound") as (url, _):
        source = UrlFeed(url, Sampling(fps=10.0), audio_rate=8000, read_timeout_s=5.0)
        events = told(source, shown(20))
    (opened,) = of(events, Opened)
    assert (opened.width, opened.height, opened.audio_rate) == (320, 240, 8000)
    shots, blocks = of(events, Picture), of(events, Sound)
    assert np.diff([shot.pts_s for shot in shots]) == pytest.approx(0.1, abs=0.05)
    assert len({shot.data.tobytes() for shot in shots}) > 10  # the ball moves
    heard_s = sum(len(block.samples) for block in blocks) / 8000
    assert heard_s == pytest.approx(shots[-1].pts_s - shots[0].pts_s, abs=0.7)
    assert abs(blocks[-1].start_s - shots[-1].pts_s) < 0.7
    wave = np.concatenate([block.samples for block in blocks])[4000:12000]
    spectrum = np.abs(np.fft.rfft(wave))
    assert int(spectrum.argmax()) == pytest.approx(440, abs=5)  # Hz: of one second


def test_a_server_that_freezes_and_one_that_is_gone() -> None:
    events = list[Event]()
    with feed("--size", "160x120") as (url, server):
        source = UrlFeed(url, Sampling(fps=10.0), **QUICK)
        for event in source.events():
            events.append(event)
            if shown(5)(events) and isinstance(event, Picture):
                os.kill(server.pid, signal.SIGSTOP)
            if kinds(events)[-1] == "Lost" and len(of(events, Lost)) == 1:
                os.kill(server.pid, signal.SIGCONT)
            if len(of(events, Opened)) == 2 and isinstance(event, Picture):
                server.kill()
            if len(of(events, Opened)) == 2 and isinstance(event, Lost):
                source.cancel()
    assert of(events, Lost)[0].reason == "timeout"
    assert len(of(events, Opened)) == 2
    (jump,) = of(events, Jumped)  # each client's clock begins anew
    assert jump.from_s == of(events, Lost)[0].end_s
    assert jump.to_s < jump.from_s
    assert kinds(events)[-1] == "Ended"


def test_a_path_that_is_not_there() -> None:
    with feed("--size", "160x120") as (url, _):
        events = told(UrlFeed(url + "/nothing", Sampling(), max_retries=0))
    assert [lost.reason for lost in of(events, Lost)] == ["denied"]
