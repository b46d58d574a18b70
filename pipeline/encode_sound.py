"""A video's sound beside its chunks: what the model hears, and what guides the budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, cast

from torch import Tensor

from ..models.base import AudioModel, VideoModel
from ..stages.audio import Listening
from ..stages.embed import Embedded, Embedder
from ..stages.guide import attended
from ..stages.noticing import Noticing
from ..stages.read import Reading
from ..stages.saliency import RATE

AtRate = Callable[[int], Iterator[Tensor]]  # samples float32 (S,) at that rate, from the start, each time it is called


@dataclass(frozen=True, eq=False)
class Hearing:
    """What is heard of one clip. `start_s`: its first frame's time; `ends_s` seconds from there to the end of each
    chunk; `step_s` of a grid step. Both parts are None for a clip without sound; `noticing` too where nothing is
    guided, or the model listens."""

    embedder: Embedder
    start_s: float
    ends_s: Sequence[float]
    step_s: float
    listening: Listening | None = None
    noticing: Noticing | None = None

    @classmethod
    def of(cls, embedder: Embedder, reading: Reading, heard: int, listens: bool) -> Self:
        """Of a file. `heard`: audio tokens that an interrupted run has dealt out; `listens`: whether a model that can
        does."""
        plan = reading.plan
        clip = float(plan.pts_s[0]), plan.chunk_ends_s, embedder.model.temporal_patch / plan.fps
        if not reading.info.has_audio:
            return cls(embedder, *clip)
        return cls.over(embedder, reading.sound, *clip, heard=heard, listens=listens)

    @classmethod
    def over(
        cls,
        embedder: Embedder,
        sound: AtRate,
        start_s: float,
        ends_s: Sequence[float],
        step_s: float,
        *,
        heard: int = 0,
        listens: bool = True,
    ) -> Self:
        """Of a clip that has sound; it begins at `start_s`."""
        listening = noticing = None
        if listens and can_listen(embedder.model):
            model = cast(AudioModel, embedder.model)
            asked = embedder.guide is not None or "audio" in embedder.method.needs
            wants = model.provides & ({"audio_attention"} if asked else set())
            listening = Listening(model, lambda: sound(model.audio_rate), start_s, ends_s, wants, heard)
        elif embedder.guide is not None:
            noticing = Noticing(lambda: sound(RATE), start_s, ends_s)
        return cls(embedder, start_s, ends_s, step_s, listening, noticing)

    def add(self, chunk: Embedded, number: int) -> Embedded:
        """Chunk `number` with the sound of its time, and with guidance by it."""
        if self.listening is not None:
            chunk = self.embedder.hear(chunk, self.listening, number)
        if self.embedder.guide is None:
            return chunk
        if self.noticing is not None:
            noticed = self.noticing.of(number)
        elif chunk.audio_pts_s is not None:
            noticed = attended(chunk.grid.audio_attention, chunk.audio_pts_s)
        else:
            return chunk
        return self.embedder.guided(chunk, noticed, self.start_s + self.ends_s[number], self.step_s)


def can_listen(model: VideoModel) -> bool:
    """Whether a model hears as well as it sees."""
    return hasattr(model, "encode_audio")
