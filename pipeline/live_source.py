"""What `vidcomp stream` is given, as a feed: a URL, raw frames on stdin; a file has its own way (`stream.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..stages.ingest import Feed, RawFeed, UrlFeed
from ..stages.ingest_url import MAX_PIXELS, SCHEMES
from ..stages.sample import Sampling
from .config import Recipe
from .corpus import SourceListError
from .errors import ConfigError
from .urls import is_url, protocol

Pace = Literal["real", "max"]
STDIN, STDIN_FD = "-", 0
LONGEST_S = 86400.0  # that a packet is waited for


@dataclass(frozen=True)
class Live:
    """How a source is followed.

    `pace` real: frames come at their time, and of those that the model has no time for the oldest are dropped (a file
    can wait: nothing of it is dropped); max: the source waits for the model. `size` (w, h) and `rate`: of raw frames.
    `open_timeout_s`, `read_timeout_s`, `give_up_s` (None: never): of a connection, see `UrlFeed`.
    """

    pace: Pace = "real"
    size: tuple[int, int] | None = None
    rate: float | None = None
    open_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    give_up_s: float | None = None

    def __post_init__(self) -> None:
        if self.pace not in ("real", "max"):
            raise ConfigError(f"--pace must be real or max, got {self.pace!r}")
        if self.size is not None and self.size[0] * self.size[1] > MAX_PIXELS:
            raise ConfigError(f"--size: pictures of {self.size[0]}x{self.size[1]} are over {MAX_PIXELS} pixels")
        for name, value in (("--open-timeout", self.open_timeout_s), ("--read-timeout", self.read_timeout_s)):
            if not 0 < value <= LONGEST_S:
                raise ConfigError(f"{name} must be above 0 and at most {LONGEST_S:g} s, got {value}")


def size_of(text: str | None) -> tuple[int, int] | None:
    """`640x360` as (640, 360)."""
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise ConfigError(f"--size must be WxH, 640x360 for example, got {text!r}")
    return int(width), int(height)


def is_file(source: str) -> bool:
    """Whether it is a file's path. SourceListError: there is no such file. ConfigError: a URL of another kind."""
    if source == STDIN:
        return False
    if not is_url(source):
        if not Path(source).exists():
            raise SourceListError(f"{source}: no such file: give a file, a URL, or - for raw frames on stdin")
        return True
    if protocol(source) not in SCHEMES:
        raise ConfigError(f"{protocol(source)}:// cannot be followed: there are {', '.join(SCHEMES)}, a file, and -")
    return False


def feed_of(source: str, live: Live, recipe: Recipe, audio_rate: int | None) -> Feed:
    """The feed of a live source; ConfigError: a rule or a size that it cannot be followed by."""
    if recipe.budget.tokens is not None:
        raise ConfigError("a live source has no end that --tokens could be shared out to: ask for --tokens-per-second")
    sampling = Sampling(**dict(recipe.sample))
    try:
        if source == STDIN:
            return raw_frames(live, sampling)
        return UrlFeed(
            source,
            sampling,
            audio_rate=audio_rate,
            open_timeout_s=live.open_timeout_s,
            read_timeout_s=live.read_timeout_s,
            give_up_s=live.give_up_s,
        )
    except ValueError as e:
        raise ConfigError(str(e)) from None


def raw_frames(live: Live, sampling: Sampling) -> RawFeed:
    """Of stdin."""
    if live.size is None or live.rate is None:
        raise ConfigError("raw frames on stdin need --size WxH and --fps F, their own")
    return RawFeed(STDIN_FD, *live.size, live.rate, sampling, wait=live.pace == "real")
