"""LLaVA-OneVision: each frame through SigLIP, projected, pooled to half the patches a side; then one newline row.

Source: transformers 5.23, modeling_llava_onevision.py (`get_video_features`, `apply_pooling`). The record holds the
grid's rows; the newline row, which ends each video, is the model's own parameter, added where rows are handed over.

Legend: B frames of a pass, P patches, N tokens of a frame, C channels of the tower, D of the LLM, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

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

FAMILY = "llava_onevision"


class LlavaOnevision(Framewise):
    """`VideoModel` of a LLaVA-OneVision checkpoint.

    `keep` is exact: a token reads up to 4 patches, some of which its neighbours read too; those that any kept token
    reads pass through the tower.
    """

    family = FAMILY

    @property
    def geometry(self) -> Geometry:
        """384 pixels in 27 x 27 patches, which 14 x 14 tokens overlap."""
        vision = self.checkpoint.config.get("vision_config", {})
        return Geometry(side_of(vision, "image_size", 224), side_of(vision, "patch_size", 16), None)

    def load_parts(self) -> Parts:
        """SigLIP and the projector."""
        llava = import_module("transformers.models.llava_onevision.modeling_llava_onevision")
        siglip = import_module("transformers.models.siglip.modeling_siglip")
        config = llava.LlavaOnevisionConfig.from_dict(deepcopy(dict(self.checkpoint.config)))
        real, make = siglip.SiglipVisionModel, partial(llava.LlavaOnevisionMultiModalProjector, config)
        return Parts(
            config,
            tower.load(real, config.vision_config, self.checkpoint, TOWER_PREFIXES, self.dtype),
            load_module(make, self.checkpoint, PROJECTOR_PREFIXES, self.dtype),
        )

    def tokens(self, parts: Parts, patches: Tensor) -> Tensor:
        """(B,P,C) -> (B,N,D): projected, then pooled."""
        side = self.geometry.patches
        planes = parts.head(patches).unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return self.pool(planes.contiguous()).flatten(2).mT

    def pool(self, planes: Tensor) -> Tensor:
        """(B,C,h,w) -> (B,C,ceil(h/2),ceil(w/2)), bilinear."""
        side = self.geometry.tokens
        return interpolate(planes, size=(side, side), mode="bilinear")


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> LlavaOnevision:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    model = LlavaOnevision(checkpoint, dtype_name(dtype or checkpoint.dtype))
    check_geometry(checkpoint, "siglip_vision_model", model.geometry)
    check_strategy(checkpoint, "full")
    return model


def mark(config: Any, tokenizer: Any) -> tuple[int]:
    """`<video>`, as its chat template writes a video."""
    return (config.video_token_id,)


def span(config: Any, tokenizer: Any, record: KeptVideo, rule: str) -> Span:
    """A placeholder for each kept token, and one for the newline row, which ends the video whatever was dropped."""
    check(record, FAMILY, config.get_text_config().hidden_size)
    t, h, w = record.grid
    whole = torch.full((t * h * w + 1,), config.video_token_id)
    return kept_of(whole, config.video_token_id, record)


def hand_over(model: Any, input_ids: Tensor, records: Sequence[KeptVideo]) -> dict[str, Any]:
    """Rows as `get_video_features` would have returned them, each video's followed by the model's `image_newline`.

    As (rows,1,D), which the model flattens as it does (1,rows,D): only so does beam search tell the videos of a batch
    apart.
    """
    newline = model.model.image_newline.detach()[None]
    rows = [part.to(newline.dtype) for row in rows_of(records, model.device) for part in (row, newline)]
    return handed("video", torch.cat(rows)[:, None])


READER = Reader(
    llm="models.llava_onevision:LlavaOnevisionForConditionalGeneration",
    mark=mark,
    placeholder=lambda config: int(config.video_token_id),
    span=span,
    hand_over=hand_over,
    specials=1,
)
