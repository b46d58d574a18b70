"""LLaVA-NeXT-Video: each frame through CLIP up to its last layer but one, pooled 2 x 2, projected.

Source: transformers 5.23, modeling_llava_next_video.py (`get_video_features`, `LlavaNextVideoPooler`).

Legend: B frames of a pass, P patches, N tokens of a frame, C channels of the tower, D of the LLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from . import tower
from .checkpoint import Checkpoint, dtype_name
from .consume import check
from .framewise import Framewise
from .framewise_parts import (
    PROJECTOR_PREFIXES,
    TOWER_PREFIXES,
    Geometry,
    Parts,
    check_geometry,
    check_strategy,
    load_module,
    side_of,
)
from .framewise_pixels import preprocess as preprocess  # what `vidcomp.preprocess(family=...)` calls
from .framewise_prompt import handed, kept_of
from .reader import Reader, Span, rows_of
from .types import KeptVideo

FAMILY = "llava_next_video"
POOLER_PREFIXES = ("vision_resampler.", "model.vision_resampler.")


class LlavaNextVideo(Framewise):
    """`VideoModel` of a LLaVA-NeXT-Video checkpoint.

    `keep` is exact: a token is a block of 2 x 2 patches, and CLS always passes through the tower.
    """

    family = FAMILY
    special = 1
    feature_layer = -2

    @property
    def geometry(self) -> Geometry:
        """336 pixels in 24 x 24 patches, 2 x 2 of them a token."""
        config = self.checkpoint.config
        vision = config.get("vision_config", {})
        step = int(config.get("spatial_pool_stride") or 2)
        return Geometry(side_of(vision, "image_size", 224), side_of(vision, "patch_size", 32), step)

    def load_parts(self) -> Parts:
        """CLIP, the pooler (which has weights in its `conv` mode only) and the projector."""
        llava = import_module("transformers.models.llava_next_video.modeling_llava_next_video")
        clip = import_module("transformers.models.clip.modeling_clip")
        config = llava.LlavaNextVideoConfig.from_dict(deepcopy(dict(self.checkpoint.config)))
        pool, project = llava.LlavaNextVideoPooler, llava.LlavaNextVideoMultiModalProjector
        return Parts(
            config,
            tower.load(clip.CLIPVisionModel, config.vision_config, self.checkpoint, TOWER_PREFIXES, self.dtype),
            torch.nn.Sequential(
                load_module(partial(pool, config), self.checkpoint, POOLER_PREFIXES, self.dtype),
                load_module(partial(project, config), self.checkpoint, PROJECTOR_PREFIXES, self.dtype),
            ),
        )

    def embed(self, tower: Any, pixels: Tensor) -> Tensor:
        """(B,3,h,w) -> (B,1+P,C): CLIP normalises once more before its layers."""
        states: Tensor = tower.pre_layrnorm(tower.embeddings(pixels))
        return states

    def tokens(self, parts: Parts, patches: Tensor) -> Tensor:
        """(B,P,C) -> (B,N,D): pooled, then projected."""
        rows: Tensor = parts.head(patches)
        return rows


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> LlavaNextVideo:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    model = LlavaNextVideo(checkpoint, dtype_name(dtype or checkpoint.dtype))
    check_geometry(checkpoint, "clip_vision_model", model.geometry)
    check_strategy(checkpoint, "default")
    return model


def mark(config: Any, tokenizer: Any) -> tuple[int]:
    """`<video>`, as its chat template writes a video."""
    return (config.video_token_id,)


def span(config: Any, tokenizer: Any, record: KeptVideo, rule: str) -> Span:
    """A placeholder for each kept token, and nothing else."""
    check(record, FAMILY, config.get_text_config().hidden_size)
    t, h, w = record.grid
    return kept_of(torch.full((t * h * w,), config.video_token_id), config.video_token_id, record)


def hand_over(model: Any, input_ids: Tensor, records: Sequence[KeptVideo]) -> dict[str, Any]:
    """Rows as `get_video_features` would have returned them, video by video."""
    return handed("video", rows_of(records, model.device))


READER = Reader(
    llm="models.llava_next_video:LlavaNextVideoForConditionalGeneration",
    mark=mark,
    placeholder=lambda config: int(config.video_token_id),
    span=span,
    hand_over=hand_over,
)
