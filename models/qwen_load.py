"""Checkpoints of Qwen's make: an adapter whose settings fit the model, and the vision part of its weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

from . import tower as part
from .checkpoint import Checkpoint, dtype_name
from .jsonfile import CheckpointError
from .qwen_vision import QwenVision

PREFIXES = ("visual.", "model.visual.")  # as Qwen2-VL and 2.5 were released; as transformers 5 names it, and Qwen3-VL
IN_CONFIG = {"merge_size": "spatial_merge_size"}  # settings of the processor that config.json calls otherwise
Adapter = TypeVar("Adapter", bound=QwenVision)


def adapter(kind: type[Adapter], checkpoint: Checkpoint, dtype: str | None) -> Adapter:
    """A family's adapter, without weights; `dtype` None: the checkpoint's own.

    Raises `CheckpointError` where the processor's settings are not those of the model.
    """
    vision = checkpoint.config.get("vision_config", {})
    for ours, default in kind.model_defaults.items():
        theirs = IN_CONFIG.get(ours, ours)
        if checkpoint.settings[ours] != vision.get(theirs, default):
            raise CheckpointError(
                f"{checkpoint.model_id}: the processor's {ours} is {checkpoint.settings[ours]}, the model's {theirs} "
                f"{vision.get(theirs, default)}; take the processor settings of the model it was made of"
            )
    return kind(checkpoint, dtype_name(dtype or checkpoint.dtype))


def tower(model: QwenVision, config_class: Any, tower_class: Any) -> Any:
    """The vision part of a transformers model by its two classes, on the CPU."""
    config = config_class.from_dict(deepcopy(dict(model.checkpoint.config))).vision_config
    return part.load(tower_class, config, model.checkpoint, PREFIXES, model.dtype)
