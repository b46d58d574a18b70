"""Which model families there are: every module here with a `FAMILY` at its top level. Imports no torch."""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

BUILT_IN = frozenset({"dct"})  # families whose name is a model id of its own: no checkpoint to resolve


class UnknownModelError(ValueError):
    """A family that no file of this folder knows."""


def families() -> list[str]:
    """Sorted names of the family files, found by reading their source, never by importing it."""
    return list(_found())


def family_of(model_type: object) -> str | None:
    """The family whose checkpoints say so in their config.json: its own name, or one of the `TYPES` of its file."""
    return next((name for name, types in _found().items() if model_type in types), None)


@cache
def _found() -> dict[str, tuple[str, ...]]:
    """{family: the model types of its checkpoints}, sorted."""
    told = {path.stem: _told(path) for path in sorted(Path(__file__).parent.glob("*.py"))}
    return {name: (name, *of.get("TYPES", ())) for name, of in told.items() if "FAMILY" in of}


def family_module(name: str) -> Any:
    """The module of one family, by its name or a model type of its checkpoints; raises `UnknownModelError` that names
    the families there are."""
    family = family_of(name)
    if family is None:
        raise UnknownModelError(f"no model family {name!r}; there are: {', '.join(families())}")
    return import_module(f".{family}", __package__)


def _told(path: Path) -> dict[str, list[Any]]:
    """The literals in `FAMILY` and `TYPES` at a file's top level, as far as it has them."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    given = [pair for node in body for pair in _assigned(node) if pair[0] in ("FAMILY", "TYPES")]
    return {name: [part.value for part in ast.walk(value) if isinstance(part, ast.Constant)] for name, value in given}


def _assigned(node: ast.stmt) -> list[tuple[str, ast.expr]]:
    """(plain name, value) of a statement that gives values: `A = ...` and `A: str = ...`."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [(target.id, node.value) for target in targets if isinstance(target, ast.Name)]
