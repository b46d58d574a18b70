"""A tiny random Qwen2.5-VL on disk, its language model and encoder, and a record made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from vidcomp.models import load as models
from vidcomp.models.types import AudioTokens, TokenGrid


@dataclass(frozen=True)
class FakeRecord:
    """The least that `models.types.KeptVideo` asks for."""

    tokens: Tensor
    positions: Tensor
    grid: tuple[int, int, int]
    meta: Mapping[str, Any]
    sizes: Tensor
    grid_pts_s: Tensor
    frame_pts_s: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    audio: AudioTokens | None = None


def make_record(
    grid: TokenGrid | Tensor,
    keep: Tensor | None = None,
    *,
    fps: float = 1.0,
    family: str = "qwen2_5_vl",
    frames: int | None = None,
    audio: AudioTokens | None = None,
) -> FakeRecord:
    """A record of a grid, or of tokens (T,H,W,D) alone: all of them, or the flat ids `keep`. `frames` sampled at `fps`;
    None: two a step."""
    if isinstance(grid, Tensor):
        grid = TokenGrid(grid, torch.arange(len(grid)).double() * 2 / fps)
    t, h, w = grid.shape
    places = torch.cartesian_prod(torch.arange(t), torch.arange(h), torch.arange(w)).reshape(-1, 3).int()
    keep = torch.arange(t * h * w) if keep is None else keep
    frames = 2 * t if frames is None else frames
    extra = {name: value.reshape(t * h * w, *value.shape[3:])[keep] for name, value in grid.extra.items()}
    meta = {"model": {"family": family}, "seconds_per_step": -(-frames // t) / fps, "fps": fps, "frames": frames}
    times = torch.arange(frames).double() / fps
    sizes = torch.ones(len(keep), dtype=torch.int32)
    return FakeRecord(grid.feat_ND[keep], places[keep], (t, h, w), meta, sizes, grid.pts_s, times, extra, audio)


@pytest.fixture(scope="session")
def tiny(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 checkpoint's folder; tests that change it copy it first."""
    return tiny_maker.make("qwen2_5_vl", tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def encoder(tiny: Path) -> Any:
    """The adapter, set up on the CPU."""
    return models.load_model(str(tiny))


@pytest.fixture(scope="session")
def llm(tiny: Path) -> tuple[Any, Any]:
    """(language model, tokenizer)."""
    return models.load_llm(str(tiny))


@pytest.fixture(scope="session")
def record_of() -> Callable[..., FakeRecord]:
    """`make_record`."""
    return make_record


@pytest.fixture(scope="session")
def clip() -> Callable[..., Tensor]:
    """`moving`."""
    return moving


def moving(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """uint8 (count,height,width,3): a smooth random picture that drifts, so that no two frames are alike."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 8, generator=generator)
    big = torch.nn.functional.interpolate(coarse, (height, width + 8 * count), mode="bicubic").clamp(0, 1)
    cuts = [big[0, :, :, 8 * i : 8 * i + width] for i in range(count)]
    return (torch.stack(cuts) * 255).round().byte().permute(0, 2, 3, 1).contiguous()
