"""The size of a picture in Qwen3-VL: a whole clip has a number of pixels, which all its frames share.

Rule: `smart_resize` and `Qwen3VLVideoProcessor.resize` of transformers 5.23 (video_processing_qwen3_vl.py).
"""

from __future__ import annotations

import math

from .qwen_patches import Settings, unit_of
from .resize import MAX_ASPECT


def clip_size(settings: Settings, frames: int, height: int, width: int) -> tuple[int, int]:
    """(h, w) in pixels, multiples of a merge block: all frames together within the bounds of `size`.

    The original refuses a clip shorter than a temporal patch; here it has the size of the patch that it is filled up
    to. Rounding is to even, Python's. A picture more than 200 times as long as wide raises `ValueError`.
    """
    unit, patch = unit_of(settings), settings["temporal_patch_size"]
    frames = max(frames, patch)
    height, width = _grown(height, width, unit)
    h, w, filled = (round(n / step) * step for n, step in ((height, unit), (width, unit), (frames, patch)))
    low, high = settings["size"]["shortest_edge"], most_pixels(settings, frames)
    if filled * h * w > high:
        shrink = math.sqrt(frames * height * width / high)
        h, w = (max(unit, math.floor(side / shrink / unit) * unit) for side in (height, width))
    elif filled * h * w < low:
        grow = math.sqrt(low / (frames * height * width))
        h, w = (math.ceil(side * grow / unit) * unit for side in (height, width))
    return h, w


def most_pixels(settings: Settings, frames: int) -> int:
    """Of the whole clip; with `cap_pixels_per_frame` no frame has more than `max_video_tokens`, or less than `size`."""
    low, high = settings["size"]["shortest_edge"], int(settings["size"]["longest_edge"])
    if not settings["cap_pixels_per_frame"]:
        return high
    cap = settings["max_video_tokens"] * unit_of(settings) ** 2
    return int(max(min(cap, high // frames), int(low * 1.05)) * frames)


def _grown(height: int, width: int, unit: int) -> tuple[int, int]:
    """Sides of at least a unit each, the aspect ratio kept."""
    if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"sides must be positive and within 1:{MAX_ASPECT} of each other, got {height} x {width}")
    if min(height, width) >= unit:
        return height, width
    grow = max(unit / height, unit / width)
    return int(height * grow), int(width * grow)
