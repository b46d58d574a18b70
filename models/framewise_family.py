"""What a family says that takes each frame as a picture, over what is so for most of them.

Legend: B frames of a pass; P patches, N tokens of a frame; S places in a pass (CLS, then patches); h w rows and columns
of patches, H W of tokens; C channels of the tower, D of the LLM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .checkpoint import Checkpoint
from .framewise_parts import Geometry, Parts


@dataclass(eq=False)
class Family:
    """How the tower of one checkpoint is taken apart; `dtype` is the name of the one that it runs in."""

    checkpoint: Checkpoint
    dtype: str

    family: ClassVar[str]
    special: ClassVar[int] = 0  # tokens of the tower before its patches: CLS
    feature_layer: ClassVar[int] = -1  # where config.json names no vision_feature_layer

    @property
    def geometry(self) -> Geometry:
        """From config.json alone."""
        raise NotImplementedError

    def load_parts(self) -> Parts:
        """Real config, tower and head, on the CPU."""
        raise NotImplementedError

    def embed(self, tower: Any, pixels: Tensor) -> Tensor:
        """(B,3,h,w) -> (B,S,C): what the first layer takes."""
        states: Tensor = tower.embeddings(pixels)
        return states

    def call_layer(self, layer: Any, states: Tensor, mask: Tensor | None) -> Tensor:
        """(B,S,C) -> (B,S,C); `mask` bool (B,1,1,S), False for padding."""
        after: Tensor = layer(states, attention_mask=mask)
        return after

    def read(self, parts: Parts, states: list[Tensor]) -> Tensor:
        """The states of `parts.read`, each (B,S,C) -> what is projected (B,S,C)."""
        return states[0] if len(states) == 1 else torch.cat(states, dim=-1)

    def tokens(self, parts: Parts, patches: Tensor) -> Tensor:
        """(B,P,C) -> (B,N,D): pooled and projected."""
        raise NotImplementedError

    def pool(self, planes: Tensor) -> Tensor:
        """(B,C,h,w) of patches -> (B,C,H,W) of tokens: the weights with which tokens read patches."""
        return avg_pool2d(planes, self.geometry.step or 1)
