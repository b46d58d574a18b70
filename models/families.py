"""Which model families there are: every module here with a `FAMILY` at its top level. Imports no torch."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

BUILT_IN = frozenset({"dct"})  # families whose name is a model id of its own: no checkpoint to resolve


class UnknownModelError(ValueError):
    """A family that no file of this folder knows."""


def families() -> list[str]:
    """Sorted names of the family files, found by reading their source, never by importing it."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if _is_family(path))


def family_module(name: str) -> Any:
    """The module of one family; raises `UnknownModelError` that names the families there are."""
    if name not in families():
        raise UnknownModelError(f"no model family {name!r}; there are: {', '.join(families())}")
    return import_module(f".{name}", __package__)


def _is_family(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(target.id == "FAMILY" for node in body for target in _assigned(node))


def _assigned(node: ast.stmt) -> list[ast.Name]:
    """Plain names that a statement gives a value to: `A = ...` and `A: str = ...`."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target for target in targets if isinstance(target, ast.Name)]
