"""Qwen2-VL: frames -> merged vision tokens, and kept tokens -> inputs of the real transformers model.

Its own: M-RoPE time counts steps, whatever they last. The rest is `qwen_vision` and `qwen_prompt`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from . import qwen_load, qwen_prompt, qwen_vision
from .base import VideoModel
from .checkpoint import Checkpoint
from .consume import check
from .qwen_patches import preprocess as preprocess  # what `vidcomp.preprocess(family=...)` calls
from .reader import Span
from .types import KeptVideo

FAMILY = "qwen2_vl"


class Qwen2VL(qwen_vision.QwenVision):
    """`VideoModel` of a Qwen2-VL checkpoint."""

    def load_tower(self) -> Any:
        """The real vision tower."""
        qwen = import_module("transformers.models.qwen2_vl.modeling_qwen2_vl")
        return qwen_load.tower(self, qwen.Qwen2VLConfig, qwen.Qwen2VisionTransformerPretrainedModel)

    def widths(self) -> dict[str, int]:
        """Here the LLM's width is the vision config's `hidden_size`; its own layers are `embed_dim` wide."""
        return {"tokens": self._tower.config.hidden_size}


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> VideoModel:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    return qwen_load.adapter(Qwen2VL, checkpoint, dtype)


def span(config: Any, tokenizer: Any, record: KeptVideo, rule: str) -> Span:
    """One block; M-RoPE time is the step's number."""
    check(record, FAMILY, config.get_text_config().hidden_size)
    return qwen_prompt.one_block(config, record, torch.arange(record.grid[0]), rule)


READER = qwen_prompt.reader("models.qwen2_vl:Qwen2VLForConditionalGeneration", span)
