"""RLT, run-length tokenization: one token for as long as its pixels do not change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid, brief
from .. import ops, ops_pixels, ops_runs
from ..parts import Merger, Need
from ..reduction import Reduction

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Rlt(Merger):
    """Drops a tubelet whose pixels hardly differ from the tubelet before; what stays stands for the whole run.

    RLT (NeurIPS 2024, arXiv 2411.05222): tokens are tubelets of `tubelet` frames x `patch` x `patch` pixels. A tubelet
    stays where the mean over its pixels and colours of |its last frame - first frame of the tubelet before|, of pixels
    in [0,1] normalised by `mean` and `std`, is above `threshold` (strict). The comparison is always with the tubelet
    before, never with the last one kept: slow drift is not noticed (`static_runs` notices it). A row is its run's
    first tubelet unchanged, the later ones are members of weight 0, and `sizes` are the run lengths.

    Causal: the last tubelet's first frame is carried over a chunk's border. A run (its size and box) ends there; its
    tubelets beyond the border are in no row.

    Differs from the reference: differences are summed in whole numbers from uint8 (so `mean` cancels out; it is kept
    for the record), not in float32 over a normalised copy; run lengths come in the order of the tokens, not (h,w,t);
    one tubelet, or frames that do not fill the last one, are reduced like any others (there: a crash), and pictures
    that patches do not divide are refused (there: cropped). Tubelets after an invalid one stay; invalid ones are in no
    row. `threshold` below 0 keeps everything. Exact budgets begin the runs at the tubelets that changed most.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"pixels"})
    paper: ClassVar[str] = "RLT, NeurIPS 2024, arXiv 2411.05222"
    family: ClassVar[str] = "runs"
    complexity: ClassVar[str] = "O(pixels)"

    threshold: float = 0.1
    tubelet: int = 2
    patch: int = 16
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not self.threshold >= -1:
            raise ValueError(f"threshold must be at least -1 (keep everything), got {self.threshold}")
        for name in ("tubelet", "patch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        if len(self.mean) != 3 or len(self.std) != 3 or not min(self.std) > 0:
            raise ValueError(f"mean and std must be 3 numbers each, std above 0, got {self.mean} and {self.std}")

    @property
    def causal(self) -> bool:
        return True

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        return self.step(grid, segments, None)[0]

    def step(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> tuple[Reduction, Tensor | None]:
        score = self.score(grid, segments, carry)
        return self._runs(grid, score > self.threshold), self._carry(grid)

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        score = self.score(grid, segments, carry)
        wanted = min(tokens, int((score != ops_runs.GONE).sum()))
        return self._runs(grid, ops.top_mask(score, wanted)), self._carry(grid)

    def at(self, knob: float) -> Self:
        """1: below every difference, so that all stay; 0: the difference of black and white, which none is above."""
        return replace(self, threshold=(1 - knob) * (self._reach + 1) - 1)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float64 (N,): mean change of normalised pixels, inf without a (valid) tubelet before, -inf where invalid."""
        pixels = self._pixels(grid)
        before, valid = (None, None) if carry is None else ops_pixels.from_carry(carry, pixels, grid.shape[1:])
        sums = ops_pixels.step_changes(pixels, self.tubelet, grid.shape[1:], before)
        scale = ops_pixels.WHITE * 3 * self.patch**2 * torch.tensor(self.std, dtype=torch.float64, device=sums.device)
        red, green, blue = (sums / scale).unbind(-1)
        return ops_runs.mark(red + green + blue, grid, valid).flatten()

    @property
    def _reach(self) -> float:
        """The difference of black and white."""
        return sum(1 / s for s in self.std) / 3

    def _pixels(self, grid: TokenGrid) -> Tensor:
        """The grid's pixels, if their tubelets are its tokens."""
        pixels = ops_pixels.pixels_of(grid, "rlt")
        frames, high, wide, _ = pixels.shape
        made = (-(-frames // self.tubelet), high / self.patch, wide / self.patch)
        if made != grid.shape:
            raise ValueError(
                f"tubelet={self.tubelet} and patch={self.patch} do not cut {brief(pixels)} into the grid {grid.shape}: "
                f"set tubelet and patch to the frames and pixels of one token"
            )
        return pixels

    def _runs(self, grid: TokenGrid, start_N: Tensor) -> Reduction:
        valid_TN = None if grid.valid is None else grid.valid.flatten(1)
        indptr, indices = ops_runs.run_entries(start_N.view(len(grid.data), -1), valid_TN)
        weights = torch.zeros(len(indices), device=indices.device).index_fill_(0, indptr[:-1], 1)
        return Reduction(grid.shape, indptr, indices, weights, indices[indptr[:-1]], indptr.diff().int())

    def _carry(self, grid: TokenGrid) -> Tensor:
        return ops_pixels.to_carry(grid, self._pixels(grid), self.tubelet)
