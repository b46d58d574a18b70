"""A run that was broken off behind damage comes to what an uninterrupted one comes to."""

from __future__ import annotations

import importlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import vidcomp
from vidcomp.models.dct import DctEncoder
from vidcomp.stages.read import LocalReader
from vidcomp.stages.store import Spool

from .conftest import Cli, make_clip, tree_bytes

SCRIPTS = Path(__file__).parents[2] / "scripts"
WORDS = ("--method", "evs", "--fps", "12", "--set", "chunk_frames=4", "--workers", "0", "--json")


@pytest.fixture
def scratched(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clip of 40 sampled frames; a packet at a third of it does not decode."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    importlib.import_module("kill_corpus").scratched(here / "a scratch.ts")
    return here / "a scratch.ts"


def encoded(cli: Cli, clip: Path, out: str) -> dict[str, bytes]:
    """The record that comes of it."""
    said = cli("encode", clip, "-o", out, *WORDS)
    assert (said.code, said.json["status"]) == (0, "partial"), said.err
    return {name: data for name, data in tree_bytes(Path(out)).items() if name.endswith(".safetensors")}


@pytest.mark.parametrize("stop", [2, 6, 9])
def test_errors_before_the_break_are_not_forgotten(
    cli: Cli, scratched: Path, here: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    whole = encoded(cli, scratched, "whole")
    (record,) = here.glob("whole/*.safetensors")
    assert "decoding errors: 1" in vidcomp.load(record).meta["decoded"]["why"]
    add = Spool.add

    def stopping(self: Spool, number: int, *rest: Any) -> Any:
        if number == stop:
            raise KeyboardInterrupt
        return add(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "add", stopping)
        assert cli("encode", scratched, "-o", "broken", *WORDS).code == 130
    assert len(list(here.glob("broken/.parts/*/*.safetensors"))) == stop
    assert encoded(cli, scratched, "broken") == whole


def test_what_is_read_again_on_the_way_is_told_and_not_given(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "large.mp4", 40, (1280, 720))  # a dozen pictures come at a time
    with closing(LocalReader(DctEncoder(), {"fps": 10.0}, {}, 4)) as reader:
        whole = dict(reader.open(clip).chunks(0))
        again = list(reader.open(clip).chunks(7))
    assert list(whole) == list(range(10))
    told = [number for number, frames in again if not len(frames)]
    assert told == sorted(told)
    assert told[0] < 7
    given = {number: frames for number, frames in again if len(frames)}
    assert list(given) == [7, 8, 9]
    for number, frames in given.items():
        assert torch.equal(frames.index, whole[number].index)
        assert torch.equal(frames.data, whole[number].data)
