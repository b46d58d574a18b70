"""How a stream goes, or went, as its folder tells. Imports no torch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..stream_folder import StreamFolder, fitting

AGAIN = {"stopped": ": the same command goes on"}
MISHAPS = ("lost", "gap", "jumped", "resized")


def state_of_stream(folder: StreamFolder) -> dict[str, Any]:
    """`state` (`running`: somebody writes there now; `ended`; `stopped`: in the middle), the source that was named
    last, counts over all of its runs, `events` {mishap: how often}, and the last chunk's `lag_s` and when it came."""
    held = folder.is_held()  # before its lines: a stream that ends meanwhile has not stopped
    chunks: list[Mapping[str, Any]] = []
    last, source, events = "", "", Counter[str]()
    for event in folder.events():
        last = event["event"]
        events[last] += 1
        if last == "chunk":
            chunks.append(event)
        elif last == "start":
            source = str(event.get("source"))
    newest = chunks[-1] if chunks else {}
    sums = {name: sum(row[name] for row in chunks) for name in ("frames", "dropped", "tokens_in", "tokens", "audio")}
    return {
        "state": "running" if held else "ended" if last == "end" else "stopped",
        "source": source,
        "chunks": len(chunks),
        **sums,
        "until_s": newest.get("offset_s", 0.0) + newest.get("end_s", 0.0),
        "events": {name: events[name] for name in MISHAPS if events[name]},
        "lag_s": lag_s if fitting(float, lag_s := newest.get("lag_s")) else None,
        "wall_s": newest.get("wall_s"),
    }


def rows_of_stream(stream: Mapping[str, Any], clock: Any) -> list[tuple[str, str]]:
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
