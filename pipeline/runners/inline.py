"""The simplest runner: one input after another, in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)


def run(
    items: Iterable[T],
    work: Callable[[T], R],
    broken: Callable[[T, Exception], R],
    fatal: tuple[type[Exception], ...] = (),
) -> Iterator[R]:
    """`work(item)` for each item, in order; where work raises, `broken(item, error)` stands in and the rest goes on.

    An error of a `fatal` kind is the whole run's (a wrong setting) and is raised.
    """
    for item in items:
        try:
            yield work(item)
        except fatal:
            raise
        except Exception as e:
            log.debug("work on %r raised", item, exc_info=True)
            yield broken(item, e)
