"""The inputs that failed, out of the manifest's rows."""

from __future__ import annotations

from pathlib import Path

from .manifest import NAME, Row, key_of, placed_rows

FAILED = "failed:"


def failed_rows(out: Path) -> list[Row]:
    """The last row of each path and recipe, where it says that it failed; in the order of their lines."""
    found: dict[bytes, Row] = {}
    for _, row in placed_rows(out / NAME):
        key = key_of(row)
        found.pop(key, None)
        if str(row.get("status")).startswith(FAILED):
            found[key] = row
    return list(found.values())


def reason_of(row: Row) -> str:
    """`corrupt`, `missing`, ..."""
    return str(row.get("status")).removeprefix(FAILED)
