"""`vidcomp stream` of live sources over a real HTTP server that cuts, freezes, sends garbage and sets its clock."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from live_servers import Answer, serving, stream, with_tone

import vidcomp
from vidcomp.models.dct import DctEncoder
from vidcomp.pipeline.recall import recalled
from vidcomp.pipeline.stream_folder import StreamFolder

HOW: dict[str, Any] = {"method": "evs", "fps": 5.0, "settings": ["chunk_frames=4"], "out": "s"}
WITHIN_S = 10.0  # it is to go on after whatever happens
QUICK: dict[str, Any] = {"read_timeout_s": 1.0, "give_up_s": 20.0}


@pytest.fixture(autouse=True)
def folder(here: Path) -> StreamFolder:
    return StreamFolder(here / "s")


def followed(url: str, chunks: int, **how: Any) -> list[Any]:
    """So many chunks of a source."""
    parts: Iterator[Any] = vidcomp.stream(url, **QUICK, **HOW, **how)
    found = list(islice(parts, chunks))
    parts.close()  # type: ignore[attr-defined]
    return found


def events(folder: StreamFolder) -> list[dict[str, Any]]:
    return list(folder.events())


def ascends(folder: StreamFolder) -> None:
    """The stream's own clock never goes back, whatever the source's does."""
    whole = recalled(folder.path, None)
    assert (whole.grid_pts_s.diff() > 0).all()
    assert (whole.frame_index.diff() > 0).all()
    for row in folder.chunks():
        assert row["frames"] == vidcomp.load(folder.record(row["key"])).meta["frames"]


def recovers(folder: StreamFolder, *mishaps: str) -> None:
    """After each of these the next chunk's last frame comes soon."""
    told = [event for event in events(folder) if event["event"] in mishaps]
    frames_s = [row["wall_s"] for row in folder.chunks()]
    assert {event["event"] for event in told} == set(mishaps)
    for event in told:
        assert min(at_s for at_s in frames_s if at_s > event["wall_s"]) - event["wall_s"] < WITHIN_S, event


def test_a_connection_that_is_cut_twenty_times(tmp_path: Path, folder: StreamFolder) -> None:
    data = stream(tmp_path / "a.ts", count=20)
    with serving({"/a": lambda answer: answer.live(data)}) as server:
        assert len(followed(server.url("/a"), 21)) == 21
    told = Counter(event["event"] for event in events(folder))
    assert (told["lost"], told["gap"], told["opened"]) == (20, 20, 21)
    recovers(folder, "lost")
    ascends(folder)


def test_a_source_that_freezes_and_sends_garbage(tmp_path: Path, folder: StreamFolder) -> None:
    data = stream(tmp_path / "a.ts", count=40)
    garbage = np.random.default_rng(0).bytes(6 << 20)

    def script(answer: Answer) -> None:
        answer.head()
        answer.send(garbage if answer.number == 1 else data)
        if answer.number in (0, 3):
            answer.freeze()

    with serving({"/a": script}) as server:
        assert len(followed(server.url("/a"), 6)) == 6
    lost = [event["reason"] for event in events(folder) if event["event"] == "lost"]
    assert lost[:2] == ["timeout", "garbage"]
    recovers(folder, "lost")
    ascends(folder)


@pytest.mark.parametrize("hour_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_by_an_hour(tmp_path: Path, folder: StreamFolder, hour_s: float) -> None:
    first, then = (stream(tmp_path / "a.ts", count=25, start_s=4000 + at_s, seed=1) for at_s in (0.0, hour_s))

    def script(answer: Answer) -> None:
        answer.live(first + then)
        answer.freeze()

    with serving({"/a": script}) as server:
        assert len(followed(server.url("/a"), 3)) == 3
    (jumped,) = [event for event in events(folder) if event["event"] == "jumped"]
    assert jumped["to_s"] - jumped["from_s"] == pytest.approx(hour_s, abs=2)
    assert [event["why"] for event in events(folder) if event["event"] == "gap"] == ["jumped"]
    whole = recalled(folder.path, None)
    assert float(whole.grid_pts_s[-1] - whole.grid_pts_s[0]) < 60
    recovers(folder, "jumped")
    ascends(folder)


def test_pictures_of_another_size(tmp_path: Path, folder: StreamFolder) -> None:
    small, large = (
        stream(tmp_path / "a.ts", count=40),
        stream(tmp_path / "b.ts", count=40, start_s=11.6, size=(128, 96)),
    )

    def script(answer: Answer) -> None:
        answer.live(small + large)
        answer.freeze()

    with serving({"/a": script}) as server:
        followed(server.url("/a"), 3)
    (resized,) = [event for event in events(folder) if event["event"] == "resized"]
    assert (resized["width"], resized["height"]) == (128, 96)
    recovers(folder, "resized")
    ascends(folder)


def test_a_served_file_is_what_the_file_is(tmp_path: Path, folder: StreamFolder) -> None:
    """Whole, with the sound that guides; its end is believed."""
    clip = with_tone(tmp_path / "a.ts", sound_s=0.0)
    settings = {**HOW, "method": "fastvid", "audio_guide": "proportional"}
    with serving({"/a": lambda answer: answer.whole(clip.read_bytes())}) as server:
        parts = list(vidcomp.stream(server.url("/a"), pace="max", **settings))
    settings["out"] = "e"
    whole = vidcomp.encode(clip, **settings)
    joined = recalled(folder.path, None)
    assert joined.meta["grid"] == whole.meta["grid"]
    assert torch.equal(joined.frame_pts_s, whole.frame_pts_s)
    assert torch.equal(joined.grid_pts_s, whole.grid_pts_s)
    assert sum(len(part) for part in parts) == len(whole)
    assert joined.saliency is not None
    assert joined.saliency.shape == whole.saliency.shape
    assert events(folder)[-1]["event"] == "end"


def test_a_recorded_video_waits_for_a_slow_model(
    tmp_path: Path, folder: StreamFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, encode = stream(tmp_path / "a.ts", count=100), DctEncoder.encode

    def slow(self: Any, *rest: Any, **how: Any) -> Any:
        time.sleep(0.3)
        return encode(self, *rest, **how)

    monkeypatch.setattr(DctEncoder, "encode", slow)
    with serving({"/a": lambda answer: answer.whole(data)}) as server:
        list(vidcomp.stream(server.url("/a"), **QUICK, **HOW))
    assert sum(row["frames"] for row in folder.chunks()) == 20
    assert sum(row["dropped"] for row in folder.chunks()) == 0


def test_sound_that_comes_later_is_not_kept_and_not_held(tmp_path: Path, folder: StreamFolder) -> None:
    mute, loud = stream(tmp_path / "a.ts", count=50), with_tone(tmp_path / "b.ts").read_bytes()
    with serving({"/a": lambda answer: answer.live(loud if answer.number else mute)}) as server:
        how = {**HOW, "audio_guide": "proportional"}
        found = list(islice(vidcomp.stream(server.url("/a"), **QUICK, **how), 6))
    assert len(found) == 6
    assert recalled(folder.path, None).saliency is None


def test_a_source_that_is_not_there_ends_the_run(folder: StreamFolder) -> None:
    with serving({}) as server:
        url = server.url("/gone/secret2?user=a&password=secret3", "user:secret@")
    with pytest.raises(vidcomp.SourceError, match="gives no more frames"):
        list(vidcomp.stream(url, give_up_s=0.5, **HOW))
    assert "secret" not in folder.index.read_text()
    assert [event["event"] for event in events(folder)][:2] == ["start", "lost"]
