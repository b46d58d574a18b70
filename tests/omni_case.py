"""Sound for tests of the Omni families: samples, the real extractor's features, the real path, and audio tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from own_paths import OWN
from torch import Tensor
from transformers import WhisperFeatureExtractor

from vidcomp.models.types import AudioTokens

RATE = 16000


def sound(samples: int, seed: int = 0) -> Tensor:
    """float32 (samples,): a tone that glides and swells over noise, so that no two stretches are alike."""
    t = torch.arange(samples) / RATE
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    tone = torch.sin(2 * torch.pi * (220 + 40 * seed) * t * (1 + 0.1 * t)) * (1 + torch.cos(t))
    return 0.3 * tone + 0.02 * noise


def cuts(samples: Tensor, seed: int) -> Iterator[Tensor]:
    """The same samples in pieces of 0 to 4999."""
    generator, at = torch.Generator().manual_seed(seed), 0
    while at < len(samples):
        size = int(torch.randint(0, 5000, (1,), generator=generator))
        yield samples[at : at + size]
        at += size


def features(extractor: Any, samples: Tensor, *, padded: bool) -> dict[str, Tensor]:
    """What the Omni processors make of one clip's sound (`_process_audio`)."""
    how = {"padding": "max_length"} if padded else {"padding": True, "truncation": False}
    told = extractor(samples.numpy(), sampling_rate=RATE, return_attention_mask=True, return_tensors="pt", **how)
    return {"input_features": told["input_features"], "feature_attention_mask": told["attention_mask"]}


def own_path(
    model: Any, encoder: Any, inputs: dict[str, Any], frames: Tensor, fps: float, samples: Tensor
) -> dict[str, Any]:
    """The real model's own way to a video with its sound: pixels and features for the same ids."""
    pixels = OWN[encoder.family](model, encoder, inputs, frames, fps)
    extractor = WhisperFeatureExtractor.from_pretrained(Path(encoder.checkpoint.folder))
    return {**pixels, **features(extractor, samples, padded=encoder.padded), "use_audio_in_video": True}


def listen(encoder: Any, samples: Tensor, *wants: str) -> tuple[Tensor, Tensor | None]:
    """(tokens (A,D), attention (A,))"""
    parts = list(encoder.encode_audio([samples], encoder.audio_peak([samples]), wants=frozenset(wants)))
    attention = torch.cat([part.attention for part in parts]) if wants else None
    return torch.cat([part.tokens for part in parts]), attention


def audio_tokens(encoder: Any, samples: Tensor, keep: Tensor | None = None) -> AudioTokens:
    """All of a clip's sound, or the rows `keep`."""
    tokens = listen(encoder, samples)[0]
    count = len(tokens)
    keep = torch.arange(count) if keep is None else keep
    times = encoder.audio_pts_s(count)
    return AudioTokens(tokens[keep], keep.int(), torch.ones(len(keep), dtype=torch.int32), times[keep], count)
