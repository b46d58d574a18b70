"""Lists of inputs: txt, csv, tsv, jsonl and parquet files, read row by row.

A txt list has one path or URL a line, taken as it stands: empty lines and lines that start with `#` are skipped (write
`./#1.mp4` for such a name), every other character is part of the name. The others have columns: one of paths, and
where they are there `start` or `start_s`, `end` or `end_s` (seconds) and `id`. Text is UTF-8; bytes that are not stay
what they are, so that a file of any name can be listed. Nothing in a row is expanded or executed.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import IO, TYPE_CHECKING, Any

from .item import SourceListError
from .manifest_row import FACTS, Row, path_column, row_of, unusable

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

LONGEST = 4 << 20  # characters of a line
BATCH = 1000  # rows of a parquet file held at a time
TEXT = frozenset(("string", "large_string", "string_view", "binary", "large_binary"))  # parquet columns that may name

Choose = Callable[[Sequence[str]], str]  # the column of the paths, of these columns


def is_list(path: str) -> bool:
    """Whether a file of this name is read as a list."""
    return suffix(path) in READERS


def suffix(path: str) -> str:
    """In lower case, with its dot."""
    return os.path.splitext(path)[1].lower()


def rows(path: str, column: str | None = None) -> Iterator[Row]:
    """The rows of a list, in order; `column` names that of the paths (None: see `path_column`; a txt list has none).

    A row that cannot be used carries its error; the others go on.

    Raises:
        SourceListError: the list itself cannot be read, or has no such column.
    """
    try:
        if not os.path.isfile(path):
            raise SourceListError("not a regular file: give a list that lies on a disk")
        with open(path, "rb") as file:
            yield from READERS[suffix(path)](file, lambda names: path_column(names, column))
    except SourceListError as e:
        raise SourceListError(f"{path}: {e}") from None
    except OSError as e:
        raise SourceListError(f"{path}: cannot be read ({e.strerror or e}): check its permissions") from None


def _lines(file: IO[bytes], newline: str) -> Iterator[str]:
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=newline) as text:
        for number in count(1):
            line = text.readline(LONGEST)
            if len(line) == LONGEST:
                raise SourceListError(f"line {number} has {LONGEST} characters or more: is this a list?")
            if "\0" in line:
                raise SourceListError(f"line {number} holds a NUL: save the list as UTF-8 text")
            if not line:
                return
            yield line


def _txt(file: IO[bytes], choose: Choose) -> Iterator[Row]:
    for number, line in enumerate(_lines(file, "\n"), 1):
        text = line.removesuffix("\n").removesuffix("\r")
        if text.strip() and not text.startswith("#"):
            yield Row(number, text)


def _csv(file: IO[bytes], choose: Choose, delimiter: str = ",") -> Iterator[Row]:
    reader = csv.reader(_lines(file, ""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        column = choose(names)
        for cells in filter(None, reader):
            if len(cells) > len(names):
                why = f"{len(cells)} cells under {len(names)} columns"
                yield Row(reader.line_num, error=unusable(why, f"quote a name that holds {delimiter!r}"))
            else:
                yield row_of(reader.line_num, dict(zip(names, cells, strict=False)), column)
    except csv.Error as e:
        raise SourceListError(f"line {reader.line_num}: {e}: correct it") from None


def _tsv(file: IO[bytes], choose: Choose) -> Iterator[Row]:
    return _csv(file, choose, "\t")


def _jsonl(file: IO[bytes], choose: Choose) -> Iterator[Row]:
    column = ""
    for number, line in enumerate(_lines(file, "\n"), 1):
        if line.strip():
            cells = _object(line, number)
            column = column or choose(list(cells))
            yield row_of(number, cells, column)


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SourceListError(f"line {number} is no JSON object: correct it")
    return value


def _parquet(file: IO[bytes], choose: Choose) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise SourceListError('a parquet list needs pyarrow: pip install "vidcomp[parquet]"') from None
    try:
        yield from _table_rows(ParquetFile(file), choose)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as e:
        what = " ".join(str(e).split())[:200]
        raise SourceListError(f"no parquet file, or a damaged one ({what}): write it again") from None


def _table_rows(table: ParquetFile, choose: Choose) -> Iterator[Row]:
    kinds = dict(zip(table.schema_arrow.names, table.schema_arrow.types, strict=True))
    column = choose(list(kinds))
    kind = str(getattr(kinds[column], "value_type", kinds[column]))  # a dictionary's values are what counts
    if kind not in TEXT:  # else a thousand rows of it may be a thousand videos
        raise SourceListError(f"its column {column} holds {kind[:100]}, no paths: name another with --column")
    number = 0
    for batch in table.iter_batches(BATCH, columns=[n for n in kinds if n in {column, *FACTS}], use_threads=False):
        for cells in batch.to_pylist():
            number += 1
            yield row_of(number, cells, column)


READERS: Mapping[str, Callable[[IO[bytes], Choose], Iterator[Row]]] = {
    ".txt": _txt,
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
