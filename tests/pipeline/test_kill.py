"""A run whose processes are killed, one or all, or that is told to stop: nothing is lost, nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vidcomp.pipeline.corpus import items
from vidcomp.pipeline.job import Job
from vidcomp.pipeline.presets import build_recipe
from vidcomp.pipeline.result import Result
from vidcomp.pipeline.run import How, Run
from vidcomp.pipeline.runners.local import Pool, Worker

from .conftest import Cli, make_clip, tree_bytes

SCRIPTS = Path(__file__).parents[2] / "scripts"
SOON_S = 30.0  # until all must have ended: six times what it may take, for a machine that is busy
RECIPE = ("--method", "evs", "--fps", "10", "--set", "chunk_frames=4", "--set", "merger.threshold=0.01")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`scripts/process_tree.py`."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import process_tree

    return process_tree


@pytest.fixture
def corpus(here: Path) -> Path:
    """One clip of thirty chunks, which is started first, and five short ones."""
    (here / "in").mkdir()
    make_clip(here / "in" / "long.mp4", 120)
    for n in range(5):
        make_clip(here / "in" / f"{n}.mp4", 20 + n)
    return here / "in"


def records(out: Path) -> dict[str, bytes]:
    """Every file of a folder of records but those that know clock and process."""
    return {name: data for name, data in tree_bytes(out).items() if name not in ("manifest.jsonl", "run.json")}


# -- all of a run ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kills", "engine"),
    [
        (3, "local"),
        (3, "ray"),
        pytest.param(10, "local", marks=pytest.mark.slow),
        pytest.param(10, "ray", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(kills: int, engine: str) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    words = [sys.executable, str(SCRIPTS / "kill_test"), str(kills), "--engine", engine]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{kills} kills ({engine})")
    assert "0 torn, 0 missing, 0 duplicate, 0 altered, 0 status, 0 leftover, 0 orphan" in done.stdout


def test_the_kill_test_sees_what_is_wrong(
    cli: Cli, corpus: Path, here: Path, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kill_look import differences, look

    cli("encode", corpus, "--workers", "0", *RECIPE)
    right, statuses = look(here / "vidcomp-out"), {path.name: "ok" for path in corpus.iterdir()}
    assert list(differences(right, right, statuses)) == []
    first, second, third = sorted(here.glob("vidcomp-out/*.safetensors"))[:3]
    first.rename(first.with_name("0" * 32 + ".safetensors"))
    second.write_bytes(second.read_bytes()[:-1])
    third.with_name(f".{third.name}.1.tmp").write_bytes(third.read_bytes())
    manifest = here / "vidcomp-out" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join([*lines[1:], lines[-1], lines[0][:40]]))
    found = [kind for kind, _ in differences(look(here / "vidcomp-out"), right, statuses)]
    assert found == ["torn", "missing", "duplicate", "altered", "status", "status", "leftover"]


# -- one worker --------------------------------------------------------------------------------------


def kill_at_first_word(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """The worker that has the first task is killed as soon as it says how far it is, at most so many times."""
    told, killed = Pool._told, list[int]()

    def deadly(self: Pool, worker: Worker, line: dict[str, Any]) -> Iterator[Any]:
        if line.get("heard") == 0 and len(killed) < most and worker.popen.pid not in killed:
            os.kill(worker.popen.pid, signal.SIGKILL)
            killed.append(worker.popen.pid)
        yield from told(self, worker, line)

    monkeypatch.setattr(Pool, "_told", deadly)
    return killed


def ran(corpus: Path, out: Path, workers: int) -> dict[str, Result]:
    """{input: result} of a run in a pool."""
    settings = [word for word in RECIPE if "." in word or "=" in word]
    job = Job(build_recipe(method="evs", settings=[*settings, "sample.fps=10"]), out)
    results = list(Run(job, How(workers=workers)).results(items([str(corpus)])))
    assert len(results) == 6
    return {Path(result.path).name: result for result in results}


def test_a_video_that_kills_its_worker_twice_has_failed(
    corpus: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = kill_at_first_word(monkeypatch, 9)
    found = ran(corpus, here / "out", 2)
    bad = found.pop("long.mp4")
    assert (bad.status, len(killed)) == ("failed:crashed", 2)
    assert "its worker died (signal 9 (SIGKILL)): repair or replace the file" in bad.why
    assert {result.status for result in found.values()} == {"ok"}
    monkeypatch.undo()
    assert ran(corpus, here / "out", 0)["long.mp4"].cached  # it has failed, until it is asked for again
    assert len(list(here.glob("out/*.safetensors"))) == 5


def test_a_worker_killed_once_costs_nothing(corpus: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = kill_at_first_word(monkeypatch, 1)
    found = ran(corpus, here / "out", 2)
    assert ({result.status for result in found.values()}, len(killed)) == ({"ok"}, 1)
    assert list(found)[-1] == "long.mp4"  # alone, when all others are through
    monkeypatch.undo()
    ran(corpus, here / "whole", 0)
    assert records(here / "out") == records(here / "whole")


def soon_gone(pids: list[int]) -> bool:
    """Whether all end: a child that dies with its parent does so a moment later."""
    until = time.monotonic() + SOON_S
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and time.monotonic() < until:
        time.sleep(0.01)
    return not left


# -- told to stop ------------------------------------------------------------------------------------

Moment = Callable[[int, Path, Any], bool]
MOMENTS: dict[str, Moment] = {
    "workers": lambda pid, out, tools: len(tools.below(pid)) >= 3,
    "parts": lambda pid, out, tools: any(out.glob(".parts/*/*.safetensors")),
    "records": lambda pid, out, tools: any(out.glob("*.safetensors")),
}


@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGINT, "workers"), (signal.SIGTERM, "parts"), (signal.SIGINT, "parts"), (signal.SIGTERM, "records")],
)
def test_told_to_stop_a_run_ends_soon_and_goes_on_later(
    cli: Cli, corpus: Path, here: Path, tools: Any, number: int, moment: str
) -> None:
    words = ["encode", str(corpus), *RECIPE, "-o", "out"]
    command = [sys.executable, "-m", "vidcomp", *words, "--workers", "3"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
        while not MOMENTS[moment](run.pid, here / "out", tools):
            assert run.poll() is None
            time.sleep(0.01)
        family = tools.below(run.pid)
        run.send_signal(number)
        _, said = run.communicate(timeout=SOON_S)
    assert (run.returncode, said.count("\n")) == (128 + number, 1), said
    assert "nothing is torn; the same command goes on where it stopped" in said
    assert soon_gone(family)
    if moment != "workers":  # then the run had begun
        assert "interrupted" in cli("status", "out").out
    assert cli(*words, "--workers", "0").code == 0
    assert cli(*words[:-1], "whole", "--workers", "0").code == 0
    assert records(here / "out") == records(here / "whole")
