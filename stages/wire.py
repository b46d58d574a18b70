"""Framed messages on pipes: a JSON header and an optional binary blob, never pickle. Standard library only.

One message = 4 bytes of header length, 8 bytes of blob length (both big-endian), the JSON header, the blob.
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

Wait = Callable[[int, int], None]  # (fd, POLLIN or POLLOUT): returns when ready, raises TimeoutError

_LENGTHS = struct.Struct("!IQ")
MAX_HEADER_BYTES = 1 << 24
MAX_POLL_MS = (1 << 31) - 1  # 24 days
MAX_BLOB_BYTES = 1 << 34


class WireError(ValueError):
    """What came down the pipe is no message (the peer is not ours, or its memory is damaged)."""


class Patience:
    """Seconds that a peer may still keep us waiting: only time spent in `wait` counts, not our own work.

    A slow consumer between two messages therefore never makes a healthy peer look hung.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = self.left_s = limit_s

    def wait(self, fd: int, event: int) -> None:
        """Return once `fd` is ready for `event` (or its peer is gone); TimeoutError when patience is spent."""
        poller = select.poll()
        poller.register(fd, event)
        begun_s = time.monotonic()
        ready = poller.poll(min(math.ceil(max(self.left_s, 0.0) * 1000), MAX_POLL_MS))
        self.left_s -= time.monotonic() - begun_s
        if not ready:
            raise TimeoutError(f"no answer within {self.limit_s:g} s")


def send(fd: int, header: Mapping[str, Any], blob: bytes = b"", wait: Wait | None = None) -> None:
    """Write one whole message; `wait` is needed where `fd` does not block. BrokenPipeError: the peer is gone."""
    text = json.dumps(header).encode()
    left = memoryview(_LENGTHS.pack(len(text), len(blob)) + text + blob)
    while left:
        if wait is not None:
            wait(fd, select.POLLOUT)
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:  # poll may promise more room than a write finds
            continue


def receive(fd: int, wait: Wait | None = None) -> tuple[dict[str, Any], bytes]:
    """Read one whole message -> (header, blob). EOFError: the peer closed; WireError: not a message."""
    header_bytes, blob_bytes = _LENGTHS.unpack(_read(fd, _LENGTHS.size, wait))
    if header_bytes > MAX_HEADER_BYTES or blob_bytes > MAX_BLOB_BYTES:
        raise WireError(f"a message of {header_bytes} + {blob_bytes} bytes is no message")
    text = _read(fd, header_bytes, wait)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise WireError(f"a message's header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise WireError(f"a message's header must be an object, got {type(header).__name__}")
    return header, _read(fd, blob_bytes, wait)


def _read(fd: int, size: int, wait: Wait | None) -> bytes:
    data = bytearray(size)
    left = memoryview(data)
    while left:
        if wait is not None:
            wait(fd, select.POLLIN)
        try:
            got = os.readv(fd, [left])
        except BlockingIOError:
            continue
        if not got:
            raise EOFError(f"the pipe closed with {len(left)} of {size} bytes to come")
        left = left[got:]
    return bytes(data)
