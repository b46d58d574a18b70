"""Memory of a process that computes the same again and again: what it frees is what it needs next.

glibc's defaults give an array of a few MB back to the kernel as soon as it is freed, above all in threads that are not
the first one, and the kernel has to clear its pages again for the next one. Both functions do nothing elsewhere.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

# Of mallopt(3). The first is its most; the last is what makes a thread keep a whole heap, which is of this size.
M_MMAP_THRESHOLD: Final = -3
M_TRIM_THRESHOLD: Final = -1
M_TOP_PAD: Final = -2
KEPT: Final = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 1 << 30, M_TOP_PAD: 64 << 20}
MOST: Final = 512 << 20  # bytes that are kept between two videos


class MallInfo(ctypes.Structure):
    """What mallinfo2(3) gives, of all threads; `free`: bytes that could be given back."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (*(f"_{n}" for n in range(8)), "free", "_9"))


def _c(name: str) -> Any:
    """A function of the C library; None where it has no such."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):
        return None


def keep_freed() -> bool:
    """Keep what is freed for what is asked for next, in this process; whether that could be chosen."""
    mallopt = _c("mallopt")
    return mallopt is not None and all([mallopt(name, value) for name, value in KEPT.items()])


def give_back() -> None:
    """Between two videos: where one has left more than `MOST` bytes unused, give all of them back to the kernel."""
    mallinfo, trim = _c("mallinfo2"), _c("malloc_trim")
    if mallinfo is None or trim is None:
        return
    mallinfo.restype = MallInfo
    if mallinfo().free > MOST:
        trim(0)
