"""What is printed, and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ..clock import Watch, unwatched
from ..report.lines import put as put
from ..report.lines import put_part as put_part
from ..report.lines import shown

PLAIN_EVERY_S = 5.0  # seconds between plain progress lines
LONGEST = 2000  # characters of a complaint


def complain(message: str) -> None:
    """One line on stderr, of bounded length; a closed or full stderr is no reason to stop."""
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
    with suppress(OSError, ValueError):
        print(f"vidcomp: {shown(message)}", file=sys.stderr)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    put(json.dumps(value, sort_keys=True))


@contextmanager
def progress(label: str, quiet: bool) -> Iterator[Watch]:
    """A `Watch` for one video: a bar per stage on a terminal, a plain line now and then otherwise."""
    if quiet:
        yield unwatched
    elif sys.stderr.isatty():
        with _bars(label) as watch:
            yield watch
    else:
        yield _plain(label)


@contextmanager
def _bars(label: str) -> Iterator[Watch]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def watch(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(f"{escape(shown(label))} {stage}", total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield watch


def _plain(label: str) -> Watch:
    said = time.monotonic()

    def watch(stage: str, done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if stage == "reduce" and (done == total or now - said >= PLAIN_EVERY_S):
            said = now
            complain(f"{label}: {done} of {total} frames")

    return watch
