"""Tiny checkpoints of the Qwen vision families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from tiny_common import byte_tokenizer, special_ids, write

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
SYSTEM = """\
{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}"""
QWEN_TEMPLATE = (
    "{% for message in messages %}"
    + SYSTEM
    + """\
<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>\
{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
)
QWEN3_TEMPLATE = QWEN_TEMPLATE.replace(SYSTEM, "")  # no system turn of its own
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
QWEN3_PROCESSOR = {
    "size": {"shortest_edge": 4096, "longest_edge": 192 * 32 * 32},  # at most 192 tokens' worth of pixels a clip
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "video_processor_type": "Qwen3VLVideoProcessor",
    "processor_class": "Qwen3VLProcessor",
}
VISION = {"depth": 4, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 48}
WINDOWS = {"window_size": 112, "fullatt_block_indexes": [1, 3], "tokens_per_second": 2}


def text_config(tokenizer: Any, **own: Any) -> dict[str, Any]:
    """3 layers of 48 channels; ids as the tokenizer has them."""
    ids = special_ids(tokenizer)
    return {
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
        **own,
    }


def vision_ids(tokenizer: Any) -> dict[str, int]:
    """{name in config.json: the special token's id}."""
    ids = special_ids(tokenizer)
    named = ("image_pad", "image"), ("video_pad", "video"), ("vision_start",) * 2, ("vision_end",) * 2
    return {f"{key}_token_id": ids[f"<|{token}|>"] for token, key in named}


def make_qwen2_vl(folder: Path, dtype: str, seed: int) -> None:
    """Every file of a Qwen2-VL checkpoint: 4 vision blocks."""
    tokenizer = byte_tokenizer(QWEN_SPECIALS, QWEN_TEMPLATE)
    vision = {"depth": 4, "embed_dim": 32, "hidden_size": 48, "mlp_ratio": 2, "num_heads": 4}
    config = transformers.Qwen2VLConfig(
        vision_config=vision, text_config=text_config(tokenizer), **vision_ids(tokenizer)
    )
    model = transformers.Qwen2VLForConditionalGeneration(config)
    write(folder, model, tokenizer, QWEN_PROCESSOR | {"processor_class": "Qwen2VLProcessor"}, dtype, seed)


def qwen_config(tokenizer: Any) -> Any:
    """Qwen2.5-VL: 4 vision blocks (2 of window attention)."""
    return transformers.Qwen2_5_VLConfig(
        vision_config=VISION | WINDOWS, text_config=text_config(tokenizer), **vision_ids(tokenizer)
    )


def make_qwen2_5_vl(folder: Path, dtype: str, seed: int) -> None:
    """Every file of a Qwen2.5-VL checkpoint."""
    tokenizer = byte_tokenizer(QWEN_SPECIALS, QWEN_TEMPLATE)
    model = transformers.Qwen2_5_VLForConditionalGeneration(qwen_config(tokenizer))
    write(folder, model, tokenizer, QWEN_PROCESSOR, dtype, seed)


def make_qwen3_vl(folder: Path, dtype: str, seed: int) -> None:
    """Every file of a Qwen3-VL checkpoint: 4 vision blocks, deepstack after two of them, an 8 x 8 table of places."""
    tokenizer = byte_tokenizer(QWEN_SPECIALS, QWEN3_TEMPLATE)
    vision = VISION | {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 2]}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2], "mrope_interleaved": True}
    text = text_config(tokenizer, head_dim=12, rope_parameters=rope)
    config = transformers.Qwen3VLConfig(vision_config=vision, text_config=text, **vision_ids(tokenizer))
    model = transformers.Qwen3VLForConditionalGeneration(config)
    write(folder, model, tokenizer, QWEN3_PROCESSOR, dtype, seed)


FAMILIES = {"qwen2_vl": make_qwen2_vl, "qwen2_5_vl": make_qwen2_5_vl, "qwen3_vl": make_qwen3_vl}
