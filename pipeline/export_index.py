"""What an export's folder holds: `_index` lists its shards with their digests and the records in each.

It is written last: where it is, the export is whole. A run in progress has `.shards.jsonl` instead, one line for each
shard in place, so that the next run goes on. Readers pass over names that begin with `_` or `.`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from ..stages.safefile import canonical, digest_of, sync_folder, write_atomically
from ..stages.store import content_digest
from .errors import ConfigError
from .export_format import Format, Item

INDEX, JOURNAL = "_index", ".shards.jsonl"


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard in its place: bytes, blake2b-128, and (key, header digest) of each record in it."""

    name: str
    bytes: int
    digest: str
    records: list[list[str]]

    @classmethod
    def of(cls, name: str, path: Path, items: Sequence[Item]) -> Self:
        """What lies at `path`, whose name is or will be `name`."""
        return cls(name, *state(path), [[item.key, item.digest] for item in items])


def state(path: Path) -> tuple[int, str]:
    """Bytes and digest of a file, or of a folder of files."""
    if not path.is_dir():
        return path.stat().st_size, content_digest(path)
    files = sorted(path.iterdir())
    listed = [[f.name, content_digest(f)] for f in files]
    return sum(f.stat().st_size for f in files), digest_of([canonical(listed).encode()])


class Ledger:
    """The shards that a folder is said to hold, and what is made of them."""

    def __init__(self, folder: Path, to: str, form: Format) -> None:
        self.folder, self.to, self.form = folder, to, form
        self.index, self.journal = folder / INDEX, folder / JOURNAL
        self.known = {shard.name: shard for shard in self._read()}

    def holds(self, name: str, items: Sequence[Item]) -> bool:
        """Whether the shard `name` lies there whole, with just these records."""
        shard = self.known.get(name)
        if shard is None or shard.records != [[item.key, item.digest] for item in items]:
            return False
        try:
            return state(self.folder / name) == (shard.bytes, shard.digest)
        except OSError:
            return False

    def change(self) -> None:
        """Take the index back before a shard changes; what it lists is kept in the journal."""
        if self.index.exists() or not self.journal.exists():
            lines = "".join(self._line(shard) for shard in self.known.values()).encode()
            replace(self.journal, lines)
            self.index.unlink(missing_ok=True)
            sync_folder(self.folder)

    def add(self, shard: Shard) -> None:
        """Note a shard that is in its place."""
        self.known[shard.name] = shard
        with open(self.journal, "ab") as out:
            out.write(self._line(shard).encode())

    def strays(self, names: Iterable[str]) -> list[str]:
        """Shards of an earlier export that are not among `names`."""
        return sorted(self.known.keys() - set(names))

    def forget(self, name: str) -> None:
        """A shard was removed."""
        del self.known[name]

    def is_whole(self) -> bool:
        """Whether the index is there, and says what is true."""
        return self.index.is_file() and self.index.read_bytes() == self._text()

    def finish(self) -> None:
        """Write the index; the journal has done its work."""
        replace(self.index, self._text())
        self.journal.unlink(missing_ok=True)

    def _text(self) -> bytes:
        shards = [asdict(self.known[name]) for name in sorted(self.known)]
        told = {"format": self.to, "records": sum(len(s["records"]) for s in shards), "shards": shards}
        return canonical(told).encode() + b"\n"

    def _line(self, shard: Shard) -> str:
        """A line break first: a line torn by a crash is closed by the next."""
        return f"\n{canonical({'format': self.to, **asdict(shard)})}"

    def _read(self) -> Iterator[Shard]:
        """Journal and index; what is damaged is as if it were not there."""
        index = parsed(self.index.read_bytes()) if self.index.exists() else {}
        self._check(index)
        yield from map(self._shard, [s for s in index.get("shards", []) if self._is_shard(s)])
        for line in self.journal.read_bytes().splitlines() if self.journal.exists() else []:
            row = parsed(line)
            self._check(row)
            if self._is_shard(row):
                yield self._shard(row)

    def _check(self, row: dict[str, Any]) -> None:
        """Refuse to mix formats in a folder."""
        if row.get("format", self.to) != self.to:
            raise ConfigError(f"{self.folder}: holds an export to {row['format']!r:.20}: give another folder with -o")

    def _is_shard(self, row: Any) -> bool:
        """Whether a row is one of ours: its name will be used as a path."""
        named = isinstance(row, dict) and isinstance(row.get("name"), str)
        return (
            named
            and {"bytes", "digest", "records"} <= row.keys()
            and bool(re.fullmatch(self.form.pattern, row["name"]))
        )

    def _shard(self, row: dict[str, Any]) -> Shard:
        return Shard(row["name"], row["bytes"], row["digest"], row["records"])


def replace(path: Path, text: bytes) -> None:
    """A small file, whole or as it was."""

    def fill(out: BinaryIO) -> None:
        out.write(text)

    write_atomically(path, fill)


def parsed(text: bytes) -> dict[str, Any]:
    """A JSON object; anything else is an empty one."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
