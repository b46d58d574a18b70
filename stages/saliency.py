"""How much of a chunk's sound is worth hearing, hop by hop: a weight-free analyser, for models that do not listen.

A hop is 50 ms, seen through a Hann window of 100 ms around its middle; its power (1 = full scale) stands in BANDS mel
bands from 60 Hz to 7.6 kHz, E_b. With L = 10 log10 of their sum, in dB, and M_b = 10 log10 E_b:

    floor   = the larger of: the level that a tenth of the chunk's hops does not exceed; 50 dB under its loudest hop
    level   = clip((L - floor - 3 dB) / 30 dB, 0, 1)
    onset   = clip(sum_b (E_b / E) max(0, M_b - M_b of the hop before) / 12 dB, 0, 1)     spectral flux; 0 at the start
    speech  = the share of E in the bands whose middle lies in 300 to 3400 Hz
    saliency = level (1/2 + onset/4 + speech/4)                                          0 to 1

All but -110 dB, under which there is silence, is relative: a gain changes nothing. Silence, and noise that neither
swells nor ends, give 0. State: the chunk's own hops, 5 kB a second, and nothing of any other chunk; so a stream
that closes the chunk and a file give the same. Sums are float64 over batches counted from the chunk's first sample:
where pieces are cut changes no bit.

Legend: S samples, U hops, B bands, V samples of a view.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ..models.types import brief, law

RATE: Final = 16000  # Hz
HOP: Final = 800  # samples
VIEW: Final = 1600
BATCH: Final = 200  # hops analysed at a time
BANDS: Final = 32
LOWEST_HZ, HIGHEST_HZ = 60.0, 7600.0
SPEECH_HZ = 300.0, 3400.0  # what a telephone carries

SILENT_DB = -110.0  # less is silence
LEAST_POWER = 1e-14  # of a band: under its part of any floor
QUIET_SHARE = 0.1  # of the hops
RANGE_DB, DEAD_DB, FULL_DB, ONSET_DB = 50.0, 3.0, 30.0, 12.0
ONSET_PART = SPEECH_PART = 0.25


@dataclass(frozen=True, eq=False)
class Noticed:
    """What was noticed of a chunk's sound, in units one after the other (hops, or a model's audio tokens).

    `value` float64 (U,) >= 0; `edges_s` float64 (U+1,), when each starts and the last ends, on the video's clock.
    """

    value: Tensor
    edges_s: Tensor


def analysed(pieces: Iterable[Tensor], start_s: float) -> Noticed:
    """A chunk's sound, samples float32 (S,) at RATE in pieces cut anywhere, the first one at `start_s`."""
    power_UB = torch.cat([torch.empty(0, BANDS, dtype=torch.float64), *powers(pieces)])
    edges_s = start_s + torch.arange(len(power_UB) + 1, dtype=torch.float64) * (HOP / RATE)
    return Noticed(saliency(power_UB), edges_s)


def saliency(power_UB: Tensor) -> Tensor:
    """float64 (U,) in [0, 1] of a chunk's band powers, by the formulas above."""
    if not len(power_UB):
        return power_UB.new_empty(0)
    level_U = decibel(power_UB.sum(1)).clamp_min(SILENT_DB)
    quiet = level_U.sort().values[int(QUIET_SHARE * (len(level_U) - 1))]
    floor = torch.maximum(quiet, level_U.max() - RANGE_DB)
    above_U = ((level_U - floor - DEAD_DB) / FULL_DB).clamp(0, 1)
    share_UB = shares(power_UB)
    speech_U = share_UB[:, speech_bands()].sum(1)
    return above_U * (1 - ONSET_PART - SPEECH_PART + ONSET_PART * onset(power_UB, floor) + SPEECH_PART * speech_U)


def onset(power_UB: Tensor, floor: Tensor) -> Tensor:
    """float64 (U,) in [0, 1]: how much the bands rise over the hop before, each by its share; not from under the floor,
    of which each band has an equal part."""
    band_UB = torch.maximum(decibel(power_UB), floor - 10 * math.log10(BANDS))
    rise_UB = band_UB.diff(dim=0, prepend=band_UB[:1]).clamp_min(0)
    return ((shares(power_UB) * rise_UB).sum(1) / ONSET_DB).clamp(0, 1)


def shares(power_UB: Tensor) -> Tensor:
    """float64 (U,B): each band's share of its hop's power."""
    return power_UB / power_UB.sum(1, keepdim=True).clamp_min(LEAST_POWER)


def decibel(power: Tensor) -> Tensor:
    """Power in dB, 0 for full scale, -140 at least."""
    return 10 * power.clamp_min(LEAST_POWER).log10()


# -- from samples to bands -----------------------------------------------------------------------------------


def powers(pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """float64 (n, BANDS) of each batch of hops; ceil(S / HOP) hops in all, both ends seen as silence."""
    window_V = torch.hann_window(VIEW, periodic=False, dtype=torch.float64)
    weight_FB = filters() * (2 / (VIEW * window_V.square().sum()))
    for views_UV in views(pieces):
        yield torch.fft.rfft(views_UV * window_V).abs().square() @ weight_FB


def views(pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """float64 (n, VIEW), n = BATCH but for the last: hop u sees HOP/2 samples before its own and HOP/2 after them."""
    margin, full = (VIEW - HOP) // 2, (BATCH - 1) * HOP + VIEW
    held, hops, seen = torch.zeros(margin, dtype=torch.float64), 0, 0
    for piece in pieces:
        law(piece.ndim == 1 and piece.dtype == torch.float32, f"sound must be float32 (S,), got {brief(piece)}")
        seen += len(piece)
        sound = torch.nan_to_num(piece.double(), nan=0, posinf=0, neginf=0)  # as a damaged float file may hold
        held = torch.cat([held, sound])
        while len(held) >= full:
            yield held[:full].unfold(0, VIEW, HOP)
            held, hops = held[BATCH * HOP :], hops + BATCH
    if left := -(-seen // HOP) - hops:
        silence = max((left - 1) * HOP + VIEW - len(held), 0)
        yield torch.nn.functional.pad(held, (0, silence)).unfold(0, VIEW, HOP)[:left]


def mel_edges() -> Tensor:
    """float64 (BANDS + 2,): where the triangles start, peak and end, in Hz, evenly in 2595 log10(1 + f/700)."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (LOWEST_HZ, HIGHEST_HZ))
    return 700 * (10 ** (torch.linspace(low, high, BANDS + 2, dtype=torch.float64) / 2595) - 1)


def filters() -> Tensor:
    """float64 (VIEW/2 + 1, BANDS): triangles of height 1, so that neighbours add up to 1."""
    edges, hz_F1 = mel_edges(), (torch.arange(VIEW // 2 + 1, dtype=torch.float64) * RATE / VIEW)[:, None]
    up, down = (
        (hz_F1 - edges[:-2]) / (edges[1:-1] - edges[:-2]),
        (edges[2:] - hz_F1) / (edges[2:] - edges[1:-1]),
    )
    return torch.minimum(up, down).clamp_min(0)


def speech_bands() -> Tensor:
    """bool (BANDS,)."""
    middle = mel_edges()[1:-1]
    return (middle >= SPEECH_HZ[0]) & (middle <= SPEECH_HZ[1])
