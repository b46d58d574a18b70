"""What a worker has under way, and what of it takes too long. Knows no engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Under:
    """One task: when it began, and when anything was last said of it."""

    since_s: float
    heard_s: float


class UnderWay:
    """`deadline_s` bounds a task, None: nothing does; `stall_s` how long nothing may be said of one. For any thread."""

    def __init__(self, deadline_s: float | None, stall_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.deadline_s, self.stall_s, self._clock = deadline_s, stall_s, clock
        self._tasks: dict[int, Under] = {}

    def begin(self, number: int) -> None:
        """A task is taken up."""
        now = self._clock()
        self._tasks[number] = Under(now, now)

    def hear(self, number: int) -> None:
        """A sign of life of a task that has begun."""
        self._tasks[number].heard_s = self._clock()

    def end(self, number: int) -> None:
        """It has come to its end."""
        del self._tasks[number]

    def overdue(self) -> dict[int, float]:
        """{number: the bound in seconds that it is over} of each that takes too long."""
        now, found = self._clock(), dict[int, float]()
        for number, task in list(self._tasks.items()):
            if self.deadline_s is not None and now - task.since_s > self.deadline_s:
                found[number] = self.deadline_s
            elif now - task.heard_s > self.stall_s:
                found[number] = self.stall_s
        return found
