"""In the child: the media clock of a live source: when frames are shown, and whether the clock was set (pure)."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from statistics import median
from typing import Any, Final, Literal, Self

TS_BASE: Final = Fraction(1, 90000)
TS_WRAP: Final = 1 << 33  # ticks: 26.5 hours
LATE_S: Final = 0.5  # a frame so much before the one shown last comes out of order, as damage makes decoders do
JUMP_S: Final = 10.0  # by which the media clock may outrun the wall clock
STEPS: Final = 64  # that the usual step is taken from

Place = Literal["next", "late", "jump"]


@dataclass(slots=True)
class Unwrap:
    """MPEG-TS counts time modulo 2^33 ticks, and libav takes a clock that was set back for one that wrapped. So each
    time is the one nearest to the last, of whichever stream of the source; the first is as it came. Other containers'
    times are left alone."""

    wraps: bool
    last: int | None = None

    def seconds(self, ticks: int, time_base: Fraction) -> float:
        """The time of one frame, rounded as PyAV's `frame.time` is."""
        if self.wraps and time_base == TS_BASE:
            if self.last is not None:
                half = TS_WRAP // 2
                ticks = self.last + (ticks - self.last + half) % TS_WRAP - half
            self.last = ticks
        return float(ticks) * time_base.numerator / time_base.denominator


@dataclass(slots=True)
class Shown:
    """What is known of the frames so far; it outlives a connection.

    `number`: frames shown; `last_s`, `end_s`: when the last of them begins and ends; `ahead_s`: the most that the media
    clock has been ahead of this machine's monotonic clock since either was set. A source that was held up falls behind
    by that, and may catch up at once: it has not jumped.
    """

    number: int = 0
    last_s: float | None = None
    end_s: float | None = None
    ahead_s: float | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def place(self, pts_s: float, now_s: float, *, live: bool) -> Place:
        """Where a frame belongs that came at `now_s`. A source that is not `live` may have gaps of any length."""
        if self.last_s is None or self.ahead_s is None:
            return "next"
        if pts_s <= self.last_s:
            return "late" if pts_s > self.last_s - LATE_S else "jump"
        outrun = pts_s - self.last_s > JUMP_S and pts_s - now_s > self.ahead_s + JUMP_S
        return "jump" if live and outrun else "next"

    def count(self, pts_s: float, duration_s: float, now_s: float, *, anew: bool) -> None:
        """One more frame; `anew`: the clock was set before it."""
        ahead_s = pts_s - now_s
        self.ahead_s = ahead_s if anew or self.ahead_s is None else max(ahead_s, self.ahead_s)
        self.last_s, self.end_s = pts_s, pts_s + duration_s
        self.number += 1


@dataclass(slots=True)
class Steps:
    """How long a frame is shown whose container does not say: as long as is usual here."""

    default_s: float
    steps_s: deque[float] = field(default_factory=lambda: deque[float](maxlen=STEPS))

    def usual_s(self) -> float:
        return median(self.steps_s) if self.steps_s else self.default_s
