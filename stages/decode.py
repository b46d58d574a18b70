"""Video files as frames: what they are, and the pictures asked for, decoded in a child process that can be killed.

A decoder can hang inside C (holding the GIL, so that no thread or signal handler gets a turn) or crash the process it
runs in; a corpus meets both. So every file is read by `python -m vidcomp.stages.decode_child`, under a deadline; pixels
come back through shared memory. The rooms around this one: `decode_process` and `decode_talk` (the parent's end),
`decode_child` and what it imports (`decode_open`, `_probe`, `_timeline`, `_damage`, `_feed`, `_pick`, `_ring`), `wire`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.types import Frames
from .decode_info import DecodeError, Outcome, SourceInfo, outcome
from .decode_process import Process
from .decode_talk import ask_frames, ask_open
from .decode_timeline import seconds
from .wire import Patience

__all__ = ["DecodeError", "Decoder", "Outcome", "Source", "SourceInfo"]

OPEN_S: Final = 30.0
OPEN_BYTES_PER_S: Final = 10e6  # the slowest disk that is waited for
DECODE_S: Final = 30.0
DECODE_PER_S: Final = 4.0
MAX_PIXELS: Final = 1 << 26  # of one frame, 8192 x 8192: a small file can ask for any amount of memory


class Decoder:
    """Opens video files; a context manager that owns one decode child, reused for many videos.

    `threads`: decoding threads, 0 for as many as there are cores; they change no pixel. `deadline_s`: how long the
    child may keep us waiting to open a file, and again to decode one set of frames (our own time between batches does
    not count); None: 30 s + 0.1 s per MB to open, 30 s + 4 x duration to decode. The child is started on first use and
    replaced after a kill, a crash, `recycle_after` videos (libraries leak) or a fork of this process.

    One video at a time: a later `open` or `frames` ends an unfinished `frames`. The child dies with the *thread* that
    started it (the kernel's rule for PR_SET_PDEATHSIG); found dead, it is started again, so only a thread that ends
    while another is inside `frames` costs a video. Two threads must not use one decoder at once, `cancel` excepted.
    Shared memory: two slots of 32 MiB or one frame each, whatever the video's length.
    """

    def __init__(
        self,
        *,
        threads: int = 0,
        deadline_s: float | None = None,
        recycle_after: int = 200,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.deadline_s = deadline_s
        self.recycle_after = recycle_after
        self._limits = {"threads": threads, "max_pixels": max_pixels}
        self._argv = [sys.executable, "-P", "-m", "vidcomp.stages.decode_child"]  # -P: no module of the working folder
        self._process: Process | None = None

    def open(self, path: str | Path) -> Source:
        """What a file holds, known from all its packets and its first frame. `DecodeError`: see `failure.Reason`."""
        name = os.fsencode(path if os.path.isabs(path) else os.path.join(os.getcwd(), path)).decode("latin-1")
        if self._process is not None and self._process.videos >= self.recycle_after:
            self.close()
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
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the child. A later `open` starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ready(self) -> Process:
        """A child that waits for a request."""
        process = self._process
        if process is None or not process.idle:
            self.close()
            process = self._process = Process(self._argv)
        return process

    def _patience(self, default_s: float) -> Patience:
        return Patience(default_s if self.deadline_s is None else self.deadline_s)

    def _open(self, process: Process, name: str) -> Source:
        process.videos += 1
        first = self._patience(OPEN_S)

        def more(size: int) -> Patience:
            return first if self.deadline_s is not None else Patience(OPEN_S + size / OPEN_BYTES_PER_S)

        with process.exchange():
            facts, blob = ask_open(process, {"do": "open", "path": name, **self._limits}, first, more)
        return _source(self, name, facts, blob)


@dataclass(eq=False)
class Source:
    """A file whose facts are known: `info`; `pts_s` float64 (M,), true times in presentation order; the last frame ends
    at `end_s`; `key` bool (M,) marks key frames. `outcome`: how the latest `frames()` ended."""

    info: SourceInfo
    pts_s: NDArray[np.float64]
    end_s: float
    key: NDArray[np.bool_] = field(repr=False)
    _ticks: NDArray[np.int64] = field(repr=False)  # (M,): what the child knows frames by
    _packets: NDArray[np.int64] = field(repr=False)  # (P,): pts of each packet, in decode order
    _kinds: NDArray[np.uint8] = field(repr=False)  # (P,): see `decode_entry`
    _request: dict[str, Any] = field(repr=False)
    _decoder: Decoder = field(repr=False)
    _outcome: Outcome | None = field(default=None, repr=False)

    @property
    def outcome(self) -> Outcome:
        """How the latest `frames()` ended; RuntimeError before it was read to its end."""
        if self._outcome is None:
            raise RuntimeError("the outcome is known once frames() has been read to its end")
        return self._outcome

    def frames(self, index: NDArray[np.int64]) -> Iterator[Frames]:
        """The frames at presentation indices `index` int64 (n,), strictly ascending: upright RGB in batches of up to
        32 MiB, or one frame.

        The tensors are the caller's own, valid as long as they are held. A frame that does not decode is absent, and
        stands in `outcome.missing`. A file changed since `open` gives what it now holds under the old times.
        Closing the iterator early ends the child. Errors: ValueError for `index`; `DecodeError`, as timeout or crashed.
        """
        wanted = np.asarray(index, np.int64)
        if wanted.ndim != 1 or (np.diff(wanted) <= 0).any():
            raise ValueError(f"index must be (n,) and strictly ascending, got {wanted.shape}")
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(self.pts_s):
            raise ValueError(f"index must be in [0, {len(self.pts_s)}), got {wanted[0]} to {wanted[-1]}")
        self._outcome = None
        return self._read(wanted)

    def _read(self, wanted: NDArray[np.int64]) -> Iterator[Frames]:
        missing, account = np.ones(len(wanted), bool), {"errors": 0, "lost": 0}
        if len(wanted):
            process = self._decoder._ready()
            patience = self._decoder._patience(DECODE_S + DECODE_PER_S * self.info.duration_s)
            shown = self._ticks[: wanted[-1] + 1]
            request = self._decoder._limits | self._request | {"shown": len(shown), "wanted": len(wanted)}
            size = (self.info.width, self.info.height)
            blob = b"".join(array.tobytes() for array in (self._packets, shown, wanted, self._kinds))
            with process.exchange():
                for places, pictures in ask_frames(process, request, blob, size, patience, account):
                    at = wanted[places]
                    missing[places] = False
                    yield Frames(torch.from_numpy(pictures), torch.from_numpy(self.pts_s[at]), torch.from_numpy(at))
        self._outcome = outcome(self.info, wanted[missing], **account)


def _source(decoder: Decoder, name: str, facts: Mapping[str, Any], blob: bytes) -> Source:
    """A source as the child describes it."""
    info = SourceInfo.from_json(facts["info"])
    packets = np.frombuffer(blob, np.int64, facts["packets"])
    ticks = np.frombuffer(blob, np.int64, info.frames, offset=packets.nbytes)
    flags = np.frombuffer(blob, np.uint8, offset=packets.nbytes + ticks.nbytes)
    request = {
        "do": "decode",
        "path": name,
        "stored": facts["stored"],
        "turn": [info.rotation, info.mirrored],
        **{field: facts[field] for field in ("by_order", "packets")},
    }
    return Source(
        info=info,
        pts_s=seconds(ticks, info.time_base),
        end_s=float(seconds(np.array([facts["end"]]), info.time_base)[0]),
        key=flags[: info.frames].astype(bool),
        _ticks=np.arange(info.frames) if facts["by_order"] else ticks,
        _packets=packets,
        _kinds=flags[info.frames :],
        _request=request,
        _decoder=decoder,
    )
