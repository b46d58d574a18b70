"""Memory of a worker that computes the same again and again: what it frees is what it needs next."""

from __future__ import annotations

import ctypes
from typing import Final

# Of glibc's mallopt(3). Its defaults give an array of a few MB back to the kernel as soon as it is freed, above all in
# threads that are not the first one, and the kernel has to clear its pages again for the next one.
M_TRIM_THRESHOLD: Final = -1
M_TOP_PAD: Final = -2
M_MMAP_THRESHOLD: Final = -3
KEPT: Final = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 1 << 30, M_TOP_PAD: 64 << 20}  # the first is its most


def keep_freed() -> bool:
    """Keep what is freed for what is asked for next, in this process; False where its C library has no such choice."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all([mallopt(name, value) for name, value in KEPT.items()])
