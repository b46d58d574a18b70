"""What is noticed of a clip's sound, chunk by chunk, for models that do not listen."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .audio import Sound
from .saliency import RATE, Noticed, analysed


@dataclass(eq=False)
class Noticing:
    """Reads a clip's sound (at `saliency.RATE`) once, beside its chunks. `start_s`, `ends_s` as in `Listening`."""

    sound: Sound
    start_s: float
    ends_s: Sequence[float]
    _pieces: Iterator[Tensor] | None = field(default=None, init=False, repr=False)
    _over: Tensor | None = field(default=None, init=False, repr=False)  # read, and of a later chunk
    _at: int = field(default=0, init=False, repr=False)  # samples behind us

    def of(self, chunk: int) -> Noticed:
        """Of the sound of chunk `chunk`'s time, of the last one to the sound's end, so that its reader is done; what
        nobody asked for before is passed over."""
        borders = [round(end_s * RATE) for end_s in (0.0, *self.ends_s[:-1])]
        first, end = [*borders, sys.maxsize][chunk : chunk + 2]
        for _ in self._until(first):
            pass
        return analysed(self._until(end), self.start_s + first / RATE)

    def _until(self, end: int) -> Iterator[Tensor]:
        """What is left of the samples before `end`, in pieces."""
        self._pieces = self._pieces or self.sound()
        while self._at < end:
            piece = next(self._pieces, None) if self._over is None else self._over
            if piece is None:
                return
            mine, rest = piece[: end - self._at], piece[end - self._at :]
            self._over = rest if len(rest) else None
            self._at += len(mine)
            yield mine
