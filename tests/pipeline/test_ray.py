"""The Ray engine against real Ray: the same records as one process, on a cluster of its own and on one it joins."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cli, make_clip

pytest.importorskip("ray")

WORDS = ("--method", "evs", "--fps", "5", "--set", "chunk_frames=8")


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


def test_a_cluster_of_its_own_gives_the_same_bytes(cli: Cli, corpus: Path, here: Path) -> None:
    alone = encoded(cli, corpus, here / "alone", "--workers", "0")
    far = encoded(cli, corpus, here / "far", "--engine", "ray", "--workers", "1")
    assert far == alone
    assert len(alone) == 3
    left = {path.name for path in (here / "far").iterdir()} - set(far)
    assert left <= {"manifest.jsonl", "run.json", ".recipes"}


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
