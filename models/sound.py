"""How a checkpoint's feature extractor for sound is set. Imports no torch.

`WhisperFeatureExtractor` of transformers 5.23 (feature_extraction_whisper.py): its defaults, only what decides a value.
The released Omni checkpoints have one preprocessor_config.json for pictures and sound together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .jsonfile import read_json

SOUND = {
    "feature_size": 80,
    "sampling_rate": 16000,
    "hop_length": 160,
    "chunk_length": 30,
    "n_fft": 400,
    "padding_value": 0.0,
    "dither": 0.0,
}


def from_folder(folder: Path) -> dict[str, Any]:
    """The feature extractor's part of a checkpoint's JSON, from the place that transformers 5.23 prefers."""
    both, alone = (
        read_json(folder / name) if (folder / name).is_file() else {}
        for name in ("processor_config.json", "preprocessor_config.json")
    )
    part = both.get("feature_extractor") or alone
    return {key: part[key] for key in SOUND if part.get(key) is not None}
