"""The built-in, weight-free encoder: low-frequency DCT coefficients of each patch, in luma and chroma.

Good for: temporal segmentation, finding static patches, near-duplicate search, trying every method of vidcomp
without weights or a GPU. Not good for: answering questions. A video LLM reads only its own encoder's tokens; use
`model=<its checkpoint>` for that.

Every picture is resized to 224 x 224 and cut into 14 x 14 patches of 16 x 16 pixels. A token is the triangle
u+v < 8 of luma's DCT-II coefficients (36) and u+v < 4 of each chroma's (10 + 10): D = 56, orthonormal scale, mid-grey
is 0. The arithmetic is exact (integers held in float64), so the bytes are the same for any thread count and chunk size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from .types import TokenGrid

FAMILY = "dct"
SIDE = 224  # pixels of a resized picture
PATCH = 16
GRID = SIDE // PATCH
BLOCK_FRAMES = 16  # frames turned to float64 at a time
UNIT = 1 << 20  # basis values are multiples of 1/UNIT: 255 * UNIT * 768 < 2**53, so float64 sums are exact

YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # JFIF, full range
ORDERS = (8, 4, 4)  # u+v below this is kept, for Y, Cb, Cr


class DctEncoder:
    """`VideoModel` without weights; see the module's docstring for what its tokens are and are not."""

    family = FAMILY
    provides: frozenset[str] = frozenset()
    temporal_patch = 1
    token_pixels = PATCH
    skips = "exact"  # a patch's token depends on no other patch

    def __init__(self) -> None:
        self._basis = basis()

    def frame_size(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """Always (224, 224): the grid is fixed, the picture's shape is not kept."""
        return SIDE, SIDE

    def resize(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        """uint8 (T,H,W,3) -> uint8 (T,h,w,3), antialiased bilinear on the uint8 tensor itself."""
        if tuple(frames.shape[1:3]) == size:
            return frames
        planes = frames.permute(0, 3, 1, 2)
        small = torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)
        return small.permute(0, 2, 3, 1).contiguous()

    def preprocess(self, frames: Tensor, size: tuple[int, int] | None = None) -> Mapping[str, Tensor]:
        """`pixel_patches` float64 (T, 14*14, 768): each patch's pixels minus mid-grey, channels last."""
        sized = self.resize(frames, size or (SIDE, SIDE))
        t = sized.shape[0]
        tiles = sized.reshape(t, GRID, PATCH, GRID, PATCH, 3).permute(0, 1, 3, 2, 4, 5)
        return {"pixel_patches": tiles.reshape(t, GRID * GRID, PATCH * PATCH * 3).double() - 128}

    def encode(
        self,
        frames: Tensor,
        pts_s: Tensor,
        size: tuple[int, int] | None = None,
        *,
        wants: frozenset[str] = frozenset(),
        keep: Tensor | None = None,
    ) -> TokenGrid:
        """uint8 (T,H,W,3) -> float32 tokens (T,14,14,56); `keep` bool (T,14,14), what it leaves out is zeros."""
        shown = torch.ones(len(frames), GRID, GRID, dtype=torch.bool) if keep is None else keep.cpu()
        pairs = zip(frames.split(BLOCK_FRAMES), shown.split(BLOCK_FRAMES), strict=True)
        data = torch.cat([self._encode(block, seen, size) for block, seen in pairs])
        return TokenGrid(data, pts_s, valid=None if keep is None else shown.to(data.device))

    def setup(self, device: str) -> None:
        """Move the basis to `device`."""
        self._basis = self._basis.to(device)

    def _encode(self, frames: Tensor, shown: Tensor, size: tuple[int, int] | None) -> Tensor:
        patches = self.preprocess(frames, size)["pixel_patches"].view(*shown.shape, -1)[shown]
        tokens = torch.zeros(*shown.shape, self._basis.shape[1], device=self._basis.device)
        tokens[shown.to(tokens.device)] = ((patches.to(tokens.device) @ self._basis) / UNIT).float()
        return tokens


@cache
def basis() -> Tensor:
    """float64 (768, 56): RGB pixels of a patch -> coefficients, every value an integer (multiples of 1/UNIT)."""
    columns = []
    for rgb, order in zip(YCBCR, ORDERS, strict=True):
        for u, v in triangle(order):
            wave = torch.outer(cosine(u), cosine(v)).reshape(-1, 1)
            columns.append((wave * torch.tensor(rgb, dtype=torch.float64)).reshape(-1))
    return (torch.stack(columns, dim=1) * UNIT).round()


def triangle(order: int) -> list[tuple[int, int]]:
    """(u, v) with u+v < order, row by row."""
    return [(u, v) for u in range(order) for v in range(order - u)]


def cosine(frequency: int) -> Tensor:
    """float64 (16,): the orthonormal DCT-II row of one frequency."""
    at = (torch.arange(PATCH, dtype=torch.float64) + 0.5) * (math.pi * frequency / PATCH)
    return at.cos() * math.sqrt((1 if frequency == 0 else 2) / PATCH)


def load(checkpoint: object = None) -> DctEncoder:
    """The encoder; there is no checkpoint to read."""
    return DctEncoder()
