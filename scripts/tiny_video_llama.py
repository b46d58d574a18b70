"""A tiny checkpoint of VideoLLaMA3."""

from __future__ import annotations

from pathlib import Path

import transformers
from tiny_common import byte_tokenizer, write
from tiny_qwen import QWEN_SPECIALS, text_config, vision_ids

TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' %}{{ '<|image_pad|>\\n' }}\
{% elif part['type'] == 'video' %}{{ '<|video_pad|>\\n' }}\
{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
PROCESSOR = {
    "do_resize": True,
    "resample": 3,
    "size": {"shortest_edge": 4 * 28 * 28, "longest_edge": 192 * 28 * 28},  # at most 192 tokens a clip
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "patch_size": 14,
    "temporal_patch_size": 1,
    "merge_size": 2,
    "use_token_compression": True,
    "video_processor_type": "VideoLlama3VideoProcessor",
    "processor_class": "VideoLlama3Processor",
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "patch_size": 14,
    "model_type": "video_llama_3_vision",
}


def make_video_llama_3(folder: Path, dtype: str, seed: int) -> None:
    """Every file of a VideoLLaMA3 checkpoint: 3 vision layers, a Qwen2 of 3 layers with plain positions."""
    tokenizer = byte_tokenizer(QWEN_SPECIALS, TEMPLATE)
    rope = {"rope_type": "default", "rope_theta": 1e4}
    text = text_config(tokenizer, model_type="qwen2", rope_parameters=rope)
    ids = {name: value for name, value in vision_ids(tokenizer).items() if not name.startswith("vision")}
    config = transformers.VideoLlama3Config(vision_config=VISION, text_config=text, **ids)
    model = transformers.VideoLlama3ForConditionalGeneration(config)
    write(folder, model, tokenizer, PROCESSOR, dtype, seed)


FAMILIES = {"video_llama_3": make_video_llama_3}
