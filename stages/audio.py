"""A clip's audio tokens, dealt out to the chunks in whose time they start.

Sound is encoded as one clip, from the first sampled frame's time on, whatever the chunks: a token goes to the chunk
that shows the pictures of its time, the rest of the sound to the last one.

Legend: n audio tokens of a chunk, N of the clip, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..models.base import AudioModel, Heard
from ..models.types import TokenGrid
from .methods import Method
from .reduction import Reduction

Sound = Callable[[], Iterator[Tensor]]  # the clip's samples float32 (S,), from its start, each time it is called


@dataclass(eq=False)
class Listening:
    """Reads a clip's sound once for its peak and once for its tokens. `ends_s` float seconds: the end of each chunk on
    the clip's clock; `start_s` the clip's first sample on the video's."""

    model: AudioModel
    sound: Sound
    start_s: float
    ends_s: Sequence[float]
    wants: frozenset[str] = frozenset()
    heard: int = 0  # tokens that an interrupted run has dealt out
    _parts: Iterator[Heard] | None = field(default=None, init=False, repr=False)
    _over: list[Heard] = field(default_factory=list, init=False, repr=False)  # encoded, and of a later chunk

    def until(self, chunk: int) -> tuple[Heard, Tensor]:
        """What is left of the sound up to the end of chunk `chunk`, of the last one all: tokens, and float64 (n,) when
        they start on the video's clock."""
        if self._parts is None:
            peak = self.model.audio_peak(self.sound())
            self._parts = without(self.model.encode_audio(self.sound(), peak, wants=self.wants), self.heard)
        last = chunk + 1 >= len(self.ends_s)
        heard = self._heard(float("inf") if last else self.ends_s[chunk])
        first, self.heard = self.heard, self.heard + len(heard.tokens)
        return heard, self.start_s + self.model.audio_pts_s(self.heard)[first:]

    def _heard(self, end_s: float) -> Heard:
        """The tokens that start before `end_s`, those of earlier chunks left out."""
        assert self._parts is not None
        held = sum(len(part.tokens) for part in self._over)
        while held == 0 or float(self.model.audio_pts_s(self.heard + held)[-1]) < end_s:
            part = next(self._parts, None)
            if part is None:
                break
            self._over.append(part)
            held += len(part.tokens)
        whole = joined(self._over)
        if whole is None:
            return Heard(torch.empty(0, 0), None)
        due = int((self.model.audio_pts_s(self.heard + held)[self.heard :] < end_s).sum())
        self._over = [cut(whole, due, held)] if due < held else []
        return cut(whole, 0, due)


def without(parts: Iterator[Heard], count: int) -> Iterator[Heard]:
    """The parts behind the first `count` tokens."""
    for part in parts:
        gone = min(count, len(part.tokens))
        count -= gone
        if gone < len(part.tokens):
            yield cut(part, gone, len(part.tokens))


def joined(parts: Sequence[Heard]) -> Heard | None:
    """Several parts as one; None of none."""
    if not parts:
        return None
    attention = [part.attention for part in parts if part.attention is not None]
    return Heard(torch.cat([part.tokens for part in parts]), torch.cat(attention) if attention else None)


def cut(heard: Heard, first: int, end: int) -> Heard:
    """Tokens `first` to `end` of a part."""
    attention = None if heard.attention is None else heard.attention[first:end]
    return Heard(heard.tokens[first:end], attention)


def reduce_audio(method: Method, grid: TokenGrid) -> Reduction:
    """Which audio tokens of a chunk stay: the method's own decision where it makes one, else all."""
    assert grid.audio is not None
    decide = getattr(method.merger, "reduce_audio", None)
    if decide is not None and len(grid.audio):
        found: Reduction = decide(grid)
        return found
    return Reduction.select((len(grid.audio), 1, 1), torch.arange(len(grid.audio), device=grid.audio.device))
