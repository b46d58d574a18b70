"""A video in the prompt of a model with one position axis: text with a run of placeholders for each frame.

Positions count all ids of the whole video; dropped rows leave gaps.

Legend: T frames, P = H*W tokens of a frame, K kept tokens, M ids of the span.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from .prompt import text_ids
from .reader import Span
from .types import KeptVideo


def kept_of(whole: Tensor, placeholder: int, record: KeptVideo) -> Span:
    """The span of a record in `whole` int64 (M,), the ids of its whole video: T * P placeholders, then special ones
    that are no row, and text around them. Only placeholders of dropped rows go."""
    t, h, w = record.grid
    spots = (whole == placeholder).nonzero()[:, 0]
    step, y, x = record.positions.long().cpu().unbind(1)
    keep = whole != placeholder
    keep[spots[(step * h + y) * w + x]] = True
    keep[spots[t * h * w :]] = True
    return Span(whole[keep], keep.nonzero()[:, 0][None], len(whole))


def spelled(tokenizer: Any, text: str, placeholder: int, record: KeptVideo) -> Span:
    """The span of a record whose whole video is `text`, in which each frame's tokens stand as a single placeholder.

    `text` begins and ends with special tokens, so that its ids do not depend on what stands around it.
    """
    ids = text_ids(tokenizer, text)
    t, h, w = record.grid
    runs = torch.where(ids == placeholder, h * w, 1)
    if int((ids == placeholder).sum()) != t:
        raise ValueError(f"the tokenizer is another model's: it makes no placeholder (id {placeholder}) for each frame")
    return kept_of(ids.repeat_interleave(runs), placeholder, record)


def handed(key: str, rows: Tensor | list[Tensor]) -> dict[str, Any]:
    """kwargs that give the model its `image` or `video` rows as already encoded."""
    output = import_module("transformers.modeling_outputs").BaseModelOutputWithPooling
    return {"mm_encoder_outputs": {key: output(pooler_output=rows)}}
