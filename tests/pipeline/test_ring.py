"""The ring between a source that cannot wait and its consumer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator

import pytest

from vidcomp.pipeline.runners.stream import MOST, Ring

Item = int | str


def weigh(item: Item) -> int | None:
    """Numbers count, lower-case words go along, upper-case ones stay."""
    return 1 if isinstance(item, int) else 0 if item.islower() else None


def ring(
    items: Generator[Item], limit: int = 3, *, wait: bool = False, cancel: Callable[[], None] = lambda: None
) -> Ring[Item]:
    return Ring(items, weigh, limit, wait=wait, cancel=cancel)


def slowly(items: list[Item], read: threading.Event) -> Generator[Item]:
    """The first item; all others when the consumer has it, which then waits until they are read."""
    yield items[0]
    yield from items[1:]
    read.set()


def behind(items: list[Item], limit: int = 3) -> tuple[list[Item], Ring[Item]]:
    """What a consumer gets that takes nothing before all items have come."""
    read = threading.Event()
    source = ring(slowly(items, read), limit)
    arriving = source.items()
    first = next(arriving)
    assert read.wait(10)
    return [first, *arriving], source


def test_the_oldest_go_and_are_counted() -> None:
    found, source = behind([0, 1, 2, 3, 4, 5, 6, 7])
    assert found[-3:] == [5, 6, 7]
    assert source.dropped == 8 - len(found)
    assert found == sorted(set(found), key=int)


def test_what_goes_along_goes_and_what_happened_stays() -> None:
    found, source = behind([0, "LOST", "a", 1, "b", 2, "BACK", "c", 3, "d", 4], limit=2)
    assert [item for item in found if isinstance(item, str) and item.isupper()] == ["LOST", "BACK"]
    assert found[-3:] == [3, "d", 4]
    assert "a" not in found
    assert source.dropped == 5 - sum(isinstance(item, int) for item in found)


def test_nothing_is_dropped_where_the_source_waits() -> None:
    whole: list[Item] = [*range(50), "END"]
    source = ring((item for item in whole), limit=2, wait=True)
    assert list(source.items()) == whole
    assert source.dropped == 0


@pytest.mark.parametrize("word", ["LOST", "sound"])
def test_what_is_not_counted_is_bounded_too(word: str) -> None:
    found, _ = behind([0, *(f"{word}{n}" for n in range(3 * MOST)), 1])
    assert len(found) <= MOST + 3
    assert found[-2:] == [f"{word}{3 * MOST - 1}", 1]


@pytest.mark.parametrize("wait", [True, False])
def test_sound_between_frames_is_not_lost_while_nobody_reads(wait: bool) -> None:
    whole: list[Item] = [item for n in range(8) for item in (n, *(f"sound{n}.{k}" for k in range(MOST // 2)))]
    source = ring((item for item in whole), limit=9, wait=wait)
    arriving = source.items()
    found = [next(arriving)]
    time.sleep(0.5)
    assert [*found, *arriving] == whole


def test_a_source_that_waits_waits_for_sound_too() -> None:
    whole: list[Item] = [0, *(f"sound{n}" for n in range(3 * MOST)), 1]
    source = ring((item for item in whole), limit=9, wait=True)
    arriving = source.items()
    found = [next(arriving)]
    time.sleep(0.2)
    assert [*found, *arriving] == whole


def test_a_source_that_cannot_be_closed_ends_all_the_same() -> None:
    def broken() -> Generator[Item]:
        try:
            yield 1
            yield 2
        finally:
            raise ValueError("closing")

    arriving = ring(broken()).items()
    assert next(arriving) == 1
    with pytest.raises(ValueError, match="closing"):
        list(arriving)


def test_an_error_comes_behind_what_was_read() -> None:
    def broken() -> Generator[Item]:
        yield 1
        raise ValueError("broken")

    arriving = ring(broken()).items()
    assert next(arriving) == 1
    with pytest.raises(ValueError, match="broken"):
        next(arriving)


@pytest.mark.parametrize("wait", [True, False])
def test_a_consumer_that_stops_stops_the_source(wait: bool) -> None:
    stop, closed = threading.Event(), threading.Event()

    def endless() -> Generator[Item]:
        try:
            while not stop.wait(0.001):
                yield 1
        finally:
            closed.set()

    arriving = ring(endless(), wait=wait, cancel=stop.set).items()
    assert next(arriving) == 1
    arriving.close()
    assert closed.is_set()
    assert not [t for t in threading.enumerate() if t.name == "vidcomp-live"]
