"""models/mel.py against the real feature extractor."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from omni_case import RATE, cuts, features, sound
from transformers import WhisperFeatureExtractor

from vidcomp.models.mel import Mel, recut
from vidcomp.models.types import ShapeError

SECONDS = 3  # the limit, where there is one
LENGTHS = [201, 320, 400, 1000, 16000, 16001, 31999, 47000, 47800, 47900, 47999, 48000, 48001, 60003]


def mel_of(padded: bool, bins: int = 128) -> Mel:
    return Mel(bins, 400, 160, RATE, SECONDS * RATE if padded else None)


@pytest.fixture(scope="module")
def extractor() -> Any:
    return WhisperFeatureExtractor(feature_size=128, chunk_length=SECONDS)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("samples", LENGTHS)
def test_the_real_extractors(samples: int, padded: bool, extractor: Any) -> None:
    clip, mel = sound(samples), mel_of(padded)
    own = features(extractor, clip, padded=padded)
    counted = own["feature_attention_mask"][0].bool()
    wanted = own["input_features"][0][:, counted]
    peak = mel.peak([clip])
    parts = list(mel.powers([clip], 37))
    assert all(part.shape[1] == 37 for part in parts[:-1])
    assert wanted.shape[1] == mel.frames(samples)
    torch.testing.assert_close(mel.scaled(torch.cat(parts, dim=1), peak), wanted, atol=1e-5, rtol=0)
    assert peak == pytest.approx(float(own["input_features"].max()) * 4 - 4, abs=1e-5)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("samples", [500, 47999, 150001])
def test_where_pieces_end_changes_no_bit(samples: int, padded: bool) -> None:
    clip, mel = sound(samples), mel_of(padded)
    whole = torch.cat(list(mel.powers([clip], 100)), dim=1)
    for seed in range(3):
        assert torch.equal(torch.cat(list(mel.powers(cuts(clip, seed), 100)), dim=1), whole)
        assert mel.peak(cuts(clip, seed)) == mel.peak([clip])


def test_a_loud_end_counts_for_the_peak(extractor: Any) -> None:
    """The last samples stand amid a frame past the last one that counts, which the real extractor has too."""
    clip = torch.cat([torch.zeros(15984), torch.ones(16)])
    own = features(extractor, clip, padded=True)["input_features"]
    assert mel_of(True).peak([clip]) == pytest.approx(float(own.max()) * 4 - 4, abs=1e-5)
    assert mel_of(True).peak([clip]) > max(float(part.max()) for part in mel_of(True).powers([clip], 100)) + 0.1


def test_silence(extractor: Any) -> None:
    mel, silence = mel_of(True), torch.zeros(8000)
    assert mel.peak([silence]) == -10
    own = features(extractor, silence, padded=True)
    ours = mel.scaled(torch.cat(list(mel.powers([silence], 100)), dim=1), mel.peak([silence]))
    assert torch.equal(ours, own["input_features"][0][:, :50])


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("samples", [0, 1, 200])
def test_too_short_to_be_heard(samples: int, padded: bool) -> None:
    mel = mel_of(padded)
    assert list(mel.powers([sound(samples)], 100)) == []
    assert mel.frames(samples) == 0
    assert mel.peak([sound(samples)]) == -10


def test_nothing_is_read_past_the_limit() -> None:
    def endless() -> Any:
        while True:
            read.append(1)
            yield torch.zeros(RATE)

    read: list[int] = []
    assert sum(part.shape[1] for part in mel_of(True).powers(endless(), 1000)) == SECONDS * 100
    assert len(read) == SECONDS


def test_only_mono_floats() -> None:
    for wrong in (torch.zeros(2, 1000), torch.zeros(1000, dtype=torch.int16)):
        with pytest.raises(ShapeError, match=r"float32 \(S,\)"):
            mel_of(False).peak([wrong])


def test_recut() -> None:
    clip = torch.arange(1000.0)
    for pieces in ([clip], list(clip.split(7)), [clip[:500], clip[:0], clip[500:]]):
        parts = list(recut(pieces, 250))
        assert [len(part) for part in parts] == [250] * 4
        assert torch.equal(torch.cat(parts), clip)
    assert [len(part) for part in recut([clip], 300)] == [300, 300, 300, 100]
    assert list(recut([], 10)) == []
