"""The least work that a method cannot avoid: F_min of reference-times.md, and the bytes it must read.

F_min counts the dot products that no arrangement saves, each unordered pair once, 2 operations a multiply-add. What
depends on the data (static places, segments, centres) is taken from the method's own decision on the same input.
Methods without a formula there have the read alone.

Legend: F frames, N tokens of a frame, C channels, n = F*N, K rows kept; pairs(m) = m(m-1)*C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages.methods import Method
from vidcomp.stages.standins import complete


@dataclass(frozen=True)
class Case:
    """A method's decision (`kept` rows) on `grid`."""

    method: Method
    grid: TokenGrid
    kept: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """F, N, C."""
        return len(self.grid.data), self.grid.per_step, self.grid.data.shape[3]

    @property
    def merger(self) -> Any:
        """The merger, whose own plans are asked for by name."""
        return self.method.merger

    def segments(self) -> Segments:
        """The method's own."""
        return self.method.segmenter.segment(complete(self.grid, self.method.stand_ins, self.method.needs))

    def pairs(self, m: int) -> int:
        """Operations of all unordered pairs of m tokens."""
        return m * (m - 1) * self.shape[2]


def adjacent(case: Case) -> int:
    """evs, dtd: each token with the one before."""
    f, n, c = case.shape
    return 2 * (f - 1) * n * c


def dycoke(case: Case) -> int:
    """Odd frames with the one before, third ones with the first of their group."""
    f, n, c = case.shape
    return 2 * n * c * (f // 2 + -(-(f - 4) // 4))


def bipartite(case: Case, n: int) -> int:
    """One round: every even token of a frame with every odd one."""
    f, _, c = case.shape
    return 2 * f * (-(-n // 2)) * (n // 2) * c


def tome(case: Case) -> int:
    """The one round of the settings."""
    return bipartite(case, case.shape[1])


def aim(case: Case) -> int:
    """Two rounds."""
    n = case.shape[1]
    return bipartite(case, n) + bipartite(case, n - n // 2)


def holitom(case: Case) -> int:
    """Adjacent cosines, and all pairs of each window's static places."""
    still = case.merger.plan(case.grid, case.segments()).static_SN.sum(1).tolist()
    return adjacent(case) + sum(case.pairs(places) for places in still)


def fastvid(case: Case) -> int:
    """Of each segment: pairs of each anchor's candidates, and all candidates with all centres."""
    _, n, c = case.shape
    segments = case.segments()
    plan = case.merger.plan(case.grid, segments)
    total = 0
    for first, end in segments.spans():
        centres = [plan.centres[frame] for frame in range(first, end) if plan.centres.get(frame)]
        candidates = n - plan.salient[first]
        total += len(centres) * case.pairs(candidates) + 2 * (end - first) * candidates * sum(centres) * c
    return total


def prunevid(case: Case) -> int:
    """A product with the norm and the sum of each place, and all pairs of every group that is clustered."""
    f, n, c = case.shape
    segments = case.segments()
    total = 2 * f * n * c + case.pairs(f)
    windows = zip(case.merger.static(case.grid, segments).sum(1).tolist(), segments.lengths.tolist(), strict=True)
    for still, length in windows:
        for size, groups in ((still, 1), (n - still, length)):
            total += groups * case.pairs(size) if size >= case.merger.min_cluster else 0
    return total


def omnizip(case: Case) -> int:
    """Pooled audio tokens with the whole video and the anchors, pairs of even frames, odd ones with the one before."""
    f, n, c = case.shape
    assert case.grid.audio is not None
    heard, merger = len(case.grid.audio), case.merger
    anchors = round(merger.contextual_ratio * heard)
    pooled = heard - round((1 - merger.audio_drop) * heard) - anchors
    return 2 * pooled * (f * n + anchors) * c + f // 2 * (case.pairs(n) + 2 * n * c)


def scissor(case: Case) -> int:
    """Pairs of each frame, pairs of all nodes that leaves (here: all, see `NOTES`), each token with each output."""
    f, n, c = case.shape
    return f * case.pairs(n) + case.pairs(f * n) + 2 * f * n * case.kept * c


def divprune(case: Case) -> int:
    """All pairs."""
    return case.pairs(case.grid.count)


FLOPS: dict[str, Callable[[Case], int]] = {
    "evs": adjacent,
    "dtd": adjacent,
    "dycoke": dycoke,
    "tome": tome,
    "aim": aim,
    "holitom": holitom,
    "fastvid": fastvid,
    "prunevid": prunevid,
    "omnizip": omnizip,
    "scissor": scissor,
    "divprune": divprune,
}
NOTES = {
    **dict.fromkeys(("linspace", "pool", "random", "uniform"), "decides without reading the features"),
    "scissor": "floor with S = n: in these scenes no two patches of a frame are above tau",
    "sttm": "floor: the read alone, its node pairs are not counted",
}


def floor_flops(case: Case) -> int:
    """F_min; 0 for methods that have no formula."""
    count = FLOPS.get(case.method.name)
    return count(case) if count else 0


def floor_bytes(grid: TokenGrid) -> int:
    """What must be read: the features, and the audio; of pixels, their size as floats."""
    if grid.pixels is not None:
        return 4 * grid.pixels.numel()
    heard = 0 if grid.audio is None else grid.audio.nbytes
    return grid.data.nbytes + heard
