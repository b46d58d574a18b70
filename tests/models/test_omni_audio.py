"""The sound side of both Omni families against the real audio towers."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from omni_case import RATE, cuts, features, listen, sound
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import WhisperFeatureExtractor

from vidcomp.models import load as models
from vidcomp.models.jsonfile import CheckpointError


@pytest.fixture(scope="module", params=["qwen2_5_omni", "qwen3_omni_moe"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make(family, tmp_path_factory.mktemp("omni") / family)
    return made


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def patient(folder: Path) -> Any:
    """The same, but no clip is cut before 100 s."""
    return models.load_model(str(folder), settings={"chunk_length": 100})


@pytest.fixture(scope="module")
def thinker(folder: Path) -> Any:
    return models.load_llm(str(folder))[0]


@pytest.mark.parametrize("samples", [900, 16000, 20011, 65000, 160000])
@torch.no_grad()
def test_tokens_are_the_models_own(samples: int, folder: Path, encoder: Any, thinker: Any) -> None:
    clip = sound(samples)
    own = features(WhisperFeatureExtractor.from_pretrained(folder), clip, padded=encoder.padded)
    wanted = thinker.get_audio_features(**own).last_hidden_state
    tokens, attention = listen(encoder, clip)
    assert attention is None
    assert len(tokens) == encoder.audio_count(samples) == len(encoder.audio_pts_s(len(tokens)))
    torch.testing.assert_close(tokens, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seconds", [32.5, 70.03, 96.012])  # a lone chunk in the last pass; two passes; a few frames
@torch.no_grad()
def test_passes_of_a_long_clip(seconds: float, folder: Path, patient: Any, thinker: Any) -> None:
    clip = sound(int(seconds * RATE))
    extractor = WhisperFeatureExtractor.from_pretrained(folder, chunk_length=100)
    wanted = thinker.get_audio_features(**features(extractor, clip, padded=patient.padded)).last_hidden_state
    parts = list(patient.encode_audio([clip], patient.audio_peak([clip])))
    assert len(parts) == int(seconds / 32) + 1
    tokens = torch.cat([part.tokens for part in parts])
    torch.testing.assert_close(tokens, wanted, atol=1e-5, rtol=0)
    again = patient.encode_audio(cuts(clip, 1), patient.audio_peak(cuts(clip, 2)))
    assert torch.equal(torch.cat([part.tokens for part in again]), tokens)


def test_no_sound(encoder: Any) -> None:
    for nothing in ([], [sound(0)], [sound(100)]):
        assert list(encoder.encode_audio(nothing, encoder.audio_peak(nothing))) == []
        wanted = encoder.encode_audio(nothing, -10.0, wants=frozenset({"audio_attention"}))
        assert list(wanted) == []
    assert encoder.audio_count(0) == encoder.audio_count(100) == 0
    silent = torch.zeros(RATE)
    assert torch.isfinite(listen(encoder, silent)[0]).all()


def test_attention_costs_no_bit(encoder: Any) -> None:
    clip = sound(90000)
    plain, _ = listen(encoder, clip)
    tokens, attention = listen(encoder, clip, "audio_attention")
    assert torch.equal(tokens, plain)
    assert attention is not None
    assert attention.shape == (len(tokens),)
    assert attention.dtype == torch.float32
    assert (attention > 0).all()
    assert attention.std() > 0
    assert "audio_attention" in encoder.provides


def test_setup_first(folder: Path) -> None:
    model: Any = models.build_model(str(folder))
    assert model.audio_rate == RATE
    assert model.audio_count(RATE) == len(model.audio_pts_s(model.audio_count(RATE)))
    with pytest.raises(RuntimeError, match="setup"):
        model.encode_audio([sound(RATE)], 0.0)


@torch.no_grad()
def test_half_precision(family: str, tiny_maker: ModuleType, tmp_path: Path) -> None:
    folder = tiny_maker.make(family, tmp_path / "half", dtype="bfloat16")
    encoder: Any = models.load_model(str(folder))
    model, _ = models.load_llm(str(folder))
    clip = sound(50000)
    own = features(WhisperFeatureExtractor.from_pretrained(folder), clip, padded=encoder.padded)
    wanted = model.get_audio_features(**own).last_hidden_state
    tokens, attention = listen(encoder, clip, "audio_attention")
    assert tokens.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(tokens, wanted, atol=0.05, rtol=0.05)
    assert attention is not None
    assert attention.dtype == torch.float32


# -- attention -----------------------------------------------------------------------------------------


@torch.no_grad()
def looked(thinker: Any, own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Queries and keys (heads, n, C) of the last layer, of a whole clip in one pass of the real tower."""
    attention, seen = thinker.model.audio_tower.layers[-1].self_attn, []
    hooks = [
        projection.register_forward_hook(lambda _module, _given, out: seen.append(out))
        for projection in (attention.q_proj, attention.k_proj)
    ]
    thinker.get_audio_features(**own)
    for hook in hooks:
        hook.remove()
    q, k = (out.unflatten(1, (attention.num_heads, -1)).transpose(0, 1) for out in seen)
    return q * attention.scaling, k


@pytest.mark.parametrize("seconds", [1.0, 9.7, 40.0])
def test_attention_is_omnizips(seconds: float, family: str, folder: Path, patient: Any, thinker: Any) -> None:
    """2.5: over all keys of the clip, mean of queries, then of pairs. 3: within windows of 104, sum of queries."""
    clip = sound(int(seconds * RATE))
    extractor = WhisperFeatureExtractor.from_pretrained(folder, chunk_length=100)
    q, k = looked(thinker, features(extractor, clip, padded=patient.padded))
    if family == "qwen2_5_omni":
        received = (q @ k.mT).softmax(-1).mean((0, 1))
        wanted = received[: len(received) // 2 * 2].view(-1, 2).mean(1)
    else:
        windows = zip(q.split(104, dim=1), k.split(104, dim=1), strict=True)
        wanted = torch.cat([(a @ b.mT).softmax(-1).mean(0).sum(0) for a, b in windows])
    found = listen(patient, clip, "audio_attention")[1]
    assert found is not None
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)
    assert found.std() > 0.001 * found.mean()


# -- checkpoints ---------------------------------------------------------------------------------------


def drop(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: w for name, w in weights.items() if not name.endswith("audio_tower.ln_post.bias")}


def stray(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"thinker.audio_tower.lora_A": torch.zeros(7)}


@pytest.mark.parametrize(
    ("change", "message"),
    [(drop, r"1 missing keys \(ln_post.bias\)"), (stray, r"1 unexpected keys \(lora_A\)")],
)
def test_audio_weights_must_fit_exactly(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    bad = shutil.copytree(folder, tmp_path / "bad")
    save_file(change(load_file(folder / "model.safetensors")), bad / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        models.load_model(str(bad))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dither": 1e-4}, "dither and padding_value must be 0"),
        ({"padding_value": 1e-4}, "dither and padding_value must be 0"),
        ({"feature_size": 80}, "feature_size is 80, the model's num_mel_bins 16"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder: Path, settings: dict[str, float], message: str) -> None:
    model: Any = models.load_model(str(folder), settings=settings)
    with pytest.raises(CheckpointError, match=message):
        model.audio_peak([sound(RATE)])
