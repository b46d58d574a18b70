"""What is installed is what is in the tree, and importing it is cheap."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import vidcomp

ROOT = Path(vidcomp.__file__).parent
PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def test_every_package_is_listed() -> None:
    listed = set(tomllib.loads(PYPROJECT.read_text())["tool"]["setuptools"]["packages"])
    rooms = ("models", "stages", "pipeline", "configs")
    found = {p.parent for room in rooms for p in (ROOT / room).rglob("__init__.py")}
    assert listed == {"vidcomp"} | {".".join(["vidcomp", *p.relative_to(ROOT).parts]) for p in found}


def test_every_preset_is_shipped() -> None:
    from vidcomp.pipeline.presets import preset_names

    assert {p.stem for p in (ROOT / "configs").glob("*.yaml")} == set(preset_names()) >= {"default", "fastvid", "evs"}


def test_exports_are_true() -> None:
    for name in vidcomp.__all__:
        assert getattr(vidcomp, name).__name__ == name
    assert vidcomp.__all__ == sorted(vidcomp.__all__)
    assert set(vidcomp.__all__) <= set(dir(vidcomp))


def heavy_after(statement: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after a statement."""
    heavy = {"torch", "transformers", "sklearn", "ray", "scipy"}
    code = f"{statement}\nimport sys\nprint(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_vidcomp_is_light() -> None:
    assert heavy_after("import vidcomp, vidcomp.stages") == set()


def test_the_command_line_is_light() -> None:
    assert heavy_after("import vidcomp.pipeline.cli.app, vidcomp.pipeline.job, vidcomp.pipeline.presets") == set()
