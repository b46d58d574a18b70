"""Reading a video on another machine: what that one yields, and what becomes of it on this. Knows no engine.

Each stream yields the same values whenever it is started, so one whose process died is started again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..stages.failure import SourceError
from .runners.parts import Stream, StreamLostError, steady
from .same_code import check_code

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.types import Frames
    from ..stages.decode_info import Outcome, SourceInfo
    from ..stages.read import LocalReader, Plan, Window

TRIES = 3  # of one stream: a file may be what its readers die of
SOUND_CPUS = 0.0  # pictures wait for it while they hold theirs: if it asked for any, all could wait for ever


@lru_cache(maxsize=1)
def reader_of(recipe: str, code: str) -> LocalReader:
    """This process's reader of a recipe (JSON): its decode child is kept from video to video."""
    check_code(code)
    from .build import build_encoder
    from .config import Recipe
    from .encode import local_reader

    told = Recipe.model_validate_json(recipe)
    return local_reader(told, build_encoder(told))


def read_far(recipe: str, code: str, path: str, window: Window, first: int) -> Iterator[Any]:
    """On the node that reads: (plan, info), then (chunk number, pixels, pts_s, index) as arrays, then the outcome."""
    reading = reader_of(recipe, code).open(Path(path), window)
    yield reading.plan, reading.info
    for number, frames in reading.chunks(first):
        yield number, frames.data.numpy(), frames.pts_s.numpy(), frames.index.numpy()
    yield reading.outcome


def hear_far(recipe: str, code: str, path: str, window: Window, rate: int) -> Iterator[Any]:
    """On the node that reads: samples float32 (S,), piece by piece."""
    for samples in reader_of(recipe, code).open(Path(path), window).sound(rate):
        yield samples.numpy()


@dataclass(eq=False)
class FarReading:
    """A video that is open on another node; `_opened` is its stream from chunk 0 on, behind (plan, info)."""

    plan: Plan
    info: SourceInfo
    read: Callable[[int], Iterator[Any]]  # from a chunk number on
    hear: Callable[[int], Iterator[Any]]  # at a rate
    _opened: Generator[Any, None, None]
    _outcome: Outcome | None = field(default=None, init=False)

    @property
    def outcome(self) -> Outcome:
        assert self._outcome is not None
        return self._outcome

    def chunks(self, first: int) -> Generator[tuple[int, Frames], None, None]:
        import torch

        from ..models.types import Frames

        messages: Iterator[Any] = self._opened
        if first:
            self._opened.close()
            messages = self.read(first)
            next(messages)
        for message in messages:
            if not isinstance(message, tuple):
                self._outcome = message
                return
            number, *arrays = message
            yield number, Frames(*(torch.from_numpy(array.copy()) for array in arrays))  # the store's are read-only

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

        def read(first: int) -> Generator[Any, None, None]:
            return self._steady(self.cpus, read_far, *words, first)

        messages = read(0)
        plan, info = next(messages)
        return FarReading(plan, info, read, partial(self._steady, SOUND_CPUS, hear_far, *words), messages)

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
