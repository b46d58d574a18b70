"""In the child: decoded frames of a live source; those that are sampled become pictures in shared memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from .decode_paint import Painter
from .ingest_clock import Shown, Steps
from .orientation import orientation, upright_size
from .sample import Sampling
from .sample_live import LiveSampler

Say = Callable[[Mapping[str, Any]], None]


class PictureRing(Protocol):
    """Where pictures go; `put` waits while the parent holds every slot (see `decode_ring`)."""

    def put(self, place: int, picture_HWC: NDArray[np.uint8]) -> None: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame that may be taken: everything about it."""

    frame: VideoFrame
    pts_s: float
    number: int
    wall_s: float


def size_of(frame: VideoFrame) -> tuple[int, int]:
    """(width, height), upright."""
    return upright_size(frame.width, frame.height, orientation(frame))


class Pictures:
    """The frames of one connection, given one by one with their times. `size` (width, height) upright, of all pictures.

    Says `{"jumped": [from_s, to_s, wall_s]}`, `{"resized": [width, height, wall_s]}`, and before each picture in the
    ring `{"picture": [pts_s, number, wall_s]}`.
    """

    def __init__(
        self, rule: Sampling, size: tuple[int, int], shown: Shown, steps: Steps, ring: PictureRing, say: Say, live: bool
    ) -> None:
        self._rule = rule
        self._size = self._source_size = size
        self._shown = shown
        self._steps = steps
        self._ring = ring
        self._say = say
        self._live = live
        self._sampler: LiveSampler[Taken] = LiveSampler.of(rule)
        self._painter: Painter | None = None
        self._stored = (0, 0)
        self._begun = False

    def jumps(self, pts_s: float) -> bool:
        """Whether the clock was set before a frame that comes now."""
        return self._shown.place(pts_s, time.monotonic(), live=self._live) == "jump"

    def push(self, frame: VideoFrame, pts_s: float, duration_s: float) -> None:
        """One more decoded frame."""
        now_s, wall_s = time.monotonic(), time.time()
        place = self._shown.place(pts_s, now_s, live=self._live)
        if place == "late":
            return
        if place == "jump":
            self._jump(pts_s, wall_s)
        elif self._begun and self._shown.last_s is not None:
            self._steps.steps_s.append(pts_s - self._shown.last_s)
        self._begun = True
        taken = self._sampler.push(pts_s, Taken(frame, pts_s, self._shown.number, wall_s))
        self._shown.count(pts_s, duration_s or self._steps.usual_s(), now_s, anew=place == "jump")
        self._paint(taken)

    def finish(self) -> None:
        """No more frames come: the last one may be taken."""
        if self._begun and self._shown.end_s is not None:
            self._paint(self._sampler.flush(self._shown.end_s))
            self._begun = False

    def _jump(self, pts_s: float, wall_s: float) -> None:
        from_s = self._shown.end_s
        self.finish()
        self._sampler = LiveSampler.of(self._rule)
        self._say({"jumped": [from_s, pts_s, wall_s]})

    def _paint(self, taken: list[Taken]) -> None:
        for one in taken:
            picture = self._painter_for(one).paint(one.frame)
            if picture is not None:
                self._say({"picture": [one.pts_s, one.number, one.wall_s]})
                self._ring.put(one.number, picture)

    def _painter_for(self, one: Taken) -> Painter:
        """One that makes pictures of the one size, chosen anew when stored frames have another size. Not for each
        frame: PyAV's side data, which say how it is turned, keep a frame alive until the garbage is collected."""
        stored = (one.frame.width, one.frame.height)
        if self._painter is None or stored != self._stored:
            turn = orientation(one.frame)
            self._painter, self._stored = Painter(upright_size(*self._size, turn), turn, threads=1), stored
            if (found := upright_size(*stored, turn)) != self._source_size:
                self._source_size = found
                self._say({"resized": [*found, one.wall_s]})
        return self._painter
