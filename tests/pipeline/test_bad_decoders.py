"""A decoder that hangs, crashes or hoards memory costs one video; the others of the run are encoded."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

from vidcomp.stages.decode import Decoder

from .conftest import Cli, make_clip

CHILD = """
import ctypes, os
import vidcomp.stages.decode_child as c
libc, ours, limit = ctypes.PyDLL(None), c.probe, c.limit_memory
libc.malloc.restype = ctypes.c_void_p
def probe(file):
    if os.pread(file.fd, 4, 0) == b"evil":
        {does}
    return ours(file)
c.probe, c.limit_memory = probe, lambda size: limit(300 << 20)
c.main()
"""
HANGS = "libc.sleep(600)  # in C, holding the GIL"
CRASHES = "libc.memset(0, 1, 1)"
HOARDS = "kept = [bytearray(16 << 20) for _ in range(1 << 30)]"
HOARDS_IN_C = "while True: libc.memset(ctypes.c_void_p(libc.malloc(1 << 24)), 1, 1 << 24)"


def children() -> list[str]:
    return [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


@pytest.mark.parametrize(
    ("does", "status", "says"),
    [
        (HANGS, "failed:timeout", "within 6 s and was killed"),
        (CRASHES, "failed:crashed", "SIGSEGV"),
        (HOARDS, "failed:too_large", "more memory than is allowed"),
        (HOARDS_IN_C, "failed:crashed", "SIGSEGV"),
    ],
)
def test_the_others_are_encoded(
    cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch, does: str, status: str, says: str
) -> None:
    init = Decoder.__init__

    def odd(self: Decoder, **given: Any) -> None:
        init(self, **given)
        self._argv = [sys.executable, "-c", CHILD.format(does=does)]

    monkeypatch.setattr(Decoder, "__init__", odd)
    (here / "b.mp4").write_bytes(b"evil" + clip.read_bytes())
    for name, frames in (("a.mp4", 20), ("c.mp4", 30)):
        make_clip(here / name, frames)
    before = children()
    said = cli("encode", "a.mp4", "b.mp4", "c.mp4", "--workers", "0", "--json", "--set", "decode.deadline_s=6")
    assert (said.code, said.json["counts"]) == (2, {"ok": 2, status: 1})
    (line,) = (line for line in said.err.splitlines() if "b.mp4" in line)
    assert status in line
    assert says in line
    assert len(list((here / "vidcomp-out").glob("*.safetensors"))) == 2
    assert children() == before


@pytest.mark.parametrize("count", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_encodes_in_one_process_leave_nothing(count: int) -> None:
    path = Path(__file__).resolve().parents[2] / "scripts" / "soak_decode"
    spec = importlib.util.spec_from_loader("soak_decode", SourceFileLoader("soak_decode", str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["soak_decode"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    early, late = module.soak(count)
    assert not module.grew(early, late), (early, late)
    assert module.grew(early, module.Held(early.rss_mib * 1.2, early.descriptors, early.children))
    assert module.grew(early, module.Held(early.rss_mib, early.descriptors + 1, early.children))
