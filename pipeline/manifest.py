"""`OUT/manifest.jsonl`: every input with its one final status. Append-only; the last line of a path counts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

NAME = "manifest.jsonl"
TIMING = frozenset({"seconds", "cached"})  # what may differ between two runs that came to the same


class Manifest:
    """The manifest of one output folder."""

    def __init__(self, out: Path) -> None:
        self.path = out / NAME
        self._last = {row["path"]: row for row in rows(self.path)}

    def note(self, row: Mapping[str, Any]) -> None:
        """Append a row, unless the path's last row says the same already: a second run changes no byte."""
        if stripped(self._last.get(row["path"], {})) == stripped(row):
            return
        self._last[row["path"]] = dict(row)
        line = json.dumps(row, sort_keys=True) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b", buffering=0) as out:
            left = memoryview(b"".join([b"" if ends_whole(out) else b"\n", line.encode()]))
            while left:
                left = left[out.write(left) :]


def ends_whole(out: IO[bytes]) -> bool:
    """Whether a file is empty or ends with a line break; a line torn by a crash must be closed before the next."""
    size = out.seek(0, os.SEEK_END)
    if not size:
        return True
    out.seek(size - 1)
    return out.read(1) == b"\n"


def rows(path: Path) -> list[dict[str, Any]]:
    """Every whole line; one torn by a crash is skipped."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("path"), str):
            found.append(row)
    return found


def stripped(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what only one run's clock knows."""
    return {k: v for k, v in row.items() if k not in TIMING}
