"""Every open, write, fsync and rename that makes a record fails once, or is the last; single bits of one flip.

The calls of one clean run are counted; then each run lets the n-th go wrong, and the next one must heal what is left.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from media import make_clip

import vidcomp
from vidcomp.pipeline import api
from vidcomp.pipeline import encode as encoding
from vidcomp.pipeline.cli.app import run
from vidcomp.pipeline.manifest import NAME, Manifest, rows
from vidcomp.stages.safefile import OutputError, check_tensors, read_header
from vidcomp.stages.store import Spool, Store

SETTINGS: dict[str, Any] = {"method": "evs", "fps": 2.0, "settings": ["chunk_frames=1"]}  # two frames in two chunks
RAISED = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
KILLED = "killed"  # the process is gone: this call and all behind it, cleaning up as well, do nothing
OF_WRITE = ("EINTR", "short", "torn")  # interrupted; half is taken, then the rest; half is taken, then the disk is full
SURVIVED = ("EINTR", "short")
SAYS = {"ENOSPC": "the disk is full: free some space", "torn": "the disk is full", "EIO": "Input/output error"}
COUNTED = ("open", "fsync", "replace", "mkdir")
CLEANING = ("unlink", "rmdir")

Encode = Callable[[Path], None]


# -- faults --------------------------------------------------------------------------------------------


class StoppedError(BaseException):
    """The run ends here, as by a signal."""


@dataclass
class Faults:
    """Counts the calls that reach into one folder, and lets the `at`-th go wrong."""

    folder: Path
    calls: list[str] = field(default_factory=list)
    at: int = -1
    fault: str = ""
    over: BaseException | None = None  # what every later call raises
    opened: list[int] = field(default_factory=list)

    def arm(self, at: int, fault: str) -> None:
        self.at, self.fault, self.calls, self.over, self.opened = at, fault, [], None, []

    def bury(self) -> None:
        """What the kernel does for a process that is gone: its locks are free."""
        for number in self.opened:
            with suppress(OSError):
                if ".lock" in os.readlink(f"/proc/self/fd/{number}"):
                    os.close(number)

    def hit(self, call: str) -> bool:
        """Whether this is the call that goes wrong; one that is to raise does."""
        if self.over is not None:
            raise self.over
        self.calls.append(call)
        now = len(self.calls) - 1 == self.at
        if now and self.fault == KILLED:
            self.over = StoppedError()
            raise self.over
        if now and self.fault in RAISED:
            raise OSError(RAISED[self.fault], os.strerror(RAISED[self.fault]))
        return now

    def clean(self) -> None:
        """A call that only tidies up is not counted, and not made by a process that is gone."""
        if isinstance(self.over, StoppedError):
            raise self.over

    def inside(self, path: object) -> bool:
        return isinstance(path, str | Path) and str(path).startswith(str(self.folder))


class FaultyFile(io.FileIO):
    """What lies under Python's buffers: one `write` of it may fail, be interrupted, or take half of its bytes."""

    def __init__(self, path: Any, mode: str, faults: Faults, buffered: bool) -> None:
        super().__init__(path, mode)
        self.faults, self.buffered = faults, buffered

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        if self.faults.hit("write"):
            if self.faults.fault == "EINTR" and self.buffered:  # without a buffer `FileIO` itself goes on
                raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
            if self.faults.fault == "torn":
                self.faults.over = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            view = view[: len(view) // 2 or 1]
        return super().write(view) or 0


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """From now on every call of `COUNTED` and every write below `tmp_path/out` is counted."""
    found = Faults(tmp_path / "out")
    plain, adopted = builtins.open, os.fdopen

    def faulty(file: Any, mode: str, buffering: int) -> Any:
        raw = FaultyFile(file, mode.replace("b", ""), found, buffering != 0)
        return io.BufferedWriter(raw) if buffering else raw

    def opened(path: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        if found.inside(path):
            found.hit("open")
            if mode != "rb":
                return faulty(path, mode, buffering)
        return plain(path, mode, buffering, *rest, **more)

    def adopt(number: int, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        if found.inside(os.readlink(f"/proc/self/fd/{number}")):
            return faulty(number, mode, buffering)
        return adopted(number, mode, buffering, *rest, **more)

    def watched(name: str, true: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *rest: Any, **more: Any) -> Any:
            if name in CLEANING:
                found.clean()
            elif name == "fsync" or found.inside(target):
                found.hit(name)
            made = true(target, *rest, **more)
            found.opened += [made] if name == "open" else []
            return made

        return call

    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(os, "fdopen", adopt)
    for name in (*COUNTED, *CLEANING):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    return found


def cases(calls: list[str], all_ways: bool) -> list[tuple[int, str]]:
    """(which call, what goes wrong with it): each call in every way that it can, or in one, by turns."""
    ways = [[KILLED, *RAISED, *(OF_WRITE if call == "write" else ())] for call in calls]
    return [(at, way) for at, of in enumerate(ways) for way in (of if all_ways else [of[at % len(of)]])]


# -- what runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", count=10, fps=10)


@pytest.fixture(scope="module")
def encode(clip: Path) -> Iterator[Encode]:
    """Encode the clip and note it. One recipe and one encoder for all runs: to make them takes longer than the rest."""
    encoder: list[Any] = []
    recipe = api.build_recipe(None, method="evs", settings=SETTINGS["settings"], over={"sample": {"fps": 2.0}})
    true_encoder = encoding.VideoEncoder

    def kept(*given: Any) -> Any:
        encoder[:] = encoder or [true_encoder(*given)]
        return encoder[0]

    def work(out: Path) -> None:
        api.encode(clip, out=out)
        Manifest(out).note({"path": "clip.mp4", "recipe": "r", "status": "ok"})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "VideoEncoder", kept)
        patch.setattr(true_encoder, "close", lambda self: None)
        patch.setattr(encoding, "prefetch", at_once)
        patch.setattr(api, "build_recipe", lambda *given, **more: recipe)
        patch.setattr(api, "load", lambda path: None)  # what reads a record afterwards makes none
        yield work
    encoder[0].close()


def at_once(items: Iterable[Any], **more: Any) -> Iterator[Any]:
    """All chunks before the first is used: decoding that is broken off costs a process each time."""
    yield from list(items)


@pytest.fixture(params=["anew", "resumed"])
def before(request: pytest.FixtureRequest, encode: Encode, tmp_path: Path) -> dict[str, bytes]:
    """What lies in OUT when a run starts: nothing, or the chunks of one that was interrupted."""
    if request.param == "anew":
        return {}

    def stop(*given: Any) -> Any:
        raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Spool, "finish", stop)
        with pytest.raises(StoppedError):
            encode(tmp_path / "out")
    found = tree(tmp_path / "out")
    assert sum(name.endswith(".safetensors") for name in found) == 2
    return found


def tree(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def put(out: Path, files: dict[str, bytes]) -> None:
    """Make a folder hold these files and no others."""
    shutil.rmtree(out, ignore_errors=True)
    for name, data in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)


# -- each call fails once --------------------------------------------------------------------------------


def run_cases(out: Path, faults: Faults, encode: Encode, before: dict[str, bytes], all_ways: bool) -> int:
    """How many cases there were."""
    put(out, before)
    faults.arm(-1, "")
    encode(out)
    calls, good = list(faults.calls), tree(out)
    assert {*COUNTED, "write"} <= set(calls)
    for at in (n for n, call in enumerate(calls) if call == "replace"):  # the file's bytes first, then its name
        assert calls[at - 1 : at + 3] == ["fsync", "replace", "open", "fsync"]
    assert len(good) == 2
    found = cases(calls, all_ways)
    for at, fault in found:
        faults.arm(-1, "")
        put(out, before)
        faults.arm(at, fault)
        check_case(out, faults, encode, good, calls[at])
    return len(found)


def check_case(out: Path, faults: Faults, encode: Encode, good: dict[str, bytes], call: str) -> None:
    """A run with a fault, what it leaves, and a run without."""
    fault, said = faults.fault, told(encode, out)
    if said == KILLED:
        faults.bury()
    faults.arm(-1, "")
    left = tree(out) if out.exists() else {}
    if call != "mkdir":  # a folder that is there already need not be made
        assert bool(said) != (fault in SURVIVED), (call, fault, said)
    assert not said or (SAYS.get(fault, KILLED) in said and "\n" not in said), said
    assert said or left == good
    assert fault == KILLED or not [name for name in left if name.endswith(".tmp")]
    (key,) = (Path(name).stem for name in good if name.endswith(".safetensors"))
    for name in left:
        if name.endswith(".safetensors"):
            check_tensors(read_header(out / name))
    assert left.get(f"{key}.safetensors") in (None, good[f"{key}.safetensors"])
    assert (Store(out).find(key) is not None) == (f"{key}.safetensors" in left)
    encode(out)
    healed = tree(out)
    assert healed.keys() == good.keys()
    assert healed[f"{key}.safetensors"] == good[f"{key}.safetensors"]
    assert rows(out / NAME) == [{"path": "clip.mp4", "recipe": "r", "status": "ok"}]


def told(encode: Encode, out: Path) -> str:
    """What a run said went wrong."""
    try:
        encode(out)
    except OutputError as e:
        return str(e)
    except StoppedError:
        return KILLED
    return ""


def test_each_call_fails_once(tmp_path: Path, faults: Faults, encode: Encode, before: dict[str, bytes]) -> None:
    assert run_cases(tmp_path / "out", faults, encode, before, all_ways=False) > 50


@pytest.mark.slow
def test_each_call_fails_in_every_way(tmp_path: Path, faults: Faults, encode: Encode, before: dict[str, bytes]) -> None:
    assert run_cases(tmp_path / "out", faults, encode, before, all_ways=True) > 150


def test_a_line_of_the_manifest_is_whole_or_closed_by_the_next(tmp_path: Path, faults: Faults) -> None:
    out, before, row = tmp_path / "out", {"path": "a", "status": "ok"}, {"path": "b", "status": "ok"}
    Manifest(out).note(before)
    text = tree(out)
    manifest = Manifest(out)
    faults.arm(-1, "")
    manifest.note(row)
    calls = list(faults.calls)
    assert {"open", "write"} <= set(calls)
    for at, fault in cases(calls, all_ways=True):
        put(out, text)
        manifest = Manifest(out)
        faults.arm(at, fault)
        said = told(lambda out, to=manifest: to.note(row), out)
        faults.arm(-1, "")
        assert bool(said) != (fault in SURVIVED) or calls[at] == "mkdir", (calls[at], fault, said)
        assert rows(out / NAME) == ([before] if said else [before, row])
        Manifest(out).note(row)
        assert rows(out / NAME) == [before, row]


def test_signals_in_the_middle_of_calls_are_survived(tmp_path: Path, encode: Encode) -> None:
    encode(tmp_path / "quiet")
    heard = []
    old = signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        encode(tmp_path / "disturbed")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert heard
    assert tree(tmp_path / "disturbed") == tree(tmp_path / "quiet")


# -- single bits -----------------------------------------------------------------------------------------


def flips_found(clip: Path, folder: Path, count: int, capsys: pytest.CaptureFixture[str]) -> int:
    """How many of `count` single-bit flips `vidcomp verify` finds: a third in the header, the rest anywhere."""
    vidcomp.encode(clip, **SETTINGS, out=folder)
    (record,) = folder.glob("*.safetensors")
    good = record.read_bytes()
    header_bits = 8 * (8 + int.from_bytes(good[:8], "little"))
    assert run(["verify", str(record)]) == 0
    found, numbers = 0, random.Random(0)
    for n in range(count):
        bit = numbers.randrange(len(good) * 8 if n % 3 else header_bits)
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        record.write_bytes(bad)
        found += run(["verify", str(record), "--json"]) == 2
        capsys.readouterr()
    return found


def test_verify_finds_single_bits(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert flips_found(clip, tmp_path / "out", 150, capsys) == 150


@pytest.mark.slow
def test_verify_finds_a_thousand_single_bits(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert flips_found(clip, tmp_path / "out", 1000, capsys) == 1000
