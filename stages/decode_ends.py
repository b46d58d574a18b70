"""In the child: whether a file has fewer bytes than its container says. Matroska names its length but counts no frames,
and a few that are missing at the end would pass for the sound's padding."""

from __future__ import annotations

import os
from typing import Final

from .decode_open import File

EBML: Final = b"\x1a\x45\xdf\xa3"
SEGMENT: Final = b"\x18\x53\x80\x67"
HEAD_BYTES: Final = 4096  # in which a segment begins


def cut_off(file: File) -> str:
    """One line, or nothing for a file that has all its bytes, or does not say how many."""
    head = os.pread(file.fd, HEAD_BYTES, 0)
    has = os.fstat(file.fd).st_size
    wants = segment_end(head)
    return f"cut short: {has} of {wants} bytes" if wants is not None and has < wants else ""


def segment_end(head: bytes) -> int | None:
    """Where a Matroska file's segment ends, by its first bytes; None where it does not say (a live recording)."""
    if not head.startswith(EBML):
        return None
    length = sized(head, len(EBML))
    if length is None or head[length[1] + length[0] :][:4] != SEGMENT:
        return None
    segment = sized(head, length[1] + length[0] + len(SEGMENT))
    return None if segment is None else segment[1] + segment[0]


def sized(data: bytes, at: int) -> tuple[int, int] | None:
    """(an EBML element's length, where its content begins); None where it is unknown (all ones) or not there."""
    first = data[at] if at < len(data) else 0
    count = 9 - first.bit_length()  # bytes of the length: as many as the first one's leading zeros, and one more
    if count > 8 or at + count > len(data):
        return None
    value = int.from_bytes(data[at : at + count], "big") & ((1 << 7 * count) - 1)
    return None if value == (1 << 7 * count) - 1 else (value, at + count)
