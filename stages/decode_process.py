"""The parent's end of one decode child: its pipes, its shared memory, its death."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import signal
import subprocess
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .decode_heard import last_words, tell
from .decode_info import DecodeError
from .wire import Patience, WireError, receive, send

CHILD_ENV: Final = {
    "OPENBLAS_NUM_THREADS": "1",  # numpy starts faster without threads of its own
    # A picture that glibc gives back to the kernel comes back as fresh pages: a third of the time at 1080p.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
CONVERT: Final = "convert the file"


class Process:
    """A running child. `argv` are its words but for the last two, which are added here: the memfd and our pid.

    Pixels and stderr are memfds: the kernel frees them on any death, ours too. `videos`: how many it was given;
    `cancelled`: `kill` was called.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        with contextlib.ExitStack() as undo:  # Ctrl-C may come at any line
            self.memory, self._stderr = _memfd(undo, "vidcomp-pixels"), _memfd(undo, "vidcomp-stderr")
            fcntl.fcntl(self._stderr, fcntl.F_SETFL, os.O_APPEND)  # so that it can be emptied between videos
            try:
                self._popen = _start([*argv, str(self.memory), str(os.getpid())], self.memory, self._stderr)
            except OSError as error:
                why = f"the decoder cannot be started ({error.strerror})"
                raise DecodeError("crashed", why, "free memory") from None
            undo.pop_all()
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._requests, self._replies = self._popen.stdin.fileno(), self._popen.stdout.fileno()
        os.set_blocking(self._requests, False)
        os.set_blocking(self._replies, False)
        self._owner = os.getpid()
        self._finish = weakref.finalize(self, _end, self._popen, (self.memory, self._stderr), self._owner)
        self._busy = self.cancelled = False
        self.videos = 0
        self._mapped: mmap.mmap | None = None
        self._video, self._opening = "", False

    @property
    def idle(self) -> bool:
        """Whether it can take a request: alive, in no exchange, and ours (a fork of us must not use its pipes)."""
        free = not self._busy and not self.cancelled
        return free and os.getpid() == self._owner and self._finish.alive and self._popen.poll() is None

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """Around one request and its answers. Left in any way but a whole answer or a verdict on the file, the child,
        which may be in the middle of anything, is ended."""
        self._busy = True
        try:
            yield
        except BaseException as error:
            self._tell()
            self._busy = not _is_verdict(error)
            if self._busy:
                self.close()
            raise
        self._busy = False
        if not self._opening:  # else its frames are to come: one record for both
            self._tell()

    def ask(self, patience: Patience, request: Mapping[str, Any], blob: bytes = b"") -> None:
        """Send one message. `DecodeError`: timeout, crashed."""
        self._check_open()
        self._note(request)
        try:
            send(self._requests, request, blob, patience.wait)
        except TimeoutError:
            raise self._timeout(patience) from None
        except OSError:
            raise self._crashed() from None

    def hear(self, patience: Patience) -> tuple[dict[str, Any], bytes]:
        """The child's next message. `DecodeError`: what the child says of the file, timeout, crashed."""
        self._check_open()
        try:
            reply, blob = receive(self._replies, patience.wait)
        except TimeoutError:
            raise self._timeout(patience) from None
        except (EOFError, OSError):
            raise self._crashed() from None
        except WireError as error:
            raise DecodeError("crashed", f"the decoder lost its way ({error})", CONVERT) from None
        if "failed" in reply:
            raise DecodeError(**reply["failed"])
        return reply, blob

    def reserve(self, size: int) -> mmap.mmap:
        """The shared memory, now of `size` bytes, mapped; the same mapping as long as the size is."""
        if self._mapped is None or len(self._mapped) != size:
            os.ftruncate(self.memory, size)
            self._mapped = mmap.mmap(self.memory, size)
        return self._mapped

    def kill(self) -> None:
        """SIGKILL; from any thread: whoever waits for the child hears that it crashed."""
        self.cancelled = True  # it may take a moment to die
        if os.getpid() == self._owner:
            self._popen.kill()

    def close(self) -> None:
        """End the child and free what it held; for the thread that talks to it."""
        self._tell()
        self._finish()
        self._mapped = None

    def _note(self, request: Mapping[str, Any]) -> None:
        """Of which video all that is said from here on is. A crash is not to be explained by an earlier one."""
        if "path" in request:
            self._opening = request["do"] == "open"
            if self._video and (self._opening or request["path"] != self._video):
                self._tell()
            self._video = request["path"]

    def _tell(self) -> None:
        """What was said of a video, in one record of the debug log."""
        if self._finish.alive and os.getpid() == self._owner:
            tell(self._stderr, self._video)

    def _check_open(self) -> None:
        if not self._finish.alive:  # its descriptors may be another's by now
            raise RuntimeError("these frames were cut off by a later use of their decoder: use one decoder for each")

    def _timeout(self, patience: Patience) -> DecodeError:
        message = f"the decoder gave no answer within {patience.limit_s:.4g} s and was killed"
        return DecodeError("timeout", message, f"raise deadline_s, or {CONVERT}")

    def _crashed(self) -> DecodeError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(1.0)  # its pipe is closed: it has ended, or is about to
        words = last_words(self._stderr)
        how = _manner(self._popen.returncode) + (f": {words}" if words else "")
        if self._popen.returncode == -signal.SIGKILL and not self.cancelled:
            how += ", perhaps because memory ran out"
        return DecodeError("crashed", f"the decoder died ({how})", CONVERT)


def _is_verdict(error: BaseException) -> bool:
    return isinstance(error, DecodeError) and error.reason not in ("timeout", "crashed")


def _manner(code: int | None) -> str:
    if code is None:
        return "no exit"
    try:
        return f"exit {code}" if code >= 0 else signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"


def _memfd(undo: contextlib.ExitStack, name: str) -> int:
    """One that is closed again unless all goes well."""
    fd = os.memfd_create(name)
    undo.callback(os.close, fd)
    return fd


def _start(argv: Sequence[str], memory: int, stderr: int) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    env = {**os.environ, **CHILD_ENV}
    return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=stderr, pass_fds=(memory,), bufsize=0, env=env)


def _end(popen: subprocess.Popen[bytes], fds: Sequence[int], owner: int) -> None:
    """Kill, reap, close; in a fork of the owner only close, the child being the owner's."""
    if os.getpid() == owner:
        popen.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it cannot die while the kernel waits for its disk
            popen.wait(5.0)
    else:
        popen.returncode = 0
    for pipe in (popen.stdin, popen.stdout):
        if pipe:
            pipe.close()
    for fd in fds:
        os.close(fd)
