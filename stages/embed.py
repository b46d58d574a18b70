"""A chunk of frames becomes a part of a record: gate, encode, segment and merge.

Runners call `embed` and `reduce` for each chunk in turn; what one chunk hands to the next is in `Progress`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models.base import VideoModel
from ..models.scores import masked
from ..models.types import Frames, ShapeError, TokenGrid
from .audio import Listening, reduce_audio
from .failure import SourceError
from .gate import Gate, behind, kept_mask
from .guide import Guidance, Guide
from .guided import decide_guided, valid_of_steps
from .methods import Method
from .pack import Progress, pack, pack_audio, pack_guidance
from .reduction import Reduction
from .safefile import Source
from .saliency import Noticed

SCORES = frozenset({"attention", "frame_vectors"})  # what a model can add to its tokens, if it is asked to


@dataclass(frozen=True, eq=False)
class Embedded:
    """A chunk's tokens, what the gate decided of them, if there is one, and what its sound says of them."""

    frames: Frames
    grid: TokenGrid
    gate: Reduction | None = None
    gate_carry: Tensor | None = None
    audio_pts_s: Tensor | None = None
    guidance: Guidance | None = None


@dataclass(frozen=True, eq=False)
class Embedder:
    """A model that is set up, a method that fits it, and perhaps a gate, sound that guides, and a bound beyond which
    received attention counts for nothing (`models/scores.masked`)."""

    model: VideoModel
    method: Method
    gate: Gate | None = None
    guide: Guide | None = None
    sink_times: float | None = None

    def embed(self, frames: Frames, size: tuple[int, int], at: Progress) -> Embedded:
        """The chunk's tokens, with the scores and pixels that the method asks for; `size` (h, w) is the model's."""
        wants = self.method.needs & self.model.provides & SCORES
        if self.gate is None:
            grid = self.model.encode(frames.data, frames.pts_s, size, wants=wants)
            return Embedded(frames, self._seen(grid, frames))
        first_pts_s = frames.pts_s[:: self.model.temporal_patch]
        side = self.model.token_pixels
        assert side is not None  # pipeline.build refuses a gate for a model without
        gate, carry = self.gate.decide(frames, first_pts_s, (size[0] // side, size[1] // side), at.gate_carry)
        grid = self.model.encode(frames.data, frames.pts_s, size, wants=wants, keep=kept_mask(gate))
        return Embedded(frames, self._seen(grid, frames), gate, carry)

    def hear(self, chunk: Embedded, listening: Listening, number: int) -> Embedded:
        """The chunk with the sound of its time."""
        heard, pts_s = listening.until(number)
        tokens = heard.tokens if len(heard.tokens) else chunk.grid.data.new_empty(0, chunk.grid.data.shape[3])
        grid = replace(chunk.grid, audio=tokens, audio_attention=heard.attention)
        return replace(chunk, grid=grid, audio_pts_s=pts_s)

    def guided(self, chunk: Embedded, noticed: Noticed, end_s: float, step_s: float) -> Embedded:
        """The chunk with guidance by what was noticed of its sound; it ends at `end_s` on the video's clock, a grid
        step is `step_s` seconds of a whole video."""
        assert self.guide is not None
        borders_s = torch.cat([chunk.grid.pts_s, chunk.grid.pts_s.new_tensor([end_s])])
        guidance = self.guide.guidance(noticed, borders_s, valid_of_steps(chunk.grid), step_s)
        return replace(chunk, guidance=guidance)

    def reduce(self, chunk: Embedded, at: Progress, tokens: int | None) -> tuple[dict[str, Source], Progress]:
        """The part's tensors, and where the next chunk goes on; `tokens` None: the method's own parameter decides.

        Raises `SourceError` on what the method refuses (too many points, a grid it cannot tile).
        """
        try:
            found, carry = self._decide(chunk, at.carry, tokens)
        except ShapeError:
            raise  # tensors that do not fit together are our fault
        except ValueError as e:
            raise SourceError("unsupported", str(e), "see the method's settings") from None
        if chunk.gate is not None:
            found = behind(chunk.gate, found)
        carries = {"carry": carry, "gate_carry": chunk.gate_carry}
        tensors = pack(chunk.frames, chunk.grid, found, carries, at)
        heard = kept = 0
        if chunk.audio_pts_s is not None:
            sound = reduce_audio(self.method, chunk.grid)
            tensors |= pack_audio(chunk.grid, sound, chunk.audio_pts_s, at)
            heard, kept = sound.source_count, len(sound)
        if chunk.guidance is not None:
            tensors |= pack_guidance(chunk.guidance)
        done = at.chunks + 1, at.steps + chunk.grid.shape[0], at.rows + len(found)
        return tensors, Progress(*done, carry, chunk.gate_carry, at.heard + heard, at.audio_rows + kept)

    def _decide(self, chunk: Embedded, carry: Tensor | None, tokens: int | None) -> tuple[Reduction, Tensor | None]:
        if chunk.guidance is None:
            return self.method.decide(chunk.grid, carry, tokens)
        return decide_guided(self.method, chunk.grid, carry, tokens, chunk.guidance)

    def _seen(self, grid: TokenGrid, frames: Frames) -> TokenGrid:
        """The tokens as the method is to see them."""
        if self.sink_times is not None and grid.attention is not None:
            grid = replace(grid, attention=masked(grid.attention, valid=grid.valid, sink_times=self.sink_times))
        if "pixels" not in self.method.needs:
            return grid
        return replace(grid, pixels=frames.data.to(grid.data.device))
