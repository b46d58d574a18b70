"""PruneVid's scenes: frames clustered by their mean token, and labels repaired until every scene is one run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import ClassVar

import torch

from ...models.types import Segments, TokenGrid
from .. import ops, ops_cluster
from ..parts import Segmenter

Run = tuple[int, int, int]  # label, first step, end

NONE = -1  # the label of a step that has lost its own


@dataclass(frozen=True)
class DpcFrames(Segmenter):
    """Clusters the steps' mean tokens into int(T*segment_ratio) density peaks (`k` neighbours), then mends the labels.

    PruneVid (ACL 2025, arXiv 2412.16117), "Spatial-Temporal Token Merging". Of each label only its longest runs stay
    (none if the longest is one step); what lost its label takes that of the longer neighbouring run, the left on ties.
    A segment is a run of equal labels.

    Differs from the reference, which crashes or draws noise in these cases: int(T*segment_ratio) = 0 gives one
    cluster; fewer steps than `k`: all are neighbours; equal scores (identical frames) go to the earlier step.
    """

    paper: ClassVar[str] = "PruneVid, ACL 2025, arXiv 2412.16117"
    family: ClassVar[str] = "frame clusters"
    complexity: ClassVar[str] = "O(TND + T²D)"

    segment_ratio: float = 0.25
    k: int = 7

    def __post_init__(self) -> None:
        if not 0 <= self.segment_ratio <= 1:
            raise ValueError(f"segment_ratio must be in [0, 1], got {self.segment_ratio}")
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    def segment(self, grid: TokenGrid) -> Segments:
        steps = grid.shape[0]
        count = max(1, int(steps * self.segment_ratio))
        vectors_TD = ops.step_means(grid.feat_TND)
        _, label_1T = ops_cluster.cluster(vectors_TD[None], count, self.k, by_score=True)
        return Segments(torch.tensor([first for _, first, _ in runs(mended(label_1T[0].tolist()))]), steps)


def runs(labels: list[int]) -> list[Run]:
    """The maximal runs of equal labels."""
    found, first = [], 0
    for label, members in groupby(labels):
        end = first + len(list(members))
        found.append((label, first, end))
        first = end
    return found


def mended(labels: list[int]) -> list[int]:
    """Labels of which short runs have given way to the neighbours that outlast them."""
    longest: dict[int, int] = {}
    for label, first, end in runs(labels):
        longest[label] = max(longest.get(label, 0), end - first)
    out = [NONE] * len(labels)
    for label, first, end in runs(labels):
        if end - first == longest[label] > 1:
            out[first:end] = labels[first:end]
    for label, first, end in runs(out):
        if label == NONE:
            out[first:end] = [longer_neighbour(out, first, end)] * (end - first)
    return out


def longer_neighbour(labels: list[int], first: int, end: int) -> int:
    """The label of the longer run beside [first, end) as labels stand now; the left on ties, 0 without any."""
    left = len(list(takewhile(lambda label: label == labels[first - 1], reversed(labels[:first]))))
    right = len(list(takewhile(lambda label: label == labels[end], labels[end:])))
    if left == right == 0:
        return 0
    return labels[first - 1] if left >= right else labels[end]
