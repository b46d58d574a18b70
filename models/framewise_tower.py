"""A tower of single pictures, driven layer by layer: all patches of a frame, or only those that kept tokens read.

Patches that are left out do not pass through the layers, so those that pass see each other alone: the same as the whole
tower with the dropped keys masked. Frames with unlike counts go together, the shorter ones padded and masked.

Legend: B frames of a pass, S places of each (CLS, where there is one, then patches), C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from .scores import watching

Layer = Callable[[Any, Tensor, Tensor | None], Tensor]


def passes(counts: Sequence[int], batch: int) -> list[list[int]]:
    """Frames that go through the tower together, of which each has `counts` patches: at most `batch`, none without
    patches, none with less than half of the most there. Frames of equal counts stay in order."""
    made: list[list[int]] = []
    for frame in sorted(range(len(counts)), key=lambda i: -counts[i]):
        if not counts[frame]:
            break
        if not made or len(made[-1]) == batch or 2 * counts[frame] < counts[made[-1][0]]:
            made.append([])
        made[-1].append(frame)
    return made


def run(
    layers: Sequence[Any], call: Layer, states: Tensor, valid: Tensor | None, read: Sequence[int], *, watch: bool
) -> tuple[list[Tensor], Tensor | None]:
    """The states (B,S,C) that are `read`, 0 being those that enter the first layer, and what each place receives in the
    last one, float32 (B,S), if that is to be watched. `valid` bool (B,S): False is padding; None: there is none."""
    padded = None if valid is None or bool(valid.all()) else valid
    mask = None if padded is None else padded[:, None, None]
    held = {0: states} if 0 in read else {}
    blank: AbstractContextManager[list[Tensor]] = nullcontext([])
    with watching(attention_of(layers[-1]), padded) if watch else blank as seen:
        for i, layer in enumerate(layers, 1):
            states = call(layer, states, mask)
            if i in read:
                held[i] = states
    return [held[i] for i in read], seen[0] if watch else None


def attention_of(layer: Any) -> Any:
    """A layer's attention module, by the two names that transformers gives it."""
    return layer.self_attn if hasattr(layer, "self_attn") else layer.attention


def layers_read(named: int | Sequence[int], count: int) -> tuple[int, ...]:
    """The states (0: before the first layer) that `vision_feature_layer` names in a tower of `count` layers."""
    wanted = [named] if isinstance(named, int) else list(named)
    if not wanted or any(not -count - 1 <= i <= count for i in wanted):
        raise ValueError(f"vision_feature_layer is {named}, of a tower of {count} layers")
    return tuple(i % (count + 1) for i in wanted)
