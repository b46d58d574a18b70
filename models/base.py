"""What every model family answers to. Protocols: a family's file needs to import nothing but the core types.

A family's file is a module of this folder with `FAMILY = "<its own file's name>"` at the top level: the
`model_type` of the checkpoints' config.json (`families.py` finds it without importing it), and, where they have others
too, `TYPES = ("...", )`. It defines

    load(checkpoint, *, dtype=None) -> VideoModel          weights are not read before `setup`
    preprocess(frames, settings) -> dict of tensors         what the vision tower takes, without weights

and, where a language model reads its tokens, `READER`, a `reader.Reader`: how a video stands in the prompt and how its
rows are handed over (`consume.prepare` and `load.load_llm` do the rest).

A built-in family has no checkpoint and no LLM: `load()` is all it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from .types import TokenGrid


class VideoModel(Protocol):
    """Turns frames into the visual tokens that one model's language part would read."""

    @property
    def family(self) -> str:
        """The name of the family's file."""

    @property
    def provides(self) -> frozenset[str]:
        """What can be added to the tokens when asked (`wants`): any of `attention`, `frame_vectors` (by `encode`),
        `audio_attention` (by `AudioModel.encode_audio`)."""

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


class Heard(NamedTuple):
    """Part of a clip's sound: `tokens` (n,D), in order of time; `attention` float32 (n,), how much each is attended to
    in the audio tower's last layer, comparable all over the clip, where it was wanted."""

    tokens: Tensor
    attention: Tensor | None


class AudioModel(VideoModel, Protocol):
    """A model that also listens. A clip's sound is read twice, in pieces cut anywhere, so that none of it is kept:

        peak = model.audio_peak(pieces())
        for tokens, attention in model.encode_audio(pieces(), peak): ...

    Sound is float32 (S,), mono, at `audio_rate`, its first sample at the time of the video's first frame. What the two
    methods give depends on the samples alone, never on where the pieces end.
    """

    @property
    def audio_rate(self) -> int:
        """Samples per second."""

    def audio_count(self, samples: int) -> int:
        """How many audio tokens a clip of so many samples has; the model may leave out a long clip's end."""

    def audio_pts_s(self, count: int) -> Tensor:
        """float64 (count,): when the clip's first `count` tokens start, in seconds from its first sample."""

    def audio_peak(self, pieces: Iterable[Tensor]) -> float:
        """What `encode_audio` must know of the whole clip before its first token."""

    def encode_audio(
        self, pieces: Iterable[Tensor], peak: float, *, wants: frozenset[str] = frozenset()
    ) -> Iterator[Heard]:
        """The clip's audio tokens, part by part. `wants`: `audio_attention`, where it is among `provides`."""
