"""A stream on disk: one record for each closed chunk, named by its key, and `index.jsonl`, which tells their order and
all that happened. Imports no torch.

The index is appended to and synced line by line: a chunk is committed when its record stands under its final name. A
record that a crash left without its line gets it when the stream goes on.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..stages.record_check import check_record
from ..stages.safefile import DamagedFileError, Header, OutputError, canonical, read_header, reading, writing
from ..stages.store import SUFFIX
from .errors import ConfigError
from .fields import fits
from .known import names_in
from .locks import is_held, locked

INDEX = "index.jsonl"
LOCK = ".stream.lock"
KEY = re.compile("[0-9a-f]{32}")
PLACE: Mapping[str, type] = {"number": int, "offset_s": float, "end_s": float, "gap": bool, "dropped": int}
LINE: Mapping[str, type] = {
    **PLACE,
    **{"key": str, "recipe": str, "wall_s": float, "frames": int, "tokens_in": int, "tokens": int, "audio": int},
}


@dataclass(frozen=True)
class StreamFolder:
    """One stream's folder."""

    path: Path

    @property
    def index(self) -> Path:
        return self.path / INDEX

    def events(self) -> Iterator[dict[str, Any]]:
        """Every line of the index, oldest first; one that is being written, or was torn, is left out."""
        if self.index.exists() and not self.index.is_file():
            raise OutputError(str(self.index), "is no regular file", "take another folder")
        with reading(self.index), suppress(FileNotFoundError), open(self.index, "rb") as file:
            for line in file:
                event = parsed(line)
                if event is not None:
                    yield event

    def chunks(self) -> list[dict[str, Any]]:
        """The lines of committed chunks."""
        return [event for event in self.events() if event["event"] == "chunk"]

    def record(self, key: str) -> Path:
        """Where a chunk's record lies."""
        return self.path / f"{key}{SUFFIX}"

    def picture_size(self) -> tuple[int, int] | None:
        """(h, w) at which the stream's pictures enter the model; None: no chunk's record tells yet."""
        for row in reversed(self.chunks()):
            header = whole(self.record(row["key"]))
            if header is not None:
                h, w = header.meta["frame_size"]
                return h, w
        return None

    def note(self, event: Mapping[str, Any]) -> None:
        """Append one line, and have it on the disk. A torn line before it is ended first."""
        with writing(self.index):
            fd = os.open(self.index, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                size = os.fstat(fd).st_size
                torn = size and os.pread(fd, 1, size - 1) != b"\n"
                with open(fd, "ab", closefd=False) as file:
                    file.write(b"\n" * bool(torn) + canonical(event).encode() + b"\n")
                os.fsync(fd)
            finally:
                os.close(fd)

    def unlisted(self) -> list[Header]:
        """Whole records of a stream's chunks that the index does not list."""
        listed = {f"{row['key']}{SUFFIX}" for row in self.chunks()}
        found = (self.path / name for name in sorted(names_in(self.path) - listed) if name.endswith(SUFFIX))
        return [
            header for path in found if (header := whole(path)) is not None and fits(PLACE, header.meta.get("stream"))
        ]

    def is_held(self) -> bool:
        """Whether a stream is being written there now."""
        with suppress(OSError):  # a file system without locks tells of none
            return is_held(self.path / LOCK)
        return False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Alone with the folder. ConfigError: another stream is written there now."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not locked(lock):
                raise ConfigError(f"{self.path}: another stream is being written there: take another folder")
            yield
        finally:
            os.close(lock)


def parsed(line: bytes) -> dict[str, Any] | None:
    """One line of an index; None of what is none, and of a chunk's that lacks what is gone by: its key becomes a
    file's name."""
    if not line.endswith(b"\n"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    return event if event["event"] != "chunk" or (fits(LINE, event) and KEY.fullmatch(event["key"])) else None


def whole(path: Path) -> Header | None:
    """The header of a record; None of anything else."""
    try:
        header = read_header(path)
        check_record(header)
    except (OSError, DamagedFileError):
        return None
    return header
