"""What `bench_methods` compares with: sizes, settings, and the published implementations' times.

Source of `AUTHORS`: the table "Compact" of reference-times.md (2026-11-21): the authors' own code, one fresh process
each, one thread, float32, torch 2.13, Xeon 2.5 GHz; time over C1 of the same process. Rows it marks as disturbed are
theirs to doubt: evs X, dycoke M, dtd M, prunevid M.
"""

from __future__ import annotations

from typing import Any

GRIDS = {  # T, H, W, D
    "S": (32, 14, 14, 896),
    "M": (32, 14, 14, 3584),
    "X": (128, 14, 14, 3584),
    "P": (16, 24, 24, 1),  # of pixels, 32 x 384 x 384 and 128 x 384 x 384, in tubelets of 2 x 16 x 16
    "Q": (64, 24, 24, 1),
}
TINY = (8, 8, 8, 16)  # loads the libraries
SCENES = {32: 5, 64: 8, 128: 12}  # by frames
OF_PIXELS = {"rlt": {"M": "P", "X": "Q"}}  # what takes pixels has sizes of its own

SETTINGS: dict[str, dict[str, Any]] = {
    "holitom": {"retain": 0.15, "tau": 0.8},
    "fastvid": {"retain": 0.1, "segments": 8, "tau": 0.9, "variant": "onevision"},
    "prunevid": {"tau": 0.8, "segment_ratio": 0.25, "cluster_ratio": 0.5},
    "dycoke": {"merge_ratio": 0.7},
    "omnizip": {"audio_drop": 0.3, "video_drop": 0.6, "contextual_ratio": 0.05, "g": 3},
    "dtd": {"threshold": 0.5, "mode": "feature"},
    "evs": {"retain": 0.1},
    "tome": {"rounds": [98]},
    "sttm": {"spatial_threshold": 0.85, "temporal_threshold": 0.65, "root_level": 1},
    "scissor": {"tau": 0.9},
    "divprune": {"retain": 0.098},
    "rlt": {"threshold": 0.1, "tubelet": 2, "patch": 16},
    "hdbscan": {"segments": 8},
}
SETTINGS_AT: dict[tuple[str, str], dict[str, Any]] = {("divprune", "X"): {"retain": 0.01}}
AUDIO_PER_FRAME = 25  # omnizip's 50 audio tokens for every window of 2 frames

AUTHORS = {
    "evs": {"S": 0.29, "M": 1.35, "X": 5.28},
    "dycoke": {"S": 0.18, "M": 0.61, "X": 3.21},
    "dtd": {"S": 2.44, "M": 2.85, "X": 11.90},
    "tome": {"S": 0.52, "M": 2.70, "X": 9.96},
    "aim": {"S": 0.81, "M": 3.55, "X": 16.86},
    "sttm": {"S": 0.83, "M": 4.51, "X": 20.48},
    "holitom": {"S": 0.56, "M": 3.26, "X": 15.23},
    "fastvid": {"S": 1.35, "M": 5.66, "X": 38.43},
    "prunevid": {"S": 1.53, "M": 5.48, "X": 22.01},
    "omnizip": {"S": 1.13, "M": 5.14, "X": 42.20},
    "scissor": {"S": 13.28, "M": 34.41, "X": 497.80},
    "divprune": {"S": 33.68, "M": 46.57, "X": 578.26},  # X: with ratio .01, as here
    "rlt": {"P": 0.35, "Q": 1.36},
}
DECIDE_ONLY = {"evs", "rlt", "omnizip", "divprune"}  # the authors' times leave out what callers do with the mask
NO_AIM = {"ward", "hdbscan"}  # rows for the record: no published implementation, no floor to aim at
FLOOR_AIM = 3.0  # deciding takes at most so many times the floor


def size_of(method: str, size: str) -> str | None:
    """The size that a method runs at where `size` is asked for; None where it has none there."""
    return OF_PIXELS[method].get(size) if method in OF_PIXELS else size


def hyper_of(method: str, size: str) -> dict[str, Any]:
    """A method's hyper-parameters at a size."""
    return {**SETTINGS.get(method, {}), **SETTINGS_AT.get((method, size), {})}
