"""Tiny checkpoints of the Qwen vision families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_common import byte_tokenizer, special_ids, write
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

QWEN_SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
QWEN_TEMPLATE = """\
{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>\
{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
QWEN_PROCESSOR = {
    "do_resize": True,
    "resample": 3,
    "min_pixels": 4 * 28 * 28,
    "max_pixels": 48 * 28 * 28,  # at most 48 tokens a step
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
}


def qwen_config(tokenizer: Any) -> Any:
    """4 vision blocks (2 of window attention), 3 text layers, 48 channels; ids as the tokenizer has them."""
    ids = special_ids(tokenizer)
    vision = {
        "depth": 4,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "out_hidden_size": 48,
        "window_size": 112,
        "fullatt_block_indexes": [1, 3],
        "tokens_per_second": 2,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]},
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    named = ("image_pad", "image"), ("video_pad", "video"), ("vision_start",) * 2, ("vision_end",) * 2
    tokens = {f"{key}_token_id": ids[f"<|{token}|>"] for token, key in named}
    return Qwen2_5_VLConfig(vision_config=vision, text_config=text, **tokens)


def make_qwen2_5_vl(folder: Path, dtype: str, seed: int) -> None:
    """Every file of a Qwen2.5-VL checkpoint."""
    tokenizer = byte_tokenizer(QWEN_SPECIALS, QWEN_TEMPLATE)
    model = Qwen2_5_VLForConditionalGeneration(qwen_config(tokenizer))
    write(folder, model, tokenizer, QWEN_PROCESSOR, dtype, seed)


FAMILIES = {"qwen2_5_vl": make_qwen2_5_vl}
