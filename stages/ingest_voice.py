"""In the child: what is said to the parent, and what libav has said to us."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any, Final

from .decode_guard import SAID_BYTES, make_room
from .ingest_clock import Shown
from .wire import send

BEAT_S: Final = 0.5


class Voice:
    """Messages on the descriptor `replies`; each says how far the frames have come (`shown`), so that the next child
    knows even if this one is killed. A full pipe makes us wait: sound and pictures that nobody reads are not piled up.
    """

    def __init__(self, replies: int, shown: Shown) -> None:
        self.replies = replies
        self._shown = shown
        self._last_s = time.monotonic()

    def say(self, header: Mapping[str, Any], blob: bytes = b"") -> None:
        """One message."""
        send(self.replies, {**header, "shown": self._shown.to_json()}, blob)
        self._last_s = time.monotonic()

    def beat(self) -> None:
        """A packet came: a sign of life, unless there was another just now."""
        if time.monotonic() - self._last_s >= BEAT_S:
            self.say({"beat": True})
            forget_old()


def heard(words: bytes) -> bool:
    """Whether libav has said so lately."""
    with contextlib.suppress(OSError):  # no memfd, as under a debugger
        return words in os.pread(2, SAID_BYTES, 0)
    return False


def forget_old() -> None:
    """A stream that never ends has ever more said of it; past the limit nothing new would be heard."""
    with contextlib.suppress(OSError):
        if os.fstat(2).st_size > SAID_BYTES // 2:
            make_room()
