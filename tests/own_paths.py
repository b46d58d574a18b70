"""Each family's own pixel path: what the real model is given where vidcomp gives kept tokens. One entry a family.

`OWN[family](model, encoder, inputs, frames, fps)` -> kwargs of `generate()`: the same prompt (`inputs` of `prepare` at
ratio 1) with pixels in place of tokens, and without our positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

OwnPath = Callable[[Any, Any, dict[str, Any], Tensor, float], dict[str, Any]]


def prompt_of(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def kinds(model: Any, inputs: dict[str, Any]) -> Tensor:
    return (inputs["input_ids"] == model.config.video_token_id).int() * 2


def qwen_vl(model: Any, encoder: Any, inputs: dict[str, Any], frames: Tensor, fps: float) -> dict[str, Any]:
    return {**prompt_of(inputs), **encoder.preprocess(frames), "mm_token_type_ids": kinds(model, inputs)}


def qwen2_5_vl(model: Any, encoder: Any, inputs: dict[str, Any], frames: Tensor, fps: float) -> dict[str, Any]:
    seconds = torch.tensor([2 / fps])
    return {**qwen_vl(model, encoder, inputs, frames, fps), "second_per_grid_ts": seconds}


def video_llama_3(model: Any, encoder: Any, inputs: dict[str, Any], frames: Tensor, fps: float) -> dict[str, Any]:
    pixels = encoder.preprocess(frames)
    del pixels["video_compression_mask"]  # the prompt holds every token
    return {**prompt_of(inputs), **pixels}


def as_video(model: Any, encoder: Any, inputs: dict[str, Any], frames: Tensor, fps: float) -> dict[str, Any]:
    return {**prompt_of(inputs), **encoder.preprocess(frames)}


def as_pictures(model: Any, encoder: Any, inputs: dict[str, Any], frames: Tensor, fps: float) -> dict[str, Any]:
    return {**prompt_of(inputs), "pixel_values": encoder.preprocess(frames)["pixel_values_videos"][0]}


def qwen_omni(model: Any, encoder: Any, inputs: dict[str, Any], frames: Tensor, fps: float) -> dict[str, Any]:
    return {**prompt_of(inputs), **encoder.preprocess(frames), "video_second_per_grid": torch.tensor([2 / fps])}


OWN: dict[str, OwnPath] = {
    "llava_onevision": as_video,
    "llava_next_video": as_video,
    "internvl": as_pictures,
    "smolvlm": as_video,
    "qwen2_vl": qwen_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen_vl,
    "video_llama_3": video_llama_3,
    "qwen2_5_omni": qwen_omni,
    "qwen3_omni_moe": qwen_omni,
}
PARITY_RULE = {"qwen2_vl": "hw", "qwen2_5_vl": "hw"}  # where the default rule is not that of the installed transformers
