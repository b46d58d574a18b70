"""How a command is stopped: signals, and standard streams that are closed or full. Standard library only."""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
PATIENCE_S = 2.0  # a second signal within it is the same wish; later ones end the process at once


class Terminated(BaseException):
    """SIGTERM, raised in the main thread so that every `finally` runs."""


class Stopper:
    """A signal handler: the first SIGINT raises `KeyboardInterrupt`, the first SIGTERM `Terminated`.

    Others that follow at once (a terminal and a wrapper may both send one) do not disturb the cleaning up.
    """

    def __init__(self) -> None:
        self.since: float | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.since is None:
            self.finish()
            raise KeyboardInterrupt if signum == signal.SIGINT else Terminated
        if time.monotonic() - self.since > PATIENCE_S:
            os._exit(128 + signum)

    def finish(self) -> None:
        """From now on raise nothing: the process ends by itself."""
        self.since = time.monotonic()


def listen() -> dict[int, Any]:
    """Install one `Stopper`, unless one is there; what it replaces. A signal that is ignored by order stays so."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if any(isinstance(handler, Stopper) for handler in before.values()):
        return {}
    stopper = Stopper()
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    return {number: signal.signal(number, stopper) for number in heard}


@contextmanager
def signals() -> Iterator[None]:
    """`listen` inside; the handlers of before afterwards."""
    before = listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish() -> None:
    """All is done: a signal on Python's own way out changes neither what was printed nor the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if isinstance(handler, Stopper):
            handler.finish()
            atexit.register(signal.signal, number, signal.SIG_IGN)  # Python puts any other handler back to default


def open_streams() -> None:
    """Give closed standard streams `/dev/null`: else the next file opened gets their number and what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that is no UTF-8 can still be told


def leave_streams() -> None:
    """Empty the standard streams; what one of them does not take is dropped, or Python would complain at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
