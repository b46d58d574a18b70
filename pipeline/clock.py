"""Seconds per stage, and what a progress display needs to hear."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Watch(Protocol):
    """Hears how far each stage of one video has come; counts are frames."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def unwatched(stage: str, done: int, total: int) -> None:
    """A `Watch` that does nothing."""


class Clock:
    """Wall seconds spent in each stage. Stages overlap, so they may add up to more than the total."""

    def __init__(self) -> None:
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block's time to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[name] += time.perf_counter() - start

    def timed(self, name: str, items: Iterator[T]) -> Iterator[T]:
        """The same items; the time taken to make each counts to `name`."""
        while True:
            with self.stage(name):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def seconds(self) -> dict[str, float]:
        """Rounded to a millisecond, with `total` since the clock was made."""
        spent = {name: round(self._spent[name], 3) for name in ("decode", "embed", "reduce", "store")}
        return {**spent, "total": round(time.perf_counter() - self._start, 3)}
