"""Damaged files by the hundred (scripts/fuzz_decode): one status each, on any number of threads, and nothing left."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vidcomp.stages.decode import Decoder

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    loader = SourceFileLoader("fuzz_decode", str(SCRIPTS / "fuzz_decode"))
    spec = importlib.util.spec_from_loader("fuzz_decode", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_decode"] = module
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(("seed", "count"), [(0, 60), pytest.param(1, 500, marks=pytest.mark.slow)])
def test_damaged_files_break_no_rule(script: ModuleType, seed: int, count: int) -> None:
    report = script.fuzz(seed, count)
    assert report.troubles == report.killed == []
    assert report.cases == count == sum(sum(row.values()) for row in report.table.values())
    statuses = set().union(*report.table.values())
    assert {"ok", "partial", "failed:corrupt"} <= statuses  # else the damage is too small, or too great, to tell
    assert f"{count} damaged files" in script.figures(report, seed)
    assert f"| {sum(row['ok'] for row in report.table.values())} |" in script.table(report).splitlines()[-1]


def test_cases_are_the_same_on_every_run_and_damage_is_damage(script: ModuleType) -> None:
    first = list(script.cases(seed=5, first=100, count=8))
    assert first == [*script.cases(seed=5, first=100, count=4), *script.cases(seed=5, first=104, count=4)]
    clips = {name: script.make(name) for _, name, _, _ in first}
    assert all(data != clips[name] for _, name, _, data in first)
    for kind, mutate in script.MUTATIONS.items():
        changed = [bytearray(range(256)) * 9 for _ in range(20)]
        for n, data in enumerate(changed):
            mutate(data, np.random.default_rng(n))
        assert len({bytes(data) for data in changed} - {bytes(range(256)) * 9}) > 15, kind


def test_what_breaks_a_rule_is_told(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []

    def odd(*, threads: int, deadline_s: float) -> Decoder:
        """On two threads, another decoder altogether; and one child is never ended."""
        kept.append(Decoder(threads=threads))
        kept[-1]._ready()
        return Decoder(threads=threads, max_frames=10_000 if threads == 1 else 1)

    monkeypatch.setattr(script, "Decoder", odd)
    monkeypatch.setattr(script, "DEADLINE_S", -script.GRACE_S)
    report = script.fuzz(0, 1)
    for decoder in kept:
        decoder.close()
    assert [any(word in trouble for trouble in report.troubles) for word in ("threads differ", "took", "children")] == [
        True
    ] * 3


def test_the_page_keeps_all_but_the_figures(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(script, "PAGE", page)
    script.write("one")
    assert page.read_text() == "# Decoding\n\n<!-- fuzz -->\none\n<!-- /fuzz -->\n"
    page.write_text(f"above\n{page.read_text()}below\n")
    script.write("two")
    assert page.read_text() == "above\n# Decoding\n\n<!-- fuzz -->\ntwo\n<!-- /fuzz -->\nbelow\n"
