"""The Ray engine against real Ray: the same records as one process, on a cluster of its own and on one it joins."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cli, make_clip

pytest.importorskip("ray")

WORDS = ("--method", "evs", "--fps", "5", "--set", "chunk_frames=8")
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips, one of them no video."""
    folder = tmp_path_factory.mktemp("ray") / "corpus"
    folder.mkdir()
    for n, frames in enumerate((60, 30, 45)):
        make_clip(folder / f"{n}.mp4", frames=frames)
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes on this machine."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    nodes.add_node(num_cpus=2)
    yield nodes
    nodes.shutdown()


def records(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.safetensors")}


def encoded(cli: Cli, corpus: Path, out: Path, *more: object) -> dict[str, bytes]:
    said = cli("encode", corpus, "-o", out, *WORDS, *more, "--json")
    assert said.code == 2, said.err
    assert said.json["counts"] == {"ok": 3, "failed:not_video": 1}
    return records(out)


@SLOW
def test_a_cluster_of_its_own_gives_the_same_bytes(cli: Cli, corpus: Path, here: Path) -> None:
    alone = encoded(cli, corpus, here / "alone", "--workers", "0")
    far = encoded(cli, corpus, here / "far", "--engine", "ray", "--workers", "1")
    assert far == alone
    assert len(alone) == 3
    left = {path.name for path in (here / "far").iterdir()} - set(far)
    assert left <= {"manifest.jsonl", "run.json", ".recipes"}


@SLOW
def test_a_joined_cluster_gives_the_same_bytes_and_goes_on(cli: Cli, corpus: Path, here: Path, cluster: Any) -> None:
    alone = encoded(cli, corpus, here / "alone", "--workers", "0")
    far = encoded(cli, corpus, here / "far", "--engine", "ray", "--workers", "2", "--address", cluster.address)
    assert far == alone
    gone = sorted(far)[0]
    (here / "far" / gone).unlink()
    again = encoded(cli, corpus, here / "far", "--engine", "ray", "--address", cluster.address)
    assert again == alone


def test_a_cluster_that_is_not_there_is_one_line(cli: Cli, corpus: Path, here: Path) -> None:
    shutil.copytree(corpus, here / "c")
    said = cli("encode", "c", *WORDS, "--engine", "ray", "--address", "127.0.0.1:1")
    assert said.code == 1
    assert said.err.count("\n") == 1


# -- once more ---------------------------------------------------------------------------------------


@pytest.fixture
def failed(cli: Cli, corpus: Path, here: Path) -> Path:
    """A folder of records of `in`, a copy of the corpus; what failed has been mended since."""
    shutil.copytree(corpus, here / "in")
    encoded(cli, here / "in", here / "out", "--workers", "0")
    make_clip(here / "in" / "broken.mp4", frames=20)
    return here / "out"


@SLOW
def test_what_failed_is_done_again_on_the_cluster(cli: Cli, failed: Path, here: Path, cluster: Any) -> None:
    said = cli("failures", failed, "--retry", "--engine", "ray", "--address", cluster.address, "--json")
    assert (said.code, said.json["counts"]) == (0, {"ok": 1}), said.err
    assert json.loads((failed / "run.json").read_text())["engine"] == "local"  # of the last run over several inputs
    assert cli("encode", here / "in", "-o", here / "alone", *WORDS, "--workers", "0").code == 0
    assert records(failed) == records(here / "alone")
    assert len(records(failed)) == 4


def test_what_failed_is_done_again_where_it_is_told_to(cli: Cli, failed: Path) -> None:
    before = (failed / "manifest.jsonl").read_bytes()
    said = cli("failures", failed, "--retry", "--engine", "ray", "--address", "127.0.0.1:1")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "127.0.0.1:1: nobody answers there" in said.err
    assert (failed / "manifest.jsonl").read_bytes() == before


@pytest.mark.parametrize("words", [("encode", "in"), ("failures", "out", "--retry")])
def test_an_address_without_the_engine_is_one_line(cli: Cli, failed: Path, words: tuple[str, ...]) -> None:
    said = cli(*words, "--address", "127.0.0.1:1")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "--engine ray" in said.err


# -- streams -----------------------------------------------------------------------------------------

STREAMS = """
import os, ray
from vidcomp.pipeline.runners.ray import elsewhere

def pids():
    while True:
        yield os.getpid()

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
for _ in range(5):  # each takes all CPUs, and is left before its end
    left = elsewhere(1.0, pids)
    next(left)
    left.close()
pictures, sound = elsewhere(1.0, pids), elsewhere(0.0, pids)
print(next(pictures), next(sound), next(pictures), next(sound))
os._exit(0)
"""


@pytest.mark.slow
def test_a_process_makes_one_stream_at_a_time() -> None:
    """Pictures and sound are read with the same decoder, if by the same process."""
    words = [sys.executable, "-c", STREAMS]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    pictures, sound, *more = map(int, done.stdout.split())
    assert more == [pictures, sound]
    assert pictures != sound
