"""Qwen3-VL (dense): frames -> merged vision tokens and their deepstack rows, and both -> inputs of the real model.

Its own: a picture's size depends on the whole clip (`qwen_clip`); a learned table of positions; rows of inner layers,
`deepstack_0`, ... of `extra`, as wide as the tokens, which the language model adds in its first layers; a prompt in
which each step stands by itself, behind its time. The rest is `qwen_vision`.

Two rules for the prompt, both with the same M-RoPE (which is that of 4.57 and 5.23 alike):

    "grid"     the steps alone: Qwen's own code, transformers before 5.10
    "wrapped"  the chat template's start and end mark around all of them too: transformers from 5.10 on, which
               puts the steps in the place of the template's `<|video_pad|>` alone

Legend: T steps, L deepstack layers, K kept tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from . import qwen_keep, qwen_load, qwen_patches, qwen_prompt, qwen_vision
from .base import VideoModel
from .checkpoint import Checkpoint
from .consume import check, joined, since_start
from .prompt import text_ids
from .qwen_clip import clip_size
from .reader import Reader, Span, rows_of
from .types import KeptVideo

FAMILY = "qwen3_vl"


def preprocess(frames: Tensor, settings: qwen_patches.Settings) -> dict[str, Tensor]:
    """`qwen_patches.preprocess`, the pictures' size by `clip_size`."""
    return qwen_patches.preprocess(frames, settings, rule=clip_size)


class Qwen3VL(qwen_vision.QwenVision):
    """`VideoModel` of a Qwen3-VL checkpoint."""

    size_rule = staticmethod(clip_size)
    model_defaults = MappingProxyType({"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2})

    def load_tower(self) -> Any:
        """The real vision tower."""
        qwen = import_module("transformers.models.qwen3_vl.modeling_qwen3_vl")
        return qwen_load.tower(self, qwen.Qwen3VLConfig, qwen.Qwen3VLVisionModel)

    def told(self, grid: Tensor, keep: Tensor) -> dict[str, Tensor]:
        """Steps, and each kept patch's share of the table."""
        tower, merge = self._tower, self.checkpoint.settings["merge_size"]
        how = tower.num_grid_per_side, tower.interpolation_mode, tower.interpolation_align_corners
        return super().told(grid, keep) | qwen_keep.table(grid, keep, merge, *how)

    def rows(self, pixels: Tensor, grid: Tensor, told: dict[str, Tensor]) -> qwen_vision.Rows:
        """Tokens and L deepstack rows."""
        out = self._tower(pixels, grid_thw=grid, **told)
        return {
            "tokens": out.pooler_output,
            **dict(zip(deepstack(self._tower.config), out.deepstack_features, strict=True)),
        }

    def widths(self) -> dict[str, int]:
        """All have the LLM's width."""
        return dict.fromkeys(("tokens", *deepstack(self._tower.config)), self._tower.config.out_hidden_size)


def deepstack(vision_config: Any) -> list[str]:
    """Names of the deepstack rows, in the order of the LLM layers that add them."""
    return [f"deepstack_{i}" for i in range(len(vision_config.deepstack_visual_indexes))]


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> VideoModel:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    return qwen_load.adapter(Qwen3VL, checkpoint, dtype)


def span(config: Any, tokenizer: Any, record: KeptVideo, rule: str) -> Span:
    """For each step its time, a start mark, its kept tokens, an end mark; a step without tokens keeps all but these.

    Source: `replace_video_token` of processing_qwen3_vl.py and `get_rope_index`: a step's tokens have their rows and
    columns as positions, and time 0; what follows goes on `max(H,W)` after their start.
    """
    check(record, FAMILY, config.get_text_config().hidden_size)
    check_deepstack(record, config.vision_config)
    start, video, end = qwen_prompt.mark(config, tokenizer)
    (steps, *sides), at = record.grid, record.positions.long()
    pieces: list[Tensor | Span] = []
    for time, cells in zip(times(record), at.split(at[:, 0].bincount(minlength=steps).tolist()), strict=True):
        places = torch.stack([torch.zeros_like(cells[:, 0]), cells[:, 1], cells[:, 2]])
        tokens = Span(torch.full((len(cells),), video), places, max(sides))
        pieces += [text_ids(tokenizer, f"<{time:.1f} seconds>"), torch.tensor([start]), tokens, torch.tensor([end])]
    if rule == "wrapped":
        pieces = [torch.tensor([start]), *pieces, torch.tensor([end])]
    laid = joined(pieces, 3)
    return Span(laid.ids, laid.places, len(laid.ids) - len(at) + steps * max(sides))


def times(record: KeptVideo) -> list[float]:
    """Seconds of each step as its prompt tells them: the mean of its first and its last frame's pts.

    `_calculate_timestamps` of processing_qwen3_vl.py, with true pts in place of frame number / fps.
    """
    frames, starts = (since_start(record, pts_s).contiguous() for pts_s in (record.frame_pts_s, record.grid_pts_s))
    first = torch.searchsorted(frames, starts)
    last = torch.cat([first[1:], torch.tensor([len(frames)])]) - 1
    means: list[float] = ((frames[first] + frames[last]) / 2).tolist()
    return means


def check_deepstack(record: KeptVideo, vision_config: Any) -> None:
    """`ValueError` unless the record holds the rows of every deepstack layer."""
    for name in deepstack(vision_config):
        if name not in record.extra:
            raise ValueError(
                f"the record holds no {name}, which the model reads: encode the video with this checkpoint"
            )


def hand_over(model: Any, input_ids: Tensor, records: Sequence[KeptVideo]) -> dict[str, Any]:
    """What `get_video_features` would have returned for videos of these rows."""
    qwen = import_module("transformers.models.qwen3_vl.modeling_qwen3_vl")
    names = deepstack(model.config.vision_config)
    deep = [tuple(record.extra[name].to(model.device) for record in records) for name in names]
    rows = tuple(rows_of(records, model.device))
    output = qwen.BaseModelOutputWithDeepstackFeatures(pooler_output=rows, deepstack_features=deep)
    return {"mm_encoder_outputs": {"video": output}}


READER = Reader(
    llm="models.qwen3_vl:Qwen3VLForConditionalGeneration",
    mark=qwen_prompt.mark,
    placeholder=lambda config: int(config.video_token_id),
    span=span,
    hand_over=hand_over,
    axes=3,
    rules=("grid", "wrapped"),
)
