"""Why one source could not be encoded. Imports nothing, so every layer and the decode child can name a reason."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "missing",  # no such file
    "unreadable",  # permissions, a device, a pipe
    "empty",  # zero bytes
    "not_video",  # no demuxer knows it
    "no_audio",  # sound is asked for and there is none
    "no_video",  # a container without a video stream
    "corrupt",  # a video of which no frame can be decoded
    "unsupported",  # a video that the model cannot take
    "no_sample",  # a video that shows nothing at the times asked for
    "timeout",  # killed at its deadline
    "crashed",  # the decoder died
    "too_large",  # over a limit
    "internal",  # our fault
]


class SourceError(Exception):
    """One source failed: `reason` to count by, `message` what and why, `fix` what to do; `str()` is one line."""

    def __init__(self, reason: Reason, message: str, fix: str = "") -> None:
        super().__init__(reason, message, fix)
        self.reason = reason
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return " ".join(f"{self.message}{': ' + self.fix if self.fix else ''}".split())

    @property
    def status(self) -> str:
        """The manifest's word for it."""
        return f"failed:{self.reason}"
