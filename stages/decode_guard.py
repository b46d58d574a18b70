"""In the child: its end and limits, which the kernel keeps, and what libav says, on descriptor 2 (the parent's memfd).

Memory is limited as RLIMIT_DATA, which counts what is really taken to be written to: RLIMIT_AS would count the shared
pictures, the libraries and the 64 MiB of addresses that glibc sets aside for each thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import signal
import stat
from pathlib import Path
from typing import Final

import av

SAID_BYTES: Final = 64 << 10  # a damaged file has something said of each of its packets
REFUSED: Final = re.compile(rb"(?:Picture|Frame) size (\d+)x(\d+) ")  # FFmpeg's own decoders, dav1d
PR_SET_PDEATHSIG: Final = 1
HARMLESS: Final = rb"SEI|APP|packed|mplemented|deprecated|APIC|experimental"


def die_with(parent: int) -> None:
    """Be killed when the parent's thread that started us ends; it may have ended before we asked."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def own_stdout() -> int:
    """A descriptor of the reply pipe that no library writes to: descriptor 1 becomes stderr."""
    replies = os.dup(1)
    os.dup2(2, 1)
    return replies


def guard() -> None:
    """Once, at the start: if memory runs out this process goes first, and stderr cannot grow without end.

    What is written past the limit is dropped (Python ignores SIGXFSZ); files mapped into memory are not concerned.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    _limit(resource.RLIMIT_FSIZE, SAID_BYTES)
    av.logging.restore_default_callback()  # libav writes by itself: a callback into Python would wait for the GIL
    av.logging.set_libav_level(av.logging.WARNING)


def limit_memory(size: int) -> None:
    """Allocations beyond `size` bytes fail from here on."""
    _limit(resource.RLIMIT_DATA, size)


def short_of_memory(size: int) -> bool:
    """Whether an allocation of `size` bytes would fail."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    return soft != resource.RLIM_INFINITY and soft - used < size


def refused_size(allowed: int) -> str:
    """The first frame size, as "9000x9000", of over `allowed` pixels that a decoder refused since stderr was last
    emptied; "" for none. Its error code is that of any damage: only the words tell."""
    with contextlib.suppress(OSError):  # no memfd, as under a debugger
        for width, height in REFUSED.findall(os.pread(2, SAID_BYTES, 0)):
            if int(width) * int(height) > allowed:
                return f"{int(width)}x{int(height)}"
    return ""


class Overheard:
    """Whether a decoder, or the parser of its packets, has complained since this was made: of much damage it says
    something, and returns no error. `HARMLESS`: what is said of files that are whole."""

    def __init__(self, decoder: str) -> None:
        self._line = re.compile(rb"^\[%s @(?!.*(?:%s))" % (decoder.encode(), HARMLESS), re.MULTILINE)
        self._at = _said()
        self._complained = False

    def complained(self) -> bool:
        """So far; costs a microsecond. Where no more can be written, nobody knows: yes."""
        size = _said()
        if size != self._at:
            new = os.pread(2, size - self._at, self._at)
            self._complained = self._complained or bool(self._line.search(new)) or size >= SAID_BYTES
            self._at = size
        return self._complained


def _said() -> int:
    """Bytes on stderr, if it is a file."""
    found = os.fstat(2)
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def make_room() -> None:
    """For the last words of a process that is about to die."""
    with contextlib.suppress(OSError):
        os.ftruncate(2, 0)


def _limit(what: int, size: int) -> None:
    _, hard = resource.getrlimit(what)
    soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(what, (soft, hard))
