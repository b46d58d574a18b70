"""The same stages on a cluster: reading in one pool of tasks, encoding in another of actors. Knows no ray.

A video is read where a CPU is free, and its model-size chunks go to the actor that encodes it; that actor decides,
stores and accounts just as one process does, so the records are the same bytes.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .tasks import fatal, hello, prepare

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.types import Frames
    from ..stages.decode_info import Outcome, SourceInfo
    from ..stages.read import LocalReader, Plan, Window
    from .config import Recipe
    from .run import How
    from .runners.events import Runner

Stream = Callable[..., Iterator[Any]]


def ray_runner(recipe: Recipe, out: Path, how: How) -> Runner:
    """A runner on Ray; ConfigError where it is not installed."""
    try:
        from .runners.ray import RayRunner, Share, quiet
    except ImportError as error:
        raise ConfigError(f"--engine ray needs Ray ({error}): pip install 'vidcomp[ray]'") from None
    told = {**hello(recipe, out, how.force), "deadline_s": how.deadline_s, "token": leave_token(out)}
    gpus = 1.0 if recipe.compute.device.startswith("cuda") else 0.0
    runner = RayRunner(
        prepare=far_work,
        told=told,
        fatal=fatal,
        whole=Share(recipe.compute.threads, gpus),
        parts=Share(1),
        workers=how.workers or 1,
        address=how.address,
    )
    quiet()
    return runner


def leave_token(out: Path) -> str:
    """A file in OUT that every node must see: OUT has to be on storage that they share."""
    out.mkdir(parents=True, exist_ok=True)
    token = f".cluster-{secrets.token_hex(8)}"
    (out / token).touch()
    return token


def far_work(told: Mapping[str, Any], stream: Stream) -> Any:
    """What an actor does: `tasks.prepare` with a reader that reads elsewhere."""
    import torch

    from .encode import VideoEncoder

    out, token = Path(told["out"]), told["token"]
    if not (out / token).exists():
        raise ConfigError(f"{out} is not the same folder on node {os.uname().nodename}: put OUT on shared storage")
    torch.set_num_threads(told["recipe"]["compute"]["threads"])  # once: several videos are in flight in one process

    def build(recipe: Recipe, identity: Mapping[str, Any]) -> VideoEncoder:
        return VideoEncoder(recipe, identity, FarReader(stream, told["recipe"], told["deadline_s"]))

    return prepare(told, build)


@lru_cache(maxsize=1)
def reader_of(recipe: str) -> LocalReader:
    """This process's reader of a recipe (JSON): its decode child is kept from video to video."""
    from .build import build_encoder
    from .config import Recipe
    from .encode import local_reader

    told = Recipe.model_validate_json(recipe)
    return local_reader(told, build_encoder(told))


def read_far(recipe: str, path: str, window: Window, first: int) -> Iterator[Any]:
    """On the node that reads: (plan, info), then (chunk number, pixels, pts_s, index) as arrays, then the outcome."""
    reading = reader_of(recipe).open(Path(path), window)
    yield reading.plan, reading.info
    for number, frames in reading.chunks(first):
        yield number, frames.data.numpy(), frames.pts_s.numpy(), frames.index.numpy()
    yield reading.outcome


def hear_far(recipe: str, path: str, window: Window, rate: int) -> Iterator[Any]:
    """On the node that reads: samples float32 (S,), piece by piece."""
    for samples in reader_of(recipe).open(Path(path), window).sound(rate):
        yield samples.numpy()


@dataclass(eq=False)
class FarReading:
    """A video that is open on another node."""

    plan: Plan
    info: SourceInfo
    read: Callable[[int], Iterator[Any]]  # from a chunk number on, behind (plan, info)
    hear: Callable[[int], Iterator[Any]]
    _started: Iterator[Any] | None
    _until_s: float | None
    _outcome: Outcome | None = field(default=None, init=False)

    @property
    def outcome(self) -> Outcome:
        assert self._outcome is not None
        return self._outcome

    def chunks(self, first: int) -> Generator[tuple[int, Frames], None, None]:
        import torch

        from ..models.types import Frames

        started, self._started = self._started, None
        if started is None or first:
            with suppress(AttributeError):
                started.close()  # type: ignore[union-attr]
            started = self.read(first)
        for message in started:
            if not isinstance(message, tuple):
                self._outcome = message
                return
            self._check_time()
            number, *arrays = message
            yield number, Frames(*(torch.from_numpy(array.copy()) for array in arrays))

    def sound(self, rate: int) -> Iterator[Tensor]:
        import torch

        return (torch.from_numpy(samples.copy()) for samples in self.hear(rate))

    def _check_time(self) -> None:
        from ..stages.failure import SourceError

        if self._until_s is not None and time.monotonic() > self._until_s:
            raise SourceError("timeout", "it took longer than its deadline", "raise --deadline")


@dataclass(frozen=True)
class FarReader:
    """A reader whose videos are read by `stream`."""

    stream: Stream
    recipe: Mapping[str, Any]
    deadline_s: float | None = None

    def open(self, path: Path, window: Window = (None, None)) -> FarReading:
        import json

        words = json.dumps(self.recipe, sort_keys=True), str(path), window

        def read(first: int) -> Iterator[Any]:
            messages = self.stream(read_far, *words, first)
            next(messages)
            return messages

        messages = self.stream(read_far, *words, 0)
        plan, info = next(messages)
        until_s = None if self.deadline_s is None else time.monotonic() + self.deadline_s
        return FarReading(plan, info, read, partial(self.stream, hear_far, *words), messages, until_s)

    def cancel(self) -> None:
        """A stream that nobody reads is cancelled when it is closed."""

    def close(self) -> None:
        """Nothing is kept open here."""
