"""Arrows between rooms point one way: cli -> runners -> config/build -> stages -> models -> models/types."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vidcomp

ROOT = Path(vidcomp.__file__).parent
ROOMS = ("models", "stages", "pipeline")
OUTSIDERS = {"ray", "yaml", "typer", "rich", "pydantic"}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every imported module, relative ones written from the package's root (`.stages.record`)."""
    here = ["", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            yield ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            if not node.module:
                yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


ALL = [p for room in ROOMS for p in modules(room)]


@pytest.mark.parametrize("path", ALL, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    above = {"models": (".stages", ".pipeline"), "stages": (".pipeline",), "pipeline": ()}[room]
    for name in imports(path):
        top = name.split(".")[0]
        assert not name.startswith(above) if above else True, f"{path} imports upwards: {name}"
        assert top != "vidcomp", f"{path}: inside the package imports are relative"
        if room != "pipeline":
            assert top not in OUTSIDERS, f"{path} imports {name}"
        if path.name != "ray.py":
            assert top != "ray", f"{path} imports ray"


def test_core_types_import_nothing_of_ours() -> None:
    assert not [n for n in imports(ROOT / "models" / "types.py") if n.startswith(".")]


def test_runners_know_nothing_of_video() -> None:
    for path in modules("pipeline/runners"):
        assert not [n for n in imports(path) if n.startswith((".models", ".stages", "torch", "av"))], path


def test_no_module_of_the_root_hides_the_standard_library() -> None:
    import sys

    ours = {p.stem for p in ROOT.glob("*.py")} | {p.name for p in ROOT.iterdir() if (p / "__init__.py").exists()}
    assert not ours & sys.stdlib_module_names - {"__main__"}


def test_nothing_unsafe_is_used() -> None:
    for path in ALL:
        text = path.read_text(encoding="utf-8")
        for word in (
            "import pickle",
            "torch.load(",
            "shell=True",
            "os.system(",
            "eval(",
            "allow_pickle=True",
        ):
            assert word not in text.replace(".eval()", ""), f"{path}: {word}"
