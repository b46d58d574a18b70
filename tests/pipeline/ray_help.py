"""A Ray cluster of several nodes on this machine, and runs on it that are looked at from outside."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vidcomp.pipeline.cli.app import run

from .conftest import make_clip, tree_bytes

SCRIPTS = Path(__file__).parents[2] / "scripts"
WORDS = ("--method", "evs", "--fps", "10", "--set", "chunk_frames=4", "--set", "merger.threshold=0.01")
CLOCKS = ("manifest.jsonl", "run.json")  # what two runs of the same may differ in
COUNTS = {"ok": 4, "failed:not_video": 1}  # of the corpus
SOME_FAILED = 2  # its exit code
PATIENCE_S = 60.0  # for anything that is waited for
ACTOR, READER, DECODER = "ray::MapWorker", "ray::read_far", "vidcomp.stages.decode_child"  # in a process's title
OURS = (ACTOR, "ray::Ears", READER, "ray::hear_far", DECODER)


def make_corpus(folder: Path) -> Path:
    """The new folder, with a clip of a hundred chunks, which is started first, three short ones, and one that is no
    video."""
    folder.mkdir()
    make_clip(folder / "long.mp4", 400)
    for n in range(3):
        make_clip(folder / f"{n}.mp4", 30 + 10 * n)
    (folder / "broken.mp4").write_text("no video")
    return folder


def undisturbed(corpus: Path, out: Path) -> Path:
    """`out`, with what one process makes of the corpus."""
    assert run(["encode", str(corpus), "-o", str(out), *WORDS, "--workers", "0", "--json"]) == SOME_FAILED
    return out


def kept(out: Path) -> dict[str, bytes]:
    """Every file of a folder of records but those that know clock and process."""
    return {name: data for name, data in tree_bytes(out).items() if name not in CLOCKS}


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """{input's name: its row}; each has one."""
    found = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    told = {Path(row["path"]).name: row for row in found}
    assert len(told) == len(found)
    return told


def statuses(out: Path) -> dict[str, str]:
    """{input's name: status}."""
    return {name: row["status"] for name, row in rows(out).items()}


def wait_for(what: Callable[[], Any]) -> Any:
    """The first that is true of what it gives; an AssertionError where nothing is for too long."""
    until = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.005)
    return found


# -- processes ---------------------------------------------------------------------------------------


def process_tree() -> Any:
    """`scripts/process_tree.py`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        return importlib.import_module("process_tree")


def title_of(pid: int) -> str:
    """What a process calls itself; nothing of one that has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def titled(pids: Sequence[int], *titles: str) -> list[int]:
    """Those of the processes that one of the titles stands in."""
    return [pid for pid in pids if any(title in title_of(pid) for title in titles)]


def kill(pids: Sequence[int]) -> None:
    """SIGKILL."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# -- a cluster ---------------------------------------------------------------------------------------


@dataclass
class Nodes:
    """A head without CPUs, on which runs are led, and two nodes of two CPUs."""

    cluster: Any
    workers: list[Any]

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def complete(self) -> None:
        """Start nodes in the place of dead ones."""
        for node in [node for node in self.workers if not node.any_processes_alive() or node.dead_processes()]:
            self.workers.remove(node)
            with suppress(Exception):  # it has died without the cluster's doing
                self.cluster.remove_node(node, allow_graceful=False)
        while len(self.workers) < 2:
            self.workers.append(self.cluster.add_node(num_cpus=2))
        self.cluster.wait_for_nodes()

    def of(self, node: Any) -> list[int]:
        """A node's processes, its raylet first; none of a dead one."""
        for raylet in node.all_processes.get("raylet", ()):
            return [raylet.process.pid, *process_tree().below(raylet.process.pid)]
        return []

    def ours(self, *titles: str) -> list[int]:
        """Processes of the cluster that have one of these titles; without any: all that our runs start on it. What
        this process has started itself, a decoder of its own perhaps, is not the cluster's."""
        pids = [pid for node in (self.cluster.head_node, *self.workers) for pid in self.of(node)]
        return titled(pids, *(titles or OURS))


@contextmanager
def nodes() -> Iterator[Nodes]:
    """See `Nodes`."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        yield Nodes(cluster, [])
    finally:
        cluster.shutdown()


# -- a run -------------------------------------------------------------------------------------------


@dataclass
class Started:
    """`vidcomp encode`, on its way."""

    popen: subprocess.Popen[str]
    out: Path

    def parts(self, key: str = "*") -> int:
        """How many parts of a video, or of any, are stored."""
        return len(list(self.out.glob(f".parts/{key}/*.safetensors")))

    def until_parts(self, count: int = 1, key: str = "*") -> None:
        """So many parts are stored, and the run is in the middle."""

        def there() -> bool:
            assert self.popen.poll() is None, self.popen.communicate()
            return self.parts(key) >= count

        wait_for(there)

    def ended(self) -> tuple[int, dict[str, Any] | None, str]:
        """Exit code, the JSON that it printed, and its stderr."""
        out, err = self.popen.communicate(timeout=2 * PATIENCE_S)
        assert "Traceback" not in err
        return self.popen.returncode, json.loads(out) if out else None, err


@contextmanager
def encoding(*words: object, out: Path) -> Iterator[Started]:
    """A run in a process of its own, as a shell starts it."""
    command = [sys.executable, "-m", "vidcomp", "encode", *map(str, words), "-o", str(out), *WORDS, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as popen:
        try:
            yield Started(popen, out)
        finally:
            popen.kill()
