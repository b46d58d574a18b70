"""What a task may hand to others: a stream of values that a generator makes elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class StreamLostError(Exception):
    """Whatever made a stream's values has died; `str()` is one line."""


class Stream(Protocol):
    """`stream(cpus, generate, *words)` yields what `generate(*words)` yields elsewhere, a few values ahead of its
    reader, and raises what it raises. `StreamLostError` where its process or its machine dies."""

    def __call__(self, cpus: float, generate: Callable[..., Iterator[Any]], *words: Any) -> Iterator[Any]: ...


def steady(start: Callable[[], Iterator[T]], tries: int, died: Callable[[Exception], bool]) -> Iterator[T]:
    """The values of `start()`, which are the same each time: where it dies (as `died` says of what it raises) it is
    started again, so many tries in all, and what was had before is passed over. The last error is raised."""
    had = 0
    for left in reversed(range(tries)):
        values = start()
        try:
            for value in islice(values, had, None):
                had += 1
                yield value
            return
        except Exception as error:
            if not left or not died(error):
                raise
        finally:
            values.close()  # type: ignore[attr-defined]
