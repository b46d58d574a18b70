"""One row of a list of inputs: which of its columns hold what, and what cannot be used."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..stages.failure import SourceError
from .item import SourceListError

PATH_COLUMNS = ("path", "video", "url", "file", "filename", "file_name")
START_COLUMNS, END_COLUMNS, ID_COLUMN = ("start", "start_s"), ("end", "end_s"), "id"
FACTS = frozenset((*START_COLUMNS, *END_COLUMNS, ID_COLUMN))

Cells = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """Its place (a line, or among a parquet file's rows; from 1) and the path or URL that it names, as written; or the
    error for which it cannot be used."""

    number: int
    text: str = ""
    start_s: float | None = None
    end_s: float | None = None
    id: str | None = None
    error: SourceError | None = None


def path_column(names: Sequence[str], asked: str | None) -> str:
    """The column asked for; else the first of `PATH_COLUMNS` that is there; else the only one that is left."""
    known = [name for name in PATH_COLUMNS if name in names][:1]
    left = known or [name for name in names if name not in FACTS]
    if asked is not None:
        left = [asked] if asked in names else []
    elif len(left) == 1 and (os.path.splitext(left[0])[1] or "/" in left[0]):
        raise SourceListError(f"its first line ({left[0]}) is no column's name: put `path` above it, or use --column")
    if len(left) == 1:
        return left[0]
    there = ", ".join(names)[:300] or "no columns"
    raise SourceListError(f"which column holds the paths? it has {there}: name one of them with --column")


def row_of(number: int, cells: Cells, column: str) -> Row:
    """The row of a record whose path stands in `column`."""
    try:
        start, end = _seconds(cells, START_COLUMNS), _seconds(cells, END_COLUMNS)
        if start is not None and end is not None and start >= end:
            raise ValueError(f"start must be before end, got {start:g} and {end:g}")
        return Row(number, _text(cells, column), start, end, _id(cells))
    except ValueError as e:
        return Row(number, error=unusable(str(e)))


def unusable(why: str, fix: str = "correct the row") -> SourceError:
    """The error of a row."""
    return SourceError("unreadable", why, fix)


def _text(cells: Cells, column: str) -> str:
    value = cells.get(column)
    if isinstance(value, bytes):  # a file's name may be any bytes
        value = os.fsdecode(value)
    if not isinstance(value, str | None):
        raise ValueError(f"{column} is {_short(value)}, not a path or URL")
    if not value:
        raise ValueError(f"its {column} is empty")
    return value


def _seconds(cells: Cells, names: Sequence[str]) -> float | None:
    name, value = next(((n, cells[n]) for n in names if not _blank(cells.get(n))), ("", None))
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"{name} is {_short(value)}, not a number of seconds")
    return seconds


def _id(cells: Cells) -> str | None:
    value = cells.get(ID_COLUMN)
    if _blank(value):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{ID_COLUMN} is {_short(value)}, not text")
    return str(value)


def _blank(value: object) -> bool:
    """No cell, an empty one, or what pandas writes for one."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
