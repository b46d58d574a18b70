"""A run on a cluster that is told to stop, or is killed: it ends soon, leaves no process, and goes on later."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from .ray_help import (
    ACTOR,
    COUNTS,
    READER,
    Nodes,
    Started,
    encoding,
    kept,
    make_corpus,
    nodes,
    process_tree,
    title_of,
    titled,
    undisturbed,
    wait_for,
)

pytest.importorskip("ray")

SOON_S = 30.0  # until all must have ended: six times what it may take, for a machine that is busy
LEADER = "vidcomp.pipeline.cli.cluster"  # in the title of the process that leads to Ray
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes() as found:
        found.complete()
        yield found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("ending") / "corpus")


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return kept(undisturbed(corpus, tmp_path_factory.mktemp("undisturbed") / "out"))


@dataclass(frozen=True)
class Family:
    """Every process that a run has started: those that are below it now, and the session that leads to Ray."""

    below: frozenset[int]
    leader: int

    @classmethod
    def of(cls, started: Started) -> Self:
        below = process_tree().below(started.popen.pid)
        (leader,) = titled(below, LEADER)
        return cls(frozenset(below), leader)

    def left(self) -> list[int]:
        """Those that run; one that nobody has waited for yet does not."""
        running = (pid for pid, _, state in process_tree().processes() if state not in "ZX")
        return [pid for pid in running if pid in self.below or session_of(pid) == self.leader]


def session_of(pid: int) -> int:
    with suppress(ProcessLookupError):
        return os.getsid(pid)
    return 0


def soon_none(left: Callable[[], Sequence[int]]) -> bool:
    """Whether there are none, within the time that they have."""
    until = time.monotonic() + SOON_S
    while left() and time.monotonic() < until:
        time.sleep(0.02)
    return not left()


def titles(pids: Sequence[int]) -> list[str]:
    """What they call themselves, for people."""
    return [f"{pid} {title_of(pid)}" for pid in pids]


Moment = Callable[[Started], object]


def when_leading(started: Started) -> None:
    """Its cluster, or its way to one, is being made."""
    wait_for(lambda: titled(process_tree().below(started.popen.pid), LEADER))


def when_starting(started: Started) -> None:
    """The first process of a cluster of its own is there."""
    wait_for(lambda: titled(process_tree().below(started.popen.pid), "gcs_server"))


def told_to_stop(started: Started, number: int) -> None:
    """The run ends soon, by this signal, with a line."""
    started.popen.send_signal(number)
    _, said = started.popen.communicate(timeout=SOON_S)
    assert (started.popen.returncode, said.count("\n")) == (128 + number, 1), said
    assert "nothing is torn; the same command goes on where it stopped" in said


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        pytest.param(signal.SIGINT, when_leading),
        pytest.param(signal.SIGTERM, when_starting),
        pytest.param(signal.SIGINT, Started.until_parts, marks=SLOW),
        pytest.param(signal.SIGTERM, Started.until_parts, marks=SLOW),
    ],
)
def test_told_to_stop_it_takes_its_own_cluster_along(
    corpus: Path, whole: dict[str, bytes], here: Path, number: int, moment: Moment
) -> None:
    words = (corpus, "--engine", "ray", "--workers", 1)
    with encoding(*words, out=here / "out") as started:
        moment(started)
        family = Family.of(started)
        told_to_stop(started, number)
        assert soon_none(family.left), titles(family.left())
    if moment == Started.until_parts:
        with encoding(*words, out=here / "out") as again:
            assert again.ended()[1]["counts"] == COUNTS
        assert kept(here / "out") == whole


@pytest.mark.parametrize(
    ("number", "engine"), [pytest.param(signal.SIGINT, "ray", marks=SLOW), (signal.SIGTERM, "local")]
)
def test_told_to_stop_it_leaves_nothing_on_the_cluster_it_joined(
    cluster: Nodes, corpus: Path, whole: dict[str, bytes], here: Path, number: int, engine: str
) -> None:
    words = (corpus, "--engine", "ray", "--address", cluster.address)
    with encoding(*words, out=here / "out") as started:
        started.until_parts()
        assert cluster.ours(ACTOR)
        assert cluster.ours(READER)
        told_to_stop(started, number)
    assert soon_none(cluster.ours), titles(cluster.ours())
    with encoding(*(words if engine == "ray" else (corpus, "--workers", 0)), out=here / "out") as again:
        assert again.ended()[1]["counts"] == COUNTS
    assert kept(here / "out") == whole


@pytest.mark.parametrize("moment", [when_leading, when_starting, pytest.param(Started.until_parts, marks=SLOW)])
def test_killed_it_takes_its_own_cluster_along(corpus: Path, here: Path, moment: Moment) -> None:
    with encoding(corpus, "--engine", "ray", "--workers", 1, out=here / "out") as started:
        moment(started)
        family = Family.of(started)
        started.popen.kill()
        assert soon_none(family.left), titles(family.left())


@SLOW
def test_killed_it_leaves_nothing_on_the_cluster_it_joined(cluster: Nodes, corpus: Path, here: Path) -> None:
    with encoding(corpus, "--engine", "ray", "--address", cluster.address, out=here / "out") as started:
        started.until_parts()
        assert cluster.ours(ACTOR)
        family = Family.of(started)
        started.popen.kill()
        assert soon_none(lambda: [*family.left(), *cluster.ours()]), titles([*family.left(), *cluster.ours()])
