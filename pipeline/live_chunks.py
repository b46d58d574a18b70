"""From a live source's events to closed chunks of model-size frames, each with the sound of its time.

A chunk closes when it has `chunk_frames` sampled frames; where sound is wanted, when the frame behind it has come too
and the sound up to there. A gap (a lost connection, a clock that was set, the end) closes it with what it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..models.base import VideoModel
from ..models.types import Frames
from ..stages.failure import SourceError
from ..stages.ingest import Ended, Event, Feed, Jumped, Lost, Opened, Picture, Sound

MOST_HEARD_S = 600.0  # of one chunk: what a gap in the source's clock makes longer is silence, and takes no memory
LATE_S = 1.0  # sound that comes later than pictures by more than this counts as silence


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A sampled frame: uint8 (1,h,w,3) at model size; `dropped` frames before it in all; otherwise as `Picture`."""

    data: Tensor
    pts_s: float
    number: int
    wall_s: float
    dropped: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Closed:
    """A closed chunk: frames at model size, when the last one ends on the media clock, when the last one came, frames
    dropped before that one in all, and float32 (S,) samples from the first frame to the end, where sound is wanted and
    the source has some."""

    frames: Frames
    end_s: float
    wall_s: float
    dropped: int
    sound: Tensor | None


def model_size(model: VideoModel, chunk_frames: int, opened: Opened) -> tuple[int, int]:
    """(h, w) of all frames of a live source: those of a clip of one chunk. `SourceError`: the model refuses."""
    try:
        return model.frame_size(chunk_frames, opened.height, opened.width)
    except ValueError as e:
        raise SourceError("unsupported", str(e), "crop or scale the video, or take another model") from None


def shots(feed: Feed, model: VideoModel, chunk_frames: int, size: tuple[int, int] | None) -> Generator[Event | Shot]:
    """A feed's events, its pictures at model size (in the thread that reads the feed): source-size pictures are large,
    and none is kept. `size` None: the model's own of the first connection's pictures."""
    for event in feed.events():
        if isinstance(event, Opened) and size is None:
            size = model_size(model, chunk_frames, event)
        if isinstance(event, Picture):
            assert size is not None  # `Opened` comes first
            data = model.resize(torch.from_numpy(event.data)[None], size)
            yield Shot(data, event.pts_s, event.number, event.wall_s)
        else:
            yield event


def weigh(event: Event | Shot) -> int | None:
    """For `Ring`: frames count, sound goes with them, what happened is kept."""
    return 1 if isinstance(event, Shot) else 0 if isinstance(event, Sound) else None


class Assembly:
    """Chunks in the making. `fps`: of sampling; `rate`: of the sound that is wanted, None: none."""

    def __init__(self, chunk_frames: int, fps: float, rate: int | None) -> None:
        self.chunk_frames, self.fps, self.rate = chunk_frames, fps, rate
        self._groups: deque[list[Shot]] = deque()
        self._blocks: list[Sound] = []

    def closed(self, event: Event | Shot) -> Iterator[Closed]:
        """The chunks that an event closes."""
        if isinstance(event, Sound):
            if self.rate is not None:  # else a source that had none at first: its chunks hold no sound
                self._blocks.append(event)
        elif isinstance(event, Shot):
            if not self._groups or len(self._groups[-1]) == self.chunk_frames:
                self._groups.append([])
            self._groups[-1].append(event)
        elif isinstance(event, Jumped):
            yield from self._flush(event.from_s)
        elif isinstance(event, Lost | Ended):
            yield from self._flush(event.end_s)
        while self._ready():
            yield self._take(self._end_of_first(None))

    def _ready(self) -> bool:
        if not self._groups or len(self._groups[0]) < self.chunk_frames:
            return False
        if self.rate is None:
            return True
        if len(self._groups) < 2:
            return False
        end_s, newest_s = self._groups[1][0].pts_s, self._groups[-1][-1].pts_s
        heard_s = self._blocks[-1].start_s + len(self._blocks[-1].samples) / self.rate if self._blocks else -torch.inf
        return heard_s >= end_s or newest_s >= end_s + LATE_S

    def _flush(self, end_s: float | None) -> Iterator[Closed]:
        while self._groups:
            yield self._take(self._end_of_first(end_s))
        self._blocks.clear()

    def _end_of_first(self, end_s: float | None) -> float:
        if len(self._groups) > 1:
            return self._groups[1][0].pts_s
        last_s = self._groups[0][-1].pts_s
        return last_s + 1 / self.fps if end_s is None or end_s <= last_s else end_s

    def _take(self, end_s: float) -> Closed:
        group = self._groups.popleft()
        frames = Frames(
            torch.cat([shot.data for shot in group]),
            torch.tensor([shot.pts_s for shot in group], dtype=torch.float64),
            torch.tensor([shot.number for shot in group]),
        )
        heard_s = min(end_s, group[0].pts_s + max(2 * self.chunk_frames / self.fps, MOST_HEARD_S))
        sound = None if self.rate is None else laid(self._blocks, group[0].pts_s, heard_s, self.rate)
        if self.rate is not None:
            self._blocks = [b for b in self._blocks if b.start_s + len(b.samples) / self.rate > end_s]
        return Closed(frames, end_s, group[-1].wall_s, group[-1].dropped, sound)


def laid(blocks: list[Sound], start_s: float, end_s: float, rate: int) -> Tensor:
    """float32 (S,): the sound from `start_s` to `end_s`, silence where there is none."""
    out = np.zeros(max(round((end_s - start_s) * rate), 0), np.float32)
    for block in blocks:
        at = round((block.start_s - start_s) * rate)
        samples = block.samples[max(-at, 0) :]
        place = out[max(at, 0) : max(at, 0) + len(samples)]
        place[:] = samples[: len(place)]
    return torch.from_numpy(out)
