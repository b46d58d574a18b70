"""InternVL (the transformers class; InternVL3): each frame through InternViT, 2 x 2 patches side by side, projected.

Source: transformers 5.23, modeling_internvl.py (`get_image_features`, `pixel_shuffle`) and processing_internvl.py
(`replace_video_token`). To this model a video is a row of pictures: its rows go in as an image's.

Legend: B frames of a pass, P patches, N tokens of a frame, S places in a pass (CLS, then patches), C channels of the
tower, D of the LLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from . import prompt, tower
from .checkpoint import Checkpoint, dtype_name
from .consume import check
from .framewise import Framewise
from .framewise_parts import (
    PROJECTOR_PREFIXES,
    Geometry,
    Parts,
    check_geometry,
    check_strategy,
    load_module,
    side_of,
)
from .framewise_pixels import preprocess as preprocess  # what `vidcomp.preprocess(family=...)` calls
from .framewise_prompt import handed, spelled
from .jsonfile import CheckpointError
from .reader import Reader, Span, rows_of
from .types import KeptVideo

FAMILY = "internvl"
TOWER_PREFIXES = ("vision_tower.", "model.vision_tower.")  # as released; as the class's own names are


class InternVL(Framewise):
    """`VideoModel` of an InternVL checkpoint.

    `keep` is exact: a token is a block of 2 x 2 patches, and CLS always passes through the tower.
    """

    family = FAMILY
    special = 1

    @property
    def geometry(self) -> Geometry:
        """448 pixels in 32 x 32 patches, 2 x 2 of them a token."""
        config = self.checkpoint.config
        vision = config.get("vision_config", {})
        step = int(1 / (config.get("downsample_ratio") or 0.5))
        return Geometry(side_of(vision, "image_size", 448), side_of(vision, "patch_size", 14), step)

    def load_parts(self) -> Parts:
        """InternViT and the projector."""
        intern = import_module("transformers.models.internvl.modeling_internvl")
        config = intern.InternVLConfig.from_dict(deepcopy(dict(self.checkpoint.config)))
        real, make = intern.InternVLVisionModel, partial(intern.InternVLMultiModalProjector, config)
        return Parts(
            config,
            tower.load(real, config.vision_config, self.checkpoint, TOWER_PREFIXES, self.dtype),
            load_module(make, self.checkpoint, PROJECTOR_PREFIXES, self.dtype),
        )

    def call_layer(self, layer: Any, states: Tensor, mask: Tensor | None) -> Tensor:
        """(B,S,C) -> (B,S,C). The layer takes no mask but its attention does: it is given on the way in."""
        if mask is None:
            plain: Tensor = layer(states)
            return plain

        def give(module: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
            return args, {**kwargs, "attention_mask": mask}

        handle = layer.attention.register_forward_pre_hook(give, with_kwargs=True)
        try:
            masked: Tensor = layer(states)
        finally:
            handle.remove()
        return masked

    def read(self, parts: Parts, states: list[Tensor]) -> Tensor:
        """(B,S,C): behind the last norm by default; a layer named otherwise is read as it is."""
        return parts.tower.layernorm(states[0]) if parts.config.vision_feature_layer == -1 else states[0]

    def tokens(self, parts: Parts, patches: Tensor) -> Tensor:
        """(B,P,C) -> (B,N,D): a block's patches side by side, in raster order, then projected."""
        side, step = self.geometry.tokens, self.geometry.step or 1
        blocks = patches.view(len(patches), side, step, side, step, -1).transpose(2, 3)
        rows: Tensor = parts.head(blocks.reshape(len(patches), side * side, -1))
        return rows


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> InternVL:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    model = InternVL(checkpoint, dtype_name(dtype or checkpoint.dtype))
    check_geometry(checkpoint, "internvl_vision", model.geometry)
    check_strategy(checkpoint, "default")
    if not isinstance(checkpoint.config.get("vision_feature_layer", -1), int):
        raise CheckpointError(f"{checkpoint.model_id}: vision_feature_layer must be one layer, the model takes no more")
    return model


def mark(config: Any, tokenizer: Any) -> tuple[int]:
    """`<IMG_CONTEXT>`: what `text` puts where the chat template writes a video."""
    return (config.image_token_id,)


def text(tokenizer: Any, question: str, records: Sequence[KeptVideo]) -> str:
    """The chat template's text; where it writes a video stands the name of its first frame and a mark.

    The name has to be there before the text becomes ids: no special token parts it from what precedes it.
    """
    video, image = words(tokenizer, "video_token", "context_image_token")
    whole = prompt.written(tokenizer, question, video, len(records))
    return whole.replace(video, f"Frame1: {image}")


def span(config: Any, tokenizer: Any, record: KeptVideo, rule: str) -> Span:
    """`<img>` tokens `</img>` for each frame, from the second on named by its number, as the processor writes it.

    A frame whose tokens were all dropped keeps its name and its two marks.
    """
    check(record, FAMILY, config.get_text_config().hidden_size)
    image, start, end = words(tokenizer, "context_image_token", "start_image_token", "end_image_token")
    frames = [f"{start}{image}{end}", *(f"Frame{i + 1}: {start}{image}{end}" for i in range(1, record.grid[0]))]
    return spelled(tokenizer, "\n".join(frames), config.image_token_id, record)


def words(tokenizer: Any, *names: str) -> list[str]:
    """The tokenizer's own spelling of special tokens, which the released ones name so."""
    usual = {
        "video_token": "<video>",
        "context_image_token": "<IMG_CONTEXT>",
        "start_image_token": "<img>",
        "end_image_token": "</img>",
    }
    return [getattr(tokenizer, name, usual[name]) for name in names]


def hand_over(model: Any, input_ids: Tensor, records: Sequence[KeptVideo]) -> dict[str, Any]:
    """Rows as `get_image_features` would have returned them.

    As (rows,1,D), which the model takes as it does (frames,N,D): only so does beam search tell the videos of a batch
    apart.
    """
    return handed("image", torch.cat(rows_of(records, model.device))[:, None])


READER = Reader(
    llm="models.internvl:InternVLForConditionalGeneration",
    mark=mark,
    placeholder=lambda config: int(config.image_token_id),
    span=span,
    hand_over=hand_over,
    text=text,
)
