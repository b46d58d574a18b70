"""Two stages at once: the next item is made in a thread while this one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class _End:
    pass


def prefetch(
    items: Generator[T, None, None], depth: int = 1, cancel: Callable[[], None] | None = None
) -> Generator[T, None, None]:
    """The same items in the same order, at most `depth` made ahead in one thread.

    An error in `items` is raised here, after the items before it. When the consumer stops early (Ctrl-C too), `cancel`
    is called to cut short whatever `items` is waiting for, and `items` is closed in its own thread before this returns.
    """
    ready: queue.Queue[T | _Failure | _End] = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_produce, args=(items, ready, stop), name="vidcomp-prefetch", daemon=True)
    thread.start()
    ended = False
    try:
        while not isinstance(item := ready.get(), _End):
            if isinstance(item, _Failure):
                raise item.error
            yield item
        ended = True
    finally:
        stop.set()
        if cancel and not ended:
            cancel()
        thread.join()


def _produce(items: Generator[T, None, None], ready: queue.Queue[T | _Failure | _End], stop: threading.Event) -> None:
    try:
        for item in items:
            if not _put(ready, item, stop):
                break
        _put(ready, _End(), stop)
    except BaseException as e:
        _put(ready, _Failure(e), stop)
    finally:
        items.close()


def _put(ready: queue.Queue[T | _Failure | _End], item: T | _Failure | _End, stop: threading.Event) -> bool:
    """Wait for room, but not for a consumer that has gone."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
