"""Tiny checkpoints of the picture towers that have no language model; none has a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tiny_common import liven
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
VISION = {**SIZES, "image_size": 112, "patch_size": 14}
TEXT = {**SIZES, "vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIGLIP_PROCESSOR = {
    "do_resize": True,
    "resample": 3,
    "size": {"height": 112, "width": 112},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
}
CLIP_PROCESSOR = {
    "do_resize": True,
    "resample": 3,
    "size": {"shortest_edge": 112},
    "crop_size": {"height": 112, "width": 112},
    "image_processor_type": "CLIPImageProcessor",
}
DINOV2_PROCESSOR = {
    "do_resize": True,
    "resample": 3,
    "size": {"shortest_edge": 128},
    "crop_size": {"height": 112, "width": 112},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "image_processor_type": "BitImageProcessor",
}


def write_tower(folder: Path, model: Any, processor: Mapping[str, Any], dtype: str, seed: int) -> None:
    """Every file of a checkpoint; `processor` are the settings of its image processor. Attention is made to differ."""
    liven(model, seed)
    for name, weight in model.named_parameters():
        if name.endswith("q_proj.weight"):
            weight.data.mul_(6)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")


def make_siglip(folder: Path, dtype: str, seed: int) -> None:
    """Vision and text, as most SigLIP checkpoints are released."""
    model = SiglipModel(SiglipConfig(vision_config=VISION, text_config=TEXT))
    write_tower(folder, model, SIGLIP_PROCESSOR, dtype, seed)


def make_siglip_vision_model(folder: Path, dtype: str, seed: int) -> None:
    """Vision alone, without the pooling head, patches that do not tile the picture (as 14 in 384)."""
    model = SiglipVisionModel(SiglipVisionConfig(**{**VISION, "image_size": 104}, vision_use_head=False))
    write_tower(folder, model, SIGLIP_PROCESSOR | {"size": {"height": 104, "width": 104}}, dtype, seed)


def make_clip(folder: Path, dtype: str, seed: int) -> None:
    """Vision and text."""
    write_tower(folder, CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT)), CLIP_PROCESSOR, dtype, seed)


def make_clip_vision_model(folder: Path, dtype: str, seed: int) -> None:
    """Vision alone."""
    write_tower(folder, CLIPVisionModel(CLIPVisionConfig(**VISION)), CLIP_PROCESSOR, dtype, seed)


def make_dinov2(folder: Path, dtype: str, seed: int) -> None:
    """Trained at 140 x 140, used at 112 x 112: position embeddings are fitted, as with released checkpoints."""
    model = Dinov2Model(Dinov2Config(**{**SIZES, "image_size": 140, "patch_size": 14}))
    write_tower(folder, model, DINOV2_PROCESSOR, dtype, seed)


FAMILIES = {
    "siglip": make_siglip,
    "siglip_vision_model": make_siglip_vision_model,
    "clip": make_clip,
    "clip_vision_model": make_clip_vision_model,
    "dinov2": make_dinov2,
}
