"""What a Ray data set of replies yields, without waiting for it longer than a moment. Knows no Ray."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from .actor import TICK_S

LOOK_S = 5.0  # between two looks at what it is made on


def replies(made: Any, look: Callable[[], None]) -> Iterator[dict[str, Any] | None]:
    """What actors reply, as it comes, and None now and then. Raises what `look`, called now and then, raises, and what
    the data set breaks off with."""
    rows: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_put_rows, args=(made, rows), daemon=True).start()
    told_s = looked_s = time.monotonic()
    while True:
        with contextlib.suppress(queue.Empty):
            row = rows.get(timeout=TICK_S)
            if row is None:
                return
            if isinstance(row, BaseException):
                raise row
            yield row
        if (now := time.monotonic()) - told_s > TICK_S:
            told_s = now
            yield None
        if now - looked_s > LOOK_S:
            looked_s = now
            look()


def _put_rows(made: Any, rows: queue.Queue[Any]) -> None:
    """The replies as they come, then None, or whatever broke it off."""
    try:
        for batch in made.iter_batches(batch_size=None, prefetch_batches=0):  # ahead, a reply waits for the next one
            for reply in batch["reply"]:
                rows.put(json.loads(reply))
        rows.put(None)
    except BaseException as error:
        rows.put(error)
