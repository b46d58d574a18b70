"""A video in the prompts of Qwen2-VL and Qwen2.5-VL: one block of M-RoPE between its start and end marks.

Legend: K kept tokens, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from . import mrope
from .reader import Reader, Span, rows_of
from .types import KeptVideo


def mark(config: Any, tokenizer: Any) -> tuple[int, int, int]:
    """`<|vision_start|><|video_pad|><|vision_end|>`, as the chat templates of all Qwen-VL write a video."""
    return config.vision_start_token_id, config.video_token_id, config.vision_end_token_id


def one_block(config: Any, record: KeptVideo, times: Tensor, rule: str) -> Span:
    """All kept tokens of a video between one start and one end; `times` int64 (T,): M-RoPE time of each step."""
    start, video, end = mark(config, None)
    block, length = mrope.block(record.positions, record.grid, times, rule)
    ids = torch.tensor([start, *[video] * block.shape[1], end])
    places = torch.cat([block.new_zeros(3, 1), block + 1, block.new_full((3, 1), 1 + length)], dim=1)
    return Span(ids, places, length + 2)


def hand_over(model: Any, input_ids: Tensor, records: Sequence[KeptVideo]) -> dict[str, Any]:
    """What `get_video_features` would have returned for videos of these rows."""
    output = import_module("transformers.modeling_outputs").BaseModelOutputWithPooling
    return {"mm_encoder_outputs": {"video": output(pooler_output=tuple(rows_of(records, model.device)))}}


def reader(llm: str, span: Callable[[Any, Any, KeptVideo, str], Span]) -> Reader:
    """The `Reader` of a family whose video is `one_block`."""
    return Reader(
        llm=llm,
        mark=mark,
        placeholder=lambda config: int(config.video_token_id),
        span=span,
        hand_over=hand_over,
        axes=3,
        rules=mrope.RULES,
    )
