"""The few settings that have a flag of their own."""

from __future__ import annotations

from typing import Any


def overrides(
    model: str | None,
    retain: float | None,
    tokens: int | None,
    tokens_per_second: float | None,
    fps: float | None,
    gate: str | None,
    audio_guide: str | None = None,
) -> dict[str, Any]:
    """Those that were given, as a tree to lay over a preset."""
    budget = {"retain": retain, "tokens": tokens, "tokens_per_second": tokens_per_second}
    tree: dict[str, dict[str, Any]] = {"model": {"id": model}, "sample": {"fps": fps}, "budget": budget}
    tree |= {"gate": {"name": gate}, "audio_guide": {"mode": audio_guide}}
    given = {block: {k: v for k, v in keys.items() if v is not None} for block, keys in tree.items()}
    return {block: keys for block, keys in given.items() if keys}
