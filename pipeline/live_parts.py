"""A closed chunk of a live source through the model and the method, as `VideoEncoder` does it for a file's."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from ..models.base import AudioModel
from ..stages.budget import ChunkBudget
from ..stages.embed import Embedded
from ..stages.pack import Progress
from ..stages.saliency import RATE
from .build import torch_threads
from .encode import VideoEncoder
from .encode_sound import Hearing, can_listen
from .live_chunks import Closed
from .stream_told import Part


class LiveParts:
    """Chunk after chunk of one source, sampled at `fps`, at model size (h, w). The sound of each chunk is a clip of its
    own: what a model makes of it does not depend on what will be heard later."""

    def __init__(self, encoder: VideoEncoder, fps: float, size: tuple[int, int]) -> None:
        self.encoder, self.fps, self.size = encoder, fps, size
        self.budget = ChunkBudget(encoder.recipe.budget.asked, 0, fps)
        self.at, self.frames = Progress(), 0

    def forget(self) -> None:
        """A gap: what the next chunk shows does not follow on what was seen."""
        self.at = replace(self.at, carry=None, gate_carry=None)

    def part(self, closed: Closed) -> Part:
        """The chunk's tensors, and its grid."""
        embedder = self.encoder.embedder
        self.frames += len(closed.frames.pts_s)
        with torch_threads(self.encoder.recipe.compute.threads):
            chunk = self._heard(embedder.embed(closed.frames, self.size, self.at), closed)
            due = self.budget.of(0, self.frames)  # what chunks before had no use for is due now, as in a file
            tensors, self.at = embedder.reduce(chunk, self.at, None if due is None else due - self.at.rows)
        return tensors, chunk.grid.shape

    def _heard(self, chunk: Embedded, closed: Closed) -> Embedded:
        if closed.sound is None:
            return chunk
        sound, start_s = closed.sound, float(closed.frames.pts_s[0])
        hearing = Hearing.over(
            self.encoder.embedder,
            lambda rate: iter([sound]),
            start_s,
            [closed.end_s - start_s],
            self.encoder.model.temporal_patch / self.fps,
            listens=self.encoder.recipe.model.sound,
        )
        return hearing.add(chunk, 0)


def sound_rate(encoder: VideoEncoder) -> int | None:
    """Samples a second of the sound that is wanted; None: none is."""
    if encoder.recipe.model.sound and can_listen(encoder.model):
        return cast(AudioModel, encoder.model).audio_rate
    return RATE if encoder.embedder.guide is not None else None
