"""How a stream goes: a line of stderr that is written over, or JSON lines on stdout; and a line for each mishap."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...stages.ingest_events import Ended, Event, Jumped, Lost, Opened, Resized, Retry
from .screen import complain, print_json
from .watch import clock

if TYPE_CHECKING:
    from ..live_chunks import Shot
    from ..stream import Stream

EVERY_S = 1.0
PLAIN_EVERY_S = 10.0


@contextmanager
def watching(stream: Stream, *, json: bool) -> Iterator[Callable[[], None]]:
    """Inside, the stream is watched; what is given is to be called after each chunk."""
    with ExitStack() as stack:
        show = printed(stream) if json else stack.enter_context(drawn(stream))

        def hear(event: Event | Shot) -> None:
            if json and isinstance(event, Opened | Lost | Jumped | Resized | Ended):
                print_json({"event": type(event).__name__.lower(), **asdict(event)})
            elif not json and (text := mishap(event, stream.live.give_up_s is not None)):
                complain(text)
            show(False)

        stream.hear = hear
        yield lambda: show(True)


def printed(stream: Stream) -> Callable[[bool], None]:
    """JSON lines: after each chunk, and once a second while frames come."""
    said_s = 0.0

    def show(chunk: bool) -> None:
        nonlocal said_s
        if chunk or time.monotonic() - said_s >= EVERY_S:
            said_s = time.monotonic()
            print_json({"event": "chunk" if chunk else "live", **stream.stats.to_json()})

    return show


@contextmanager
def drawn(stream: Stream) -> Iterator[Callable[[bool], None]]:
    """A line that is written over on a terminal; a plain one now and then elsewhere."""
    if not sys.stderr.isatty():
        yield plain(stream)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def current() -> Text:
        return Text(line(stream.stats.to_json()), no_wrap=True, overflow="ellipsis")

    with Live(console=Console(stderr=True), transient=True, refresh_per_second=2, get_renderable=current):
        yield lambda chunk: None


def plain(stream: Stream) -> Callable[[bool], None]:
    """Says how the stream goes, at most every 10 s."""
    said_s = time.monotonic()

    def show(chunk: bool) -> None:
        nonlocal said_s
        if chunk and time.monotonic() - said_s >= PLAIN_EVERY_S:
            said_s = time.monotonic()
            complain(line(stream.stats.to_json()))

    return show


def line(stats: Mapping[str, Any]) -> str:
    """How long, how fast, how late, what was dropped, what is kept, in how much memory."""
    return (
        f"{clock(stats['elapsed_s'])}: {stats['fps']:.1f} frames/s, lag {stats['lag_s']:.1f} s, "
        f"{stats['dropped']} dropped, {stats['tokens_in_per_s']:.0f} -> {stats['tokens_per_s']:.0f} tokens/s, "
        f"{stats['chunks']} chunks, {stats['memory_mib']:.0f} MiB"
    )


def mishap(event: Event | Shot, ends: bool) -> str | None:
    """One line of what a person should know; `ends`: whether attempts do."""
    if isinstance(event, Lost):
        return f"the source is lost ({event.reason}): {event.message}"
    if isinstance(event, Retry):
        return f"trying again in {event.after_s:g} s{'' if ends else ', for ever (--give-up S ends it)'}"
    if isinstance(event, Jumped):
        return f"the source's clock was set from {event.from_s:.3f} to {event.to_s:.3f} s"
    if isinstance(event, Resized):
        return f"the source's pictures are {event.width}x{event.height} from here on; they are scaled to the first size"
    return None
