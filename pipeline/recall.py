"""What `ask` is given, as records: a file, or a stream's folder with all that has been committed so far."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..stages.memory import Chunk, remember
from ..stages.record import VideoRecord, load
from ..stages.safefile import DamagedFileError
from .errors import ConfigError
from .known import names_in
from .stream_folder import StreamFolder

log = logging.getLogger(__name__)


def recalled(path: Path, memory_tokens: int | None) -> VideoRecord:
    """A file's record; of a stream's folder one record of at most `memory_tokens` tokens, None: of all that are kept.

    ConfigError: nothing is committed there yet, or its chunks cannot be put together.
    """
    if not path.is_dir():
        return load(path)
    try:
        return remember(chunks_of(StreamFolder(path)), memory_tokens)
    except DamagedFileError as e:
        raise ConfigError(f"one of the stream's chunks is damaged ({e}): `vidcomp verify` puts it aside") from None
    except ValueError as e:
        raise ConfigError(f"{path}: {e}: let the stream go on, or ask another one") from None


def chunks_of(folder: StreamFolder) -> list[Chunk]:
    """The committed chunks, oldest first; their records are read when they are asked for.

    Those whose record is gone (damaged, put aside by `verify`) are left out, and that is said.
    """

    def chunk(row: Mapping[str, Any]) -> Chunk:
        return Chunk(row["tokens"], row["audio"], row["offset_s"], row["gap"], lambda: load(folder.record(row["key"])))

    rows = folder.chunks()
    present = names_in(folder.path)  # behind the lines: a record is there before its line
    there = [row for row in rows if folder.record(row["key"]).name in present]
    if len(there) < len(rows):
        log.warning(
            "%s: %d of its %d chunks are gone, answers go by the rest", folder.path, len(rows) - len(there), len(rows)
        )
    return [chunk(row) for row in there]
