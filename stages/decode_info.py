"""What the decode rooms say of a file: its facts, how reading it ended, why it was refused. No torch: the child too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .failure import SourceError


class DecodeError(SourceError):
    """A file that gives no frames: `reason`, `message`, `fix`; `str()` is one line (see `failure.py`)."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """The facts of a file's video stream (FFmpeg's own choice where there are several).

    `width`, `height`: upright, in stored pixels (a non-square pixel shape is not applied). Upright means that stored
    pictures are mirrored left-right if `mirrored`, then turned clockwise by `rotation` (0, 90, 180, 270) degrees.
    `frames`: frames that the stream shows; `fps`: their average rate by true pts; `variable_rate`: some step between
    frames differs from the average by more than rounding. `declared_frames`: what the container's header says, counting
    frames that an edit list hides; None where it says nothing. `damage`: one line, empty for a file that is whole.
    """

    container: str
    codec: str
    pix_fmt: str
    width: int
    height: int
    rotation: int
    mirrored: bool
    duration_s: float
    fps: float
    variable_rate: bool
    has_audio: bool
    time_base: Fraction
    declared_frames: int | None
    frames: int
    damage: str

    def to_json(self) -> dict[str, Any]:
        """Plain values; `time_base` as "1/90000"."""
        return asdict(self) | {"time_base": str(self.time_base)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> SourceInfo:
        """The reverse of `to_json`."""
        return cls(**(dict(facts) | {"time_base": Fraction(facts["time_base"])}))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How reading one set of frames ended.

    `partial`: the file holds less than its header declares, packets are damaged, decoding met an error at or before
    the last wanted frame, or a wanted frame is missing. `decoded`: frames that the file gives, of `declared` (None: the
    container does not say). `missing`: presentation indices of wanted frames that did not decode. `errors`: packets
    that failed and frames that the decoder had to patch, up to the last wanted frame. `why`: one line, "" for `ok`.
    """

    status: Literal["ok", "partial"]
    declared: int | None
    decoded: int
    missing: tuple[int, ...]
    errors: int
    why: str


def outcome(info: SourceInfo, missing: NDArray[np.int64], errors: int, lost: int) -> Outcome:
    """The verdict. `missing` int64: presentation indices that were wanted and did not come; `lost`: how many frames,
    wanted or not, did not come out up to the last wanted one."""
    reasons = [
        info.damage,
        f"wanted frames that did not decode: {len(missing)}" if len(missing) else "",
        f"decoding errors: {errors}" if errors else "",
    ]
    why = "; ".join(reason for reason in reasons if reason)
    return Outcome(
        status="partial" if why else "ok",
        declared=info.declared_frames,
        decoded=info.frames - lost,
        missing=tuple(missing.tolist()),
        errors=errors,
        why=why,
    )
