"""In the child: whether a file holds what its header promises. Half a download plays, and must not pass as whole."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from .decode_open import File
from .decode_timeline import Timeline

TIMED: Final = ("matroska,webm", "flv", "asf")  # their headers state a duration; FFmpeg estimates it for others
SHORT_S: Final = 0.5  # rounding, and the sound's own padding, stay below both
SHORT_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Header:
    """What the container says of itself and its video stream; None where it says nothing."""

    container: str
    codec: str
    has_audio: bool
    time_base: Fraction
    rate: Fraction
    frames: int | None
    start: int | None  # ticks
    duration: int | None  # ticks
    stated_s: float | None  # the end of the file's clock

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream) -> Header:
        """Read from an open container."""
        stated = container.duration if container.format.name in TIMED else None
        return cls(
            container=container.format.name,
            codec=stream.codec.canonical_name,
            has_audio=bool(container.streams.audio),
            time_base=stream.time_base or Fraction(1, av.time_base),
            rate=stream.guessed_rate or stream.average_rate or Fraction(25),
            frames=stream.frames or None,
            start=stream.start_time,
            duration=stream.duration,
            stated_s=stated / av.time_base if stated else None,
        )


@dataclass(frozen=True, slots=True)
class Read:
    """What one pass over the packets met: how many there are (with those that an edit list hides), how many the
    demuxer calls damaged, and whether it broke off."""

    packets: int
    corrupt: int
    broken: bool


def damage(file: File, header: Header, read: Read, shown: Timeline) -> str:
    """One line, or nothing for a file that is whole."""
    if header.frames and read.packets < header.frames and not _reaches_its_end(header, shown):
        return f"cut short: {read.packets} of the {header.frames} frames that its header declares"
    if read.broken:
        return "its container cannot be read to the end"
    if read.corrupt:
        return f"damaged packets: {read.corrupt}"
    if header.stated_s is not None and _ends_early(file, header.stated_s, shown):
        return f"cut short: it ends at {shown.end_s:.2f} s of the {header.stated_s:.2f} s that its header states"
    return ""


def _reaches_its_end(header: Header, shown: Timeline) -> bool:
    """An edit list may leave frames out at the end: fewer packets than frames, and yet the whole duration, which counts
    from 0, an empty edit at the start included."""
    if header.duration is None:
        return False
    half_a_step = (shown.end - int(shown.ticks[-1])) / 2
    return shown.end >= header.duration - half_a_step


def _ends_early(file: File, stated_s: float, shown: Timeline) -> bool:
    """Whether no stream fills the stated duration. A last frame may be held for as long as any other, so the longest
    step between two frames is allowed for too."""
    allowed_s = max(SHORT_S, SHORT_SHARE * stated_s, float(shown.steps_s.max(initial=0.0)))
    return stated_s - shown.end_s > allowed_s and stated_s - _last_end_s(file) > allowed_s


def _last_end_s(file: File) -> float:
    """When the last packet of any stream ends; seldom needed, for it reads the file once more."""
    end_s = 0.0
    with file.container() as container:
        try:
            for packet in container.demux():
                if packet.pts is not None:
                    end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        except (av.error.FFmpegError, IndexError):  # the latter: a stream that begins in mid-file
            pass  # so far it could be read
    return end_s
