"""What a live source tells, event by event (numpy only).

Two clocks, both kept: `pts_s` and all other media times are seconds of the source's own clock, as the container has
them; `wall_s` is unix time on this machine, when it happened here.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

LostReason = Literal[
    "refused",  # no connection: nobody listens, no such host, no way there
    "denied",  # the server answers, but not with this: not found, not authorized, failing itself
    "closed",  # the connection ended, and nothing had said that the source would
    "timeout",  # nothing came for longer than the timeouts, or the child hung and was killed
    "garbage",  # what came is no video, or no picture could be decoded from it
    "no_video",  # a container without a video stream
    "unsupported",  # no decoder for it
    "too_large",  # over a limit
    "crashed",  # the ingest child died
]
EndReason = Literal["end", "gave_up", "cancelled"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection stands, and its first frame has been decoded.

    `width`, `height`: of every `Picture` of the feed, upright: those of the feed's first connection. A connection that
    brings another size is followed by `Resized`. `fps`: the container's word, None where it says nothing.
    `audio_rate`: of the `Sound` to come, None where the source has none or none was asked for. `finite`: the source
    says that it ends, so that it is recorded, and can wait.
    """

    width: int
    height: int
    fps: float | None
    audio_rate: int | None
    wall_s: float
    finite: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One sampled frame: `data` uint8 (H,W,3) upright RGB that is the receiver's own, `number` its place among all
    frames decoded since the feed began."""

    data: NDArray[np.uint8]
    pts_s: float
    number: int
    wall_s: float

    def __repr__(self) -> str:
        return f"Picture({self.data.shape}, pts_s={self.pts_s}, number={self.number}, wall_s={self.wall_s})"


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """`samples` float32 (S,), S >= 1, mono at `Opened.audio_rate`; the first one is heard at `start_s`.

    Blocks come in their order; one may begin later than the one before it ends (the source was silent), none earlier,
    by more than rounding, unless `Opened` or `Jumped` lies between them.
    """

    samples: NDArray[np.float32]
    start_s: float

    def __repr__(self) -> str:
        return f"Sound({len(self.samples)} samples, start_s={self.start_s})"


@dataclass(frozen=True, slots=True)
class Jumped:
    """The media clock was set: frames were due at `from_s` (when the last one ends), and go on at `to_s`. Sampling
    starts anew: the next frame is taken."""

    from_s: float
    to_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Resized:
    """From here on the source's frames are (`width`, `height`), upright; they are scaled to the first size, whatever
    their own shape."""

    width: int
    height: int
    wall_s: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone, or did not come about. `message`: one line that names scheme and host, never a user, a
    password, a path or a query. `end_s`: when the feed's last frame ends on the media clock, None before the first.

    What follows is `Retry` or `Ended`; sampling starts anew with the next connection, as it does after `Jumped`.
    """

    reason: LostReason
    message: str
    end_s: float | None
    wall_s: float


@dataclass(frozen=True, slots=True)
class Retry:
    """The next attempt is made in `after_s` seconds."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event: `end`: a finite source was read to its end; `gave_up`: attempts or time are used up;
    `cancelled`. `end_s`: as of `Lost`."""

    why: EndReason
    end_s: float | None


Event = Opened | Picture | Sound | Jumped | Resized | Lost | Retry | Ended


class LossError(Exception):
    """There is no connection, or no more. `final`: another attempt would find the same."""

    def __init__(self, reason: LostReason, message: str, *, final: bool = False) -> None:
        super().__init__(reason, message)
        self.reason: LostReason = reason
        self.message = message
        self.final = final


class Feed(Protocol):
    """A source of events. One thread reads and closes it; `cancel` may come from any."""

    def events(self) -> Generator[Event]:
        """Everything until `Ended`; to be asked for once. A consumer that is slow holds the source up."""

    def cancel(self) -> None:
        """Whoever waits for an event gets `Ended("cancelled")` now; `events` that was not begun gives only that."""

    def close(self) -> None:
        """Give back what the feed holds: the child, its memory."""
