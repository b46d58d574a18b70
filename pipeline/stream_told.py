"""What a followed source comes to: a beginning, chunks that are ready to be committed, gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..stages.safefile import Source as TensorSource

Shape = tuple[int, int, int]
Part = tuple[Mapping[str, TensorSource], Shape]  # a part's tensors, counted from the run's start, and its grid


@dataclass(frozen=True, slots=True)
class Source:
    """What a stream's records say of where they come from: `about` it, sampled `fps`, model size (h, w)."""

    about: Mapping[str, Any]
    fps: float
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Begun:
    """The first frame is there: what is known of the source."""

    source: Source


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A chunk's part, when it ends on the media clock, unix time when its last frame came, frames that a file should
    have and has not, and those dropped so far because nobody took them in time."""

    part: Part
    end_s: float
    came_s: float
    missing: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """The next chunk does not follow on the last one."""

    why: str
