"""One part of a transformers model, loaded alone: the real class, its weights by prefix, nothing left to chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .checkpoint import Checkpoint
from .jsonfile import CheckpointError
from .quiet import quiet
from .weights import read


def load(part: Any, config: Any, checkpoint: Checkpoint, prefixes: Sequence[str], dtype: str) -> Any:
    """`part(config)` in eval mode on the CPU with sdpa attention, its weights those under `prefixes`.

    `part` is a `PreTrainedModel` class; its `from_pretrained` keeps rotary frequencies in float32 and initialises
    nothing twice. Raises `CheckpointError` unless the weights are exactly those of the class.
    """
    with quiet():
        model, report = part.from_pretrained(
            None,
            config=config,
            state_dict=read(checkpoint.folder, prefixes),
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            ignore_mismatched_sizes=True,  # reported below, with the rest
            output_loading_info=True,
        )
    if wrong := {kind: sorted(map(str, keys)) for kind, keys in report.items() if keys}:
        shown = "; ".join(f"{len(keys)} {kind.replace('_', ' ')} ({keys[0]})" for kind, keys in wrong.items())
        raise CheckpointError(f"{checkpoint.model_id}: these are not the weights that config.json describes: {shown}")
    return model.eval()
