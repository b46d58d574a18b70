"""Frames as towers of Qwen's make take them: sized, normalised, cut into patches in merge-block order.

Source of each rule: `Qwen2VLVideoProcessor` of transformers 5.23 (video_processing_qwen2_vl.py), whose
settings (`settings.resolve`) these functions take. Its kin differ in the size of a picture alone: a `SizeRule`.

Legend: T frames, t = ceil(T / temporal_patch_size) steps, h w patch rows and columns, m = merge_size, p = patch_size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .resize import resize_uint8, smart_resize

Settings = Mapping[str, Any]
SizeRule = Callable[[Settings, int, int, int], tuple[int, int]]  # settings, frames, height, width -> (h, w) in pixels


def unit_of(settings: Settings) -> int:
    """Side in pixels of what makes one token: a merge block."""
    return int(settings["patch_size"] * settings["merge_size"])


def picture_size(settings: Settings, frames: int, height: int, width: int) -> tuple[int, int]:
    """Qwen2-VL's rule: bounds of each picture by itself; `frames` counts with `cap_pixels_per_frame` only."""
    unit, low, high = unit_of(settings), settings["size"]["shortest_edge"], settings["size"]["longest_edge"]
    if settings["cap_pixels_per_frame"]:
        whole = int(settings["max_video_tokens"] * unit * unit * 0.9)
        high = max(min(high, whole * settings["temporal_patch_size"] // frames), int(low * 1.05))
    return smart_resize(height, width, factor=unit, min_pixels=low, max_pixels=high)


def frame_size(
    settings: Settings, frames: int, height: int, width: int, rule: SizeRule = picture_size
) -> tuple[int, int]:
    """(h, w) in pixels at which a whole clip of `frames` pictures enters the tower."""
    if settings["do_resize"]:
        return rule(settings, frames, height, width)
    unit = unit_of(settings)
    if height % unit or width % unit:
        raise ValueError(f"do_resize is off and {height} x {width} are no multiples of {unit}; turn it on")
    return height, width


def preprocess(
    frames: Tensor, settings: Settings, size: tuple[int, int] | None = None, rule: SizeRule = picture_size
) -> dict[str, Tensor]:
    """uint8 (T,H,W,3) -> `pixel_values_videos` float32 (t*h*w, 3*2*p*p), `video_grid_thw` int64 (1,3)."""
    if frames.ndim != 4 or len(frames) == 0:
        raise ValueError(f"frames must be uint8 (T,H,W,3) with T >= 1, got {tuple(frames.shape)}")
    count, height, width, _ = frames.shape
    sized = resize_uint8(frames, size or frame_size(settings, count, height, width, rule), settings["resample"])
    return {"video_grid_thw": grid_of(sized, settings), "pixel_values_videos": patchify(sized, settings)}


def grid_of(sized: Tensor, settings: Settings) -> Tensor:
    """int64 (1,3): t, h, w of resized frames, in patches."""
    frames, height, width, _ = sized.shape
    patch, unit = settings["patch_size"], unit_of(settings)
    if height % unit or width % unit:
        raise ValueError(f"frames enter the model in multiples of {unit} pixels, got {height} x {width}")
    return torch.tensor([[-(-frames // settings["temporal_patch_size"]), height // patch, width // patch]])


def patchify(sized: Tensor, settings: Settings, rows: Tensor | None = None) -> Tensor:
    """uint8 (T, h*p, w*p, 3) -> float32 (t*h*w, 3*2*p*p): rows by t, block row and column, m x m inside.

    A tail shorter than the temporal patch is filled by repeating the last frame. Columns: channel, frame, y, x.
    `rows` int64 (n,): of these alone.
    """
    m, p, tp = settings["merge_size"], settings["patch_size"], settings["temporal_patch_size"]
    if pad := -len(sized) % tp:
        sized = torch.cat([sized, sized[-1:].expand(pad, -1, -1, -1)])
    frames, height, width, _ = sized.shape
    # axes:              0             1   2                3  4  5               6  7  8
    blocks = sized.reshape(frames // tp, tp, height // p // m, m, p, width // p // m, m, p, 3)
    patches = blocks.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(-1, 3, tp * p * p)
    return normalise(patches if rows is None else patches[rows], settings).flatten(1)


def normalise(rows: Tensor, settings: Settings) -> Tensor:
    """uint8 (N,3,P) -> float32 (N,3,P): rescaled and normalised, in one step where both are on.

    With both off the uint8 values come back as they are.
    """
    if not settings["do_normalize"]:
        return rows * settings["rescale_factor"] if settings["do_rescale"] else rows
    scale = 1.0 / settings["rescale_factor"] if settings["do_rescale"] else 1.0
    mean, std = (torch.tensor(settings[key], device=rows.device) * scale for key in ("image_mean", "image_std"))
    return rows.float().sub_(mean[:, None]).div_(std[:, None])
