"""The simplest runner: one task after another, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .events import Done, Event, Message


class Inline:
    """Does each task with `work`, which raises only what ends the whole run."""

    def __init__(self, work: Callable[[Message], Message]) -> None:
        self._work = work

    def run(self, tasks: Sequence[Message]) -> Iterator[Event]:
        """See `events.Runner`."""
        for task in tasks:
            yield Done(task["number"], self._work(task))

    def close(self) -> None:
        """Nothing was started."""
