"""docs/methods.md is what the methods say of themselves today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vidcomp.models.families import families

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(not (ROOT / "stages").is_dir(), reason="docs are not shipped: the tests were copied from the tree")
def test_method_docs_are_up_to_date() -> None:
    words = [sys.executable, str(ROOT / "scripts" / "make_method_docs"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="docs are not shipped: the tests were copied from the tree")
def test_every_family_is_documented() -> None:
    lines = (ROOT / "docs" / "models.md").read_text(encoding="utf-8").splitlines()
    told = {line.split("`")[1] for line in lines if line.startswith("| `")}
    assert told == set(families())
