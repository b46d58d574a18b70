"""A memory of bounded size: the records of a stream's chunks, the older the smaller, as one record.

A chunk's share of the tokens goes by its kept tokens over its age, so that what was seen last stays whole and what is
long ago shrinks; what does not fit its share is merged again, by rounds of bipartite soft matching (ToMe, ICLR 2023,
arXiv 2210.09461, section 3) on the kept tokens, each counted as often as the source tokens it stands for.

Legend: K kept rows of a chunk, C chunks, T grid steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models.types import AudioTokens
from .guide_weights import shares
from .join import join
from .mergers import _bipartite as bipartite
from .record import GUIDED, VideoRecord
from .reduction import Reduction


@dataclass(frozen=True, slots=True)
class Chunk:
    """One committed chunk: kept video and audio tokens, how much later its times are on the stream's clock, whether it
    does not follow on the one before it, and how to get its record."""

    tokens: int
    audio: int
    offset_s: float
    gap: bool
    load: Callable[[], VideoRecord]

    def read(self) -> VideoRecord:
        """Its record. ValueError: it is not the one that was committed."""
        record = self.load()
        if (len(record), 0 if record.audio is None else len(record.audio)) != (self.tokens, self.audio):
            raise ValueError(f"the record of chunk {record.meta['key']} is another than its line says")
        return record


def shares_by_age(kept: Sequence[int], tokens: int) -> list[int]:
    """int (C,): what each chunk keeps of its `kept` tokens, oldest first; min(`tokens`, all of them) in all.

    In proportion to kept / age, the newest chunk's age being 1; what a chunk cannot use goes to the others.
    """
    if sum(kept) <= tokens:
        return list(kept)
    return shares(tokens, [1 / (len(kept) - i) for i in range(len(kept))], kept)


def remember(chunks: Sequence[Chunk], tokens: int | None) -> VideoRecord:
    """All chunks as one record: with `tokens` of min(`tokens`, all there are) tokens, the sound's counted too, and
    without the steps of which nothing is kept (but beside sound); None: whole.

    Chunks are read one at a time, and those without a share not at all. ValueError: none of them has a token.
    """
    kept = [chunk.tokens + chunk.audio for chunk in chunks]
    due = shares_by_age(kept, sum(kept) if tokens is None else tokens)
    if not sum(due):
        raise ValueError("nothing is kept of this stream yet")
    if tokens is None:
        return join([chunk.read() for chunk in chunks], *where(chunks))
    shared = [(chunk, share) for chunk, share in zip(chunks, due, strict=True) if share]
    return join([smaller(chunk.read(), share) for chunk, share in shared], *where([chunk for chunk, _ in shared]))


def where(chunks: Sequence[Chunk]) -> tuple[list[float], list[bool]]:
    """`offsets_s` and `gaps` of `join`."""
    return [chunk.offset_s for chunk in chunks], [chunk.gap for chunk in chunks]


def smaller(record: VideoRecord, tokens: int) -> VideoRecord:
    """The record with `tokens` rows, video and sound together, in the proportion that they have."""
    if record.audio is None:
        return compacted(seen_less(record, tokens))  # beside sound a step's place tells its time: there all stay
    seen, heard = shares(tokens, [1.0, 1.0], [len(record), len(record.audio)])
    audio = heard_less(record.audio, heard)
    record = seen_less(record, seen)
    meta = {**record.meta, "audio": {"tokens": audio.count, "kept": len(audio)}}
    return replace(record, audio=audio, meta=meta)


def seen_less(record: VideoRecord, rows: int) -> VideoRecord:
    """With `rows` of its rows: similar ones merged, boxes around all that a row stands for."""
    if rows == len(record):
        return record
    found = merged(record.tokens, record.sizes, rows)
    keep = found.anchor
    return replace(
        record,
        tokens=found.apply(record.tokens),
        positions=record.positions[keep],
        boxes=around(record.boxes, found),
        sizes=added(record.sizes, found),
        pts_s=record.pts_s[keep],
        owner=followed(record.owner, found),
        extra={name: found.apply(value) for name, value in record.extra.items()},
        meta={**record.meta, "budget": {**record.meta["budget"], "kept": rows}},
    )


def heard_less(audio: AudioTokens, rows: int) -> AudioTokens:
    """The same of sound."""
    found = merged(audio.tokens, audio.sizes, rows)
    keep = found.anchor
    owner = None if audio.owner is None else followed(audio.owner, found)
    tokens, sizes = found.apply(audio.tokens), added(audio.sizes, found)
    return AudioTokens(tokens, audio.positions[keep], sizes, audio.pts_s[keep], audio.count, owner)


def merged(tokens: Tensor, sizes: Tensor, rows: int) -> Reduction:
    """A reduction of (K,D) tokens to `rows` <= K, over a grid (K,1,1)."""
    count = len(tokens)
    if not rows:
        return Reduction.select((count, 1, 1), torch.empty(0, dtype=torch.int64))
    rounds = bipartite.rounds_to(rows, count)
    found = bipartite.match(tokens[None], rounds, weighted=True, size_BN=sizes[None].double())
    ids = torch.arange(count)
    return Reduction.from_entries((count, 1, 1), found.anchor[0], found.slot[0], ids, found.weight[0])


def followed(owner_N: Tensor, found: Reduction) -> Tensor:
    """int32 (N,): the row that each source token's row went to, -1 = dropped."""
    if not found.source_count:
        return owner_N
    return torch.where(owner_N >= 0, found.owner[owner_N.clamp_min(0).long()], -1).int()


def added(sizes: Tensor, found: Reduction) -> Tensor:
    """int32: what the members of each row stand for, together."""
    out = torch.zeros(len(found), dtype=torch.int64)
    return out.index_add_(0, found.row_of_entry, sizes[found.indices].long()).int()


def around(boxes: Tensor, found: Reduction) -> Tensor:
    """int32 (K,6): the smallest boxes around those of each row's members."""
    row, member = found.row_of_entry[:, None].expand(-1, 3), boxes[found.indices]
    low = boxes.new_zeros(len(found), 3).scatter_reduce_(0, row, member[:, ::2], "amin", include_self=False)
    high = boxes.new_zeros(len(found), 3).scatter_reduce_(0, row, member[:, 1::2], "amax", include_self=False)
    return torch.stack([low, high], dim=2).flatten(1)


def compacted(record: VideoRecord) -> VideoRecord:
    """Without the grid steps of which no row stands: a prompt that writes each step's time stays bounded too."""
    t, h, w = record.grid
    used = record.positions[:, 0].unique().long()
    if not len(used) or len(used) == t:
        return record
    patch = record.meta["temporal_patch"]
    frames = (used[:, None] * patch + torch.arange(patch)).flatten().clamp_max(len(record.frame_pts_s) - 1)
    place = torch.searchsorted(used, torch.arange(t + 1))  # of each old step, or of the next that stays
    of_steps = {name: getattr(record, name) for name in ("frame_vectors", *GUIDED)}
    positions, boxes = record.positions.clone(), record.boxes.clone()
    positions[:, 0] = place[positions[:, 0].long()].int()
    boxes[:, :2] = place[boxes[:, :2].long()].int()
    return replace(
        record,
        positions=positions,
        boxes=boxes,
        owner=record.owner.view(t, h * w)[used].flatten(),
        grid_pts_s=record.grid_pts_s[used],
        frame_pts_s=record.frame_pts_s[frames],
        frame_index=record.frame_index[frames],
        meta={**record.meta, "grid": [len(used), h, w], "frames": len(frames)},
        **{name: value[used] for name, value in of_steps.items() if value is not None},
    )
