"""An embedder for several threads."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Self

from ..models.types import Frames
from ..stages.audio import Listening
from ..stages.embed import Embedded, Embedder
from ..stages.pack import Progress


@dataclass(frozen=True, eq=False)
class OneAtATime(Embedder):
    """The model takes one chunk at a time: what watches its layers (`models/scores.py`) lies on its modules. What is
    decided of a chunk, and stored, goes on beside it."""

    _lock: Lock = field(default_factory=Lock, init=False)

    @classmethod
    def of(cls, embedder: Embedder) -> Self:
        """The same, for several threads."""
        return cls(embedder.model, embedder.method, embedder.gate, embedder.guide, embedder.sink_times)

    def embed(self, frames: Frames, size: tuple[int, int], at: Progress) -> Embedded:
        with self._lock:
            return super().embed(frames, size, at)

    def hear(self, chunk: Embedded, listening: Listening, number: int) -> Embedded:
        with self._lock:
            return super().hear(chunk, listening, number)
