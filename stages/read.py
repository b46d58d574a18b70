"""From a path to model-size chunks: what a video shows, which frames are wanted, at what size, decoded and resized.

The reading half of encoding. It needs a model's geometry and no weights, so that it can run on another machine than
the model.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..models.base import VideoModel
from ..models.types import Frames
from .decode import Decoder, Outcome, Source
from .decode_info import SourceInfo
from .failure import SourceError
from .fit import chunks
from .sample import Sampling, Shown

PIECE_S = 10.0  # of sound decoded at a time

Window = tuple[float | None, float | None]  # start_s, end_s


@dataclass(frozen=True)
class Plan:
    """What is known of one video before a frame is encoded: which frames, at what size, in which chunks."""

    index: NDArray[np.int64]  # (F,): presentation numbers of the sampled frames
    fps: float  # sampled frames a second: as asked, or fewer where the source does not have that many
    size: tuple[int, int]  # (h, w) pixels at which they enter the model
    chunk_frames: int
    pts_s: NDArray[np.float64]  # (F,): when they are shown
    end_s: float  # where the part of the video that they stand for ends
    start_s: float  # when the stream's first frame is shown: clocks of broadcasts start anywhere

    @property
    def chunk_ends_s(self) -> list[float]:
        """The end of each chunk, on a clock that starts with the first sampled frame."""
        starts = self.pts_s[self.chunk_frames :: self.chunk_frames].tolist()
        return [at_s - float(self.pts_s[0]) for at_s in (*starts, self.end_s)]

    @classmethod
    def of(cls, source: Source, sampling: Sampling, model: VideoModel, chunk_frames: int) -> Self:
        """Resolved once from all pts, for all chunks; `SourceError` where nothing is shown, or the model refuses."""
        video = Shown(source.pts_s, source.end_s, source.key)
        try:
            index = sampling.plan(video)
        except ValueError as e:
            raise SourceError("no_sample", str(e), "ask for other times") from None
        try:
            size = model.frame_size(len(index), source.info.height, source.info.width)
        except ValueError as e:
            raise SourceError("unsupported", str(e), "crop or scale the video, or take another model") from None
        patch = model.temporal_patch
        end_s = source.end_s if sampling.end_s is None else min(sampling.end_s, source.end_s)
        pts_s = source.pts_s[index]
        chunk = -(-chunk_frames // patch) * patch
        return cls(index, sampling.rate(video, index), size, chunk, pts_s, end_s, float(source.pts_s[0]))


class Reading(Protocol):
    """An open video, here or on another machine."""

    @property
    def plan(self) -> Plan: ...
    @property
    def info(self) -> SourceInfo: ...
    @property
    def outcome(self) -> Outcome:
        """How reading ended; known once `chunks` has been read to its end."""

    def chunks(self, first: int) -> Generator[tuple[int, Frames], None, None]:
        """(chunk number, its frames at model size), from number `first` on; one without any frame is left out.

        A video is decoded from its start even so: pixels and outcome depend on the damage that is met on the way. Until
        then numbers before `first`, without frames, tell how far it is.
        """

    def sound(self, rate: int) -> Iterator[Tensor]:
        """Samples float32 (S,) at `rate`, piece by piece, from the first sampled frame to the plan's end; of a video
        that has sound. May be read beside `chunks`."""


class Reader(Protocol):
    """Opens videos, one after the other."""

    def open(self, path: Path, window: Window = (None, None)) -> Reading:
        """`window`: what is given stands over the sampling's own. `SourceError` as `Decoder.open`, and as `Plan.of`."""

    def cancel(self) -> None:
        """From any thread: whoever waits for frames gets an error now."""

    def close(self) -> None:
        """End what reading has started."""


@dataclass(eq=False)
class LocalReading:
    """A video that a decode child of ours has open."""

    source: Source
    plan: Plan
    model: VideoModel

    @property
    def info(self) -> SourceInfo:
        return self.source.info

    @property
    def outcome(self) -> Outcome:
        return self.source.outcome

    def chunks(self, first: int) -> Generator[tuple[int, Frames], None, None]:
        plan = self.plan

        def resize(data: Tensor) -> Tensor:
            return self.model.resize(data, plan.size)

        batches = self.source.frames(plan.index)
        for batch in batches:
            index = batch.index.numpy()
            gone = int(np.searchsorted(index, plan.index[first * plan.chunk_frames]))
            if gone < len(batch):
                wanted = chain([batch[gone:]], batches)
                yield from chunks(wanted, plan.index, plan.chunk_frames, resize)
            else:
                yield int(np.searchsorted(plan.index, index[-1])) // plan.chunk_frames, batch[:0]

    def sound(self, rate: int) -> Iterator[Tensor]:
        first_s, end_s = float(self.plan.pts_s[0]), self.plan.end_s
        borders_s = [*np.arange(first_s, end_s, PIECE_S).tolist(), end_s]
        return (track.samples for track in self.source.audio(rate, borders_s))


class LocalReader:
    """A reader with a decode child of its own. `model` need not be set up: its geometry is all that is used."""

    def __init__(
        self, model: VideoModel, sample: Mapping[str, Any], decode: Mapping[str, Any], chunk_frames: int
    ) -> None:
        self.model = model
        self.sampling = Sampling(**sample)
        self.chunk_frames = chunk_frames
        self.decoder = Decoder(**decode)

    def open(self, path: Path, window: Window = (None, None)) -> LocalReading:
        given: dict[str, Any] = {
            name: at_s for name, at_s in zip(("start_s", "end_s"), window, strict=True) if at_s is not None
        }
        source = self.decoder.open(path)
        plan = Plan.of(source, replace(self.sampling, **given), self.model, self.chunk_frames)
        return LocalReading(source, plan, self.model)

    def cancel(self) -> None:
        self.decoder.cancel()

    def close(self) -> None:
        self.decoder.close()
