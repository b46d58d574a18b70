"""The analyser on sounds made here: what it finds, what changes nothing, and that pieces do not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from voices import spoken

from vidcomp.models.types import ShapeError
from vidcomp.stages.noticing import Noticing
from vidcomp.stages.saliency import BANDS, BATCH, HOP, RATE, analysed, filters, powers

SPOKEN = [(4.0, 6.0), (10.0, 12.0)]


def talk(seconds: float = 16.0) -> Tensor:
    return 0.4 * torch.from_numpy(spoken(SPOKEN, seconds))


def saliency(sound: Tensor) -> Tensor:
    return analysed([sound], 0.0).value


def by_second(value: Tensor) -> Tensor:
    return value.view(-1, RATE // HOP).mean(1)


def noise(seconds: float, loud: float, seed: int = 0) -> Tensor:
    return loud * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def test_speech_stands_out() -> None:
    heard = by_second(saliency(talk()))
    said = torch.zeros(16, dtype=torch.bool)
    said[[4, 5, 10, 11]] = True
    assert heard[said].min() > 0.5
    assert heard[~said].max() < 0.05


@pytest.mark.parametrize("gain", [0.01, 0.1, 10.0])
def test_loudness_changes_nothing(gain: float) -> None:
    torch.testing.assert_close(saliency(talk() * gain), saliency(talk()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("loud", [0.0, 1e-7, 1e-4, 0.01, 0.3])
def test_silence_and_steady_noise_are_nothing(loud: float) -> None:
    assert float(saliency(noise(12.0, loud)).max()) == 0


def test_noise_under_speech_is_nothing() -> None:
    heard = by_second(saliency(talk() + noise(16.0, 0.005)))
    assert heard[[0, 1, 2, 7, 8, 14]].max() == 0
    assert heard[[4, 5, 10, 11]].min() > 0.3


def test_the_same_power_counts_more_as_speech_and_as_it_begins() -> None:
    """A tone of 1 kHz, one of 5 kHz, in silence; the first hop of each is its onset."""
    time, sound = torch.arange(3 * RATE) / RATE, torch.zeros(12 * RATE)
    sound[2 * RATE : 5 * RATE] = 0.3 * torch.sin(2 * np.pi * 1000 * time)
    sound[7 * RATE : 10 * RATE] = 0.3 * torch.sin(2 * np.pi * 5000 * time)
    heard, second = saliency(sound), RATE // HOP
    assert heard[3 * second] == pytest.approx(0.75, abs=0.01)
    assert heard[8 * second] == pytest.approx(0.5, abs=0.01)
    for at in (2, 7):
        assert heard[at * second - 1 : at * second + 1].max() > heard[(at + 1) * second] + 0.15


def test_where_pieces_are_cut_changes_no_bit() -> None:
    sound = talk(BATCH * HOP / RATE + 3.217)
    whole = saliency(sound)
    for size in (1 << 20, 16000, 801, 97):
        assert torch.equal(analysed(sound.split(size), 0.0).value, whole)
    assert torch.equal(analysed([torch.empty(0), sound, torch.empty(0)], 0.0).value, whole)


@pytest.mark.parametrize("count", [1, HOP - 1, HOP, HOP + 1, BATCH * HOP - 1, BATCH * HOP, BATCH * HOP + 401, 321600])
def test_a_hop_for_every_50_ms(count: int) -> None:
    found = list(powers([torch.ones(count)]))
    assert sum(map(len, found)) == -(-count // HOP)
    assert all(part.shape[1] == BANDS and part.isfinite().all() for part in found)


def test_no_sound_at_all() -> None:
    found = analysed([], 3.0)
    assert (found.value.tolist(), found.edges_s.tolist()) == ([], [3.0])


def test_power_is_that_of_the_samples() -> None:
    """Parseval: a sine of amplitude 1 has power 1/2, white noise of variance 1 what the bands span of it."""
    time = torch.arange(2 * RATE) / RATE
    tone = torch.cat(list(powers([torch.sin(2 * np.pi * 1000 * time)]))).sum(1)
    assert float(tone[5:-5].mean()) == pytest.approx(0.5, rel=0.01)
    white = torch.cat(list(powers([noise(20.0, 1.0)]))).sum(1)
    spanned = float(filters().sum()) * 2 / (RATE / 10)
    assert float(white.mean()) == pytest.approx(spanned, rel=0.03)


def test_broken_samples_are_silence() -> None:
    sound = talk()
    sound[[5000, 70000, 100000]] = torch.tensor([float("nan"), float("inf"), float("-inf")])
    heard = saliency(sound)
    assert heard.isfinite().all()
    assert saliency(torch.full((RATE,), 3e38)).isfinite().all()
    with pytest.raises(ShapeError, match="float32"):
        saliency(sound.double())


def test_chunks_take_the_sound_of_their_time() -> None:
    sound, ends_s = talk(), [4.0, 8.0, 8.5, 16.0]
    reads = []

    def pieces():
        yield from sound.split(7001)
        reads.append("to the end")

    noticing = Noticing(pieces, 2.5, ends_s)
    for chunk in (0, 1, 3):  # the third is lost
        first, end = (round(at_s * RATE) for at_s in ([0.0, *ends_s][chunk], ends_s[chunk]))
        mine, found = analysed([sound[first:end]], 2.5 + first / RATE), noticing.of(chunk)
        assert torch.equal(found.value, mine.value)
        assert torch.equal(found.edges_s, mine.edges_s)
    assert reads == ["to the end"]
    late = Noticing(pieces, 2.5, ends_s).of(3)  # as after an interruption
    assert torch.equal(late.value, found.value)
