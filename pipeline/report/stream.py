"""How a stream goes, or went, as its folder tells. Imports no torch."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..fields import fitting
from ..stream_folder import StreamFolder, parsed

AGAIN = {"stopped": ": the same command adds to it, behind a gap"}
MISHAPS = ("lost", "gap", "jumped", "resized")
SUMMED = ("frames", "dropped", "tokens_in", "tokens", "audio")


class StreamTally:
    """What stands in a stream's index. A second look reads only what was added since the first."""

    def __init__(self, out: Path) -> None:
        self.folder = StreamFolder(out)
        self.forget()

    def forget(self) -> None:
        """Begin with the first line again."""
        self._at = 0
        self._last = self._source = ""
        self._events, self._sums = Counter[str](), Counter[str]()
        self._newest: Mapping[str, Any] = {}

    def look(self) -> dict[str, Any]:
        """`state` (`running`: somebody writes there now; `ended`; `stopped`: in the middle), the source that was named
        last, counts over all of its runs, `events` {mishap: how often}, and of the last chunk its `lag_s` and when it
        came."""
        held = self.folder.is_held()  # before its lines: a stream that ends meanwhile has not stopped
        for event in self._new():
            self._count(event)
        lag_s = self._newest.get("lag_s")
        return {
            "state": "running" if held else "ended" if self._last == "end" else "stopped",
            "source": self._source,
            "chunks": self._events["chunk"],
            **{name: self._sums[name] for name in SUMMED},
            "until_s": self._newest.get("offset_s", 0.0) + self._newest.get("end_s", 0.0),
            "events": {name: self._events[name] for name in MISHAPS if self._events[name]},
            "lag_s": lag_s if fitting(float, lag_s) else None,
            "wall_s": self._newest.get("wall_s"),
        }

    def _count(self, event: Mapping[str, Any]) -> None:
        self._last = event["event"]
        self._events[self._last] += 1
        if self._last == "chunk":
            self._newest = event
            self._sums.update({name: event[name] for name in SUMMED})
        elif self._last == "start":
            self._source = str(event.get("source"))

    def _new(self) -> Iterator[dict[str, Any]]:
        with suppress(FileNotFoundError), open(self.folder.index, "rb") as file:
            if os.fstat(file.fileno()).st_size < self._at:  # it only grows: this is another one
                self.forget()
            file.seek(self._at)
            for line in file:
                self._at += len(line) if line.endswith(b"\n") else 0  # the last may be on its way
                if (event := parsed(line)) is not None:
                    yield event


def rows_of_stream(stream: Mapping[str, Any], clock: Callable[[float], str]) -> list[tuple[str, str]]:
    """(what, value) for a person; `clock` writes seconds."""
    ago = "" if stream["wall_s"] is None else f", last chunk {clock(max(time.time() - stream['wall_s'], 0))} ago"
    share = f" ({stream['tokens'] / stream['tokens_in']:.1%})" if stream["tokens_in"] else ""
    heard = f", {stream['audio']} of sound" if stream["audio"] else ""
    found = [
        ("stream", stream["source"]),
        ("state", f"{stream['state']}{ago}{AGAIN.get(stream['state'], '')}"),
        ("chunks", f"{stream['chunks']} of {stream['frames']} frames, {stream['dropped']} dropped for want of time"),
        ("clock", clock(stream["until_s"])),
        ("tokens", f"{stream['tokens']} of {stream['tokens_in']} kept{share}{heard}"),
    ]
    if stream["lag_s"] is not None:
        found.append(("lag", f"{stream['lag_s']:.1f} s"))
    if stream["events"]:
        found.append(("mishaps", ", ".join(f"{n} {name}" for name, n in stream["events"].items())))
    return found
