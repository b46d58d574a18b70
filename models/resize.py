"""Resizing as the real video processors do it: Qwen's rule for the size, torch's uint8 kernel for pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

MODES = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # PIL's numbers, as they stand in a processor's JSON
BLOCK_FRAMES = 16
MAX_ASPECT = 200


def smart_resize(height: int, width: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """(h, w): multiples of `factor`, h*w within [min_pixels, max_pixels], the aspect ratio nearly kept.

    Rule: `smart_resize` of Qwen2-VL (qwen-vl-utils; transformers' video_processing_qwen2_vl.py). Rounding is
    to even, Python's. A picture more than 200 times as long as wide raises `ValueError`.

    >>> smart_resize(90, 160, factor=28, min_pixels=100352, max_pixels=602112)
    (252, 448)
    """
    if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"sides must be positive and within 1:{MAX_ASPECT} of each other, got {height} x {width}")
    h, w = round(height / factor) * factor, round(width / factor) * factor
    if h * w > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        h, w = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif h * w < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        h, w = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return h, w


def resize_uint8(frames: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    """uint8 (T,H,W,3) -> uint8 (T,h,w,3), antialiased, frame by frame; the same tensor if it has that size.

    The result is what torchvision's `resize` gives on the same uint8 tensor: torch's integer kernel, which
    exists on the CPU only, so frames elsewhere come to the CPU and go back. (Resizing floats and rounding is
    not the same.) Blocks of 16 frames bound what the kernel needs besides input and output.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames must be uint8 (T,H,W,3), got {frames.dtype} {tuple(frames.shape)}")
    if resample not in MODES:
        raise ValueError(f"resample must be one of {MODES}, got {resample!r}")
    if tuple(frames.shape[1:3]) == tuple(size):
        return frames
    out = torch.empty((len(frames), *size, 3), dtype=torch.uint8)
    for block, into in zip(frames.cpu().split(BLOCK_FRAMES), out.split(BLOCK_FRAMES), strict=True):
        planes = block.permute(0, 3, 1, 2)  # a channels-last view, which the kernel reads without a copy
        small = interpolate(planes, size=size, mode=MODES[resample], antialias=True, align_corners=False)
        into.copy_(small.permute(0, 2, 3, 1))
    return out.to(frames.device)
