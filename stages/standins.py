"""Named stand-ins for what a model does not give. Chosen by name in the recipe, never silently.

Legend: T steps, N tokens of a step, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..models.types import TokenGrid
from . import ops

StandIn = Callable[[TokenGrid], Tensor]


def distinctness(grid: TokenGrid) -> Tensor:
    """(T,H,W): 1 - cos(token, mean token of its frame): what stands out in its frame is taken for what is attended."""
    feat_TND = grid.feat_TND
    means_TD = ops.step_means(feat_TND)
    away = [ops.dissimilarity(ops.row_cosine(step, mean[None])) for step, mean in zip(feat_TND, means_TD, strict=True)]
    return _stacked(away, grid)


def norm(grid: TokenGrid) -> Tensor:
    """(T,H,W): the token's length. Large tokens weigh more in a dot product; a few outliers may take it all."""
    return _stacked([ops.squared_norms(step).sqrt_() for step in grid.feat_TND], grid)


def token_mean(grid: TokenGrid) -> Tensor:
    """(T,D): the frame's mean token (FastVID's own choice on Qwen2.5-VL)."""
    return ops.step_means(grid.feat_TND)


STAND_INS: Mapping[str, Mapping[str, StandIn]] = {
    "attention": {"distinctness": distinctness, "norm": norm},
    "frame_vectors": {"token_mean": token_mean},
}
SHAPES = {"attention": "(T,N)", "frame_vectors": "(T,G)"}


def complete(grid: TokenGrid, names: Mapping[str, str], needs: Iterable[str]) -> TokenGrid:
    """`grid` with every one of `needs` that a stand-in can give: the model's own where it is there, else the named one.

    Needs that no stand-in can give (`grid`, `pixels`, `audio`) are the caller's to see to.

    Raises:
        ValueError: a need is missing and no stand-in is named for it.
    """
    for need in sorted(n for n in needs if n in STAND_INS and getattr(grid, n) is None):
        change: dict[str, Any] = {need: stand_in(need, names.get(need))(grid)}
        grid = replace(grid, **change)
    return grid


def stand_in(need: str, name: str | None) -> StandIn:
    """The function of that name for `need`; a `ValueError` says what there is and how to name it."""
    known = STAND_INS.get(need, {})
    there = ", ".join(known) or "none"
    if name is None:
        give = f"give {need}={SHAPES[need]}, or stand_ins={{{need!r}: NAME}}"
        raise ValueError(f"the method needs {need}: {give}, where NAME is one of: {there}")
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"no stand-in {name!r} for {need}; there are: {there}")
    return known[name]


def _stacked(rows_TN: list[Tensor], grid: TokenGrid) -> Tensor:
    """(T,H,W) from one (N,) for each step."""
    return torch.stack(rows_TN).reshape(grid.shape)
