"""The manifest written anew: of each path and recipe the one row that counts, and none whose record is gone."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..stages.safefile import write_atomically, writing
from ..stages.store import SUFFIX, lock_file
from .locks import is_held
from .manifest import Row, key_of, placed_rows
from .stats import read_stats
from .stream_folder import LOCK as STREAM_LOCK


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`rows` that stay, and lines that went: `torn` by a crash, `superseded` by a later row, or of a record that is
    `gone`."""

    rows: int
    torn: int
    superseded: int
    gone: int


def rebuild(path: Path, names: Container[str]) -> Rebuilt:
    """Leave in the manifest at `path` what is true of a folder that holds files of these names; in memory stands
    where lines lie, not the lines. The file is not touched where all of it stays.

    Raises:
        OutputError: it cannot be written.
    """
    if not path.exists():
        return Rebuilt(0, 0, 0, 0)
    with writing(path), alone(path):
        rows, last, gone = 0, dict[bytes, int](), set[bytes]()
        for start, row in placed_rows(path):
            rows, key = rows + 1, key_of(row)
            last[key] = start
            (gone.discard if has_record(row, names) else gone.add)(key)
        done = Rebuilt(len(last) - len(gone), count_lines(path) - rows, rows - len(last), len(gone))
        if done.torn or done.superseded or done.gone:
            kept = {start for key, start in last.items() if key not in gone}
            write_atomically(path, lambda out: out.writelines(lines_at(path, kept)))
    return done


def has_record(row: Row, names: Container[str]) -> bool:
    """Whether the record that a row speaks of is there, if it speaks of one."""
    return row.get("key") is None or f"{row['key']}{SUFFIX}" in names


def lines_at(path: Path, starts: Container[int]) -> Iterator[bytes]:
    """The lines that start there, each whole."""
    start = 0
    with open(path, "rb") as file:
        for line in file:
            if start in starts:
                yield line.removesuffix(b"\n") + b"\n"
            start += len(line)


def count_lines(path: Path) -> int:
    """All lines, torn ones too."""
    with open(path, "rb") as file:
        return sum(1 for _ in file)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else appends to or rebuilds the manifest inside."""
    lock = lock_file(path)
    try:
        yield
    finally:
        os.close(lock)


def at_work(out: Path) -> str | None:
    """Who makes records in a folder just now; None: nobody."""
    stats = read_stats(out)
    if stats is not None and stats["state"] == "running":
        return f"a run (process {stats['pid']})"
    if is_held(out / STREAM_LOCK):
        return "a stream"
    return "an encode" if any(is_held(path) for path in (out / ".parts").glob("*.lock")) else None
