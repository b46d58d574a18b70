"""Progress while a run goes: one video's stages, or a whole run's numbers, on stderr; and on a port, when asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from .screen import complain, progress

if TYPE_CHECKING:
    from ..run import Run

PLAIN_EVERY_S = 10.0


@contextmanager
def watching(run: Run, inputs: int, *, quiet: bool, metrics_port: int | None) -> Iterator[None]:
    """Inside, the run is watched; with one input its stages are shown, with more how far the whole is."""
    with ExitStack() as stack:
        if metrics_port is not None:
            from ..metrics import serve

            stack.enter_context(serve(metrics_port, lambda: run.stats.to_json()))
        if not quiet and inputs == 1:
            run.hear = stack.enter_context(one())
        elif not quiet:
            run.hear = stack.enter_context(many(run))
        yield


@contextmanager
def one() -> Iterator[Any]:
    """The stages of the only input."""
    with ExitStack() as stack:
        watch: Any = None

        def hear(name: str, message: Mapping[str, Any]) -> None:
            nonlocal watch
            if watch is None:
                watch = stack.enter_context(progress(name.rsplit("/", 1)[-1], quiet=False))
            watch(message["stage"], message["done"], message["total"])

        yield hear


@contextmanager
def many(run: Run) -> Iterator[Any]:
    """A line that is written over on a terminal; a plain one now and then elsewhere."""
    if not sys.stderr.isatty():
        yield plain(run)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), transient=True, refresh_per_second=4) as live:

        def hear(name: str, message: Mapping[str, Any]) -> None:
            live.update(Text(line(run.stats.to_json())))

        yield hear


def plain(run: Run) -> Any:
    """Says how far the run is, at most every 10 s."""
    said = time.monotonic()

    def hear(name: str, message: Mapping[str, Any]) -> None:
        nonlocal said
        if time.monotonic() - said >= PLAIN_EVERY_S:
            said = time.monotonic()
            complain(line(run.stats.to_json()))

    return hear


def line(stats: Mapping[str, Any]) -> str:
    """How far, how fast, how much is kept, what failed, which stage takes longest, how long still."""
    kept = f", {stats['tokens_out']} of {stats['tokens_in']} tokens kept" if stats["tokens_in"] else ""
    eta = "" if stats["eta_s"] is None else f", {clock(stats['eta_s'])} left"
    slow = f", mostly {stats['bottleneck']}" if stats["bottleneck"] else ""
    speed = f"{stats['videos_per_s']:.2f} videos/s, {stats['video_hours_per_hour']:.1f} h of video an hour"
    now = f", {under_way(stats)}" if stats["under_way"] else ""
    return f"{stats['done']} of {stats['inputs']} ({stats['failed']} failed){now}: {speed}{kept}{slow}{eta}"


def under_way(stats: Mapping[str, Any]) -> str:
    """How far the videos are that workers have."""
    first, *_, last = [f"{share:.0%}" for share in (stats["under_way"][0], *stats["under_way"])]
    return f"{len(stats['under_way'])} under way at {first if first == last else f'{first} to {last}'}"


def clock(seconds: float) -> str:
    """`1:02:03`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
