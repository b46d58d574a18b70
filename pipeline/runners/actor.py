"""What does tasks in a process of a cluster, and what hears of them. Knows no engine: `ray.py` makes them actors."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .events import Message
from .parts import Stream
from .underway import UnderWay
from .worker import Fatal, Work

TICK_S = 0.5  # between two messages of one task's stage, two looks at what is under way
ASK_S = 2.0  # between two questions whether anybody hears
TOLD_S = 5.0  # for what is said last to arrive, and for an answer
SLACK = 1e-6  # thirds of a GPU are three

Prepare = Callable[[Mapping[str, Any], Stream], Work]


@dataclass(frozen=True)
class Node:
    """What a machine of a cluster has."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Crew:
    """So many actors, each asking for `cpus` and `gpus` of a node; the streams that they wait for ask for
    `stream_cpus` of any."""

    actors: int
    cpus: float
    gpus: float
    stream_cpus: float

    def fits(self, nodes: Sequence[Node]) -> bool:
        """Whether none of them, nor a stream, waits for ever on these nodes."""
        return self.actors <= self.room(nodes)

    def room(self, nodes: Sequence[Node]) -> int:
        """How many such actors the nodes take, if a stream must have room wherever they are put."""
        return int(min(sum(map(self._most, nodes)), sum(map(self._closing, nodes)) - 1))

    def _closing(self, node: Node) -> float:
        """How many of them, on a node, leave no room for a stream there."""
        if node.cpus < self.stream_cpus:
            return 0
        closing = int((node.cpus - self.stream_cpus) // self.cpus) + 1
        return closing if closing <= self._most(node) else math.inf

    def _most(self, node: Node) -> int:
        """How many have room on one node."""
        by_cpu = int(node.cpus // self.cpus)
        return min(by_cpu, int(node.gpus / self.gpus + SLACK)) if self.gpus else by_cpu


@dataclass(frozen=True)
class Orders:
    """What an actor is made with: `prepare(told, stream)` gives what does a task, see `worker.Fatal`; `deadline_s` of
    a task, None: none; `stall_s` how long nothing may be heard of one."""

    prepare: Prepare
    told: Mapping[str, Any]
    fatal: Fatal
    deadline_s: float | None
    stall_s: float


class Ears:
    """An actor beside the driver: what is said of tasks under way, kept until it is asked for."""

    def __init__(self) -> None:
        self._said: list[tuple[int, Message]] = []

    def hear(self, number: int, message: Message) -> None:
        """A task's worker says something: how far it is, or `late_s`, the bound that it is over."""
        self._said.append((number, message))

    def is_there(self) -> bool:
        """Whoever gets an answer is heard."""
        return True

    def take(self) -> list[tuple[int, Message]]:
        """All since the last time."""
        said, self._said = self._said, []
        return said


class Actor:
    """A batch of tasks, as JSON, to a batch of replies; for several threads. With a task that takes too long the
    process ends: it may hang in C. So it does when nobody hears of it any more: its run has ended, and a cluster may
    wait for what an actor is at before it ends it."""

    def __init__(self, orders: Orders, stream: Stream, ears: Any) -> None:
        self._fatal, self._ears = orders.fatal, ears
        self._under = UnderWay(orders.deadline_s, orders.stall_s)
        self._error: tuple[str, str] | None = None
        try:
            self._work = orders.prepare(orders.told, stream)
        except Exception as error:
            self._error = self._told(error)
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        return {"reply": [json.dumps(self._one(json.loads(task))) for task in batch["task"]]}

    def _one(self, task: Message) -> Message:
        """Its reply, `number` with it; or `fatal` and `message`."""
        if self._error is not None:
            return {"fatal": self._error[0], "message": self._error[1]}
        number, said_s = task["number"], dict[Any, float]()  # by stage: one must not drown another

        def say(message: Message) -> None:
            self._under.hear(number)
            if time.monotonic() - said_s.get(stage := message.get("stage"), 0.0) > TICK_S:
                said_s[stage] = time.monotonic()
                self._ears.hear.remote(number, dict(message))

        self._under.begin(number)
        try:
            return {"number": number, **self._work(task, say)}
        except Exception as error:
            kind, what = self._told(error)
            return {"fatal": kind, "message": what}
        finally:
            self._under.end(number)

    def _told(self, error: Exception) -> tuple[str, str]:
        return self._fatal(error) or ("internal", line_of(error))

    def _watch(self) -> None:
        asked_s = time.monotonic()
        while not (late := self._under.overdue()):
            time.sleep(TICK_S)
            if time.monotonic() - asked_s > ASK_S:
                if not self._is_heard():
                    break
                asked_s = time.monotonic()
        for number, bound_s in late.items():
            with contextlib.suppress(Exception):  # the driver, or the way to it, may have gone
                self._ears.hear.remote(number, {"late_s": bound_s}).future().result(TOLD_S)
        os.kill(os.getpid(), signal.SIGKILL)

    def _is_heard(self) -> bool:
        """Whether the run goes on, as far as can be known: who takes long to answer is there."""
        try:
            self._ears.is_there.remote().future().result(TOLD_S)
        except TimeoutError:
            return True
        except Exception:  # of the engine, whichever it is
            return False
        return True


def line_of(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
