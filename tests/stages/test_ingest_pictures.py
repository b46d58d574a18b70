"""Decoded frames of a live source by themselves: which are told, and that none is kept."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from media import make_clip
from numpy.typing import NDArray

from vidcomp.stages.ingest_clock import Shown, Steps
from vidcomp.stages.ingest_pictures import Pictures
from vidcomp.stages.sample import Sampling


class Kept:
    """A ring that copies."""

    def __init__(self) -> None:
        self.pictures = list[NDArray[np.uint8]]()
        self.numbers = list[int]()
        self.said = list[Mapping[str, Any]]()

    def put(self, place: int, picture_HWC: NDArray[np.uint8]) -> None:
        self.numbers.append(place)
        self.pictures.append(picture_HWC.copy())


def of(kept: Kept, rule: Sampling, size: tuple[int, int] = (64, 48)) -> Pictures:
    return Pictures(rule, size, Shown(), Steps(0.04), kept, kept.said.append, True)


def test_no_frame_outlives_its_picture(tmp_path: Path) -> None:
    """Without the help of the garbage collector, which a child that makes little garbage seldom runs."""
    path = make_clip(tmp_path / "a.mp4", count=60)
    kept = Kept()
    pictures = of(kept, Sampling(every=1))
    gc.collect()
    gc.disable()
    try:
        with av.open(str(path)) as container:
            for n, frame in enumerate(container.decode(video=0)):
                pictures.push(frame, n / 25, 0.04)
                del frame
            alive = sum(type(thing) is VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert len(kept.pictures) == 60
    assert alive <= 4


def test_frames_out_of_order_are_passed_over(tmp_path: Path) -> None:
    kept = Kept()
    pictures = of(kept, Sampling(every=1))
    with av.open(str(make_clip(tmp_path / "a.mp4", count=5))) as container:
        for frame, pts_s in zip(container.decode(video=0), [1.0, 1.04, 1.02, 1.04, 1.08], strict=True):
            pictures.push(frame, pts_s, 0.04)
    told = [message["picture"][:2] for message in kept.said]
    assert told == [[1.0, 0], [1.04, 1], [1.08, 2]]


def test_an_unknown_length_is_the_usual_one(tmp_path: Path) -> None:
    shown = Shown()
    kept = Kept()
    pictures = Pictures(Sampling(fps=1.0), (64, 48), shown, Steps(0.5), kept, kept.said.append, True)
    with av.open(str(make_clip(tmp_path / "a.mp4", count=4))) as container:
        for frame, pts_s in zip(container.decode(video=0), [0.0, 0.1, 0.2, 0.9], strict=True):
            pictures.push(frame, pts_s, 0.0)
    assert shown.end_s == 0.9 + 0.1
