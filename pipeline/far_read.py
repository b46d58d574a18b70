"""Reading a video on another machine: what that one yields, and what becomes of it on this. Knows no engine.

Each stream yields the same values whenever it is started, so one whose process died is started again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..stages.failure import SourceError
from ..stages.heap import give_back, keep_freed
from .runners.parts import Stream, StreamLostError, steady
from .same_code import check_code

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.types import Frames
    from ..stages.decode_info import Outcome, SourceInfo
    from ..stages.read import LocalReader, Plan, Window

Told = tuple["Plan", "SourceInfo"]
Chunk = tuple[int, Any, Any, Any]  # number, and pixels, pts_s and index as arrays
Message = tuple[Told | None, Chunk | None, "Outcome | None"]  # the first names the video, the last how it ended
TRIES = 3  # of one stream: a file may be what its readers die of
SOUND_CPUS = 0.0  # pictures wait for it while they hold theirs: if it asked for any, all could wait for ever


@lru_cache(maxsize=1)
def reader_of(recipe: str, code: str) -> LocalReader:
    """This process's reader of a recipe (JSON): its decode child is kept from video to video."""
    check_code(code)
    keep_freed()
    from .build import build_encoder
    from .config import Recipe
    from .encode import local_reader

    told = Recipe.model_validate_json(recipe)
    return local_reader(told, build_encoder(told))


def read_far(recipe: str, code: str, path: str, window: Window, first: int) -> Iterator[Message]:
    """On the node that reads. What crosses costs milliseconds a message, so that a short video is just one."""
    reading = reader_of(recipe, code).open(Path(path), window)
    told: Told | None = (reading.plan, reading.info)
    last = (len(reading.plan.index) - 1) // reading.plan.chunk_frames
    held: Chunk | None = None
    for number, frames in reading.chunks(first):
        held = number, frames.data.numpy(), frames.pts_s.numpy(), frames.index.numpy()
        if number < last:
            yield told, held, None
            told = held = None
    yield told, held, reading.outcome
    del held
    give_back()


def hear_far(recipe: str, code: str, path: str, window: Window, rate: int) -> Iterator[Any]:
    """On the node that reads: samples float32 (S,), piece by piece."""
    for samples in reader_of(recipe, code).open(Path(path), window).sound(rate):
        yield samples.numpy()


@dataclass(eq=False)
class FarReading:
    """A video that is open on another node; its stream from chunk 0 on is `_first` and `_rest`."""

    plan: Plan
    info: SourceInfo
    read: Callable[[int], Iterator[Message]]  # from a chunk number on
    hear: Callable[[int], Iterator[Any]]  # at a rate
    _first: Message
    _rest: Generator[Message, None, None]
    _outcome: Outcome | None = field(default=None, init=False)

    @property
    def outcome(self) -> Outcome:
        assert self._outcome is not None
        return self._outcome

    def chunks(self, first: int) -> Generator[tuple[int, Frames], None, None]:
        import torch

        from ..models.types import Frames

        messages: Iterator[Message] = chain([self._first], self._rest)
        if first:
            self._rest.close()
            messages = self.read(first)
        for _, chunk, self._outcome in messages:
            if chunk is not None:
                number, *arrays = chunk
                yield number, Frames(*(torch.from_numpy(array.copy()) for array in arrays))  # the store's: read-only

    def sound(self, rate: int) -> Iterator[Tensor]:
        import torch

        return (torch.from_numpy(samples.copy()) for samples in self.hear(rate))


@dataclass(frozen=True)
class FarReader:
    """A reader whose videos are read by `stream`, each with `cpus`; `code`: see `same_code`."""

    stream: Stream
    recipe: Mapping[str, Any]
    code: str
    cpus: float

    def open(self, path: Path, window: Window = (None, None)) -> FarReading:
        words = json.dumps(self.recipe, sort_keys=True), self.code, str(path), window

        def read(first: int) -> Generator[Message, None, None]:
            return self._steady(self.cpus, read_far, *words, first)

        messages = read(0)
        first = next(messages)
        assert first[0] is not None
        hear = partial(self._steady, SOUND_CPUS, hear_far, *words)
        return FarReading(*first[0], read, hear, first, messages)

    def cancel(self) -> None:
        """A stream that nobody reads is cancelled when it is closed."""

    def close(self) -> None:
        """Nothing is kept open here."""

    def _steady(self, cpus: float, generate: Callable[..., Iterator[Any]], *words: Any) -> Generator[Any, None, None]:
        try:
            yield from steady(partial(self.stream, cpus, generate, *words), TRIES, died)
        except StreamLostError as error:
            what = f"whatever reads it dies ({error})"
            raise SourceError("crashed", what, "repair or replace the file, or give the readers more memory") from None


def died(error: Exception) -> bool:
    """Whether a stream's process, or the decoder that it reads with, has died."""
    return isinstance(error, StreamLostError) or (isinstance(error, SourceError) and error.reason == "crashed")
