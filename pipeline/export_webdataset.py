"""webdataset: tar files of `KEY.json` (facts) and `KEY.safetensors` (the record itself, byte for byte).

The record's own format is the only one of webdataset's that holds bfloat16 and runs nothing when it is read.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ..stages.safefile import canonical, read_header
from .export_format import Format, Item, facts


class Webdataset(Format):
    """Members are named by keys alone and carry no time, owner or host: equal records give equal bytes."""

    pattern = r"shard-\d{6,}\.tar"

    def name(self, number: int, items: Sequence[Item]) -> str:
        return f"shard-{number:06d}.tar"

    def write(self, path: Path, items: Sequence[Item]) -> None:
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
            for item in items:
                text = canonical(facts(read_header(item.path))).encode()
                add(tar, f"{item.key}.json", len(text), io.BytesIO(text))
                with open(item.path, "rb") as record:
                    add(tar, f"{item.key}.safetensors", item.stamp.size, record)


def add(tar: tarfile.TarFile, name: str, size: int, data: IO[bytes]) -> None:
    """One member; a new `TarInfo` has time 0, owner 0 and no owner's name."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    tar.addfile(member, data)
