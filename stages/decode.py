"""Video files as frames: what they are, and the pictures asked for, decoded in a child process that can be killed.

A decoder can hang inside C (holding the GIL, so that no thread or signal handler gets a turn) or crash the process it
runs in; a corpus meets both. So every file is read by `python -m vidcomp.stages.decode_child`, under a deadline; pixels
come back through shared memory. The rooms around this one: `decode_process` and `decode_talk` (the parent's end),
`decode_child` and what it imports (`decode_open`, `_probe`, `_timeline`, `_damage`, `_feed`, `_pick`, `_ring`), `wire`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from .decode_info import DecodeError, Outcome, SourceInfo
from .decode_limits import MAX_DURATION_S, MAX_FRAMES, MAX_MEMORY_BYTES
from .decode_process import Process
from .decode_source import Source, described
from .decode_talk import ask_open
from .wire import Patience

__all__ = ["DecodeError", "Decoder", "Outcome", "Source", "SourceInfo"]

OPEN_S: Final = 30.0
OPEN_BYTES_PER_S: Final = 10e6  # the slowest disk that is waited for


class Decoder:
    """Opens video files; a context manager that owns one decode child, reused for many videos.

    `backend`: who decodes pictures, see `decode_decord`. `threads`: decoding threads, 0 for as many as there are cores;
    they change no pixel. `deadline_s`: how long the child may keep us waiting to open a file, and again to decode one
    set of frames (our own time between batches does not count); None: 30 s + 0.1 s per MB to open, 30 s + 4 x duration,
    4 s a frame at most, to decode. The child is started on first use, replaced after a kill, a crash, `recycle_after`
    videos (libraries leak) or a fork of this process.

    One video at a time: a later `open` or `frames` ends an unfinished `frames`. The child dies with the *thread* that
    started it (the kernel's rule for PR_SET_PDEATHSIG); found dead, it is started again, so only a thread that ends
    while another is inside `frames` costs a video. Two threads must not use one decoder at once, `cancel` excepted.
    `processes`: children that decode one file at once, each its own groups of pictures; they change no pixel either,
    and need less time than as many threads where few frames of many groups are wanted, and more memory.
    What a file may ask for, `too_large` where it asks for more: `max_pixels` of one frame (None: 8192 x 8192; in a
    small file 24 for each byte, 2560 x 1440 at least), `max_frames`, `max_duration_s`, `max_memory_bytes` of the child.
    Shared memory of each child: two slots of 32 MiB or one frame each, whatever the video's length.
    """

    def __init__(
        self,
        *,
        backend: Literal["av", "decord"] = "av",
        threads: int = 0,
        processes: int = 1,
        deadline_s: float | None = None,
        recycle_after: int = 200,
        max_pixels: int | None = None,
        max_frames: int = MAX_FRAMES,
        max_duration_s: float = MAX_DURATION_S,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        self.deadline_s = deadline_s
        self.recycle_after = recycle_after
        self.processes = processes
        if processes > 1 and not threads:
            threads = max((os.cpu_count() or 1) // processes, 1)
        self.limits = {
            "backend": backend,
            "threads": threads,
            "max_pixels": max_pixels,
            "max_frames": max_frames,
            "max_duration_s": max_duration_s,
            "max_memory_bytes": max_memory_bytes,
        }
        self._argv = [sys.executable, "-P", "-m", "vidcomp.stages.decode_child"]  # -P: no module of the working folder
        self._process: Process | None = None
        self._helpers: list[Process] = []  # the others of `processes`
        self._ear: Process | None = None  # for sound, beside the pictures

    def open(self, path: str | Path) -> Source:
        """What a file holds, known from all its packets and its first frame. `DecodeError`: see `failure.Reason`."""
        name = os.fsencode(path if os.path.isabs(path) else os.path.join(os.getcwd(), path)).decode("latin-1")
        if self._process is not None and self._process.videos >= self.recycle_after:
            self._end_first()
        process = self._ready()
        used = process.videos > 0
        try:
            return self._open(process, name)
        except DecodeError as error:
            if error.reason != "crashed" or not used or process.cancelled:
                raise
        return self._open(self._ready(), name)  # alone: earlier videos, or the end of its thread, may be to blame

    def cancel(self) -> None:
        """From any thread: whoever waits for the child gets `DecodeError("crashed")` now. The decoder stays usable."""
        for process in (self._process, self._ear, *self._helpers):
            if process is not None:
                process.kill()

    def close(self) -> None:
        """End the children. A later `open` starts others."""
        ended = (self._process, self._ear, *self._helpers)
        self._process, self._ear, self._helpers = None, None, []
        for process in ended:
            if process is not None:
                process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end_first(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _ready(self) -> Process:
        """A child that waits for a request."""
        process = self._process
        if process is None or not process.idle:
            self._end_first()
            process = self._process = Process(self._argv)
        return process

    def ready(self, count: int) -> list[Process]:
        """So many children that wait for a request each."""
        first = self._ready()
        for old in (process for process in self._helpers if not process.idle):
            old.close()
        alive = [process for process in self._helpers if process.idle]
        self._helpers = alive + [Process(self._argv) for _ in range(count - 1 - len(alive))]
        return [first, *self._helpers[: count - 1]]

    def listener(self) -> Process:
        """A child of its own for sound, so that pictures and sound can be read side by side."""
        if self._ear is None or not self._ear.idle:
            if self._ear is not None:
                self._ear.close()
            self._ear = Process(self._argv)
        return self._ear

    def patience(self, default_s: float) -> Patience:
        """How long a child may keep us waiting; `default_s` where no deadline was set."""
        return Patience(default_s if self.deadline_s is None else self.deadline_s)

    def _open(self, process: Process, name: str) -> Source:
        process.videos += 1
        first = self.patience(OPEN_S)

        def more(size: int) -> Patience:
            return first if self.deadline_s is not None else Patience(OPEN_S + size / OPEN_BYTES_PER_S)

        with process.exchange():
            facts, blob = ask_open(process, {"do": "open", "path": name, **self.limits}, first, more)
        return described(self, name, facts, blob)
