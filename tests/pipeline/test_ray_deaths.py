"""What dies in the middle of a run on a cluster costs nothing: every input has its end, and the bytes are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .ray_help import (
    ACTOR,
    COUNTS,
    DECODER,
    READER,
    SOME_FAILED,
    Nodes,
    encoding,
    kept,
    kill,
    make_corpus,
    nodes,
    rows,
    statuses,
    titled,
    undisturbed,
)

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes() as found:
        yield found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("deaths") / "corpus")


@pytest.fixture(scope="module")
def right(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(corpus, tmp_path_factory.mktemp("undisturbed") / "out")


def node_with(cluster: Nodes, title: str) -> list[int]:
    """The processes of a node that has one of this title."""
    return next(pids for pids in map(cluster.of, cluster.workers) if titled(pids, title))


Victims = Callable[[Nodes], list[int]]
DEATHS: dict[str, Victims] = {
    "a decode child": lambda cluster: cluster.ours(DECODER),
    "a reading task": lambda cluster: cluster.ours(READER),
    "what hears of them": lambda cluster: cluster.ours("ray::Ears"),
    "an encoding actor": lambda cluster: cluster.ours(ACTOR)[:1],
    "a node that encodes": lambda cluster: node_with(cluster, ACTOR),
    "a node that reads": lambda cluster: node_with(cluster, READER),
}
SHORT = [("an encoding actor", 1)]
CASES = [
    pytest.param(death, workers, marks=[] if (death, workers) in SHORT else pytest.mark.slow)
    for death in DEATHS
    for workers in (1, 2)
]


@pytest.mark.parametrize(("death", "workers"), CASES)
def test_a_death_costs_nothing(cluster: Nodes, corpus: Path, right: Path, here: Path, death: str, workers: int) -> None:
    cluster.complete()
    out = here / "out"
    words = (corpus, "--engine", "ray", "--address", cluster.address, "--workers", workers)
    with encoding(*words, out=out) as started:
        started.until_parts()
        victims = DEATHS[death](cluster)
        assert victims
        kill(victims)
        assert "long.mp4" not in (statuses(out) if (out / "manifest.jsonl").exists() else ())
        code, told, said = started.ended()
    assert (code, told and told["counts"]) == (SOME_FAILED, COUNTS), said
    assert statuses(out) == statuses(right)
    assert kept(out) == kept(right)


@pytest.mark.slow
def test_a_cluster_without_a_node_is_one_line_and_the_run_goes_on_later(
    cluster: Nodes, corpus: Path, right: Path, here: Path
) -> None:
    cluster.complete()
    out = here / "out"
    words = (corpus, "--engine", "ray", "--address", cluster.address)
    with encoding(*words, out=out) as started:
        started.until_parts()
        kill([pid for node in cluster.workers for pid in cluster.of(node)])
        code, _, said = started.ended()
    assert (code, "the cluster has 0 CPUs" in said.splitlines()[-1]) == (1, True), said  # on none, or left
    cluster.complete()
    with encoding(*words, out=out) as again:
        assert again.ended()[0] == SOME_FAILED
    assert statuses(out) == statuses(right)
    assert kept(out) == kept(right)


@pytest.mark.slow
def test_a_video_that_kills_its_actor_again_and_again_has_failed(
    cluster: Nodes, corpus: Path, right: Path, here: Path
) -> None:
    """With others, with what else was lost, alone."""
    cluster.complete()
    out, key, known = here / "out", rows(right)["long.mp4"]["key"], 0
    with encoding(corpus, "--engine", "ray", "--address", cluster.address, "--workers", 1, out=out) as started:
        for _ in range(3):
            started.until_parts(known + 1, key)
            kill(cluster.ours(ACTOR))
            known = started.parts(key)
        code, told, said = started.ended()
    expected = statuses(right) | {"long.mp4": "failed:crashed"}
    assert (code, statuses(out)) == (SOME_FAILED, expected), (told, said)
    assert "long.mp4: failed:crashed: its worker or its node died: repair or replace the file" in said
