"""Sound as the Qwen Omni audio towers take it: the log-mel spectrogram of Whisper's feature extractor, in blocks.

Source: `WhisperFeatureExtractor` of transformers 5.23 (feature_extraction_whisper.py, its torch path), as the Omni
processors call it. Its result hangs on the whole clip in two ways: values are clipped 8 below the clip's largest, so a
clip is read twice (`peak`, then `scaled`), and both ends are mirrored. Both are kept here with memory for one block.

The sound comes in pieces cut anywhere; blocks are cut from the first sample on, so where the pieces end changes no bit.

Legend: S samples, F mel frames (one each `hop` samples), M mel bins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor

from .types import brief, law

FLOOR = 1e-10  # of a mel band's power: -10 in log10
RANGE = 8.0  # in log10, below the clip's largest value
HIGHEST_HZ = 8000.0


@dataclass(frozen=True)
class Mel:
    """`bins` M; `n_fft` samples a frame looks at; `hop` samples between frames; `rate` in Hz.

    `limit`: the clip is cut, and filled up with silence, to that many samples (`padding="max_length"`, Qwen2.5-Omni);
    None: it is taken as it is (Qwen3-Omni). Silence is never read, but for what the last frames see of it.
    """

    bins: int
    n_fft: int
    hop: int
    rate: int
    limit: int | None

    def frames(self, samples: int) -> int:
        """How many of a clip's frames hold sound (those that `attention_mask` counts); 0 where the sound is no longer
        than half a frame's view (12 ms), which the real extractor cannot mirror."""
        if samples <= self.n_fft // 2:
            return 0
        if self.limit is None:
            return samples // self.hop
        return min(-(-samples // self.hop), self.limit // self.hop)

    def peak(self, pieces: Iterable[Tensor]) -> float:
        """The largest log10 power of a clip, float32 (S,) in pieces; -10 for silence, or none."""
        beyond = 2 * self.n_fft  # frames past the last one that counts still see its end
        return max((float(part.max()) for part in self.powers(pieces, 1000, beyond)), default=-10.0)

    def scaled(self, power: Tensor, peak: float) -> Tensor:
        """What the tower takes of `power` (M,F), given the clip's `peak`."""
        return (power.clamp(min=peak - RANGE) + 4.0) / 4.0

    def powers(self, pieces: Iterable[Tensor], frames: int, beyond: int = 0) -> Iterator[Tensor]:
        """float32 (M, `frames`), the last one shorter: log10 power, in blocks counted from the first frame on.

        `beyond`: where there is a limit, the frames of so many samples of silence more.
        """
        window = torch.hann_window(self.n_fft)
        bank = self._bank()
        for view in self._views(pieces, frames, beyond):
            spectrum = torch.stft(view, self.n_fft, self.hop, window=window, center=False, return_complex=True)
            yield (bank @ spectrum.abs().square()).clamp(min=FLOOR).log10()

    def _bank(self) -> Tensor:
        """(M, n_fft / 2 + 1): how much each frequency counts for each mel band."""
        bank = import_module("transformers.audio_utils").mel_filter_bank(
            num_frequency_bins=1 + self.n_fft // 2,
            num_mel_filters=self.bins,
            min_frequency=0.0,
            max_frequency=HIGHEST_HZ,
            sampling_rate=self.rate,
            norm="slaney",
            mel_scale="slaney",
        )
        return torch.from_numpy(bank).float().T

    def _views(self, pieces: Iterable[Tensor], frames: int, beyond: int) -> Iterator[Tensor]:
        """The samples that each block of `frames` frames sees: they overlap, and both ends of the clip are mirrored."""
        half, step, total, held = self.n_fft // 2, frames * self.hop, 0, torch.empty(0)
        for part in recut(self._ended(pieces, beyond), max(step, self.n_fft)):
            if not total and len(part) <= half:
                return
            held = torch.cat([held, part]) if total else torch.cat([part[1 : half + 1].flip(0), part])
            total += len(part)
            while len(held) >= step + self.n_fft:
                yield held[: step - self.hop + self.n_fft]
                held = held[step:]
        mirrored = self.limit is None or total == self.limit
        held = torch.cat([held, held[-half - 1 : -1].flip(0) if mirrored else held.new_zeros(half)])
        left = (len(held) - 2 * half) // self.hop
        for first in range(0, left, frames):
            count = min(frames, left - first)
            yield held[first * self.hop :][: (count - 1) * self.hop + self.n_fft]

    def _ended(self, pieces: Iterable[Tensor], beyond: int) -> Iterator[Tensor]:
        """The clip as the extractor takes it: cut at the limit, or followed by the first of the silence up to it."""
        total = 0
        for piece in pieces:
            law(piece.ndim == 1 and piece.dtype == torch.float32, f"sound must be float32 (S,), got {brief(piece)}")
            part = piece if self.limit is None else piece[: self.limit - total]
            total += len(part)
            yield part
            if total == self.limit:
                return
        if self.limit is not None and total > self.n_fft // 2:
            yield torch.zeros(min(-total % self.hop + beyond, self.limit - total))


def recut(pieces: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same samples (S,) in parts of `size`; the last one may be shorter, none is empty."""
    held: list[Tensor] = []
    have = 0
    for piece in pieces:
        held.append(piece)
        have += len(piece)
        if have >= size:
            *whole, rest = torch.cat(held).split(size)
            whole, rest = (whole, rest) if len(rest) < size else ([*whole, rest], rest[:0])
            yield from whole
            held, have = [rest], len(rest)
    if have:
        yield torch.cat(held)
