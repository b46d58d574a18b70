"""A feed of a network source that behaves: the frames and the sound that decoding the same bytes as a file gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from live_feeds import of, read
from live_servers import Answer, serving, stream, with_tone
from media import B_FRAMES, cut, make_clip

from vidcomp.stages.decode import Decoder
from vidcomp.stages.ingest import Ended, Opened, Picture, Sound
from vidcomp.stages.sample import Sampling, Shown

RATE = 16000
FASTSTART = {"movflags": "faststart"}
CLIPS: dict[str, Callable[[Path], Path]] = {
    "TS": lambda folder: make_clip(folder / "a.ts", count=100, options=B_FRAMES),
    "MP4": lambda folder: make_clip(folder / "a.mp4", count=100, options=B_FRAMES, container_options=FASTSTART),
    "MP4, its index at its end": lambda folder: make_clip(folder / "a.mp4", count=60),
    "Matroska": lambda folder: make_clip(folder / "a.mkv", count=100, options=B_FRAMES),
    "turned": lambda folder: make_clip(folder / "a.mp4", rotation=(90, False, False), container_options=FASTSTART),
    "a gap": lambda folder: make_clip(folder / "a.mkv", count=6, pts_s=[0.0, 0.04, 0.08, 40.0, 40.04, 40.08]),
    "irregular": lambda folder: make_clip(folder / "a.mkv", count=40, pts_s=np.cumsum([0.01, 0.09] * 20).tolist()),
    "joined in the middle of a group": lambda folder: cut(
        make_clip(folder / "b.ts", count=100, options=B_FRAMES), 1.0, folder / "a.ts", start=0.33
    ),
    "HEVC": lambda folder: make_clip(folder / "a.ts", codec="libx265", options={"x265-params": "log-level=none"}),
    "VP9": lambda folder: make_clip(folder / "a.webm", codec="libvpx-vp9", options={"cpu-used": "8"}),
}


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as made:
        yield made


def ranged(data: bytes) -> Callable[[Answer], None]:
    """Answers for a part of a body too: an index at its end can only be read so."""

    def script(answer: Answer) -> None:
        first = int(answer._handler.headers.get("Range", "bytes=0-")[len("bytes=") :].split("-")[0])
        answer._handler.send_response(206)
        answer._handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        answer._handler.send_header("Content-Length", str(len(data) - first))
        answer._handler.end_headers()
        answer.send(data[first:])

    return script


@pytest.mark.parametrize("kind", CLIPS)
@pytest.mark.parametrize(
    "rule", [Sampling(fps=2.0), Sampling(every=7), Sampling(fps=1000.0)], ids=["fps", "every", "all"]
)
def test_a_served_file_gives_the_frames_of_the_file(
    tmp_path: Path, decoder: Decoder, kind: str, rule: Sampling
) -> None:
    path = CLIPS[kind](tmp_path)
    source = decoder.open(path)
    plan = rule.plan(Shown(source.pts_s, source.end_s, source.key))
    wanted = [picture for batch in source.frames(plan) for picture in batch.data.numpy()]
    with serving({"/a": ranged(path.read_bytes())}) as server:
        events = read(server.url("/a"), rule)
    got = of(events, Picture)
    assert [picture.number for picture in got] == plan.tolist()
    assert [picture.pts_s for picture in got] == source.pts_s[plan].tolist()
    assert all(np.array_equal(one.data, other) for one, other in zip(got, wanted, strict=True))
    assert isinstance(events[0], Opened)
    assert (events[0].width, events[0].height) == (source.info.width, source.info.height)
    assert events[-1] == Ended("end", source.end_s)
    assert len(events) == len(got) + 2


@pytest.mark.parametrize("name", ["a.ts", "a.mp4", "a.mkv"])
def test_a_served_file_gives_the_sound_of_the_file(tmp_path: Path, decoder: Decoder, name: str) -> None:
    path = with_tone(tmp_path / name)
    source = decoder.open(path)
    begins_s, end_s = float(source.pts_s[0]), source.end_s
    (track,) = source.audio(RATE, [begins_s, end_s])
    with serving({"/a": ranged(path.read_bytes())}) as server:
        events = read(server.url("/a"), Sampling(fps=1.0), audio_rate=RATE)
    heard = np.zeros(len(track.samples), np.float32)
    for block in of(events, Sound):
        place = round((block.start_s - begins_s) * RATE)
        part = block.samples[max(-place, 0) : len(heard) - place]
        heard[max(place, 0) : max(place, 0) + len(part)] = part
    assert np.abs(heard).max() > 0.3
    assert np.array_equal(heard, track.samples.numpy())
    assert events[0].audio_rate == RATE


def test_sound_comes_in_order_and_beside_its_pictures(tmp_path: Path) -> None:
    data = with_tone(tmp_path / "a.ts").read_bytes()
    with serving({"/a": lambda answer: answer.whole(data)}) as server:
        events = read(server.url("/a"), Sampling(fps=25.0), audio_rate=8000)
    blocks = of(events, Sound)
    ends = [block.start_s + len(block.samples) / 8000 for block in blocks]
    assert all(later.start_s >= end - 1e-6 for (_, later), end in zip(pairwise(blocks), ends, strict=False))
    latest_s = 0.0
    for event in events:
        if isinstance(event, Picture):
            latest_s = event.pts_s
        elif isinstance(event, Sound):
            assert abs(event.start_s - latest_s) < 2


def test_no_sound_is_sent_unasked_or_where_there_is_none(tmp_path: Path) -> None:
    loud, mute = with_tone(tmp_path / "a.ts").read_bytes(), stream(tmp_path / "b.ts")
    with serving({"/a": lambda a: a.whole(loud), "/b": lambda a: a.whole(mute)}) as server:
        for events in (read(server.url("/a"), Sampling()), read(server.url("/b"), Sampling(), audio_rate=8000)):
            assert events[0].audio_rate is None
            assert not of(events, Sound)


def test_pictures_are_the_receivers_own_and_know_when_they_came(tmp_path: Path) -> None:
    data = stream(tmp_path / "a.ts", count=100)
    begun_s = time.time()
    with serving({"/a": lambda answer: answer.whole(data)}) as server:
        shots = of(read(server.url("/a"), Sampling(every=1)), Picture)
    copies = [shot.data.copy() for shot in shots]
    shots[0].data[:] = 0  # writable, and nobody else's
    assert all(np.array_equal(shot.data, copy) for shot, copy in zip(shots[1:], copies[1:], strict=True))
    assert all(begun_s <= shot.wall_s <= time.time() for shot in shots)
