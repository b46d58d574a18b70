"""A video's frames as models take them that look at each as a picture: sized, cropped, normalised one by one.

Source of each rule: transformers 5.23, `BaseVideoProcessor` (video_processing_utils.py), which treats a frame as the
image processors treat a picture (`image_pixels`), and `SmolVLMVideoProcessor`, which has a way of its own to resize.

Legend: T frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from . import image_pixels
from .image_pixels import center_crop, planes
from .resize import MAX_ASPECT, resize_uint8

Settings = Mapping[str, Any]
Size = tuple[int, int]
BLOCK_PIXELS = 1 << 24  # of the frames that are resized together, at their largest
SMOLVLM_SIDE = 4096  # SmolVLM's bound on the longer side


def preprocess(frames: Tensor, settings: Settings, size: Size | None = None) -> dict[str, Tensor]:
    """uint8 (T,H,W,3) -> `pixel_values_videos` float32 (1,T,3,h,w)."""
    return {"pixel_values_videos": pixels(frames, settings, size)}


def pixels(frames: Tensor, settings: Settings, size: Size | None = None) -> Tensor:
    """uint8 (T,H,W,3) -> float32 (1,T,3,h,w); frames that have the `size` given are taken as they are."""
    if frames.ndim != 4 or len(frames) == 0:
        raise ValueError(f"frames must be uint8 (T,H,W,3) with T >= 1, got {tuple(frames.shape)}")
    return planes(sized(frames, settings, size), settings)[None]


def sized(frames: Tensor, settings: Settings, size: Size | None = None) -> Tensor:
    """uint8 (T,H,W,3) -> uint8 (T,h,w,3) at model size; frames that have the `size` given are at it already."""
    if size is not None and tuple(frames.shape[1:3]) == tuple(size):
        return frames
    return resize(frames, settings, size or frame_size(settings, *frames.shape[1:3]))


def frame_size(settings: Settings, height: int, width: int) -> Size:
    """(h, w) at which a picture of (height, width) enters the model."""
    made = [(height, width), *sizes(settings, height, width)][-1]
    if not settings.get("do_center_crop"):
        return made
    if settings["crop_size"] is None:
        raise ValueError("do_center_crop is on and there is no crop_size: name one")
    return settings["crop_size"]["height"], settings["crop_size"]["width"]


def sizes(settings: Settings, height: int, width: int) -> list[Size]:
    """The sizes that a picture is resized to, one after the other. SmolVLM's go to `size`, then to a square of
    `max_image_size` (which its image processor does too where it does not split a picture)."""
    if not settings["do_resize"]:
        return []
    first, square = resized(settings, height, width), settings.get("max_image_size")
    return [first] if square is None else [first, (square["longest_edge"],) * 2]


def resized(settings: Settings, height: int, width: int) -> Size:
    """(h, w) by `size`: SmolVLM's longer side, and otherwise as for pictures (`image_pixels`).

    Raises `ValueError` on a kind of size that the family's processor does not know and, which is our own rule, where
    the shorter side is given, on a picture more than 200 times as long as wide: it would grow without bound.
    """
    size, square = settings["size"], "max_image_size" in settings
    if square and "longest_edge" in size:
        return longest(min(SMOLVLM_SIDE, size["longest_edge"]), height, width)
    if square and "shortest_edge" in size:
        raise ValueError(f"size needs height and width, or longest_edge; got {dict(size)}")
    if "shortest_edge" in size and max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"sides must be within 1:{MAX_ASPECT} of each other, got {height} x {width}")
    return image_pixels.resized(settings, height, width)


def longest(side: int, height: int, width: int) -> Size:
    """(h, w): the longer side is `side`, the other follows, rounded down and then up to an even number."""
    aspect = width / height
    if width >= height:
        other = int(side / aspect)
        return max(other + other % 2, 1), side
    other = int(side * aspect)
    return side, max(other + other % 2, 1)


def resize(frames: Tensor, settings: Settings, size: Size) -> Tensor:
    """uint8 (T,H,W,3) -> uint8 (T,h,w,3): the whole geometry of the processor, which ends at `size`.

    Few frames at a time, so that what lies between source and model size stays small.
    """
    steps, crop = sizes(settings, *frames.shape[1:3]), settings.get("do_center_crop")
    if not crop:
        steps = [*steps[:-1], size]
    largest = max([h * w for h, w in steps], default=1)
    done = []
    for block in frames.split(max(1, BLOCK_PIXELS // largest)):
        for step in steps:
            block = resize_uint8(block, step, settings["resample"])
        done.append(center_crop(block, *size) if crop else block)
    return torch.cat(done)
