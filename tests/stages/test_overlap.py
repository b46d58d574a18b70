"""`prefetch`: the same items, one ahead, closed whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from vidcomp.stages.overlap import prefetch


def counting(n: int, closed: threading.Event, fail_at: int = -1) -> Generator[int, None, None]:
    try:
        for i in range(n):
            if i == fail_at:
                raise RuntimeError("at item")
            yield i
    finally:
        closed.set()


def test_same_items_same_order() -> None:
    closed = threading.Event()
    assert list(prefetch(counting(100, closed))) == list(range(100))
    assert closed.is_set()


def test_an_error_comes_after_the_items_before_it() -> None:
    closed = threading.Event()
    ahead = prefetch(counting(5, closed, fail_at=3))
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="at item"):
        next(ahead)
    assert closed.is_set()


def test_a_consumer_that_stops_cancels_and_closes() -> None:
    closed, cancelled, stuck = threading.Event(), threading.Event(), threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            yield 0
            stuck.set()
            assert cancelled.wait(10)  # a wait that only `cancel` ends, as for a hung decoder
            yield 1
        finally:
            closed.set()

    ahead = prefetch(items(), cancel=cancelled.set)
    assert next(ahead) == 0
    assert stuck.wait(10)
    ahead.close()  # type: ignore[attr-defined]
    assert closed.is_set()


def test_no_cancel_when_all_was_taken() -> None:
    cancelled = threading.Event()
    list(prefetch(counting(3, threading.Event()), cancel=cancelled.set))
    assert not cancelled.is_set()
