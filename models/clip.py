"""CLIP: the vision tower of `CLIPModel` and `CLIPVisionModel` checkpoints.

Tokens: every patch as `CLIPVisionModel.last_hidden_state` has it, without the last layer norm, which is for CLS alone.
`frame_vectors`: its `pooler_output`, CLS after that norm; it is not projected into the space shared with text.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import plain_tower
from .checkpoint import Checkpoint
from .image_pixels import preprocess as preprocess  # what `vidcomp.preprocess(family=...)` calls
from .plain_passes import Kind
from .plain_tower import PlainTower

FAMILY = "clip"
TYPES = ("clip_vision_model",)  # the tower saved alone, with or without projection


def embed(tower: Any, pixels: Tensor) -> Tensor:
    """(B,3,h,w) -> (B,1+P,D), CLS first, after the first layer norm."""
    embedded: Tensor = tower.pre_layrnorm(tower.embeddings(pixels))
    return embedded


def last(tower: Any) -> Any:
    """The attention module of the last layer."""
    return tower.encoder.layers[-1].self_attn


def end(tower: Any, states: Tensor) -> Tensor:
    """(B,L,D), as they are."""
    return states


def pool(tower: Any, states: Tensor) -> Tensor:
    """(B,L,D) -> (B,D): CLS, normed."""
    pooled: Tensor = tower.post_layernorm(states[:, 0])
    return pooled


KIND = Kind(
    module="clip.modeling_clip",
    classes=("CLIPVisionModel", "CLIPVisionConfig"),
    whole="vision_model.",
    special=1,
    defaults={"image_size": 224, "patch_size": 32},
    embed=embed,
    last=last,
    end=end,
    pool=pool,
)


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> PlainTower:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    return plain_tower.load(KIND, checkpoint, dtype)
