"""`OUT/manifest.jsonl`: every input with its one final status. Append-only; the last line of a path and recipe counts.

Several recipes may share a folder: what became of a file under one says nothing of the others. In memory stands where
each last line lies, not the lines: a corpus has millions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from ..stages.safefile import reading, writing
from ..stages.store import lock_file

NAME = "manifest.jsonl"
TIMING = frozenset({"seconds", "cached", "at_s"})  # what may differ between two runs that came to the same

Row = Mapping[str, Any]


class Manifest:
    """The manifest of one output folder."""

    def __init__(self, out: Path) -> None:
        self.path = out / NAME
        with reading(self.path):
            self._at = {key_of(row): start for start, row in placed_rows(self.path)}

    def note(self, row: Row) -> None:
        """Append a row, unless the last of its path and recipe says the same: a second run changes no byte."""
        key = key_of(row)
        if stripped(self._read(key) or {}) == stripped(row):
            return
        line = (json.dumps(row, sort_keys=True) + "\n").encode()
        with writing(self.path):
            self._at[key] = append(self.path, line)

    def last(self, path: str, recipe: str) -> dict[str, Any] | None:
        """The row of a path and recipe that counts."""
        return self._read(key_of({"path": path, "recipe": recipe}))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row that counts, in the order of their lines."""
        for start in sorted(self._at.values()):
            row = self._line(start)
            if row is not None:
                yield row

    def _read(self, key: bytes) -> dict[str, Any] | None:
        start = self._at.get(key)
        row = None if start is None else self._line(start)
        return row if row is not None and key_of(row) == key else None  # `verify` may have rebuilt it under our hands

    def _line(self, start: int) -> dict[str, Any] | None:
        with reading(self.path), open(self.path, "rb") as file:
            file.seek(start)
            return parsed(file.readline())


def key_of(row: Row) -> bytes:
    """What a row is about: a path and a recipe."""
    return blake2b(json.dumps([row["path"], row.get("recipe")]).encode(), digest_size=16).digest()


def append(path: Path, line: bytes) -> int:
    """Put a whole line at a file's end; where it starts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # another run may write to the same folder, or `verify` put another file in its place while we wait
    with os.fdopen(lock_file(path), "r+b", buffering=0) as out:
        whole = ends_whole(out)
        start = out.seek(0, os.SEEK_END) + (not whole)
        left = memoryview(b"".join([b"" if whole else b"\n", line]))
        while left:
            left = left[out.write(left) :]
    return start


def ends_whole(out: IO[bytes]) -> bool:
    """Whether a file is empty or ends with a line break; a line torn by a crash must be closed before the next."""
    size = out.seek(0, os.SEEK_END)
    if not size:
        return True
    out.seek(size - 1)
    return out.read(1) == b"\n"


def placed_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(where it starts, row) of every whole line; one torn by a crash is skipped."""
    start = 0
    try:
        with open(path, "rb") as file:
            for line in file:
                row = parsed(line)
                if row is not None:
                    yield start, row
                start += len(line)
    except FileNotFoundError:
        return


def rows(path: Path) -> list[dict[str, Any]]:
    """Every whole line."""
    return [row for _, row in placed_rows(path)]


def parsed(line: bytes) -> dict[str, Any] | None:
    """A row, or None for what is none."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("path"), str) else None


def stripped(row: Row) -> dict[str, Any]:
    """A row without what only one run's clock knows."""
    return {k: v for k, v in row.items() if k not in TIMING}
