"""What a record says over time: what was heard, and where its tokens went. Read from its file; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...stages.safefile import DamagedFileError, Header, blocks_of, digest_of

NUMPY = {"F64": "<f8", "F32": "<f4", "I32": "<i4"}


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `start_s` to `end_s`: `tokens` kept of `source` ones; where sound guided, its mean `saliency` (0 to 1), and
    the `weight` of its budget over an even share."""

    start_s: float
    end_s: float
    tokens: int
    source: int
    saliency: float | None = None
    weight: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Its fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}


def windows(header: Header) -> list[Stretch]:
    """The windows of the guided budget, or, where nothing was guided, every grid step."""
    return stretches(header, header.meta.get("audio_guide", {}).get("window_steps", 1))


def stretches(header: Header, each: int = 1) -> list[Stretch]:
    """All of a video, `each` grid steps at a time. `DamagedFileError`: a tensor is not what the header says."""
    t, h, w = header.meta["grid"]
    starts_s = array(header, "grid_pts_s").tolist()
    borders_s = [*starts_s, starts_s[-1] + header.meta.get("seconds_per_step", 1.0)] if starts_s else [0.0]
    tokens = np.bincount(array(header, "positions")[:, 0], minlength=t)
    guided = "saliency" in header.entries and "guide_weights" in header.entries
    saliency, weights = (array(header, name) if guided else None for name in ("saliency", "guide_weights"))
    return [
        Stretch(
            borders_s[first],
            borders_s[end],
            int(tokens[first:end].sum()),
            (end - first) * h * w,
            None if saliency is None else float(saliency[first:end].mean()),
            None if weights is None else float(weights[first]),
        )
        for first, end in spans(header, t, each)
    ]


def spans(header: Header, steps: int, each: int) -> Iterator[tuple[int, int]]:
    """Half-open spans of `each` grid steps, counted from each chunk's start."""
    meta = header.meta
    chunk = -(-meta["chunk_frames"] // meta["temporal_patch"]) if each > 1 else max(steps, 1)
    firsts = [at for start in range(0, steps, chunk) for at in range(start, min(start + chunk, steps), each)]
    return pairwise([*firsts, steps])


def array(header: Header, name: str) -> NDArray[Any]:
    """One tensor of a record, checked against its digest."""
    entry = header.entries[name]
    data = b"".join(blocks_of(header.path, entry))
    if digest_of([data]) != header.meta["tensors"][name] or entry.dtype not in NUMPY:
        raise DamagedFileError(f"{header.path}: tensor {name!r} is damaged: encode the video again with --force")
    return np.frombuffer(data, NUMPY[entry.dtype]).reshape(entry.shape)


def gathered(found: list[Stretch], most: int) -> list[Stretch]:
    """At most so many: neighbours as one, where there are more; saliency and weight are their means over time."""
    each = -(-len(found) // most)
    return found if each < 2 else [together(found[at : at + each]) for at in range(0, len(found), each)]


def together(parts: list[Stretch]) -> Stretch:
    """Neighbours as one."""
    lengths_s = [part.end_s - part.start_s for part in parts]
    counts = sum(part.tokens for part in parts), sum(part.source for part in parts)
    means = (over(lengths_s, [getattr(part, name) for part in parts]) for name in ("saliency", "weight"))
    return Stretch(parts[0].start_s, parts[-1].end_s, *counts, *means)


def over(lengths_s: list[float], values: list[float | None]) -> float | None:
    """The mean over time; None where there are no values."""
    known = [(length, value) for length, value in zip(lengths_s, values, strict=True) if value is not None]
    total_s = sum(length for length, _ in known)
    return sum(length * value for length, value in known) / total_s if total_s else None
