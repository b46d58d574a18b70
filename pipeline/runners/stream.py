"""A source that cannot wait: its items are taken as they come, and the oldest go where they come too fast.

Knows nothing of what the items are; `weigh` tells: 1 counts against the limit and may be dropped, 0 goes with the
counted one behind it, None stays, up to so many.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

T = TypeVar("T")

MOST = 1000  # items of weight None, and of weight 0 behind the newest counted one: of more the oldest go


class Ring(Generic[T]):
    """Items read ahead in a thread, in their order. With `wait` the source waits where `limit` counted items are held;
    without, the oldest counted one is dropped for each that is too many. The source may set `wait` as it goes.

    `dropped`: counted items dropped so far; `dropped_before`: those dropped before the item that the consumer has now.
    """

    def __init__(
        self,
        items: Generator[T],
        weigh: Callable[[T], int | None],
        limit: int,
        *,
        wait: bool,
        cancel: Callable[[], None],
    ) -> None:
        self.dropped = self.dropped_before = self._held = 0
        self.wait = wait
        self._items, self._weigh, self._limit, self._cancel = items, weigh, limit, cancel
        self._queue: deque[tuple[T, int | None]] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="vidcomp-live", daemon=True)

    def items(self) -> Generator[T]:
        """Every item that is not dropped. An error of the source is raised behind the items before it."""
        self._thread.start()
        try:
            while (found := self._next()) is not None:
                yield found[0]
            if self._error is not None:
                raise self._error
        finally:
            self._stop()

    def _next(self) -> tuple[T] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ended)
            if not self._queue:
                return None
            item, weight = self._queue.popleft()
            self._held -= weight or 0
            self.dropped_before = self.dropped  # older ones all: the oldest go first
            self._changed.notify_all()
            return (item,)

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._cancel()
        self._thread.join()

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    break
        except BaseException as error:
            self._error = error
        finally:
            try:
                self._items.close()
            finally:
                with self._changed:
                    self._ended = True
                    self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """Whether anybody still wants more."""
        weight = self._weigh(item)
        with self._changed:
            if self.wait:
                self._changed.wait_for(lambda: self._has_room(weight) or self._stopped)
            self._queue.append((item, weight))
            self._held += weight or 0
            if self._held > self._limit:
                self._drop()
            self._bound()
            self._changed.notify_all()
            return not self._stopped

    def _drop(self) -> None:
        """The oldest counted item goes, and what goes with it."""
        weights = [weight for _, weight in self._queue]
        oldest = weights.index(1)
        kept = [pair for pair in list(self._queue)[:oldest] if pair[1] is None]
        for _ in range(oldest + 1):
            self._queue.popleft()
        self._queue.extendleft(reversed(kept))
        self._held -= 1
        self.dropped += 1

    def _has_room(self, weight: int | None) -> bool:
        return self._held < self._limit if weight else weight is None or len(self._loose()) < MOST

    def _loose(self) -> list[int]:
        """Where the items of weight 0 are that are behind the newest counted one: nothing bounds these but us."""
        found = list[int]()
        for back, (_, weight) in enumerate(reversed(self._queue), 1):
            if weight:
                break
            if weight == 0:
                found.append(len(self._queue) - back)
        return found

    def _bound(self) -> None:
        """However long nobody reads."""
        if len(loose := self._loose()) > MOST:
            del self._queue[loose[-1]]
        if sum(weight is None for _, weight in self._queue) > MOST:
            del self._queue[next(i for i, (_, weight) in enumerate(self._queue) if weight is None)]
