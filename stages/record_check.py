"""Whether a file's header is that of a finished record of this schema. Imports no torch."""

from __future__ import annotations

from .safefile import DamagedFileError, Header
from .schema import SCHEMA

# fmt: off
TENSORS = frozenset({
    "tokens", "positions", "boxes", "sizes", "pts_s", "owner", "grid_pts_s", "frame_pts_s", "frame_index",
})
FACTS = frozenset({
    "key", "content", "recipe", "recipe_digest", "status", "decoded", "source", "model", "method", "grid", "frames",
    "fps", "frame_size", "budget",
})
# fmt: on


def check_record(header: Header) -> None:
    """`DamagedFileError`, naming what differs, unless the header has all that a record of this schema has."""
    found = header.meta.get("schema")
    if found != SCHEMA:
        raise DamagedFileError(f"{header.path}: schema {found}, this vidcomp reads {SCHEMA}: encode the video again")
    absent = sorted((TENSORS - header.entries.keys()) | (FACTS - header.meta.keys()))
    if absent:
        raise DamagedFileError(f"{header.path}: no whole record, {', '.join(absent)} missing: encode the video again")
