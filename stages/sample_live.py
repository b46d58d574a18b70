"""Which frames of a live source to take, decided as they come (pure)."""

from __future__ import annotations

import math
from typing import Final, Generic, TypeVar

from .sample import Sampling
from .sample_rate import SAME_TIME_S, targets

T = TypeVar("T")
UNKNOWN_AHEAD: Final = "a live source is sampled by fps or by every: the other rules need the whole video"


class LiveSampler(Generic[T]):
    """Takes the frames that `Sampling(fps=fps)` or `Sampling(every=every)` takes of the same times once the stream has
    ended, provided that the last frame is shown for longer than 4 ns.

    By `fps` a frame is decided on when the next one comes: the targets nearest to it lie before the midpoint between
    the two (`sample_rate.plan_fps`). By `every` at once. Memory: one frame.
    """

    def __init__(self, fps: float | None = None, every: int | None = None) -> None:
        self._fps = fps or 1.0
        self._every = every
        self._count = 0
        self._first_s = self._since_s = 0.0
        self._waiting: list[T] = []  # the frame to be decided on, if any
        self._done = -1.0  # the largest target that a frame before it is nearest to

    @classmethod
    def of(cls, rule: Sampling) -> LiveSampler[T]:
        """By a rule of the two kinds. ValueError: of another kind, or with limits (`check`)."""
        check(rule)
        return cls(rule.fps, rule.every)

    def push(self, pts_s: float, frame: T) -> list[T]:
        """The next frame, shown at `pts_s`, not before the one pushed last -> the frame that is now taken, if any."""
        self._count += 1
        if self._every is not None:
            return [frame] if (self._count - 1) % self._every == 0 else []
        if self._count == 1:
            self._first_s = pts_s
        since_s = pts_s - self._first_s
        taken = self._decided(math.floor(((self._since_s + since_s) / 2 + SAME_TIME_S) * self._fps))
        self._waiting, self._since_s = [frame], since_s
        return taken

    def flush(self, end_s: float) -> list[T]:
        """The stream has ended, its last frame at `end_s` -> that frame, if it is taken. To be used once."""
        return self._decided(targets(end_s - self._first_s, self._fps) - 1)

    def _decided(self, last: float) -> list[T]:
        """The waiting frame, if a target up to `last` is nearest to it."""
        if not self._waiting or last <= self._done:
            self._waiting = []
            return []
        taken, self._waiting, self._done = self._waiting, [], last
        return taken


def check(rule: Sampling) -> None:
    """ValueError unless a live source can be sampled by `rule`."""
    if rule.frames is not None or rule.keyframes or rule.times_s:
        raise ValueError(UNKNOWN_AHEAD)
    if rule.start_s is not None or rule.end_s is not None or rule.max_frames is not None or rule.min_frames > 1:
        raise ValueError("a live source has no start_s, end_s, min_frames or max_frames to be sampled by")
    if rule.fps is not None and not (math.isfinite(rule.fps) and rule.fps > 0):
        raise ValueError(f"fps must be a positive number, got {rule.fps}")
    if rule.every is not None and rule.every < 1:
        raise ValueError(f"every must be at least 1, got {rule.every}")
