"""Which frames to take: pure functions over presentation times (numpy only).

One clock everywhere: times are true pts in seconds, as the container and the record have them. A time between two
frames takes the nearest, the earlier one at a tie; no frame is taken twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .sample_rate import SAME_TIME_S, plan_fps, targets

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shown:
    """A video's frames in order: `pts_s` float64 (M,) ascending, M >= 1; `end_s` when the last one ends; `key` bool
    (M,)."""

    pts_s: NDArray[np.float64]
    end_s: float
    key: NDArray[np.bool_]

    def between(self, start_s: float | None, end_s: float | None) -> tuple[int, Shown]:
        """(index of its first frame, the frames shown at start_s <= pts < end_s). ValueError: there are none."""
        first = 0 if start_s is None else int(np.searchsorted(self.pts_s, start_s))
        behind = len(self.pts_s) if end_s is None else int(np.searchsorted(self.pts_s, end_s))
        if first >= behind:
            span = f"{self.pts_s[0]:g} to {self.end_s:g} s"
            raise ValueError(f"none of its frames ({span}) lies between start_s={start_s} and end_s={end_s}")
        end = self.end_s if behind == len(self.pts_s) else float(self.pts_s[behind])
        end = end if end_s is None else min(end, end_s)
        return first, Shown(self.pts_s[first:behind], end, self.key[first:behind])


@dataclass(frozen=True, slots=True)
class Sampling:
    """One rule: `fps` samples a second; every `every`-th frame; `frames` of them spread evenly in time, the first and
    the last included; `keyframes`; or the frames at `times_s`. Only frames from `start_s` on and before `end_s` count.

    A rule that takes no frame at all is refused. More than `max_frames` are thinned evenly, in their order; fewer than
    `min_frames` are replaced by that many (or all there are) spread evenly in time.
    """

    fps: float | None = None
    every: int | None = None
    frames: int | None = None
    keyframes: bool = False
    times_s: Sequence[float] = ()
    start_s: float | None = None
    end_s: float | None = None
    min_frames: int = 1
    max_frames: int | None = None

    def plan(self, video: Shown) -> Index:
        """Presentation indices int64 (n,), n >= 1, strictly ascending. ValueError: no frame is where it was asked."""
        first, seen = video.between(self.start_s, self.end_s)
        taken = self._taken(seen)
        if len(taken) < self.min_frames:
            taken = spread(seen.pts_s, self.min_frames)
        return first + thinned(taken, self.max_frames)

    def _taken(self, seen: Shown) -> Index:
        if self.every is not None:
            return np.arange(0, len(seen.pts_s), self.every)
        if self.frames is not None:
            return spread(seen.pts_s, self.frames)
        if self.times_s:
            return at_times(seen, self.times_s)
        if self.keyframes:
            return keys(seen)
        return plan_fps(seen.pts_s, seen.end_s, self.fps or 1.0)

    def rate(self, video: Shown, index: Index) -> float:
        """Frames a second that the plan `index` really has.

        By `fps`: that, unless there are fewer frames than times asked for (the source is slower, has gaps, or
        `max_frames` thinned it): then frames over the time they stand for. By other rules: steps over the time between
        the first sample and the last, and of one frame one over the time it stands for.
        """
        _, seen = video.between(self.start_s, self.end_s)
        span_s = seen.end_s - float(seen.pts_s[0])
        by_rate = self.fps is not None
        if by_rate and len(index) == targets(span_s, self.fps or 1.0):
            return self.fps or 1.0
        if by_rate or len(index) == 1:
            return len(index) / span_s if span_s > 0 else self.fps or 1.0
        return (len(index) - 1) / float(video.pts_s[index[-1]] - video.pts_s[index[0]])


def spread(pts_s: NDArray[np.float64], count: int) -> Index:
    """`count` frames, or all: those nearest to as many times evenly from the first pts to the last. Where two times
    (in a gap) have the same nearest frame, the next free one is taken."""
    n = min(count, len(pts_s))
    k = np.arange(n)
    near = nearest(pts_s, np.linspace(pts_s[0], pts_s[-1], n))
    return np.minimum(np.maximum.accumulate(near - k) + k, len(pts_s) - n + k)


def keys(seen: Shown) -> Index:
    """The key frames. ValueError: there are none."""
    if not seen.key.any():
        raise ValueError(f"it has no key frame from {seen.pts_s[0]:g} to {seen.end_s:g} s")
    return np.flatnonzero(seen.key)


def at_times(seen: Shown, times_s: Sequence[float]) -> Index:
    """The frames nearest to those of `times_s` at which the video shows something. ValueError: it shows none."""
    asked = np.asarray(times_s, np.float64)
    shown = asked[(asked >= seen.pts_s[0]) & (asked < seen.end_s)]
    if not len(shown):
        raise ValueError(f"none of the times asked for lies in it ({seen.pts_s[0]:g} to {seen.end_s:g} s)")
    return np.unique(nearest(seen.pts_s, shown))


def nearest(pts_s: NDArray[np.float64], times_s: NDArray[np.float64]) -> Index:
    """The frame nearest to each time, the earlier at a tie (within 1 ns)."""
    midpoints = (pts_s[:-1] + pts_s[1:]) / 2
    return np.searchsorted(midpoints + SAME_TIME_S, times_s, side="left").astype(np.int64)


def thinned(index: Index, most: int | None) -> Index:
    """At most `most` of them, evenly by their order, the first and the last included."""
    if most is None or len(index) <= most:
        return index
    return index[np.floor(np.linspace(0, len(index) - 1, most)).astype(np.int64)]
