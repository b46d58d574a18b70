"""Qwen2.5-VL: frames -> merged vision tokens, and kept tokens -> inputs of the real transformers model.

Its own: windows of attention in most layers, and M-RoPE time in seconds. The rest is `qwen_vision` and `qwen_prompt`.
Facts about transformers 5.23 that this file rests on are in specs/consumers.md, sections 0 to 3.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import Tensor

from . import mrope, qwen_keep, qwen_load, qwen_prompt, qwen_vision
from .base import VideoModel
from .checkpoint import Checkpoint
from .consume import check
from .qwen_patches import preprocess as preprocess  # what `vidcomp.preprocess(family=...)` calls
from .reader import Span
from .types import KeptVideo

FAMILY = "qwen2_5_vl"


class Qwen2_5VL(qwen_vision.QwenVision):
    """`VideoModel` of a Qwen2.5-VL checkpoint."""

    def load_tower(self) -> Any:
        """The real vision tower."""
        qwen = import_module("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl")
        return qwen_load.tower(self, qwen.Qwen2_5_VLConfig, qwen.Qwen2_5_VisionTransformerPretrainedModel)

    def told(self, grid: Tensor, keep: Tensor) -> dict[str, Tensor]:
        """Steps and windows; a window's kept patches see each other alone in the layers of window attention."""
        merge, window = self.checkpoint.settings["merge_size"], (self._tower.window_size, self._tower.patch_size)
        return super().told(grid, keep) | qwen_keep.windows(grid, keep, merge, *window)


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> VideoModel:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    return qwen_load.adapter(Qwen2_5VL, checkpoint, dtype)


def span(config: Any, tokenizer: Any, record: KeptVideo, rule: str) -> Span:
    """One block; M-RoPE time is step x tokens_per_second x seconds_per_step."""
    check(record, FAMILY, config.get_text_config().hidden_size, ("seconds_per_step",))
    pace = config.vision_config.tokens_per_second, float(record.meta["seconds_per_step"])
    return qwen_prompt.one_block(config, record, mrope.time_index(record.grid[0], *pace), rule)


READER = qwen_prompt.reader("models.qwen2_5_vl:Qwen2_5_VLForConditionalGeneration", span)
