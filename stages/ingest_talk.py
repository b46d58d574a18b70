"""The parent's side of the conversation with an ingest child, see `ingest_child`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from mmap import mmap
from typing import Any, Final

import numpy as np

from .decode_info import DecodeError
from .decode_process import Process
from .decode_ring import pictures_of, room
from .ingest_events import Event, Jumped, LossError, Opened, Picture, Resized, Sound
from .wire import Patience

RING_BYTES: Final = 32 << 20
SLOTS: Final = (2, 16)  # at least and at most: of one picture each, so that each is told of at once
MARGIN_S: Final = 3.0  # beyond the child's own timeouts: then it hangs


class Connection:
    """One child's connection. `shown`: how far its frames have come, for the next child's request."""

    def __init__(self, process: Process, request: Mapping[str, Any]) -> None:
        self._process = process
        self._request = request
        self._wait_s: float = request["timeouts_s"][0]
        self._memory: mmap | None = None
        self._shape = (0, 0, 0, 0, 0)
        self.shown: Mapping[str, Any] = request["shown"]

    def events(self) -> Generator[Event]:
        """What comes, up to the end of a finite source. `LossError`: any other end."""
        try:
            self._process.ask(self._patience(), self._request)
            while not (message := self._hear())[0].get("ended"):
                yield from self._told(*message)
        except DecodeError as error:
            raise _loss(error) from None

    def _patience(self) -> Patience:
        return Patience(self._wait_s + MARGIN_S)

    def _hear(self) -> tuple[dict[str, Any], bytes]:
        message = self._process.hear(self._patience())
        self.shown = message[0].get("shown", self.shown)
        return message

    def _told(self, header: dict[str, Any], blob: bytes) -> Generator[Event]:
        if "connected" in header:
            self._wait_s = header["connected"]
        elif "opened" in header:
            opened = Opened(*header["opened"])
            self._reserve(opened)
            yield opened
        elif "picture" in header:
            yield self._picture(*header["picture"])
        elif "sound" in header:
            yield Sound(np.frombuffer(blob, np.float32), header["sound"])
        elif "jumped" in header:
            yield Jumped(*header["jumped"])
        elif "resized" in header:
            yield Resized(*header["resized"])
        elif "lost" in header:
            raise LossError(**header["lost"])

    def _reserve(self, opened: Opened) -> None:
        """Shared memory for its pictures."""
        slots = min(max(RING_BYTES // (opened.width * opened.height * 3), SLOTS[0]), SLOTS[1])
        self._shape = (slots, 1, opened.height, opened.width, 3)
        self._memory = self._process.reserve(room(self._shape))
        self._process.ask(self._patience(), {"ring": self._shape})

    def _picture(self, pts_s: float, number: int, wall_s: float) -> Picture:
        """Copied out of its slot, which goes back at once."""
        header, _ = self._process.hear(self._patience())
        assert self._memory is not None
        ring = pictures_of(self._memory, self._shape)
        data = ring[header["slot"], 0].copy()
        self._process.ask(self._patience(), {"do": "ack"})
        return Picture(data, pts_s, number, wall_s)


def _loss(error: DecodeError) -> LossError:
    """What `Process` says of a child that does not answer."""
    if error.reason == "timeout":
        return LossError("timeout", "the ingest child gave no sign of life and was killed")
    return LossError("crashed", error.message.replace("the decoder", "the ingest child"))
