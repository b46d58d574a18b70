"""A run over many inputs: what is known is not done again, the rest goes to a runner, every input gets one status.

Long inputs go first, so that none is left over at the end. An input whose worker died is tried once more when all
others are through, alone: what kills its worker again is its own failure.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from ..stages.failure import SourceError
from ..stages.safefile import OutputError, writing
from .config import Recipe
from .errors import RUN_ERRORS, ConfigError
from .item import Item
from .job import Job, about_of
from .known import Known
from .recipes import FOLDER as RECIPES
from .recipes import keep_recipe
from .result import Result
from .runners.events import Done, Event, Heard, Lost, Message, Runner, RunnerError
from .runners.inline import Inline
from .spool import remove_leftovers
from .stats import Stats, StatsFile
from .tasks import attempt, hello, result_of, task_of, watch_of
from .verify import leftovers

log = logging.getLogger(__name__)

MOST_WORKERS = 8  # without being told
STALL_S = 900.0  # a worker that has not got one chunk further in that time hangs
WORKER = (sys.executable, "-P", "-m", "vidcomp.pipeline.cli.worker")

Hear = Callable[[str, Message], None]  # an input's name, and what its worker says


def unheard(name: str, message: Message) -> None:
    """A `Hear` that does nothing."""


@dataclass(frozen=True)
class How:
    """How a run goes about it; none of this changes a byte of a record. ConfigError for what does not go together.

    `workers`: processes; 0: this one; None: as many as cores, by inputs. `deadline_s` of one input, None: none but the
    decoder's own. `retry`: do again what failed before.
    """

    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    force: bool = False
    retry: bool = False
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        if self.address is not None and self.engine != "ray":
            raise ConfigError(f"--address {self.address}: only --engine ray joins a cluster: add it, or leave this out")
        if self.deadline_s is not None and self.workers == 0 and self.engine == "local":
            raise ConfigError("--deadline: only another process can be ended in time: ask for --workers 1 or more")


@dataclass
class Run:
    """One run of a job. `stats` as it goes; `hear` is told of inputs under way."""

    job: Job
    how: How
    hear: Hear = unheard
    stats: Stats = field(default_factory=lambda: Stats(0, 0, "local"))
    close_look: bool = False
    _file: StatsFile = field(init=False)

    def look_closely(self) -> None:
        """Know nothing by names and times alone: hash the input, read the record's header, try again what failed.

        A URL is not fetched to be hashed while its server tells of no change.
        """
        self.close_look = True

    def results(self, items: Sequence[Item]) -> Iterator[Result]:
        """Each input's result, noted in the manifest before it is given; what was known comes first.

        Errors that end a run (`errors.RUN_ERRORS`) are raised.
        """
        self._tidy()
        known = Known(self.job.store.out, self.job.digest_of)
        told = [(item, self._told(known, item)) for item in self._asked(known, items)]
        left = sorted((item for item, result in told if result is None), key=lambda item: -item.size)
        workers = self.worker_count(len(left))
        self.stats = Stats(len(told), workers, self.how.engine, size_left=sum(item.size for item in items))
        self._file = StatsFile(self.job.store.out, self.stats, wanted=bool(left) and len(told) > 1)
        self._file.write(now=True)
        ready = ((item, result) for item, result in told if result is not None)
        try:
            for item, result in _chained(ready, lambda: self._made(left, workers)):
                row = result.row
                known.manifest.note(row if result.cached else {**row, "at_s": round(time.time(), 3)})
                self.stats.count(result, item)
                self._file.write(now=self.stats.done == len(told))
                yield result
        finally:
            if self.stats.done < len(told):
                self.stats.interrupted = True
                self._file.write(now=True)

    def _tidy(self) -> None:
        """Remove what runs that were killed in the middle of writing have left."""
        out = self.job.store.out
        for path in chain(leftovers(out), leftovers(out / RECIPES)):
            with writing(path):
                path.unlink(missing_ok=True)
        self.job.store.sweep()

    def worker_count(self, left: int) -> int:
        """Processes to start; 0: none."""
        asked = self.how.workers
        if self.how.engine == "ray":
            return asked or 0
        if asked is not None:
            return min(asked, left)
        if left < 2:
            return left if self.how.deadline_s is not None else 0  # only another process can be ended in time
        compute = self.job.recipe.compute
        cores = 1 if compute.device != "cpu" and gpu_here() else cores_here() // compute.threads
        return max(1, min(cores, left, MOST_WORKERS))

    def _asked(self, known: Known, items: Sequence[Item]) -> Sequence[Item]:
        """The inputs, with their state on the server where an earlier run knew it and this one does not."""
        unsure = [] if self.how.force else [number for number, item in enumerate(items) if known.is_unsure(item)]
        if not unsure:
            return items
        from .remote import asked

        log.info("asking servers about %d inputs that were known", len(unsure))
        now = dict(zip(unsure, map(known.settled, asked(items[number] for number in unsure)), strict=True))
        return [now.get(number, item) for number, item in enumerate(items)]

    def _told(self, known: Known, item: Item) -> Result | None:
        if item.error is not None:
            return Result.failed_with(item.name, item.error, about_of(self.job, item))
        if self.how.force:
            return None
        if self.close_look:
            content = None if item.url is None else known.content(item)
            return None if content is None else self.job.recorded(item, content)
        return known.result(item, retry=self.how.retry)

    def _made(self, left: Sequence[Item], workers: int) -> Iterator[tuple[Item, Result]]:
        """Each item and its result, as they come."""
        if not left:
            return
        remove_leftovers(self.job.store.out)
        if self.stats.inputs > 1:
            keep_recipe(self.job)
        tasks = [task_of(number, item) for number, item in enumerate(left)]
        lost: list[Message] = []
        with closing(self._runner(left, workers)) as runner:
            for event in self._events(runner, tasks):
                if isinstance(event, Lost) and not event.late:
                    self.stats.lose(left[event.number])
                    lost.append(tasks[event.number])
                else:
                    yield from self._ended(left, event)
            for task in lost:
                for event in self._events(runner, [task]):
                    yield from self._ended(left, event)

    def _events(self, runner: Runner, tasks: Sequence[Message]) -> Iterator[Event]:
        events = runner.run(tasks)
        try:
            yield from events
        except RunnerError as error:
            raise run_error(error) from None

    def _ended(self, left: Sequence[Item], event: Event) -> Iterator[tuple[Item, Result]]:
        item = left[event.number]
        if isinstance(event, Heard):
            self._heard(item, event.message)
        elif isinstance(event, Done):
            yield item, result_of(event.reply)
        else:
            fix = "raise --deadline" if event.late else "repair or replace the file, or give the workers more memory"
            error = SourceError("timeout" if event.late else "crashed", event.why, fix)
            yield item, Result.failed_with(item.name, error, about_of(self.job, item) | {"stamp": item.stamp_text})

    def _heard(self, item: Item, message: Message) -> None:
        self.stats.hear(item, message["stage"], message["done"] / max(message["total"], 1))
        self._file.write()
        self.hear(item.name, message)

    def _runner(self, left: Sequence[Item], workers: int) -> Runner:
        recipe, out = shared_cores(self.job.recipe, workers), self.job.store.out
        if self.how.engine == "ray":
            from .far import ray_runner

            return ray_runner(recipe, out, self.how)
        if not workers:
            return Inline(partial(self._here, left))
        from .runners.local import Pool

        told = hello(recipe, out, self.how.force)
        return Pool(WORKER, told, workers, deadline_s=self.how.deadline_s, stall_s=STALL_S)

    def _here(self, left: Sequence[Item], task: Message) -> Message:
        """One task in this process."""
        item = left[task["number"]]
        result = attempt(self.job, item, self.how.force, watch_of(partial(self._heard, item)))
        return {"facts": result.facts, "about": result.about}


def _chained(
    ready: Iterable[tuple[Item, Result]], more: Callable[[], Iterator[tuple[Item, Result]]]
) -> Iterator[tuple[Item, Result]]:
    yield from ready
    yield from more()


def shared_cores(recipe: Recipe, workers: int) -> Recipe:
    """Where decoders may use as many threads as there are cores, workers share these; threads change no pixel."""
    if workers < 2 or recipe.decode.threads:
        return recipe
    decode = recipe.decode.model_copy(update={"threads": max(cores_here() // workers, 1)})
    return recipe.model_copy(update={"decode": decode})


def cores_here() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_here() -> bool:
    """Whether there is an NVIDIA driver, known without torch."""
    return Path("/proc/driver/nvidia").exists()


def run_error(error: RunnerError) -> Exception:
    """A worker's fatal error, under the name that it had there."""
    kinds: Mapping[str, Any] = {kind.__name__: kind for kind in RUN_ERRORS}
    if error.kind == OutputError.__name__:
        where, why, fix = [*error.message.split(": ", 2), "", ""][:3]
        return OutputError(where, why, fix)
    return kinds.get(error.kind, ConfigError)(error.message)  # type: ignore[no-any-return]
