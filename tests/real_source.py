"""Functions of the installed transformers whose modules do not import here (they need torchvision), by their source."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers


def function(family: str, file: str, name: str) -> Callable[..., Any]:
    """The function or method `name` of models/FAMILY/FILE; it may use torch and math, and functions of its own."""
    path = Path(transformers.__file__).parent / "models" / family / file
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)
    node.decorator_list = []
    found: dict[str, Any] = {"torch": torch, "math": math}
    exec(compile(ast.Module([node], []), str(path), "exec"), found)
    made: Callable[..., Any] = found[name]
    return made
