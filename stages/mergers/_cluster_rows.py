"""Rows of a `Reduction`, gathered group by group.

Legend: G groups of equal size, M rows and P places of each, L steps that a place is averaged over.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...models.types import TokenGrid
from ..reduction import Reduction


@dataclass
class ClusterRows:
    """Collects groups of tokens of `grid`; `reduction()` is all of them, in raster order of their anchors."""

    grid: TokenGrid
    anchors: list[Tensor] = field(default_factory=list)
    entries: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)  # row, source token, weight
    rows: int = 0

    def alone(self, ids: Tensor) -> None:
        """Each of the tokens `ids` as a row of its own, unchanged."""
        itself = torch.zeros_like(ids)[:, None]
        self.groups(ids[None, :, None], itself, itself, torch.ones_like(itself))

    def groups(self, index_LGP: Tensor, centre_GM: Tensor, label_GP: Tensor, share_GP: Tensor) -> None:
        """Places averaged over L steps, then mixed by label: place p brings `share_GP[g, p]` into row `label_GP[g, p]`.

        `index_LGP`: source tokens; rows are anchored at the places `centre_GM`, in the first of the L steps.
        """
        (steps, groups, _), rows = index_LGP.shape, centre_GM.shape[1]
        first_G1 = torch.arange(self.rows, self.rows + groups * rows, rows, device=label_GP.device)[:, None]
        row = (first_G1 + label_GP).expand(index_LGP.shape)
        weight = (share_GP.double() / steps).expand(index_LGP.shape)
        self.anchors.append(index_LGP[0].gather(1, centre_GM).flatten())
        self.entries.append((row.flatten(), index_LGP.flatten(), weight.flatten()))
        self.rows += groups * rows

    def reduction(self) -> Reduction:
        """What was gathered."""
        row, index, weight = (torch.cat(part) for part in zip(*self.entries, strict=True))
        return Reduction.from_entries(self.grid.shape, torch.cat(self.anchors), row, index, weight)


def member_counts(label_GP: Tensor, rows: int) -> Tensor:
    """int64 (G, P): how many places the row of each place has."""
    count_GM = label_GP.new_zeros(len(label_GP), rows).scatter_add_(1, label_GP, torch.ones_like(label_GP))
    return count_GM.gather(1, label_GP)


def flat_ids(grid: TokenGrid, first: int, end: int, place_P: Tensor) -> Tensor:
    """int64 (L, P): source tokens at the places in the steps [first, end)."""
    return torch.arange(first, end, device=place_P.device)[:, None] * grid.per_step + place_P
