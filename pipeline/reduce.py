"""`vidcomp.reduce`: a method's decision over features in memory, without video or files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..models.types import TokenGrid, brief, law
from ..stages.methods import Method, assemble
from ..stages.parts import Merger
from ..stages.reduction import Reduction
from .presets import method_names, method_tree

PAIR, QWEN_TOKEN = 2, 28  # frames and pixels a side of one token in the Qwen family, for pixels without features


def reduce(
    features: Tensor | None = None,
    method: str | None = None,
    *,
    retain: float | None = None,
    attention: Tensor | None = None,
    frame_vectors: Tensor | None = None,
    pixels: Tensor | None = None,
    audio: Tensor | None = None,
    audio_attention: Tensor | None = None,
    grid: tuple[int, int] | None = None,
    **hyper: Any,
) -> Reduction | tuple[Reduction, Reduction]:
    """A method's decision over one set of features, without video or files.

    `features` (T,H,W,D), or (T,N,D) with `grid=(H,W)` (without it H=1, W=N, and methods that need the picture's shape
    refuse); `attention` (T,N) and `frame_vectors` (T,G) where the method needs them (without: the preset's stand-ins);
    `pixels` uint8 (F,Hp,Wp,3), the frames at model size, for methods that look at those. They need no features: the
    grid is then what `tubelet` frames and `patch` pixels a token (without such hyper-parameters 2 and 28) make of them.
    `audio` (Na,D) and `audio_attention` (Na,), sound tokens and how much each is attended to, for `omnizip`, which
    returns (video Reduction, audio Reduction), the second empty without audio.
    Flat hyper-parameters go to every part that has that field; the rest are the paper's defaults.

    Raises:
        UnknownMethodError, ConfigError, ValueError: one line each.
    """
    if method is None:
        raise ValueError(f"name a method; there are: {', '.join(method_names())}")
    tree = method_tree(method)
    known = {} if retain is None else {"retain": retain}
    built = assemble(
        method,
        segmenter=split(tree["segmenter"]),
        merger=split(tree["merger"]),
        stand_ins=tree.get("stand_ins", {}),
        hyper={**known, **hyper},
    )
    check_given(built, features, pixels, grid)
    if features is None:
        assert pixels is not None
        features = no_features(pixels, built.merger)
    seen = as_grid(features, grid, attention, frame_vectors)
    tokens = replace(seen, pixels=pixels, audio=audio, audio_attention=audio_attention)
    found = built.decide(tokens)[0]
    hears = getattr(built.merger, "reduce_audio", None)
    return found if hears is None else (found, hears(tokens))


def split(part: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A part's tree as (name, hyper-parameters)."""
    return part["name"], {k: v for k, v in part.items() if k != "name"}


def check_given(method: Method, features: Tensor | None, pixels: Tensor | None, grid: tuple[int, int] | None) -> None:
    """Refuse a call without what the method's `needs` name and no stand-in can give."""
    if "pixels" in method.needs and pixels is None:
        raise ValueError(f"{method.name} needs pixels: give pixels=, uint8 (F,Hp,Wp,3)")
    if features is None:
        if "pixels" not in method.needs:
            raise ValueError(f"{method.name} needs features, (T,H,W,D) or (T,N,D), with these hyper-parameters")
    elif features.ndim == 3 and grid is None and {"grid", "pixels"} & method.needs:
        raise ValueError(f"{method.name} needs the picture's shape: give features (T,H,W,D) or grid=(H,W)")


def no_features(pixels: Tensor, merger: Merger) -> Tensor:
    """(T,H,W,0): the grid that the merger's tokens make of the pixels, without channels."""
    law(pixels.ndim == 4, f"pixels must be uint8 (F,Hp,Wp,3), got {brief(pixels)}")
    frames, high, wide, _ = pixels.shape
    tubelet, patch = getattr(merger, "tubelet", PAIR), getattr(merger, "patch", QWEN_TOKEN)
    law(not (high % patch or wide % patch), f"pixels {brief(pixels)} do not divide into patches of {patch} pixels")
    return pixels.new_empty(-(-frames // tubelet), high // patch, wide // patch, 0, dtype=torch.float32)


def as_grid(
    features: Tensor,
    grid: tuple[int, int] | None,
    attention: Tensor | None,
    frame_vectors: Tensor | None,
) -> TokenGrid:
    """Features and their companions as a `TokenGrid`; times are step numbers."""
    if features.ndim not in (3, 4):
        raise ValueError(f"features must be (T,H,W,D) or (T,N,D), got {tuple(features.shape)}")
    t, d = features.shape[0], features.shape[-1]
    h, w = features.shape[1:3] if features.ndim == 4 else grid or (1, features.shape[1])
    if features.ndim == 3 and h * w != features.shape[1]:
        raise ValueError(f"grid {grid} has {h * w} places, features have {features.shape[1]} tokens a frame")
    return TokenGrid(
        features.reshape(t, h, w, d),
        torch.arange(t, dtype=torch.float64),
        attention=None if attention is None else attention.reshape(t, h, w),
        frame_vectors=frame_vectors,
    )
