"""The ring between a source that cannot wait and its consumer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

import pytest

from vidcomp.pipeline.runners.stream import MOST_KEPT, Ring

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


def test_what_stays_is_bounded_too() -> None:
    found, _ = behind([0, *(f"LOST{n}" for n in range(3 * MOST_KEPT)), 1])
    assert len(found) <= MOST_KEPT + 3
    assert found[-2:] == [f"LOST{3 * MOST_KEPT - 1}", 1]


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
