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


def qwen2_5_vl(model: Any, encoder: Any, inputs: dict[str, Any], frames: Tensor, fps: float) -> dict[str, Any]:
    kinds = (inputs["input_ids"] == model.config.video_token_id).int() * 2
    pixels = encoder.preprocess(frames)
    return {**prompt_of(inputs), **pixels, "mm_token_type_ids": kinds, "second_per_grid_ts": torch.tensor([2 / fps])}


OWN: dict[str, OwnPath] = {"qwen2_5_vl": qwen2_5_vl}
PARITY_RULE = {"qwen2_5_vl": "hw"}  # where the default rule is not that of the installed transformers
