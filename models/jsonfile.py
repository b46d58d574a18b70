"""Reading a checkpoint's JSON files, and the one error that everything about a checkpoint raises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: one line with what, why and what to do."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; anything else raises `CheckpointError` with the file's name."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is this a checkpoint's folder?") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error}); fetch it again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a JSON object is expected, got {type(value).__name__}")
    return value
