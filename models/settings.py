"""How a family's video processor is set: the checkpoint's JSON over the class's defaults. Imports no torch.

transformers' video processors need torchvision, so their defaults are kept here, one table per family, as of
transformers 5.23. Only what decides a pixel is kept; which frames are sampled is not the processor's business
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .jsonfile import CheckpointError, read_json
from .sound import SOUND
from .sound import from_folder as sound_from_folder

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5]  # IMAGENET_STANDARD_MEAN and _STD
LEGACY = {
    "min_pixels": "shortest_edge",
    "max_pixels": "longest_edge",
}  # older names of `size`'s two bounds, in pixels
SIDES = [["height", "width"], ["shortest_edge"], ["longest_edge"]]  # how other processors name a size
SOURCES = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class Table:
    """The class that a family's processor is (by name), other classes with the same rules whose settings it takes, and
    the class's defaults. `bounds`: `size` is two bounds of a picture's area, each of which a layer may set alone.
    `kind`: the processor's, as it stands in a checkpoint's JSON. `passed`: keys that the family's whole processor
    passes to it at every call, so that the checkpoint's JSON does not decide them."""

    processor: str
    defaults: Mapping[str, Any]
    also: tuple[str, ...] = ()
    bounds: bool = False
    kind: str = "video_processor"
    passed: tuple[str, ...] = ()


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
# transformers/models/qwen3_vl/video_processing_qwen3_vl.py; `size` bounds the whole clip, `max_video_tokens` a frame.
QWEN3_VL = replace(
    QWEN2_VL,
    processor="Qwen3VLVideoProcessor",
    defaults={
        **QWEN2_VL.defaults,
        "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768},
        "image_mean": HALF,
        "image_std": HALF,
        "patch_size": 16,
        "max_video_tokens": 768,
    },
)
# transformers/models/video_llama_3/video_processing_video_llama_3.py: all frames share the upper bound of `size`.
VIDEO_LLAMA_3 = Table(
    "VideoLlama3VideoProcessor",
    {
        **{k: v for k, v in QWEN2_VL.defaults.items() if k not in ("cap_pixels_per_frame", "max_video_tokens")},
        "image_mean": HALF,
        "image_std": HALF,
        "temporal_patch_size": 1,
        "use_token_compression": True,
    },
    bounds=True,
)
# transformers/models/{siglip,clip,bit}/image_processing_*.py over TorchvisionBackend; each frame is a picture.
CLIP = Table(
    "CLIPImageProcessor",
    {
        "do_resize": True,
        "resample": 3,
        "size": {"shortest_edge": 224},
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    },
    also=("CLIPImageProcessorFast", "CLIPImageProcessorPil"),
    kind="image_processor",
)
BIT = replace(CLIP, processor="BitImageProcessor", also=("BitImageProcessorFast", "BitImageProcessorPil"))
SIGLIP = Table(
    "SiglipImageProcessor",
    {
        **CLIP.defaults,
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "crop_size": None,
        "image_mean": HALF,
        "image_std": HALF,
    },
    also=("SiglipImageProcessorFast", "SiglipImageProcessorPil"),
    kind="image_processor",
)
# transformers/models/{llava_onevision,llava_next_video,internvl,smolvlm}/video_processing_*.py over BaseVideoProcessor:
# each frame is a picture. SmolVLM's LANCZOS is torch's own kernel, as torchvision >= 0.27 has it on the CPU.
FRAMEWISE = {**CLIP.defaults, "size": {"height": 384, "width": 384}, "do_center_crop": False, "crop_size": None}
LLAVA_ONEVISION = Table("LlavaOnevisionVideoProcessor", FRAMEWISE)
LLAVA_NEXT_VIDEO = Table("LlavaNextVideoVideoProcessor", CLIP.defaults)
INTERNVL = Table("InternVLVideoProcessor", FRAMEWISE)
SMOLVLM = Table(
    "SmolVLMVideoProcessor",
    {
        **{k: v for k, v in CLIP.defaults.items() if k not in ("do_center_crop", "crop_size")},
        "resample": 1,
        "size": {"longest_edge": 4 * 364},
        "max_image_size": {"longest_edge": 364},
        "do_pad": True,
        "image_mean": HALF,
        "image_std": HALF,
    },
)
# processing_qwen2_5_omni.py and processing_qwen3_omni_moe.py pass their class's own `videos_kwargs`.
QWEN2_5_OMNI = replace(QWEN2_VL, defaults={**QWEN2_VL.defaults, **SOUND}, passed=("size", *LEGACY))
QWEN3_OMNI = replace(QWEN2_5_OMNI, defaults={**QWEN2_5_OMNI.defaults, "size": QWEN3_VL.defaults["size"]})
TABLES = {
    "qwen2_vl": QWEN2_VL,
    "qwen2_5_vl": QWEN2_VL,
    "qwen3_vl": QWEN3_VL,
    "qwen2_5_omni": QWEN2_5_OMNI,
    "qwen3_omni_moe": QWEN3_OMNI,
    "video_llama_3": VIDEO_LLAMA_3,
    "siglip": SIGLIP,
    "clip": CLIP,
    "dinov2": BIT,
    "llava_onevision": LLAVA_ONEVISION,
    "llava_next_video": LLAVA_NEXT_VIDEO,
    "internvl": INTERNVL,
    "smolvlm": SMOLVLM,
}


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
    refuse_pixels(settings)
    return settings


def refuse_pixels(settings: Mapping[str, Any]) -> None:
    """ValueError for what no pixel can be scaled or normalised by."""
    scale = settings.get("rescale_factor", 1)
    if not (isinstance(scale, float | int) and scale > 0):
        raise ValueError(f"rescale_factor must be above 0, got {scale!r}")
    for name in ("image_mean", "image_std"):
        each = settings.get(name, [1, 1, 1])
        plain = isinstance(each, list | tuple) and all(isinstance(value, float | int) for value in each)
        if not plain or len(each) != 3 or (name == "image_std" and not all(each)):
            raise ValueError(f"{name} must be three numbers, one for each colour, got {each!r}")


def from_folder(folder: Path, family: str) -> dict[str, Any]:
    """What a checkpoint's JSON decides: its video processor's part, and the feature extractor's for sound."""
    part = _processor_part(folder, TABLES[family].kind)
    video = {key: value for key, value in part.items() if key not in TABLES[family].passed}
    return video | sound_from_folder(folder)


def _processor_part(folder: Path, kind: str) -> dict[str, Any]:
    """The video (or image) processor's part of a checkpoint's JSON, from the place that transformers 5.23 prefers."""
    found = {name: read_json(folder / name) for name in SOURCES if (folder / name).is_file()}
    both, video, image = (found.get(name) for name in SOURCES)
    for part in ((both or {}).get(kind), video if kind == "video_processor" else None, image):
        if part is not None:
            return dict(part)
    raise CheckpointError(f"{folder}: none of {', '.join(SOURCES)} here; copy them from the model it was made of")


def refuse_unknown(family: str, given: Mapping[str, Any]) -> None:
    """`CheckpointError` for a user's setting that the family's processor does not have (a checkpoint may hold more)."""
    known = {*TABLES[family].defaults, *LEGACY}
    for key in given:
        if key not in known:
            raise CheckpointError(f"model.settings.{key}: no such setting; there are: {', '.join(sorted(known))}")


def _apply(settings: dict[str, Any], layer: Mapping[str, Any], table: Table) -> None:
    named = layer.get(f"{table.kind}_type") or table.processor
    if named not in (table.processor, *table.also):
        raise ValueError(f"settings of {named}, expected {table.processor}")
    settings.update({k: deepcopy(v) for k, v in layer.items() if k in settings and k != "size" and v is not None})
    if table.bounds:
        size = {**_both(layer.get("size")), **{old: layer[old] for old in LEGACY if layer.get(old) is not None}}
        settings["size"] = settings["size"] | {LEGACY.get(k, k): _pixels(LEGACY.get(k, k), v) for k, v in size.items()}
    elif (sides := layer.get("size") or (layer.get("video_sampling") or {}).get("video_size")) is not None:
        settings["size"] = _sides("size", sides)  # the second is SmolVLM's older name for it
    if layer.get("crop_size") is not None and "crop_size" in settings:
        settings["crop_size"] = _crop(layer["crop_size"])


def _both(size: Any) -> Mapping[str, Any]:
    if not isinstance(size, Mapping | None):
        raise ValueError(f"size is {' and '.join(LEGACY.values())} in pixels, got {size!r}")
    return size or {}


def _pixels(bound: str, value: Any) -> int:
    if bound not in LEGACY.values():
        raise ValueError(f"size is {' and '.join(LEGACY.values())} in pixels, got {bound!r}")
    return _count(f"size.{bound}", value)


def _sides(name: str, size: Any) -> dict[str, int]:
    """`{"height", "width"}`, `{"shortest_edge"}` (in old checkpoints a number) or `{"longest_edge"}` in pixels."""
    if isinstance(size, int):
        size = {"shortest_edge": size}
    if not isinstance(size, Mapping) or sorted(size) not in SIDES:
        raise ValueError(f"{name} must be one of {' or '.join(map(' and '.join, SIDES))}, got {size!r}")
    return {side: _count(f"{name}.{side}", value) for side, value in size.items()}


def _crop(size: Any) -> dict[str, int]:
    """`{"height", "width"}`; a number, as old checkpoints have it, is both."""
    sides = _sides("crop_size", {"height": size, "width": size} if isinstance(size, int) else size)
    if "height" not in sides:
        raise ValueError(f"crop_size must be height and width, got {size!r}")
    return sides


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive number of pixels, got {value!r}")
    return value
