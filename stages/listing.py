"""Which methods there are, by listing their folders. Imports none of them, so it costs nothing."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Literal

Kind = Literal["segmenter", "merger"]


class UnknownMethodError(ValueError):
    """A method, segmenter or merger name that no file answers to."""


def names(kind: Kind) -> list[str]:
    """Every segmenter or merger, sorted; a leading underscore marks a file that is no method."""
    folder = importlib.import_module(f".{kind}s", __package__)
    return sorted(m.name for m in pkgutil.iter_modules(folder.__path__) if not m.name.startswith("_"))
