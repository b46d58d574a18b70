"""How a run goes, as numbers: counted here, shown on a terminal, written to `OUT/run.json` for whoever watches.

`run.json` is for people and monitors: unlike records and manifest it knows clock, host speed and process.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from ..stages.safefile import write_atomically
from .fields import fits, fitting
from .item import Item
from .result import Result

NAME = "run.json"
EVERY_S = 1.0
STAGES = ("decode", "embed", "reduce", "store")
THROUGH = "embed"  # the stage by which a video is so far through: the longest, and no later one tells of frames alike


@dataclass
class UnderWay:
    """An input that a worker has: shares of its frames that were through when first heard of (an earlier run may have
    left it half done), and are now."""

    first: float
    now: float


@dataclass
class Stats:
    """One run's counts so far. `size_*` are bytes of inputs, by which the time that is left is guessed."""

    inputs: int
    workers: int
    engine: str
    size_left: int = 0
    size_done: int = 0
    done: int = 0
    cached: int = 0
    source_s: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    stage_s: Counter[str] = field(default_factory=Counter)
    started_s: float = field(default_factory=time.time)
    interrupted: bool = False  # told to stop, or by an error that ends a run
    result_s: float | None = None  # when the last input came to its end
    under_way: dict[Item, UnderWay] = field(default_factory=dict)

    def hear(self, item: Item, stage: str, share: float) -> None:
        """An input's worker is through so much of it."""
        if stage == THROUGH:
            self.under_way.setdefault(item, UnderWay(share, share)).now = share

    def lose(self, item: Item) -> None:
        """An input's worker has died: it is to be taken up again."""
        self.under_way.pop(item, None)

    def count(self, result: Result, item: Item) -> None:
        """One more input has its status."""
        self.under_way.pop(item, None)
        self.done += 1
        self.result_s = time.time()
        self.statuses[result.status] += 1
        self.size_left -= item.size
        if result.cached:
            self.cached += 1
            return
        self.size_done += item.size
        self.source_s += result.about.get("source_s", 0.0)
        self.tokens_in += result.facts.get("tokens_in", 0)
        self.tokens_out += result.facts.get("tokens_out", 0)
        self.stage_s.update({name: result.facts.get("seconds", {}).get(name, 0.0) for name in STAGES})

    def to_json(self) -> dict[str, Any]:
        """Counts, rates and what is left; seconds of stages are of all workers together."""
        spent = max(time.time() - self.started_s, 1e-6)
        new = self.done - self.cached
        statuses, under_way = dict(self.statuses), dict(self.under_way)  # once: another thread may count
        size_done = self.size_done + sum(item.size * (each.now - each.first) for item, each in under_way.items())
        size_left = self.size_left - sum(item.size * each.now for item, each in under_way.items())
        return {
            "pid": os.getpid(),
            "pid_ticks": ticks_of(os.getpid()),
            "state": "ended" if self.done == self.inputs else "interrupted" if self.interrupted else "running",
            "engine": self.engine,
            "workers": self.workers,
            "started_s": self.started_s,
            "seconds": round(spent, 3),
            "inputs": self.inputs,
            "done": self.done,
            "cached": self.cached,
            "statuses": statuses,
            "failed": sum(n for status, n in statuses.items() if status.startswith("failed")),
            "videos_per_s": round(new / spent, 4),
            "video_hours_per_hour": round(self.source_s / spent, 3),
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "stage_seconds": {name: round(self.stage_s[name], 3) for name in STAGES},
            "bottleneck": max(STAGES, key=lambda name: self.stage_s[name]) if any(self.stage_s.values()) else None,
            "under_way": sorted(round(each.now, 3) for each in under_way.values()),
            "result_s": self.result_s,
            "eta_s": round(spent * size_left / size_done, 1) if size_done > 0 else None,
        }


NEW: Mapping[str, Any] = {
    "under_way": [],
    "result_s": None,
    "pid_ticks": None,
}  # what files of earlier versions do not have
FIELDS: Mapping[str, type] = {
    **dict.fromkeys(("state", "engine"), str),
    **dict.fromkeys(("pid", "workers", "inputs", "done", "cached", "failed", "tokens_in", "tokens_out"), int),
    **dict.fromkeys(("started_s", "seconds", "videos_per_s", "video_hours_per_hour"), float),
    **{"stage_seconds": dict, "under_way": list},
}


class StatsFile:
    """`OUT/run.json`, written now and then if it is `wanted`. It is no result: where it cannot be written, the run goes
    on."""

    def __init__(self, out: Path, stats: Stats, *, wanted: bool) -> None:
        self.path, self.stats, self.wanted = out / NAME, stats, wanted
        self._written_s = float("-inf")
        self._lock = Lock()  # whoever reads ahead tells of it from a thread of its own

    def write(self, *, now: bool = False) -> None:
        """At most once in `EVERY_S`, unless `now`."""
        if not self.wanted or not self._lock.acquire(blocking=now):
            return
        try:
            if now or time.monotonic() - self._written_s >= EVERY_S:
                self._written_s = time.monotonic()
                data = json.dumps(self.stats.to_json(), sort_keys=True).encode() + b"\n"
                with suppress(OSError):
                    write_atomically(self.path, lambda out: out.write(data))
        finally:
            self._lock.release()


def read_stats(out: Path) -> Mapping[str, Any] | None:
    """The last run's numbers; None where there are none. One whose process is gone has `stopped`."""
    try:
        found: dict[str, Any] = NEW | json.loads((out / NAME).read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if not fits(FIELDS, found) or not fits(dict.fromkeys(STAGES, float), found["stage_seconds"]):
        return None
    if not all(fitting(float, share) for share in found["under_way"]):
        return None
    if any(found[name] is not None and not fitting(float, found[name]) for name in ("eta_s", "result_s", "pid_ticks")):
        return None
    if found["state"] == "running" and not alive(found["pid"], found["pid_ticks"]):
        found["state"] = "stopped"
    return found


def alive(pid: int, ticks: int | None = None) -> bool:
    """Whether a process of this number runs on this machine; if `ticks` are known, the one that began then: numbers are
    given again, and a container's first is always 1."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return ticks is None or ticks_of(pid) in (None, ticks)


def ticks_of(pid: int) -> int | None:
    """When a process began, in the kernel's ticks since its start; None where /proc does not tell."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
