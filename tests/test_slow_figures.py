"""The figures that take minutes: `scripts/test --slow`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vidcomp.pipeline.cli.app import run

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video() -> None:
    done = subprocess.run([sys.executable, str(SCRIPTS / "bench_memory")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus() -> None:
    words = [sys.executable, str(SCRIPTS / "bench_corpus"), "--part", "memory"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_every_real_clip_through_the_command_line(shared: Path, tmp_path: Path) -> None:
    clips = [p for p in sorted((shared / "videos").iterdir()) if p.suffix in {".mp4", ".mkv", ".mov"}]
    whole = [str(p) for p in clips if p.name != "corrupted.mp4"]
    assert run(["encode", *whole, "-o", str(tmp_path), "--strict", "--json"]) == 0
    assert run(["encode", str(shared / "videos" / "corrupted.mp4"), "-o", str(tmp_path), "--strict", "--json"]) == 2
