"""Tiny checkpoints of families that take each frame as a picture: LLaVA-OneVision, -NeXT-Video, InternVL, SmolVLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tiny_common import byte_tokenizer, special_ids, write
from tokenizers.processors import TemplateProcessing

CLIP_STATS = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
HALF_STATS = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}

ONEVISION_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
ONEVISION_TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message['role'] }} \
{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}\
{% for part in message['content'] %}{% if part['type'] == 'video' %}<video>{% endif %}{% endfor %}\
{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ '\n' + part['text'] }}{% endif %}{% endfor %}\
<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

NEXT_SPECIALS = ["<pad>", "<s>", "<|im_end|>", "<image>", "<video>"]
NEXT_TEMPLATE = """\
{% for message in messages %}{{ message['role'].upper() + ': ' }}\
{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}{% endif %}{% endfor %}\
{% for part in message['content'] %}{% if part['type'] == 'video' %}{{ '<video>\n' }}{% endif %}{% endfor %}\
{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}\
{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"""

INTERN_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
INTERN_TEMPLATE = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}\
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% elif part['type'] == 'video' %}{{ '<video>\n' }}\
{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

SMOL_SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<end_of_utterance>",
    "<fake_token_around_image>",
    "<global-img>",
    "<image>",
]
SMOL_TEMPLATE = """\
<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}: {% for part in message['content'] %}\
{% if part['type'] == 'text' %}{{ part['text'] }}{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}\
<end_of_utterance>
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"""


def text_config(tokenizer: Any) -> dict[str, Any]:
    """3 layers, 48 channels, one position axis."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "bos_token_id": special_ids(tokenizer).get("<s>", tokenizer.pad_token_id),
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def seeded(real: Any, config: Any, seed: int) -> Any:
    """`real(config)`: what `liven` leaves as it is (CLS, newline) must come from the seed too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return real(config)


def settings(kind: str, **own: Any) -> dict[str, Any]:
    """A video processor's JSON; CLIP's statistics unless it says otherwise."""
    return {"do_resize": True, "resample": 3, "video_processor_type": kind, **CLIP_STATS, **own}


def make_llava_onevision(folder: Path, dtype: str, seed: int) -> None:
    """5 x 5 patches a frame, pooled to 3 x 3."""
    tokenizer = byte_tokenizer(ONEVISION_SPECIALS, ONEVISION_TEMPLATE)
    ids = special_ids(tokenizer)
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(**VISION, image_size=72, patch_size=14, vision_use_head=False),
        text_config=hf.Qwen2Config(**text_config(tokenizer)),
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
    )
    model = seeded(hf.LlavaOnevisionForConditionalGeneration, config, seed)
    size = {"height": 72, "width": 72}
    write(folder, model, tokenizer, settings("LlavaOnevisionVideoProcessor", size=size), dtype, seed)


def make_llava_next_video(folder: Path, dtype: str, seed: int) -> None:
    """6 x 6 patches a frame behind the last CLIP layer but one, pooled to 3 x 3; Llama's BOS before every text."""
    tokenizer = byte_tokenizer(NEXT_SPECIALS, NEXT_TEMPLATE)
    ids = special_ids(tokenizer)
    tokenizer.bos_token = "<s>"  # noqa: S105
    start = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", ids["<s>"])])
    tokenizer.backend_tokenizer.post_processor = start
    config = hf.LlavaNextVideoConfig(
        vision_config=hf.CLIPVisionConfig(**VISION, image_size=84, patch_size=14),
        text_config=hf.LlamaConfig(**text_config(tokenizer)),
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
    )
    model = seeded(hf.LlavaNextVideoForConditionalGeneration, config, seed)
    sides = {"size": {"shortest_edge": 84}, "crop_size": {"height": 84, "width": 84}, "do_center_crop": True}
    write(folder, model, tokenizer, settings("LlavaNextVideoVideoProcessor", **sides), dtype, seed)


def make_internvl(folder: Path, dtype: str, seed: int) -> None:
    """6 x 6 patches a frame, 3 x 3 tokens."""
    tokenizer = byte_tokenizer(INTERN_SPECIALS, INTERN_TEMPLATE)
    pairs = {"image_size": [84, 84], "patch_size": [14, 14]}
    config = hf.InternVLConfig(
        vision_config={**VISION, **pairs, "use_mean_pooling": False, "model_type": "internvl_vision"},
        text_config=hf.Qwen2Config(**text_config(tokenizer)),
        image_token_id=special_ids(tokenizer)["<IMG_CONTEXT>"],
        image_seq_length=9,
        tie_word_embeddings=False,
    )
    model = seeded(hf.InternVLForConditionalGeneration, config, seed)
    size = {"height": 84, "width": 84}
    write(folder, model, tokenizer, settings("InternVLVideoProcessor", size=size), dtype, seed)


def make_smolvlm(folder: Path, dtype: str, seed: int) -> None:
    """6 x 6 patches a frame (of 86 pixels, the last 2 in none), 2 x 2 tokens of 3 x 3 patches."""
    tokenizer = byte_tokenizer(SMOL_SPECIALS, SMOL_TEMPLATE)
    config = hf.SmolVLMConfig(
        vision_config={**VISION, "image_size": 86, "patch_size": 14, "model_type": "smolvlm_vision"},
        text_config={"model_type": "llama", **text_config(tokenizer)},
        image_token_id=special_ids(tokenizer)["<image>"],
        scale_factor=3,
    )
    model = seeded(hf.SmolVLMForConditionalGeneration, config, seed)
    sides = {"size": {"longest_edge": 120}, "max_image_size": {"longest_edge": 86}, "resample": 1}
    processor = settings("SmolVLMVideoProcessor", **{**sides, **HALF_STATS}, do_pad=True)
    write(folder, model, tokenizer, processor, dtype, seed)


FAMILIES = {
    "llava_onevision": make_llava_onevision,
    "llava_next_video": make_llava_next_video,
    "internvl": make_internvl,
    "smolvlm": make_smolvlm,
}
