"""What every model family answers to. Protocols: a family's file needs to import nothing but the core types.

A family's file is a module of this folder with `FAMILY = "<its own file's name>"` at the top level: the
`model_type` of the checkpoints' config.json (`families.py` finds it without importing it). It defines

    load(checkpoint, *, dtype=None) -> VideoModel          weights are not read before `setup`
    preprocess(frames, settings) -> dict of tensors         what the vision tower takes, without weights

and, where a language model reads its tokens, `READER`, a `reader.Reader`: how a video stands in the prompt and how its
rows are handed over (`consume.prepare` and `load.load_llm` do the rest).

A built-in family has no checkpoint and no LLM: `load()` is all it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from torch import Tensor

from .types import TokenGrid


class VideoModel(Protocol):
    """Turns frames into the visual tokens that one model's language part would read."""

    @property
    def family(self) -> str:
        """The name of the family's file."""

    @property
    def provides(self) -> frozenset[str]:
        """What `encode` can add to the tokens when asked (`wants`): any of `attention`, `frame_vectors`."""

    @property
    def temporal_patch(self) -> int:
        """Frames that make one time step; an odd tail is padded as the model's own processor does."""

    @property
    def token_pixels(self) -> int | None:
        """Side of the square of pixels, at model size, that makes one token; None where pixels do not tile the grid."""

    def frame_size(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """(h, w) in pixels at which a whole clip of `frames` pictures of (height, width) enters the model."""

    def resize(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        """uint8 (T,H,W,3) -> uint8 (T,h,w,3), each frame by itself, as the model's own processor does."""

    def preprocess(self, frames: Tensor, size: tuple[int, int] | None = None) -> Mapping[str, Tensor]:
        """uint8 (T,H,W,3) -> what the vision tower takes, named as the real processor names it."""

    @property
    def skips(self) -> Literal["exact", "filled"] | None:
        """What `keep` does. `exact`: only kept tokens pass through the tower, and see each other alone. `filled`: the
        tower needs its whole grid; holes are filled with the last kept frame's patches, and time is not saved
        everywhere. None: `keep` is refused."""

    def encode(
        self,
        frames: Tensor,
        pts_s: Tensor,
        size: tuple[int, int] | None = None,
        *,
        wants: frozenset[str] = frozenset(),
        keep: Tensor | None = None,
    ) -> TokenGrid:
        """uint8 (T,H,W,3), float64 (T,) -> tokens; `size` None: resolved from these frames alone.

        `wants`: of `provides`, what to add. `keep` bool (T,H,W) of the token grid, where `skips` allows: the other
        tokens are not computed, come out as zeros, and are False in the grid's `valid`.
        """

    def setup(self, device: str) -> None:
        """Load weights onto `device`; called once, on the worker that encodes."""
