"""What became of one input, as plain facts that can cross a pipe. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..stages.failure import SourceError
from ..stages.safefile import Header

ROW = ("path", "status", "key", "reason", "message", "cached", "seconds", "tokens_in", "tokens_out")


@dataclass(frozen=True)
class Result:
    """An input's one final status. `facts`: the object that `encode --json` prints; `about`: what only the manifest's
    row says besides (content digest, stamp, recipe). `error` where it was raised in this process."""

    facts: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    error: SourceError | None = None

    @classmethod
    def made(
        cls, name: str, header: Header, cached: bool, seconds: Mapping[str, float], about: Mapping[str, Any]
    ) -> Result:
        """There is a record."""
        facts = facts_of(name, header, cached) | {"seconds": dict(seconds)}
        if header.meta["status"] == "partial":
            facts["message"] = partly(header.meta["decoded"])
        return cls(facts, about)

    @classmethod
    def failed_with(cls, name: str, error: SourceError, about: Mapping[str, Any]) -> Result:
        """There is none."""
        why = {"reason": error.reason, "message": str(error)}
        return cls({"path": name, "status": error.status, "cached": False, "record": None, **why}, about, error)

    @classmethod
    def remembered(cls, row: Mapping[str, Any], record: str | None) -> Result:
        """As an earlier run left it; `record` is its path, None where it failed."""
        facts = {name: row[name] for name in ROW if name in row}
        return cls({**facts, "cached": True, "record": record}, {k: v for k, v in row.items() if k not in ROW})

    @property
    def path(self) -> str:
        """What the input is called."""
        return str(self.facts["path"])

    @property
    def called(self) -> str:
        """`path`, and what tells it from other rows of a list: its id, and the seconds that are wanted of it."""
        start_s, end_s = (self.about.get(name) for name in ("start_s", "end_s"))
        span = "" if start_s is end_s is None else f"{start_s or 0} s to {'its end' if end_s is None else f'{end_s} s'}"
        told = ", ".join(str(each) for each in (self.about.get("id"), span) if each)
        return f"{self.path} [{told}]" if told else self.path

    @property
    def status(self) -> str:
        """`ok`, `partial`, `failed:REASON` or `skipped:REASON`."""
        return str(self.facts["status"])

    @property
    def cached(self) -> bool:
        """Whether an earlier run had made it."""
        return bool(self.facts["cached"])

    @property
    def failed(self) -> bool:
        return self.facts["record"] is None

    @property
    def row(self) -> dict[str, Any]:
        """The manifest's row."""
        return {name: self.facts[name] for name in ROW if name in self.facts} | dict(self.about)

    @property
    def why(self) -> str:
        """Why it failed, or why no more than a part could be read; one line."""
        return str(self.facts.get("message", ""))

    def to_json(self) -> dict[str, Any]:
        """The object that `encode --json` prints for one input."""
        return dict(self.facts)


def facts_of(name: str, header: Header, cached: bool) -> dict[str, Any]:
    """What a record's header says of a run's input."""
    meta = header.meta
    t, h, w = meta["grid"]
    kept = meta["budget"]["kept"]
    return {
        "path": name,
        "status": meta["status"],
        "cached": cached,
        "record": str(header.path),
        "key": meta["key"],
        "source": {"path": name, **meta["source"]},
        "decoded": meta["decoded"],
        "frames": meta["frames"],
        "grid": [t, h, w],
        "tokens_in": t * h * w,
        "tokens_out": kept,
        "ratio": kept / (t * h * w),
        "budget": meta["budget"],
        "model": meta["model"]["family"],
        "method": meta["method"]["name"],
        "recipe": meta["recipe_digest"],
    }


def partly(decoded: Mapping[str, Any]) -> str:
    """What of a partial video could be read, and why no more."""
    declared = "" if decoded["declared"] is None else f" of {decoded['declared']}"
    return f"{decoded['decoded']}{declared} frames could be read ({decoded['why'] or 'a sampled frame is missing'})"
