"""DINOv2 (without registers): the tower of `Dinov2Model` checkpoints. `frame_vectors`: CLS after the last layer norm.

Released checkpoints are trained at 518 x 518, and their processor makes 224 x 224: `Dinov2Model` fits its position
embeddings to whatever enters, and so it does here. Without the crop (`do_center_crop` false) pictures keep their
aspect; what is left over of whole patches at the right and the bottom is not seen, as by the real class.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import plain_tower
from .checkpoint import Checkpoint
from .image_pixels import preprocess as preprocess  # what `vidcomp.preprocess(family=...)` calls
from .plain_passes import Kind
from .plain_tower import PlainTower

FAMILY = "dinov2"


def embed(tower: Any, pixels: Tensor) -> Tensor:
    """(B,3,h,w) -> (B,1+P,D), CLS first."""
    embedded: Tensor = tower.embeddings(pixels)
    return embedded


def last(tower: Any) -> Any:
    """The attention module of the last layer."""
    return tower.encoder.layer[-1].attention


def end(tower: Any, states: Tensor) -> Tensor:
    """(B,L,D) -> (B,L,D): the last layer norm."""
    normed: Tensor = tower.layernorm(states)
    return normed


def pool(tower: Any, states: Tensor) -> Tensor:
    """(B,L,D) -> (B,D): CLS."""
    return states[:, 0]


KIND = Kind(
    module="dinov2.modeling_dinov2",
    classes=("Dinov2Model", "Dinov2Config"),
    whole="dinov2.",
    special=1,
    defaults={"image_size": 224, "patch_size": 14},
    any_size=True,
    embed=embed,
    last=last,
    end=end,
    pool=pool,
)


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> PlainTower:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    return plain_tower.load(KIND, checkpoint, dtype)
