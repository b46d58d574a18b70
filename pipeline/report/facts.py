"""What a record says of itself in its header, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..fields import fitting
from .summary import describe_source

Row = tuple[str, str]


def facts(meta: Mapping[str, Any]) -> list[Row]:
    """(what, value): source, status, model, method with its settings, frames, grid, budget, key."""
    t, h, w = meta["grid"]
    named = {k: v for k, v in meta["method"].items() if k in ("segmenter", "merger")}
    parts = [(kind, ", ".join(f"{k} {v}" for k, v in part.items())) for kind, part in named.items()]
    stand_ins = [(f"{k} from", v) for k, v in meta["method"]["stand_ins"].items()]
    return [
        ("source", describe_source(meta["source"])),
        ("status", meta["status"]),
        ("model", meta["model"]["family"]),
        ("method", meta["method"]["name"]),
        *parts,
        *stand_ins,
        *sinks(meta),
        *guided(meta),
        (
            "frames",
            f"{meta['frames']} at {meta['fps']} fps, model size {meta['frame_size'][1]}x{meta['frame_size'][0]}",
        ),
        ("grid", f"{t} x {h} x {w} = {t * h * w} tokens"),
        ("budget", f"asked {asked(meta)}; nominal {nominal(meta)}; kept {meta['budget']['kept']}"),
        ("key", meta["key"]),
    ]


def sinks(meta: Mapping[str, Any]) -> list[Row]:
    """From where on attention counted for nothing, if that was asked for."""
    recipe = meta["recipe"]
    times = recipe.get("sink_times") if isinstance(recipe, Mapping) else None
    return [("sinks", f"beyond {times} x a frame's median attention")] if fitting(float, times) else []


def asked(meta: Mapping[str, Any]) -> str:
    """The budget as it was asked for."""
    return ", ".join(f"{k} {v}" for k, v in meta["budget"]["asked"].items()) or "the method's default"


def nominal(meta: Mapping[str, Any]) -> str:
    """What that is in tokens of this video; None where the method decides."""
    tokens = meta["budget"]["nominal"]
    return str(tokens if tokens is None else round(tokens, 1))


def guided(meta: Mapping[str, Any]) -> list[Row]:
    """How sound guided the budget, if it was asked to."""
    told = meta.get("audio_guide")
    if told is None:
        return []
    heard = f"heard by the {told['by']}" if told["heard"] else "no sound"
    return [("audio guide", f"{told['mode']}, windows of {told['window_steps']} steps, {heard}")]
