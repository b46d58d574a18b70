"""Raw rgb24 frames on a descriptor, as `ffmpeg ... -pix_fmt rgb24 -f rawvideo -` writes them, as a feed."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Generator, Iterator
from typing import BinaryIO

import numpy as np

from .ingest_events import Ended, Event, Lost, Opened, Picture
from .sample import Sampling
from .sample_live import LiveSampler


class RawFeed:
    """`stream`: a descriptor, or a binary file of which nothing was read yet; it is not closed here. Frames of
    `width` x `height` pixels, three bytes each, follow each other with nothing between; frame n is shown at n / `fps`.

    `wait`: hand no picture out before its time, n / fps after the start; otherwise as fast as they come. While the
    consumer works, a full pipe holds the writer up. An end in the middle of a frame is told as `Lost("closed")` before
    `Ended("end")`. ValueError: a size, a rate or a rule that makes no sense.
    """

    def __init__(
        self, stream: BinaryIO | int, width: int, height: int, fps: float, sampling: Sampling, *, wait: bool = False
    ) -> None:
        if width < 1 or height < 1 or not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"raw frames need a size and a rate above 0, got {width}x{height} at {fps} fps")
        self._fd = stream if isinstance(stream, int) else stream.fileno()
        self._shape = (height, width, 3)
        self._fps = fps
        self._wait = wait
        self._sampler: LiveSampler[Picture] = LiveSampler.of(sampling)
        self._bell: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bell_lock = threading.Lock()
        self._count = self._left_over = 0

    def events(self) -> Generator[Event]:
        """See `Feed`."""
        try:
            yield from self._told()
        except _CancelledError:
            yield Ended("cancelled", self._end_s)

    def cancel(self) -> None:
        """See `Feed`."""
        with self._bell_lock:
            if self._bell is not None:
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """See `Feed`."""
        with self._bell_lock:
            if self._bell is not None:
                os.close(self._bell)
            self._bell = None

    @property
    def _end_s(self) -> float | None:
        return self._count / self._fps if self._count else None

    def _told(self) -> Iterator[Event]:
        self._ready()
        yield Opened(self._shape[1], self._shape[0], self._fps, None, time.time())
        begun_s = time.monotonic()
        for picture in self._sampled():
            if self._wait:
                self._sleep_until(begun_s + picture.pts_s)
            yield picture
        if self._left_over:
            whole = math.prod(self._shape)
            message = f"the raw frames end in the middle of one: {self._left_over} of its {whole} bytes came"
            yield Lost("closed", message, self._end_s, time.time())
        yield Ended("end", self._end_s)

    def _sampled(self) -> Iterator[Picture]:
        for picture in self._pictures():
            yield from self._sampler.push(picture.pts_s, picture)
        if self._end_s is not None:
            yield from self._sampler.flush(self._end_s)

    def _pictures(self) -> Iterator[Picture]:
        """Every whole frame, each in memory of its own."""
        while True:
            data = np.empty(self._shape, np.uint8)
            self._left_over = self._fill(data.data.cast("B"))
            if self._left_over < data.nbytes:
                return
            self._left_over, number = 0, self._count
            self._count += 1
            yield Picture(data, number / self._fps, number, time.time())

    def _fill(self, left: memoryview) -> int:
        """Bytes read into it: fewer than it holds where the stream ended."""
        size = len(left)
        while left:
            self._ready()
            try:
                got = os.readv(self._fd, [left])
            except BlockingIOError:
                continue
            if not got:
                break
            left = left[got:]
        return size - len(left)

    def _ready(self) -> None:
        """Return once something, or the end, can be read."""
        self._poll(self._fd, None)

    def _sleep_until(self, due_s: float) -> None:
        while (left_s := due_s - time.monotonic()) > 0:
            self._poll(None, left_s)

    def _poll(self, fd: int | None, wait_s: float | None) -> None:
        """Wait for `fd`, or so long. `_CancelledError` first of all."""
        if self._bell is None:
            raise _CancelledError
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        if fd is not None:
            poller.register(fd, select.POLLIN)
        ready = poller.poll(None if wait_s is None else math.ceil(min(wait_s, 3600.0) * 1000))
        if any(found == self._bell for found, _ in ready):
            raise _CancelledError


class _CancelledError(Exception):
    """`cancel` was called."""
