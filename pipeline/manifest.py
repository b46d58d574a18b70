"""`OUT/manifest.jsonl`: every input with its one final status. Append-only; the last line of a path and recipe counts.

Several recipes may share a folder: what became of a file under one says nothing of the others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ..stages.safefile import writing

NAME = "manifest.jsonl"
TIMING = frozenset({"seconds", "cached"})  # what may differ between two runs that came to the same


class Manifest:
    """The manifest of one output folder."""

    def __init__(self, out: Path) -> None:
        self.path = out / NAME
        self._last = {of_row(row): row for row in rows(self.path)}

    def note(self, row: Mapping[str, Any]) -> None:
        """Append a row, unless the last of its path and recipe says the same: a second run changes no byte."""
        if stripped(self._last.get(of_row(row), {})) == stripped(row):
            return
        line = json.dumps(row, sort_keys=True) + "\n"
        with writing(self.path):
            append(self.path, line.encode())
        self._last[of_row(row)] = dict(row)


def of_row(row: Mapping[str, Any]) -> tuple[str, Any]:
    """What a row is about."""
    return row["path"], row.get("recipe")


def append(path: Path, line: bytes) -> None:
    """Put a whole line at a file's end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as out:
        left = memoryview(b"".join([b"" if ends_whole(out) else b"\n", line]))
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
