"""SigLIP, and SigLIP 2 of fixed size: the vision tower of `SiglipModel` and `SiglipVisionModel` checkpoints.

Tokens: every patch after the last layer norm; there is no CLS. `frame_vectors`: the attention-pooling head's output
where the checkpoint has a head (`vision_use_head`), else the mean of the frame's tokens. `attention`: what patches
receive in the last layer; the head's own probe attention (FastVID's score with LLaVA-OneVision) is not given.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import plain_tower
from .checkpoint import Checkpoint
from .image_pixels import preprocess as preprocess  # what `vidcomp.preprocess(family=...)` calls
from .plain_passes import Kind
from .plain_tower import PlainTower

FAMILY = "siglip"
TYPES = ("siglip_vision_model",)  # the tower saved alone


def embed(tower: Any, pixels: Tensor) -> Tensor:
    """(B,3,h,w) -> (B,P,D)."""
    embedded: Tensor = tower.embeddings(pixels)
    return embedded


def last(tower: Any) -> Any:
    """The attention module of the last layer."""
    return tower.encoder.layers[-1].self_attn


def end(tower: Any, states: Tensor) -> Tensor:
    """(B,L,D) -> (B,L,D): the last layer norm."""
    normed: Tensor = tower.post_layernorm(states)
    return normed


def pool(tower: Any, states: Tensor) -> Tensor:
    """(B,L,D) -> (B,D): the head's output, or the mean where there is no head."""
    pooled: Tensor = tower.head(states) if tower.use_head else states.mean(1)
    return pooled


KIND = Kind(
    module="siglip.modeling_siglip",
    classes=("SiglipVisionModel", "SiglipVisionConfig"),
    whole="vision_model.",
    special=0,
    defaults={"image_size": 224, "patch_size": 16},
    embed=embed,
    last=last,
    end=end,
    pool=pool,
)


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> PlainTower:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    return plain_tower.load(KIND, checkpoint, dtype)
