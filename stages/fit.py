"""Source-size batches in, model-size chunks out: frames are resized as they come, so only small pictures are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..models.types import Frames


def chunks(
    batches: Iterable[Frames],
    plan: np.ndarray,
    chunk_frames: int,
    resize: Callable[[Tensor], Tensor],
) -> Iterator[tuple[int, Frames]]:
    """(chunk number, its frames at model size), cut at fixed multiples of `chunk_frames` of the plan.

    `plan` int64 (F,): presentation numbers of the sampled frames, ascending; chunk borders depend on it alone: a frame
    that could not be decoded leaves its chunk short and moves no border. A chunk without any frame is not yielded.
    """
    number, held = -1, list[Frames]()
    for batch in batches:
        for at, piece in _by_chunk(batch, plan, chunk_frames):
            if at != number and held:
                yield number, joined(held)
                held = []
            number = at
            held.append(Frames(resize(piece.data), piece.pts_s, piece.index))
    if held:
        yield number, joined(held)


def _by_chunk(batch: Frames, plan: np.ndarray, chunk_frames: int) -> Iterator[tuple[int, Frames]]:
    """The batch cut where the chunk number changes."""
    number = np.searchsorted(plan, batch.index.numpy()) // chunk_frames
    cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(number)]
    for first, end in pairwise(cuts):
        yield int(number[first]), batch[first:end]


def joined(pieces: list[Frames]) -> Frames:
    """Several runs of frames as one."""
    if len(pieces) == 1:
        return pieces[0]
    return Frames(
        torch.cat([p.data for p in pieces]),
        torch.cat([p.pts_s for p in pieces]),
        torch.cat([p.index for p in pieces]),
    )
