"""Who decodes what where several children share a file, and what they give in order again; sound cut into chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]
Batch = tuple[Index, NDArray[np.uint8]]


def shares(group: Index, children: int) -> list[Index]:
    """The places that each child decodes: groups in turn, so that all work near each other in time and none has to wait
    long with full hands. `group` int64 (n,) never descending; fewer shares where there are fewer groups."""
    owner = group % children
    return [part for k in range(children) if len(part := np.flatnonzero(owner == k))]


def in_turn(streams: Sequence[Iterator[Batch]], parts: Sequence[Index]) -> Iterator[Batch]:
    """The children's batches by place, as long as none is missing. Each stream's places count within its part."""
    owner = np.empty(sum(len(part) for part in parts), np.int64)
    for child, part in enumerate(parts):
        owner[part] = child
    ends = np.append(np.flatnonzero(np.diff(owner)) + 1, len(owner))
    held: dict[int, Batch] = {}
    place = 0
    while place < len(owner):
        child = int(owner[place])
        batch = held.pop(child, None) or next(streams[child], None)
        if batch is None:
            return
        whole = parts[child][batch[0]]
        end = int(ends[np.searchsorted(ends, place, side="right")])
        take = min(len(whole), end - place)
        if not np.array_equal(whole[:take], np.arange(place, place + take)):
            return
        yield whole[:take], batch[1][:take]
        if take < len(whole):
            held[child] = (batch[0][take:], batch[1][take:])
        place += take
    for stream in streams:  # each has still to say that it is done
        next(stream, None)


def cut_at(pieces: Iterator[NDArray[np.float32]], ends: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """The samples of `pieces`, which are ends[-1] - ends[0], cut anew: ends[i+1] - ends[i] at a time."""
    left = np.empty(0, np.float32)
    for begin, end in pairwise(ends):
        parts, have = [left], len(left)
        while have < end - begin:
            parts.append(next(pieces))
            have += len(parts[-1])
        whole = np.concatenate(parts)
        left = whole[end - begin :]
        if end == ends[-1]:
            next(pieces, None)  # the child has still to say that it is done
        yield whole[: end - begin]
