"""Tasks on Ray Data: one actor pool does them, and may hand parts of a task to another pool of plain Ray tasks.

What crosses the object store is what those parts yield, a few objects at a time. Ray may lose an actor, a node or a
block: whatever does not come back is told as `Lost`, so every task has one end whatever Ray makes of it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from .events import Done, Event, Lost, Message, RunnerError
from .worker import Work

AHEAD = 2  # objects that a stream may be ahead of its reader
LOST_RUNS = 2  # runs in a row that Ray breaks off with nothing done before each task is tried alone

Stream = Callable[..., Iterator[Any]]
Prepare = Callable[[Mapping[str, Any], Stream], Work]


@dataclass(frozen=True)
class Share:
    """What a stage asks of a node."""

    cpus: float
    gpus: float = 0.0


class Elsewhere:
    """Runs generators as Ray tasks: `elsewhere(generate, *words)` yields what `generate(*words)` yields there.

    A task that is not read on is cancelled when its iterator is closed. `RayError` where it, or its node, dies;
    what `generate` raises comes as it was raised.
    """

    def __init__(self, share: Share) -> None:
        options = {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_retries": 0, "num_returns": "streaming"}
        self._options = {**options, "_generator_backpressure_num_objects": AHEAD}

    def __call__(self, generate: Callable[..., Iterator[Any]], *words: Any) -> Iterator[Any]:
        refs = ray.remote(generate).options(**self._options).remote(*words)
        ended = False
        try:
            for ref in refs:
                yield ray.get(ref)
            ended = True
        except RayTaskError as error:
            ended = True
            raise error.cause if isinstance(error.cause, Exception) else error from None
        finally:
            if not ended:
                with contextlib.suppress(RayError):
                    ray.cancel(refs, force=False)


class Actor:
    """Ray Data's callable: one task a batch, as JSON."""

    def __init__(self, prepare: Prepare, told: Mapping[str, Any], parts: Share, fatal: Any) -> None:
        self._fatal = fatal
        self._error: tuple[str, str] | None = None
        try:
            self._work = prepare(told, Elsewhere(parts))
        except Exception as error:
            self._error = fatal(error) or ("start", f"{type(error).__name__}: {error}")

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"reply": [json.dumps(self._one(json.loads(task))) for task in batch["task"]]}

    def _one(self, task: Message) -> Message:
        if self._error is not None:
            return {"fatal": self._error[0], "message": self._error[1]}
        try:
            return {"number": task["number"], **self._work(task, lambda message: None)}
        except Exception as error:
            told = self._fatal(error)
            if told is None:
                raise
            return {"fatal": told[0], "message": told[1]}


@dataclass(eq=False)
class RayRunner:
    """See `events.Runner`. `whole` is what an actor asks for, `parts` what each stream of its asks for; `workers`
    actors; `at_once` tasks in flight on each. Joins the cluster at `address`, or starts one on this machine."""

    prepare: Prepare
    told: Mapping[str, Any]
    fatal: Callable[[BaseException], tuple[str, str] | None]
    whole: Share
    parts: Share
    workers: int
    at_once: int = 2
    address: str | None = None
    _ours: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if ray.is_initialized():
            return
        self._ours = True
        try:
            ray.init(address=self.address, **self._local(), log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise RunnerError("ray", f"no Ray cluster at {self.address or 'this machine'} ({first})") from None

    def _local(self) -> dict[str, Any]:
        """A cluster of our own has room for the actors and what they hand on."""
        if self.address is not None:
            return {}
        cpus = self.workers * (self.whole.cpus + self.parts.cpus * self.at_once)
        return {"num_cpus": int(-(-cpus // 1)), "include_dashboard": False}

    def run(self, tasks: Sequence[Message]) -> Iterator[Event]:
        """One end for each task: what several broken-off runs do not bring back is `Lost`."""
        left = {task["number"]: task for task in tasks}
        fruitless = 0
        while left and fruitless < LOST_RUNS:
            before = len(left)
            for reply in self._replies(list(left.values())):
                if "fatal" in reply:
                    raise RunnerError(reply["fatal"], reply["message"])
                if left.pop(reply["number"], None) is not None:
                    yield Done(reply["number"], {k: v for k, v in reply.items() if k != "number"})
            fruitless = fruitless + 1 if len(left) == before else 0
            if len(tasks) == 1:
                break
        for number in left:
            yield Lost(number, "its worker or its node died")

    def close(self) -> None:
        """Leave the cluster; one that we started ends."""
        if self._ours:
            ray.shutdown()

    def _replies(self, tasks: Sequence[Message]) -> Iterator[dict[str, Any]]:
        """What the actors answer, until all have, or Ray gives up."""
        data = ray.data.from_items([{"task": json.dumps(task)} for task in tasks], override_num_blocks=len(tasks))
        with warnings.catch_warnings():  # these last three have no other name yet
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            made = data.map_batches(
                Actor,
                fn_constructor_args=(self.prepare, self.told, self.parts, self.fatal),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=self.workers, max_tasks_in_flight_per_actor=self.at_once),
                num_cpus=self.whole.cpus,
                num_gpus=self.whole.gpus,
                max_concurrency=self.at_once,
                max_restarts=0,
                max_task_retries=0,
            )
        try:
            for row in made.iter_rows():
                yield json.loads(row["reply"])
        except (RayError, GetTimeoutError, ray.exceptions.RaySystemError) as error:
            logging.getLogger(__name__).debug("a run was broken off: %s", error)


def quiet() -> None:
    """No progress bars, and blocks that error are ours to account for."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    context.execution_options.preserve_order = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
