"""What a family's vision tower takes, from frames alone: no weights, no checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from . import settings as processor_settings
from .families import BUILT_IN, family_module


def preprocess(frames: Tensor, *, family: str, settings: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """uint8 (T,H,W,3) -> the real video processor's tensors under the names it gives them.

    `settings` stand over the processor class's defaults (`settings.resolve`), in the spelling of a
    checkpoint's video_preprocessor_config.json. Raises `UnknownModelError` on a family that has no file,
    `ValueError` on settings or frames that the family does not take.
    """
    module = family_module(family)
    if family in BUILT_IN:
        if settings:
            raise ValueError(f"{family} is built in and has no settings; leave them out")
        return dict(module.load().preprocess(frames))
    resolved = processor_settings.resolve(family, settings)
    return dict(module.preprocess(frames, resolved))
