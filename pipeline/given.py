"""What `vidcomp.reduce` is given, checked: arrays as tensors, shapes that fit, finite values, one budget.

Whatever cannot be used is one line that names the argument. Legend as in `models/types.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import inf, nan
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.types import brief, law
from ..stages.budget import exactly

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def tensor(name: str, value: Any) -> Tensor:
    """A tensor, or a numpy array as one (without a copy where torch can share its memory); it must hold something."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiubc":
        value = torch.from_numpy(shareable(value))
    if not isinstance(value, Tensor):
        what = f"a numpy array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"{name} must be a torch tensor or a numpy array of numbers, got {what}")
    if value.is_meta or value.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor with values, got {value.layout} on {value.device}")
    law(value.numel() > 0, f"{name} hold nothing, {brief(value)}: every dimension must be at least 1")
    return value


def shareable(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy where torch cannot share it: sealed, backwards, or in the other byte order."""
    if array.dtype == np.longdouble:
        return array.astype(np.float64)
    shared = array.dtype.isnative and array.flags.writeable and min(array.strides, default=0) >= 0
    return array if shared else array.astype(array.dtype.newbyteorder("="))


def values(name: str, value: Any) -> Tensor:
    """A tensor of finite floating point numbers."""
    found = tensor(name, value)
    if found.dtype not in FLOATS:
        raise ValueError(f"{name} must be floating point, got {brief(found)}: convert to float32 first")
    if not all(bool(bound.isfinite()) for bound in found.aminmax()):  # both carry NaN on: one pass, nothing allocated
        raise ValueError(f"{name} {brief(found)} hold NaN or infinity: mend what made them")
    return found


def optional(name: str, value: Any, device: torch.device) -> Tensor | None:
    """`values` on the features' device; None stays None."""
    return None if value is None else values(name, value).to(device)


def pictures(value: Any) -> Tensor:
    """Frames at model size."""
    found = tensor("pixels", value)
    fits = found.ndim == 4 and found.shape[3] == 3 and found.dtype == torch.uint8
    law(fits, f"pixels must be uint8 (F,Hp,Wp,3), got {brief(found)}")
    return found


def picture_shape(grid: Any) -> tuple[int, int]:
    """`grid=` as (H, W)."""
    sides = list(grid) if isinstance(grid, Sequence) else []
    if len(sides) != 2 or not all(whole(side) for side in sides):
        raise ValueError(f"grid must be (H,W), two positive whole numbers, got {grid!r}")
    return int(sides[0]), int(sides[1])


def on_grid(features: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """Features as (T,H,W,D)."""
    law(features.ndim in (3, 4), f"features must be (T,H,W,D) or (T,N,D), got {brief(features)}")
    if features.ndim == 4:
        agrees = grid is None or tuple(features.shape[1:3]) == grid
        law(agrees, f"grid {grid} is not that of features {brief(features)}, (T,H,W,D): leave one of the two out")
        return features
    steps, count, channels = features.shape
    h, w = grid or (1, count)
    law(h * w == count, f"grid {grid} has {h * w} places, features have {count} tokens a frame")
    return features.reshape(steps, h, w, channels)


def attention_on_grid(attention: Tensor | None, features: Tensor) -> Tensor | None:
    """Attention as (T,H,W); given so, or as (T,N), and in no other shape of as many numbers."""
    if attention is None:
        return None
    t, h, w, _ = features.shape
    fits = tuple(attention.shape) in ((t, h * w), (t, h, w))
    law(fits, f"attention must be {(t, h * w)} or {(t, h, w)} for features {brief(features)}, got {brief(attention)}")
    return attention.reshape(t, h, w)


def exact_count(budgets: Mapping[str, Any], seconds: Any) -> int | None:
    """How many tokens `tokens` or `tokens_per_second` come to, one at least; None: the method's parameter decides."""
    asked = {name: value for name, value in budgets.items() if value is not None}
    if len(asked) > 1:
        raise ValueError(f"one budget at a time, got {' and '.join(asked)}")
    if seconds is not None and "tokens_per_second" not in asked:
        raise ValueError("seconds goes with tokens_per_second: leave it out")
    if "tokens_per_second" in asked:
        if seconds is None:
            raise ValueError("tokens_per_second needs seconds=, how long the clip is; or give tokens=")
        return max(1, int(positive("tokens_per_second", asked["tokens_per_second"]) * positive("seconds", seconds)))
    if "tokens" in asked and not whole(asked["tokens"]):
        raise ValueError(f"tokens must be a positive whole number, got {asked['tokens']!r}")
    return int(asked["tokens"]) if "tokens" in asked else None


def whole(value: Any) -> bool:
    """Whether it is a positive whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def positive(name: str, value: Any) -> Fraction:
    """A positive number, exactly as it was written."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else nan
    if not 0 < number < inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return exactly(number)
