"""A regular rate over irregular times: which frames are nearest to its targets (numpy only)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SAME_TIME_S = 1e-9  # times nearer than this are one: absorbs float rounding, far below any container's tick


def plan_fps(pts_s: NDArray[np.float64], end_s: float, fps: float) -> NDArray[np.int64]:
    """Presentation indices int64 (n,), ascending, of the frames nearest to a regular grid of times.

    `pts_s` float64 (M,) ascending, `end_s` when the last frame ends, `fps` > 0 samples a second.
    The rule: targets are t_k = pts_s[0] + k/fps (no accumulated rounding) for every t_k < end_s; each takes the
    frame nearest to it in time, the earlier one at a tie; a frame is taken at most once, so a gap in the video
    is not filled with copies; at least one frame is always taken. At or above the source's rate that is every frame.
    Errors: ValueError for an empty or descending `pts_s` or an `fps` that is not a positive number.

    Decided per frame, not per target, so that time and memory are O(M) whatever `fps` is: the targets nearest to
    frame i lie between its midpoints to its neighbours, and `last[i]` is the largest k up to the right one.

        pts_s 0 .4 .8 1.2, end 1.6, fps 1: targets 0 1; midpoints .2 .6 1.0; last = 0 0 1 1 -> frames 0 and 2
    """
    _check(pts_s, fps)
    since_s = pts_s - pts_s[0]
    midpoints = (since_s[:-1] + since_s[1:]) / 2
    final = targets(end_s - float(pts_s[0]), fps) - 1
    last = np.minimum(np.append(np.floor((midpoints + SAME_TIME_S) * fps), final), final)
    return np.flatnonzero(np.diff(last, prepend=-1.0) > 0).astype(np.int64)


def targets(span_s: float, fps: float) -> int:
    """How many multiples of 1/fps lie in [0, span_s), at least one."""
    return max(math.ceil((span_s - SAME_TIME_S) * fps), 1)


def _check(pts_s: NDArray[np.float64], fps: float) -> None:
    if pts_s.ndim != 1 or not len(pts_s):
        raise ValueError(f"pts_s must be (M,) with M >= 1, got {pts_s.shape}")
    if (np.diff(pts_s) < 0).any():
        raise ValueError("pts_s must ascend")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a positive number, got {fps}")
