"""What a run left in its folder, and how that differs from what an uninterrupted one leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from vidcomp.stages.record_check import check_record
from vidcomp.stages.safefile import DamagedFileError, check_tensors, read_header

CLOCK: Final = {"seconds", "cached", "at_s"}  # of a manifest's row: what may differ between two runs
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Left:
    """A folder of records: `records` {name: digest of the file}, `torn` names of those that are no whole records,
    `makes` {what a record is made of: names}, `rows` {input's name: its rows of the manifest}, `others` every other
    file below the folder."""

    records: Mapping[str, str]
    torn: Sequence[str]
    makes: Mapping[tuple[str, str], Sequence[str]]
    rows: Mapping[str, Sequence[Row]]
    others: Sequence[str]


def look(out: Path) -> Left:
    """Read all of it."""
    records: dict[str, str] = {}
    torn: list[str] = []
    makes: dict[tuple[str, str], list[str]] = {}
    others: list[str] = []
    for path in files_below(out):
        name = str(path.relative_to(out))
        if path.suffix != ".safetensors" or path.parent != out:
            others.append(name)
            continue
        records[name] = sha256(path.read_bytes()).hexdigest()
        try:
            header = read_header(path)
            check_record(header)
            check_tensors(header)
            makes.setdefault((header.meta["content"], header.meta["recipe_digest"]), []).append(name)
        except DamagedFileError:
            torn.append(name)
    return Left(records, torn, makes, rows_of(out / "manifest.jsonl"), sorted(others))


def files_below(out: Path) -> Iterator[Path]:
    """Every file, hidden ones too."""
    for folder, _, names in os.walk(out):
        yield from (Path(folder, name) for name in names)


def rows_of(manifest: Path) -> dict[str, list[Row]]:
    """{input's name: its whole lines}; a line torn by a kill tells nothing and may stay."""
    rows: dict[str, list[Row]] = {}
    for line in manifest.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        rows.setdefault(Path(row["path"]).name, []).append({k: v for k, v in row.items() if k not in CLOCK})
    return rows


def differences(found: Left, right: Left, statuses: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(kind, what) of all that is not as it should be: `right` is what an uninterrupted run left, `statuses` what the
    corpus is known to come to."""
    yield from (("torn", name) for name in found.torn)
    yield from (("missing", name) for name in sorted(right.records.keys() - found.records.keys()))
    yield from (("duplicate", name) for name in sorted(found.records.keys() - right.records.keys()))
    yield from (("duplicate", " ".join(names)) for names in found.makes.values() if len(names) > 1)
    for name in sorted(right.records.keys() & found.records.keys()):
        if found.records[name] != right.records[name]:
            yield "altered", name
    for name in sorted(found.rows.keys() | statuses.keys()):
        yield from (("status", f"{name}: {why}") for why in status_differs(name, found, right, statuses))
    yield from (("leftover", name) for name in sorted(set(found.others) ^ set(right.others)))


def status_differs(name: str, found: Left, right: Left, statuses: Mapping[str, str]) -> Iterator[str]:
    """Why the manifest is wrong about an input."""
    rows = found.rows.get(name, [])
    if [row["status"] for row in rows] != [statuses.get(name)]:
        yield f"{[row['status'] for row in rows]}, where one {statuses.get(name)} belongs"
    elif rows != right.rows[name]:
        wanted = right.rows[name][0]
        differs = sorted(k for k in rows[0].keys() | wanted.keys() if rows[0].get(k) != wanted.get(k))
        yield "; ".join(f"{k} {rows[0].get(k)!r}, where {wanted.get(k)!r} belongs" for k in differs)
