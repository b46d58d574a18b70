"""Frames as transformers' image processors give pictures to a vision tower: resized, center-cropped, normalised.

Source of each rule: `TorchvisionBackend` of transformers 5.23 (image_processing_backends.py), for which
SiglipImageProcessor, CLIPImageProcessor and BitImageProcessor only set defaults. Each frame by itself, uint8 until it
is normalised. The same classes over PIL (`...Pil`) differ by up to 2 of 255 in less than one pixel of a hundred, and
put the odd line of a crop that is larger than the picture on the other side.

Legend: T frames, H W source size, h w model size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from .qwen_patches import normalise
from .resize import MAX_ASPECT, resize_uint8

Settings = Mapping[str, Any]
BLOCK_PIXELS = 1 << 24  # of the frames that are resized together, before the crop


def model_size(settings: Settings, height: int, width: int) -> tuple[int, int]:
    """(h, w) in pixels at which a picture of (height, width) leaves the processor."""
    return fixed_size(settings) or resized(settings, height, width)


def fixed_size(settings: Settings) -> tuple[int, int] | None:
    """(h, w) if every picture leaves at one size, None if that depends on the picture."""
    size = settings["size"] if settings["do_resize"] else {}
    if settings["do_center_crop"]:
        size = settings["crop_size"]
        if size is None:
            raise ValueError("do_center_crop is on and there is no crop_size: name one")
    return (size["height"], size["width"]) if "height" in size else None


def resized(settings: Settings, height: int, width: int) -> tuple[int, int]:
    """(h, w) before the crop: `size`, or its `shortest_edge` with the aspect kept and the longer side rounded down.

    A rule of our own: with `shortest_edge`, a picture more than 200 times as long as wide raises `ValueError`.
    """
    size = settings["size"]
    if not settings["do_resize"]:
        return height, width
    if "height" in size:
        return size["height"], size["width"]
    if "shortest_edge" not in size:
        raise ValueError(f"size needs height and width, or shortest_edge; got {dict(size)}")
    shorter, longer, edge = min(height, width), max(height, width), size["shortest_edge"]
    if longer > MAX_ASPECT * shorter:
        raise ValueError(f"sides must be within 1:{MAX_ASPECT} of each other, got {height} x {width}")
    longer = int(edge * longer / shorter)
    return (edge, longer) if height <= width else (longer, edge)


def fit(frames: Tensor, settings: Settings) -> Tensor:
    """uint8 (T,H,W,3) of a source -> uint8 (T,h,w,3): antialiased resize, then the crop, few frames at a time."""
    height, width = resized(settings, *frames.shape[1:3])
    if not settings["do_center_crop"]:
        return resize_uint8(frames, (height, width), settings["resample"])
    crop = model_size(settings, *frames.shape[1:3])
    blocks = frames.split(max(1, BLOCK_PIXELS // (height * width)))
    return torch.cat(
        [center_crop(resize_uint8(block, (height, width), settings["resample"]), *crop) for block in blocks]
    )


def center_crop(frames: Tensor, height: int, width: int) -> Tensor:
    """uint8 (T,H,W,3) -> (T,height,width,3); a picture smaller than that stands in the middle of black."""
    spare_y, spare_x = (max(0, n - has) for n, has in zip((height, width), frames.shape[1:3], strict=True))
    if spare_y or spare_x:
        frames = pad(frames, (0, 0, spare_x // 2, (spare_x + 1) // 2, spare_y // 2, (spare_y + 1) // 2))
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return frames[:, top : top + height, left : left + width]


def planes(sized: Tensor, settings: Settings) -> Tensor:
    """uint8 (T,h,w,3) of model size -> float32 (T,3,h,w), rescaled and normalised.

    Contiguous, as the real class makes them: a convolution rounds differently over another layout.
    """
    t, h, w, _ = sized.shape
    rows = sized.permute(0, 3, 1, 2).contiguous().view(t, 3, h * w)
    return normalise(rows, settings).view(t, 3, h, w)


def preprocess(frames: Tensor, settings: Settings) -> dict[str, Tensor]:
    """uint8 (T,H,W,3) of a source -> `pixel_values` float32 (T,3,h,w)."""
    if frames.ndim != 4 or len(frames) == 0:
        raise ValueError(f"frames must be uint8 (T,H,W,3) with T >= 1, got {tuple(frames.shape)}")
    return {"pixel_values": planes(fit(frames, settings), settings)}
