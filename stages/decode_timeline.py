"""When each frame is shown: strictly ascending ticks, from packets or from decoded frames (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

NO_TIME: Final = -(1 << 63)  # FFmpeg's AV_NOPTS_VALUE
REORDERED: Final = 16  # frames, the most that any codec reorders
JITTER_S: Final = 1e-3  # steps that differ by no more are the same: containers and remuxers round to milliseconds


class Clock(Protocol):
    """What the container says of time; `rate` is its guess of frames a second."""

    @property
    def time_base(self) -> Fraction: ...
    @property
    def rate(self) -> Fraction: ...
    @property
    def container(self) -> str: ...


def seconds(ticks: NDArray[np.int64], time_base: Fraction) -> NDArray[np.float64]:
    """Ticks as float64 seconds, rounded as PyAV's own `frame.time` is."""
    return ticks.astype(np.float64) * time_base.numerator / time_base.denominator


@dataclass(frozen=True, slots=True)
class Timeline:
    """`ticks` int64 (M,) strictly ascending, M >= 1; `key` bool (M,) key frames; `end`: when the last frame ends.

    `by_order`: the ticks were worked out; a decoded frame is known by its place in the order, not by its pts.
    """

    ticks: NDArray[np.int64]
    key: NDArray[np.bool_]
    end: int
    time_base: Fraction
    by_order: bool

    @property
    def end_s(self) -> float:
        return float(seconds(np.array([self.end]), self.time_base)[0])

    @property
    def duration_s(self) -> float:
        return float((self.end - int(self.ticks[0])) * self.time_base)

    @property
    def steps_s(self) -> NDArray[np.float64]:
        """Seconds from each frame to the next, float64 (M-1,)."""
        return seconds(np.diff(self.ticks), self.time_base)

    @property
    def fps(self) -> float:
        """Frames a second on average, from the first pts to the last; of a single frame, one over its duration."""
        steps = len(self.ticks) - 1
        span = int(self.ticks[-1]) - int(self.ticks[0])
        return float(steps / (span * self.time_base)) if steps else 1 / self.duration_s

    @property
    def variable(self) -> bool:
        """Whether some step differs from the average by more than a tick's or a millisecond's rounding."""
        steps = self.steps_s
        slack_s = max(float(self.time_base), JITTER_S) * 1.001
        return len(steps) > 0 and bool((np.abs(steps - steps.mean()) > slack_s).any())


def of_packets(pts: Sequence[int], duration: Sequence[int], key: Sequence[int], first: int, clock: Clock) -> Timeline:
    """From packets in decode order: sorted, from the first frame that decodes (at tick `first`) on.

    What precedes it belongs to a group of pictures that begins before the file does: no decoder shows it.
    """
    ticks = np.array(pts, np.int64)
    order = np.argsort(ticks)
    order = order[ticks[order] >= first]
    return _timeline(ticks[order], np.array(duration)[order], np.array(key)[order], clock, by_order=False)


def of_frames(pts: Sequence[int], duration: Sequence[int], key: Sequence[int], clock: Clock) -> Timeline:
    """From decoded frames in their order.

    Without times, frame n is shown at n / `rate`. Times that are right as a set but not in their order (AVI's, and of
    MPEG-4 that came from there) are sorted. A time that does not ascend is a clock that was set back: it goes on from
    there by one usual step.
    """
    ticks = np.array(pts, np.int64)
    if NO_TIME in ticks:
        return _counted(len(ticks), np.array(key), clock.rate)
    if clock.container == "avi" or _shuffled(ticks, clock):
        ticks = np.sort(ticks)
    steps = np.diff(ticks)
    steps = np.where(steps > 0, steps, _usual_step(steps, clock))
    ascending = ticks[0] + np.concatenate([[0], np.cumsum(steps)])
    return _timeline(ascending, np.array(duration), np.array(key), clock, by_order=True)


def _shuffled(ticks: NDArray[np.int64], clock: Clock) -> bool:
    """Whether times only go back by as many frames as a decoder reorders, and no two are the same."""
    steps = np.diff(ticks)
    near = REORDERED * _usual_step(steps, clock)
    return len(np.unique(ticks)) == len(ticks) and bool((steps < 0).any()) and bool((steps > -near).all())


def _counted(count: int, key: NDArray[np.int64], rate: Fraction) -> Timeline:
    return Timeline(np.arange(count), key.astype(bool), count, 1 / rate, by_order=True)


def _timeline(
    ticks: NDArray[np.int64], duration: NDArray[np.int64], key: NDArray[np.int64], clock: Clock, *, by_order: bool
) -> Timeline:
    last = int(duration[-1]) if duration[-1] > 0 else _usual_step(np.diff(ticks), clock)
    return Timeline(ticks, key.astype(bool), int(ticks[-1]) + last, clock.time_base, by_order)


def _usual_step(steps: NDArray[np.int64], clock: Clock) -> int:
    """The median of the steps forward, else one frame of the container's rate; at least a tick."""
    forward = steps[steps > 0]
    return max(int(np.median(forward)) if len(forward) else round(1 / (clock.rate * clock.time_base)), 1)
