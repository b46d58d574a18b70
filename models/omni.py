"""What the Omni families' checkpoints have in common: the thinker, which is all of them that is used here.

A released checkpoint holds the whole model, `thinker_config` in its config.json and `thinker.` before the names of its
weights; one that was saved from the thinker alone holds the thinker's own config and names.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeVar

from . import qwen_load, qwen_vision, tower
from .checkpoint import Checkpoint

PREFIXES = ("thinker.{}.", "{}.", "model.{}.")  # as released; as the thinker is saved; as its class names them
CONFIGS = {"visual": "vision_config", "audio_tower": "audio_config"}
Adapter = TypeVar("Adapter", bound=qwen_vision.QwenVision)


def thinker(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The thinker's part of a config.json."""
    part: Mapping[str, Any] = config.get("thinker_config", config)
    return part


def load(adapter: type[Adapter], checkpoint: Checkpoint, dtype: str | None) -> Adapter:
    """`qwen_load.adapter`, checked against the thinker's config; the checkpoint stays whole."""
    model = qwen_load.adapter(adapter, replace(checkpoint, config=thinker(checkpoint.config)), dtype)
    model.checkpoint = checkpoint
    return model


def read_part(adapter: qwen_vision.QwenVision, name: str, thinker_config: Any, part: Any) -> Any:
    """The thinker's `visual` or `audio_tower` by its two transformers classes, on the CPU."""
    config = thinker_config.from_dict(deepcopy(dict(thinker(adapter.checkpoint.config))))
    prefixes = [prefix.format(name) for prefix in PREFIXES]
    return tower.load(part, getattr(config, CONFIGS[name]), adapter.checkpoint, prefixes, adapter.dtype)
