"""Chunks as records of their own, and records of consecutive chunks as one.

A record's tensors count steps, rows and audio tokens from the video's start; a chunk's own record counts from the
chunk's. Joined again, the records of all chunks have the tensors of the whole video's record, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from ..models.types import AudioTokens
from .pack import Progress
from .record import AUDIO, EXTRA, VideoRecord
from .safefile import digest_of
from .store import CARRIES


@dataclass(frozen=True, slots=True)
class Before:
    """What lies before a chunk: grid steps, rows, audio tokens and rows of them."""

    steps: int = 0
    rows: int = 0
    heard: int = 0
    audio_rows: int = 0

    @classmethod
    def of(cls, at: Progress) -> Self:
        """As a spool counts."""
        return cls(at.steps, at.rows, at.heard, at.audio_rows)

    def after(self, record: VideoRecord) -> Before:
        """What lies behind `record`, the next chunk."""
        heard, kept = (record.audio.count, len(record.audio)) if record.audio is not None else (0, 0)
        t, _, _ = record.grid
        return Before(self.steps + t, self.rows + len(record), self.heard + heard, self.audio_rows + kept)


def moved(tensors: Mapping[str, Tensor], by: Before, sign: int) -> dict[str, Tensor]:
    """A record's tensors with all that counts moved: `sign` 1 from the chunk's start to the video's, -1 back."""
    step = torch.tensor([sign * by.steps, 0, 0], dtype=torch.int32)
    rows = {"owner": sign * by.rows, AUDIO + "owner": sign * by.audio_rows}
    out = dict(tensors) | {
        "positions": tensors["positions"] + step,
        "boxes": tensors["boxes"] + step.repeat_interleave(2),
    }
    for name in rows.keys() & tensors.keys():
        out[name] = torch.where(tensors[name] >= 0, tensors[name] + rows[name], -1)
    if AUDIO + "positions" in tensors:
        out[AUDIO + "positions"] = tensors[AUDIO + "positions"] + sign * by.heard
    return out


def chunk_record(tensors: Mapping[str, Tensor], before: Before, meta: Mapping[str, Any]) -> VideoRecord:
    """A part of a video, as `Embedder.reduce` gives it, as a record of its own."""
    return made({name: value for name, value in moved(tensors, before, -1).items() if name not in CARRIES}, meta)


def made(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> VideoRecord:
    """A record from its tensors, named as in a file."""
    held = dict(tensors)
    extra = {name.removeprefix(EXTRA): held.pop(name) for name in list(held) if name.startswith(EXTRA)}
    sound = {name.removeprefix(AUDIO): held.pop(name) for name in list(held) if name.startswith(AUDIO)}
    audio = AudioTokens(**sound, count=len(sound["owner"])) if sound else None
    return VideoRecord(meta=meta, extra=extra, audio=audio, **held)


def join(records: Sequence[VideoRecord], offsets_s: Sequence[float], gaps: Sequence[bool]) -> VideoRecord:
    """Records of consecutive chunks of one recipe as one; `offsets_s` is added to each one's times, `gaps` tells which
    do not follow on the one before.

    Before a gap the last grid step may lack frames: its last one stands for them, as for the model. Where only some
    have sound, the others have none of it. ValueError: the records are not of one recipe, or of several grids.
    """
    for what, found in (
        ("recipes", {record.meta["recipe_digest"] for record in records}),
        ("picture sizes", {record.grid[1:] for record in records}),
    ):
        if len(found) != 1:
            raise ValueError(f"{len(found)} {what} among the records: only records of one can be joined")
    before, parts = Before(), list[dict[str, Tensor]]()
    heard = [record.audio for record in records if record.audio is not None]
    for i, (record, offset_s) in enumerate(zip(records, offsets_s, strict=True)):
        broken = i + 1 < len(records) and gaps[i + 1]
        if record.audio is None and heard:
            record = replace(record, audio=none_of(heard[0]))
        tensors = timed(moved(record.tensors(), before, 1), offset_s)
        parts.append(padded(tensors, record.meta["temporal_patch"]) if broken else tensors)
        before = before.after(record)
    named = [name for name in parts[0] if all(name in part for part in parts)]
    tensors = {name: torch.cat([part[name] for part in parts]) for name in named}
    return made(tensors | {"frame_index": counted([part["frame_index"] for part in parts])}, joined_meta(records))


def none_of(sound: AudioTokens) -> AudioTokens:
    """No sound, of the same kind."""
    none = torch.empty(0, dtype=torch.int32)
    owner = None if sound.owner is None else none
    return AudioTokens(sound.tokens[:0], none, none, torch.empty(0, dtype=torch.float64), 0, owner)


def timed(tensors: dict[str, Tensor], offset_s: float) -> dict[str, Tensor]:
    """All times `offset_s` later."""
    times = [name for name in ("pts_s", "grid_pts_s", "frame_pts_s", AUDIO + "pts_s") if name in tensors]
    return tensors | {name: tensors[name] + offset_s for name in times if offset_s}


def padded(tensors: dict[str, Tensor], patch: int) -> dict[str, Tensor]:
    """With so many frames that they fill the grid's last step."""
    lacking = -len(tensors["frame_pts_s"]) % patch
    names = ("frame_pts_s", "frame_index")
    return tensors | {name: torch.cat([tensors[name], tensors[name][-1:].repeat(lacking)]) for name in names}


def counted(numbers: Sequence[Tensor]) -> Tensor:
    """Frame numbers, end to end; those of a source that began again go on behind the last."""
    out = list[Tensor]()
    for frames in numbers:
        last = int(out[-1][-1]) if out else -1
        out.append(frames + max(last + 1 - int(frames[0]), 0))
    return torch.cat(out)


def joined_meta(records: Sequence[VideoRecord]) -> dict[str, Any]:
    """The first one's, with what all come to."""
    metas = [record.meta for record in records]
    first, budgets = metas[0], [meta["budget"] for meta in metas]
    nominal = None if any(b["nominal"] is None for b in budgets) else sum(b["nominal"] for b in budgets)
    key = digest_of([meta["key"].encode() for meta in metas])
    out = {name: value for name, value in first.items() if name not in ("stream", "tensors")} | {
        "key": key,
        "content": digest_of([meta["content"].encode() for meta in metas]),
        "header_digest": key,
        "grid": [sum(meta["grid"][0] for meta in metas), *first["grid"][1:]],
        "frames": sum(meta["frames"] for meta in metas),
        "budget": {**budgets[0], "nominal": nominal, "kept": sum(len(record) for record in records)},
        "status": "ok" if all(meta["status"] == "ok" for meta in metas) else "partial",
    }
    if any("audio" in meta for meta in metas):
        out["audio"] = {name: sum(meta.get("audio", {}).get(name, 0) for meta in metas) for name in ("tokens", "kept")}
    return out
