"""Closed chunks become records, one by one committed and told in the index; and the stream's own clock.

A chunk's record keeps the source's times. On the stream's clock, which never goes back, they are `offset_s` later: 0
until the first gap; behind one (a restart, a lost connection, a clock that was set) as much as passed here meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..models.types import CompressedTokens
from ..stages.join import Before, chunk_record, moved
from ..stages.record import AUDIO, ROWS, VideoRecord, unsealed
from ..stages.safefile import Source as TensorSource
from ..stages.safefile import digest_of, writing
from ..stages.schema import SCHEMA
from ..stages.store import record_key
from .account import environment, guide_of, revision_of
from .build import describe
from .encode import VideoEncoder
from .stream_folder import PLACE, StreamFolder
from .stream_told import Ready, Shape, Source


@dataclass
class StreamWriter:
    """One run of a stream of one recipe. `folder` None: nothing is written."""

    encoder: VideoEncoder
    source: Source
    folder: StreamFolder | None
    number: int = 0  # of the next chunk
    offset_s: float = 0.0
    _gap: str | None = None  # why the next chunk does not follow on the last one
    _end_s: float | None = None  # on the stream's clock: where the last chunk ends
    _wall_s: float = 0.0  # when that was
    _before: Before = field(default_factory=Before)  # counted in this run
    _told: str = ""  # digest of all since the last gap: what the next chunk goes on from

    def go_on(self) -> None:
        """Behind what the folder holds already."""
        if self.folder is None:
            return
        for header in self.folder.unlisted():
            if header.meta["stream"]["number"] == len(self.folder.chunks()):
                self.folder.note(line(header.meta, header.path.stat().st_mtime))
        rows = self.folder.chunks()
        if rows:
            self.number = len(rows)
            self._end_s, self._wall_s = rows[-1]["offset_s"] + rows[-1]["end_s"], rows[-1]["wall_s"]
            self.gap("restart")

    def gap(self, why: str) -> None:
        """The next chunk does not follow on the last one."""
        if self._end_s is not None and self._gap is None:
            self._gap = why
        self._told = ""

    def commit(self, ready: Ready, dropped: int) -> CompressedTokens:
        """A chunk's record under its final name, then its line in the index; `dropped` frames since the last one.
        The chunk's tokens, counted from the run's start."""
        tensors, shape = ready.part
        first_s = float(unsealed(tensors["frame_pts_s"])[0])
        if why := self._gap:
            self._close_gap(why, first_s, ready.came_s - (ready.end_s - first_s))
        self._told = told(self.number, self._told, tensors)
        values = {name: unsealed(value) for name, value in tensors.items()}
        place = {"number": self.number, "offset_s": self.offset_s, "end_s": ready.end_s, "gap": bool(why)}
        meta = {**self._meta(values, shape, ready), "stream": {**place, "dropped": dropped}}
        record = chunk_record(values, self._before, meta)
        self._write(record, ready.came_s)
        whole = moved(record.tensors(), self._before, 1)
        self._before = self._before.after(record)
        self.number += 1
        self._end_s, self._wall_s = self.offset_s + ready.end_s, ready.came_s
        return CompressedTokens(**{name: whole[name] for name in ROWS}, extra=record.extra)

    def _close_gap(self, why: str, first_s: float, began_s: float) -> None:
        assert self._end_s is not None
        passed_s = max(began_s - self._wall_s, 0.0)
        self.offset_s, self._gap = self._end_s + passed_s - first_s, None
        if self.folder is not None:
            self.folder.note({"event": "gap", "why": why, "before": self.number, "passed_s": round(passed_s, 3)})

    def _write(self, record: VideoRecord, came_s: float) -> None:
        if self.folder is None:
            return
        path = self.folder.record(record.meta["key"])
        with writing(path):
            record.save(path)
        self.folder.note(line(record.meta, came_s) | {"lag_s": round(max(time.time() - came_s, 0.0), 3)})

    def _meta(self, values: Mapping[str, Tensor], shape: Shape, ready: Ready) -> dict[str, Any]:
        """As `VideoEncoder` says it of a whole file."""
        encoder, source = self.encoder, self.source
        t, h, w = shape
        frames, kept = len(values["frame_pts_s"]), len(values["tokens"])
        recipe = encoder.recipe.digest(encoder.identity)
        patch = encoder.model.temporal_patch
        return {
            "key": record_key(self._told, recipe),
            "content": self._told,
            "recipe": encoder.recipe.resolved(encoder.identity),
            "recipe_digest": recipe,
            "schema": SCHEMA,
            "status": "partial" if ready.missing else "ok",
            "decoded": {"declared": None, "decoded": frames, "missing": ready.missing, "why": ""},
            "source": dict(source.about),
            "model": encoder.identity,
            "method": describe(encoder.embedder),
            "grid": [t, h, w],
            "frames": frames,
            "environment": environment(encoder.model.family),
            "fps": source.fps,
            "temporal_patch": patch,
            "seconds_per_step": patch / source.fps,
            "frame_size": list(source.size),
            "chunk_frames": -(-encoder.recipe.chunk_frames // patch) * patch,
            "budget": {"asked": encoder.recipe.budget.asked, "nominal": self._nominal(t * h * w, frames), "kept": kept},
            **sound_account(values),
            **guide_of(encoder.embedder, source.fps, values),
            **revision_of(encoder.model),
        }

    def _nominal(self, tokens_in: int, frames: int) -> float | None:
        """What the budget is of one chunk; a file's `tokens` are of the whole."""
        asked = self.encoder.recipe.budget.asked
        if "tokens_per_second" in asked:
            return asked["tokens_per_second"] * frames / self.source.fps
        retain = getattr(self.encoder.embedder.method.merger, "retain", None)
        return None if retain is None or "tokens" in asked else retain * tokens_in


def told(number: int, before: str, tensors: Mapping[str, TensorSource]) -> str:
    """What chunk `number` is, and what it goes on from."""
    held = [name.encode() + digest_of(tensors[name].blocks()).encode() for name in sorted(tensors)]
    return digest_of([str(number).encode(), before.encode(), *held])


def sound_account(values: Mapping[str, Tensor]) -> dict[str, Any]:
    """As `account.sound_of`, of one chunk."""
    if AUDIO + "owner" not in values:
        return {}
    return {"audio": {"tokens": len(values[AUDIO + "owner"]), "kept": len(values[AUDIO + "tokens"])}}


def line(meta: Mapping[str, Any], wall_s: float) -> dict[str, Any]:
    """A chunk's line in the index; of a record that a crash left without one, the disk tells when it was written."""
    t, h, w = meta["grid"]
    return {
        "event": "chunk",
        **{name: meta["stream"][name] for name in PLACE},
        "key": meta["key"],
        "recipe": meta["recipe_digest"],
        "wall_s": round(wall_s, 3),
        "frames": meta["frames"],
        "tokens_in": t * h * w,
        "tokens": meta["budget"]["kept"],
        "audio": meta.get("audio", {}).get("kept", 0),
    }
