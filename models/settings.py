"""How a family's video processor is set: the checkpoint's JSON over the class's defaults. Imports no torch.

transformers' video processors need torchvision, so their defaults are kept here, one table per family, as of
transformers 5.23. Only what decides a pixel is kept; which frames are sampled is not the processor's business
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .jsonfile import CheckpointError, read_json

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
LEGACY = {
    "min_pixels": "shortest_edge",
    "max_pixels": "longest_edge",
}  # older names of `size`'s two bounds, in pixels
SIDES = [["height", "width"], ["shortest_edge"], ["longest_edge"]]  # how other processors name a size
SOURCES = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class Table:
    """The class that a family's processor is (by name), other classes with the same rules whose settings it takes, and
    the class's defaults. `bounds`: `size` is two bounds of a picture's area, each of which a layer may set alone."""

    processor: str
    defaults: Mapping[str, Any]
    also: tuple[str, ...] = ()
    bounds: bool = False


# transformers/models/qwen2_vl/video_processing_qwen2_vl.py, and VideoProcessorMixin for the rescale factor.
# `cap_pixels_per_frame` stands as None there, which 5.23 takes as False (no bound on the whole video) with a
# warning that this will change: it is spelt out here so that an upgrade cannot change a record unseen.
QWEN2_VL = Table(
    "Qwen2VLVideoProcessor",
    {
        "do_resize": True,
        "resample": 3,
        "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "cap_pixels_per_frame": False,
        "max_video_tokens": 128000,
    },
    bounds=True,
)
TABLES = {"qwen2_5_vl": QWEN2_VL}


def resolve(family: str, *layers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Every setting of the family's processor, JSON-able: its defaults under `layers`, the last one wins.

    A key that is None keeps what is below, keys that decide no pixel are left out (the real class does both);
    of `size` a layer may name one bound, in either spelling. Raises `ValueError` on another processor's
    settings.
    """
    if family not in TABLES:
        raise ValueError(f"family {family!r} has no video processor settings; there are: {', '.join(TABLES)}")
    settings: dict[str, Any] = deepcopy(dict(TABLES[family].defaults))
    for layer in layers:
        _apply(settings, layer or {}, TABLES[family])
    return settings


def from_folder(folder: Path) -> dict[str, Any]:
    """The video processor's part of a checkpoint's JSON, from the file that transformers 5.23 prefers."""
    found = {name: read_json(folder / name) for name in SOURCES if (folder / name).is_file()}
    nested = found.pop("processor_config.json", {}).get("video_processor")
    if nested is not None:
        return dict(nested)
    if not found:
        raise CheckpointError(f"{folder}: none of {', '.join(SOURCES)} here; copy them from the model it was made of")
    return next(iter(found.values()))


def refuse_unknown(family: str, given: Mapping[str, Any]) -> None:
    """`CheckpointError` for a user's setting that the family's processor does not have (a checkpoint may hold more)."""
    known = {*TABLES[family].defaults, *LEGACY}
    for key in given:
        if key not in known:
            raise CheckpointError(f"model.settings.{key}: no such setting; there are: {', '.join(sorted(known))}")


def _apply(settings: dict[str, Any], layer: Mapping[str, Any], table: Table) -> None:
    named = layer.get("video_processor_type") or table.processor
    if named not in (table.processor, *table.also):
        raise ValueError(f"settings of {named}, expected {table.processor}")
    settings.update({k: deepcopy(v) for k, v in layer.items() if k in settings and k != "size" and v is not None})
    if table.bounds:
        size = {**(layer.get("size") or {}), **{old: layer[old] for old in LEGACY if layer.get(old) is not None}}
        settings["size"] = settings["size"] | {LEGACY.get(k, k): _pixels(LEGACY.get(k, k), v) for k, v in size.items()}
    elif layer.get("size") is not None:
        settings["size"] = _sides(layer["size"])


def _pixels(bound: str, value: Any) -> int:
    if bound not in LEGACY.values():
        raise ValueError(f"size is {' and '.join(LEGACY.values())} in pixels, got {bound!r}")
    return _count(f"size.{bound}", value)


def _sides(size: Any) -> dict[str, int]:
    """`{"height", "width"}`, `{"shortest_edge"}` or `{"longest_edge"}` in pixels."""
    if not isinstance(size, Mapping) or sorted(size) not in SIDES:
        raise ValueError(f"size must be one of {' or '.join(map(' and '.join, SIDES))}, got {size!r}")
    return {side: _count(f"size.{side}", value) for side, value in size.items()}


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive number of pixels, got {value!r}")
    return value
