"""What every export format shares: what it is given, what it must do, and what it says of a record.

A shard is a file, or a folder, of an export: whole under its final name, and the same bytes for the same records.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..stages.failure import SourceError
from ..stages.record_check import check_record
from ..stages.safefile import DamagedFileError, Entry, Header, canonical, check_tensors, read_header
from ..stages.same_file import FileStamp

KEY = r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}"  # a record's key becomes a name in every export
SCRATCH = ".making"  # the one temporary name in an export's folder, of a file or a folder

DTYPES = {
    "F64": "float64",
    "I64": "int64",
    "F32": "float32",
    "I32": "int32",
    "BF16": "bfloat16",
    "F16": "float16",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}  # a record's names of dtypes -> torch's


@dataclass(frozen=True, slots=True)
class Item:
    """A record that was found whole: `digest` is its header's, which stands for every byte of it."""

    path: Path
    key: str
    digest: str
    stamp: FileStamp

    def check(self) -> None:
        """`DamagedFileError` unless the file is still the one that was found whole."""
        try:
            self.stamp.check(self.path)
        except SourceError:
            raise DamagedFileError(f"{self.path}: changed while it was exported: run the same command again") from None


class Format(ABC):
    """One way to lay records down for training."""

    pattern: ClassVar[str]  # what its shards' names match: a name is read from an index, and used as a path
    by_record: ClassVar[bool] = False  # each record is a shard of its own

    @abstractmethod
    def name(self, number: int, items: Sequence[Item]) -> str:
        """The shard's place in the export's folder."""

    @abstractmethod
    def write(self, path: Path, items: Sequence[Item]) -> None:
        """Write a shard, a file or a folder, at `path`, where nothing is."""

    def refusal(self, header: Header) -> str | None:
        """Why a whole record cannot be laid down this way; None: it can."""
        return None

    def begin(self, folder: Path) -> None:
        """A shard is about to change: what says that the export is whole must go. May be called again."""
        return

    def finish(self, folder: Path, shards: Sequence[tuple[str, int]]) -> None:
        """Every shard, (name, records), lies in its place."""
        return


def whole(path: Path, to: Format) -> Item:
    """A record that can be exported, every tensor re-hashed; `DamagedFileError` says why not."""
    stamp = FileStamp.of(path)
    header = read_header(path)
    check_record(header)
    if header.meta["key"] != path.stem or not re.fullmatch(KEY, path.stem):
        raise DamagedFileError(f"{path}: its name is not its key, {header.meta['key']!r:.50}: rename or remove it")
    facts(header)
    check_tensors(header)
    if refused := to.refusal(header):
        raise DamagedFileError(f"{path}: {refused}")
    return Item(path, path.stem, header.meta["header_digest"], stamp)


def facts(header: Header) -> dict[str, Any]:
    """What a record says of itself, flat and of the same types in every record; all the rest is in `meta`, JSON text.

    `tokens_in`, `tokens_out`: the grid's and the kept ones. Times are seconds, sizes pixels.
    """
    meta = header.meta
    try:
        source, (t, h, w) = meta["source"], meta["grid"]
        return {
            "key": str(meta["key"]),
            "status": str(meta["status"]),
            "content": str(meta["content"]),
            "recipe": str(meta["recipe_digest"]),
            "model": str(meta["model"]["family"]),
            "method": str(meta["method"]["name"]),
            "codec": str(source["codec"]),
            "width": int(source["width"]),
            "height": int(source["height"]),
            "duration_s": float(source["duration_s"]),
            "source_fps": float(source["fps"]),
            "has_audio": bool(source["has_audio"]),
            "fps": float(meta["fps"]),
            "frames": int(meta["frames"]),
            "grid": [int(t), int(h), int(w)],
            "tokens_in": int(t) * int(h) * int(w),
            "tokens_out": header.entries["tokens"].shape[0],
            "meta": canonical(meta),
        }
    except (KeyError, TypeError, ValueError) as e:
        what = f"its metadata is not a record's ({type(e).__name__}: {e})"
        raise DamagedFileError(f"{header.path}: {what}: encode the video again") from None


def tensor_bytes(path: Path, entry: Entry) -> bytes:
    """A tensor's bytes, all at once."""
    with open(path, "rb") as f:
        f.seek(entry.start)
        data = f.read(entry.end - entry.start)
    if len(data) != entry.end - entry.start:
        raise DamagedFileError(f"{path}: changed while it was exported: run the same command again")
    return data
