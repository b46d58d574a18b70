"""`vidcomp.reduce`: a method's decision over features in memory, without video or files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..models.types import TokenGrid, brief, law
from ..stages.methods import Method, assemble
from ..stages.parts import Merger
from ..stages.reduction import Reduction
from .config import fit_64_bits
from .given import attention_on_grid, exact_count, on_grid, optional, picture_shape, pictures, values
from .presets import method_names, method_tree

if TYPE_CHECKING:
    import numpy as np

    Array = Tensor | np.ndarray

PAIR, QWEN_TOKEN = 2, 28  # frames and pixels a side of one token in the Qwen family, for pixels without features


def reduce(
    features: Array | None = None,
    method: str | None = None,
    *,
    retain: float | None = None,
    tokens: int | None = None,
    tokens_per_second: float | None = None,
    seconds: float | None = None,
    attention: Array | None = None,
    frame_vectors: Array | None = None,
    pixels: Array | None = None,
    audio: Array | None = None,
    audio_attention: Array | None = None,
    grid: tuple[int, int] | None = None,
    stand_ins: Mapping[str, str] | None = None,
    **hyper: Any,
) -> Reduction | tuple[Reduction, Reduction]:
    """A method's decision over one set of features, without video or files. Tensors may be numpy arrays.

    `features` (T,H,W,D), or (T,N,D) with `grid=(H,W)` (without it H=1, W=N, and methods that need the picture's shape
    refuse), any float dtype, finite; `attention` (T,N) or (T,H,W) and `frame_vectors` (T,G) where the method needs them
    (without: `stand_ins`, {need: name}, over the preset's own);
    `pixels` uint8 (F,Hp,Wp,3), the frames at model size, for methods that look at those. They need no features: the
    grid is then what `tubelet` frames and `patch` pixels a token (without such hyper-parameters 2 and 28) make of them.
    `audio` (Na,D) and `audio_attention` (Na,), sound tokens and how much each is attended to, for `omnizip`, which
    returns (video Reduction, audio Reduction), the second empty without audio.
    At most one budget: `retain`, the paper's own parameter; `tokens`, exactly so many rows (all, where there are no
    more) of any method; `tokens_per_second`, the same over a clip of `seconds`. One row is kept at least.
    Flat hyper-parameters go to every part that has that field; the rest are the paper's defaults.

    Raises:
        UnknownMethodError, ConfigError, ValueError, TypeError: one line each.
    """
    count = exact_count({"retain": retain, "tokens": tokens, "tokens_per_second": tokens_per_second}, seconds)
    known = {} if retain is None else {"retain": retain}
    built = method_of(method, stand_ins, {**known, **hyper})
    senses = {"frame_vectors": frame_vectors, "audio": audio, "audio_attention": audio_attention}
    seen = see(built, features, pixels, grid, attention, senses)
    found = built.decide(seen, tokens=count)[0]
    if not len(found):  # the paper's arithmetic on a small clip
        found = built.decide(seen, tokens=1)[0]
    hears = getattr(built.merger, "reduce_audio", None)
    return found if hears is None else (found, hears(seen))


def method_of(name: str | None, stand_ins: Any, hyper: Mapping[str, Any]) -> Method:
    """The preset, with stand-ins and flat hyper-parameters laid over its own."""
    if name is None:
        raise ValueError(f"name a method; there are: {', '.join(method_names())}")
    if not isinstance(stand_ins, Mapping | None):
        raise TypeError(f"stand_ins must be a mapping, {{need: name}}, got {stand_ins!r}")
    for key, value in hyper.items():
        fit_64_bits(key, value)
    tree = method_tree(name)
    return assemble(
        name,
        segmenter=split(tree["segmenter"]),
        merger=split(tree["merger"]),
        stand_ins={**tree.get("stand_ins", {}), **(stand_ins or {})},
        hyper=hyper,
    )


def split(part: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A part's tree as (name, hyper-parameters)."""
    return part["name"], {k: v for k, v in part.items() if k != "name"}


def see(method: Method, features: Any, pixels: Any, grid: Any, attention: Any, senses: Mapping[str, Any]) -> TokenGrid:
    """All that was given as the method's `TokenGrid`; times are step numbers."""
    sides = None if grid is None else picture_shape(grid)
    frames = None if pixels is None else pictures(pixels)
    data = None if features is None else values("features", features)
    check_given(method, data, frames, sides)
    if data is None:
        assert frames is not None
        data = no_features(frames, method.merger, sides)
    data = on_grid(data, sides)
    steps = len(data)
    law(
        frames is None or len(frames) >= steps, f"pixels {brief(frames)}: fewer frames than the features' {steps} steps"
    )
    seen = TokenGrid(
        data,
        torch.arange(steps, dtype=torch.float64),
        attention=attention_on_grid(optional("attention", attention, data.device), data),
        pixels=None if frames is None else frames.to(data.device),
    )
    more: dict[str, Any] = {name: optional(name, value, data.device) for name, value in senses.items()}
    return replace(seen, **more)


def check_given(method: Method, features: Tensor | None, pixels: Tensor | None, grid: tuple[int, int] | None) -> None:
    """Refuse a call without what the method's `needs` name and no stand-in can give."""
    if "pixels" in method.needs and pixels is None:
        raise ValueError(f"{method.name} needs pixels: give pixels=, uint8 (F,Hp,Wp,3)")
    if features is None:
        if "pixels" not in method.needs:
            raise ValueError(f"{method.name} needs features, (T,H,W,D) or (T,N,D), with these hyper-parameters")
    elif features.ndim == 3 and grid is None and {"grid", "pixels"} & method.needs:
        raise ValueError(f"{method.name} needs the picture's shape: give features (T,H,W,D) or grid=(H,W)")


def no_features(pixels: Tensor, merger: Merger, grid: tuple[int, int] | None) -> Tensor:
    """(T,H,W,0): the grid that the merger's tokens make of the pixels, without channels."""
    frames, high, wide, _ = pixels.shape
    tubelet, patch = getattr(merger, "tubelet", PAIR), getattr(merger, "patch", QWEN_TOKEN)
    law(not (high % patch or wide % patch), f"pixels {brief(pixels)} do not divide into patches of {patch} pixels")
    h, w = high // patch, wide // patch
    law(grid in (None, (h, w)), f"grid {grid} is not that of pixels {brief(pixels)}, which make {(h, w)}: leave it out")
    return pixels.new_empty(-(-frames // tubelet), h, w, 0, dtype=torch.float32)
