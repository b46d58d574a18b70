"""Tiny checkpoints of the Qwen Omni families, as the whole models are released: of these only the thinker is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_common import byte_tokenizer, special_ids, write
from tiny_qwen import QWEN3_TEMPLATE, QWEN_PROCESSOR, QWEN_TEMPLATE, VISION, WINDOWS, text_config

AUDIO = {
    "num_mel_bins": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "d_model": 32,
    "output_dim": 48,
}
EXTRACTOR = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 16,
    "sampling_rate": 16000,
    "hop_length": 160,
    "n_fft": 400,
    "chunk_length": 10,
    "padding_value": 0.0,
    "dither": 0.0,
}
EXPERTS = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
NAMES = ("image_pad", "video_pad", "audio_pad", "vision_start", "vision_end", "audio_start", "audio_end")
NAMES_2_5 = ("IMAGE", "VIDEO", "AUDIO", "vision_bos", "vision_eos", "audio_bos", "audio_eos")


def tokenizer_of(names: tuple[str, ...], template: str) -> Any:
    """With the special tokens `names` in place of Qwen-VL's own."""
    for theirs, own in zip(NAMES, names, strict=True):
        template = template.replace(f"<|{theirs}|>", f"<|{own}|>")
    specials = ["endoftext", "im_start", "im_end", *names]
    return byte_tokenizer([f"<|{name}|>" for name in specials], template)


def ids_of(tokenizer: Any, names: tuple[str, ...], keys: tuple[str, ...]) -> dict[str, int]:
    """{name in config.json: the special token's id}."""
    ids = special_ids(tokenizer)
    return {key: ids[f"<|{name}|>"] for key, name in zip(keys, names, strict=True)}


def hush(folder: Path, tokenizer: Any, names: tuple[str, ...]) -> None:
    """A trained model never says a placeholder; a random one might, and has no row to put there."""
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][list(ids_of(tokenizer, names, names).values())] = 0
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def wrap(folder: Path, model_type: str, dtype: str) -> None:
    """Turn a thinker's checkpoint into the whole model's, which holds other parts too."""
    thinker = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    whole = {"model_type": model_type, "dtype": dtype, "thinker_config": thinker}
    (folder / "config.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    path = folder / "model.safetensors"
    weights = {f"thinker.{name}": weight for name, weight in load_file(path).items()}
    save_file({**weights, "talker.codec_head.weight": torch.zeros(4, 4)}, path, {"format": "pt"})


def make_qwen2_5_omni(folder: Path, dtype: str, seed: int) -> None:
    """Every file of a Qwen2.5-Omni checkpoint."""
    make_qwen2_5_thinker(folder, dtype, seed)
    wrap(folder, "qwen2_5_omni", dtype)


def make_qwen2_5_thinker(folder: Path, dtype: str, seed: int) -> None:
    """The same, saved from the thinker alone."""
    tokenizer = tokenizer_of(NAMES_2_5, QWEN_TEMPLATE)
    marks = ("vision_start_token_id", "vision_end_token_id", "audio_start_token_id", "audio_end_token_id")
    pads = ("image_token_index", "video_token_index", "audio_token_index")
    config = transformers.Qwen2_5OmniThinkerConfig(
        vision_config=VISION | WINDOWS,
        audio_config=AUDIO,
        text_config=text_config(tokenizer),
        position_id_per_seconds=25,
        seconds_per_chunk=2,
        **ids_of(tokenizer, NAMES_2_5, (*pads, *marks)),
    )
    model = transformers.Qwen2_5OmniThinkerForConditionalGeneration(config)
    processor = QWEN_PROCESSOR | EXTRACTOR | {"processor_class": "Qwen2_5OmniProcessor"}
    write(folder, model, tokenizer, processor, dtype, seed)
    hush(folder, tokenizer, NAMES_2_5)


def make_qwen3_omni_moe(folder: Path, dtype: str, seed: int) -> None:
    """Every file of a Qwen3-Omni checkpoint: deepstack after two vision blocks, 4 experts."""
    make_qwen3_thinker(folder, dtype, seed)
    wrap(folder, "qwen3_omni_moe", dtype)


def make_qwen3_thinker(folder: Path, dtype: str, seed: int) -> None:
    """The same, saved from the thinker alone."""
    tokenizer = tokenizer_of(NAMES, QWEN3_TEMPLATE)
    marks = ("vision_start_token_id", "vision_end_token_id", "audio_start_token_id", "audio_end_token_id")
    pads = ("image_token_id", "video_token_id", "audio_token_id")
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2], "mrope_interleaved": True}
    config = transformers.Qwen3OmniMoeThinkerConfig(
        vision_config=VISION | {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 2]},
        audio_config=AUDIO | {"downsample_hidden_size": 8},
        text_config=text_config(tokenizer, head_dim=12, rope_parameters=rope, **EXPERTS),
        position_id_per_seconds=13,
        seconds_per_chunk=2,
        **ids_of(tokenizer, NAMES, (*pads, *marks)),
    )
    model = transformers.Qwen3OmniMoeThinkerForConditionalGeneration(config)
    own = {
        "patch_size": 16,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "processor_class": "Qwen3OmniMoeProcessor",
    }
    write(folder, model, tokenizer, QWEN_PROCESSOR | EXTRACTOR | own, dtype, seed)
    hush(folder, tokenizer, NAMES)


FAMILIES = {
    "qwen2_5_omni": make_qwen2_5_omni,
    "qwen2_5_omni_thinker": make_qwen2_5_thinker,
    "qwen3_omni_moe": make_qwen3_omni_moe,
    "qwen3_omni_moe_thinker": make_qwen3_thinker,
}
