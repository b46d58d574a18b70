"""Synthetic scenes for `bench_methods`: seeded, made frame by frame, so that nothing but the input is ever held.

A scene is a picture of blocks (neighbouring patches are alike, as STTM's quadtree wants it). In each, 60 % of the
places are static (cosine about .98 from frame to frame), the others drift (about .6). Attention is random; frame
vectors are a random direction for each scene with a little noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from bench_reference import AUDIO_PER_FRAME, OF_PIXELS, SCENES
from torch import Tensor

from vidcomp.models.types import TokenGrid

SEED = 0
STATIC = 0.6
JITTER = 0.15  # of a static place's token
DRIFT = 0.6  # what a moving place keeps of the frame before
DETAIL = 0.4  # of a patch within its block: two of them have a cosine of .86, below Scissor's tau
BLOCK = 4  # patches a side
VECTOR = 1152  # channels of a frame vector


def make_grid(method: str, shape: tuple[int, int, int, int]) -> TokenGrid:
    """The input of a method, (T,H,W,D) features or what it takes in their place."""
    t, h, w, d = shape
    g = torch.Generator().manual_seed(SEED)
    more: dict[str, Any] = {}
    if method in OF_PIXELS:
        more["pixels"] = pixels(2 * t, 16 * h, 16 * w, g)
        data = torch.zeros(t, h, w, d)
    else:
        data = features(t, h, w, d, g)
        more |= {"attention": torch.rand(t, h, w, generator=g), "frame_vectors": vectors(t, g)}
    if method == "omnizip":
        more["audio"] = torch.randn(AUDIO_PER_FRAME * t, d, generator=g)
        more["audio_attention"] = torch.rand(AUDIO_PER_FRAME * t, generator=g)
    return TokenGrid(data, torch.arange(t).double(), **more)


def cuts(frames: int) -> Iterator[tuple[int, int]]:
    """First frame and end of each scene."""
    scenes = SCENES.get(frames, 1)
    yield from pairwise([i * frames // scenes for i in range(scenes + 1)])


def features(t: int, h: int, w: int, d: int, g: torch.Generator) -> Tensor:
    """float32 (T,H,W,D)."""
    out = torch.empty(t, h, w, d)
    for first, end in cuts(t):
        still = torch.rand(h, w, 1, generator=g) < STATIC
        scene = blocks(h, w, d, g)
        moving = scene.clone()
        for frame in range(first, end):
            noise = torch.randn(h, w, d, generator=g)
            out[frame] = torch.where(still, scene + JITTER * noise, moving)
            moving = DRIFT * moving + (1 - DRIFT**2) ** 0.5 * noise
    return out


def blocks(h: int, w: int, d: int, g: torch.Generator) -> Tensor:
    """(H,W,D): one random token for each block, and some detail of each patch."""
    coarse = torch.randn(-(-h // BLOCK), -(-w // BLOCK), d, generator=g)
    rows, columns = torch.arange(h) // BLOCK, torch.arange(w) // BLOCK
    return coarse[rows][:, columns] + DETAIL * torch.randn(h, w, d, generator=g)


def vectors(t: int, g: torch.Generator) -> Tensor:
    """float32 (T,G)."""
    means = [torch.randn(VECTOR, generator=g).expand(end - first, -1) for first, end in cuts(t)]
    return torch.cat(means) + 0.1 * torch.randn(t, VECTOR, generator=g)


def pixels(frames: int, high: int, wide: int, g: torch.Generator) -> Tensor:
    """uint8 (F,Hp,Wp,3): of every scene 60 % of the 16 x 16 patches stay, the others are new in each frame."""
    out = torch.empty(frames, high, wide, 3, dtype=torch.uint8)
    for first, end in cuts(frames):
        still = torch.rand(high // 16, wide // 16, 1, generator=g) < STATIC
        still = still.repeat_interleave(16, 0).repeat_interleave(16, 1)
        scene = torch.randint(0, 256, (high, wide, 3), generator=g, dtype=torch.uint8)
        for frame in range(first, end):
            new = torch.randint(0, 256, (high, wide, 3), generator=g, dtype=torch.uint8)
            out[frame] = torch.where(still, scene, new)
    return out
