"""How many actors a cluster takes, so that wherever Ray puts them none waits for ever, nor does what reads for them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest

from vidcomp.pipeline.config import Recipe
from vidcomp.pipeline.errors import ConfigError
from vidcomp.pipeline.far import crew_of
from vidcomp.pipeline.presets import build_recipe
from vidcomp.pipeline.runners.actor import Node


def recipe(threads: int = 1, reading: int = 1, device: str = "cpu") -> Recipe:
    settings = [f"compute.threads={threads}", "decode.threads=1", f"decode.processes={reading}"]
    return build_recipe(settings=[*settings, f"compute.device={device}"])


def nodes(*cpus: float, gpus: Sequence[float] = ()) -> list[Node]:
    return [Node(each, gpu) for each, gpu in zip(cpus, [*gpus, *[0.0] * len(cpus)], strict=False)]


def stuck(cpus: Sequence[int], threads: int, reading: int, actors: int) -> bool:
    """Whether, put one by one on whatever node takes it, some actor has no place, or at the end a reader has none."""
    left = {tuple(sorted(cpus))}
    for _ in range(actors):
        if any(max(each) < threads for each in left):
            return True
        left = {
            tuple(sorted((*each[:n], free - threads, *each[n + 1 :])))
            for each in left
            for n, free in enumerate(each)
            if free >= threads
        }
    return any(max(each) < reading for each in left)


@pytest.mark.parametrize(("threads", "reading"), list(product((1, 2, 3), (1, 2, 3))))
def test_wherever_they_are_put_there_is_room(threads: int, reading: int) -> None:
    for cpus in [(2,), (3,), (7,), (2, 2), (1, 1, 1, 1), (3, 1), (4, 2, 1), (0, 2, 5)]:
        try:
            most = crew_of(recipe(threads, reading), 99, nodes(*cpus)).actors
        except ConfigError:
            most = 0
        assert not most or not stuck(cpus, threads, reading, most), cpus
        assert stuck(cpus, threads, reading, most + 1), cpus


def test_without_being_told_each_actor_has_somebody_to_read_for_it() -> None:
    for cpus, actors in (((2,), 1), ((3,), 1), ((4,), 2), ((2, 2, 2), 3), ((16, 16), 16)):
        assert crew_of(recipe(), None, nodes(*cpus)).actors == actors


def test_one_actor_for_each_gpu_or_several_that_share_them() -> None:
    given = nodes(8, 8, 8, gpus=(2, 2))
    for workers, actors, share in ((None, 4, 1.0), (2, 2, 1.0), (5, 5, 0.5), (8, 8, 0.5)):
        crew = crew_of(recipe(device="cuda"), workers, given)
        assert (crew.actors, crew.gpus) == (actors, share)
    assert crew_of(recipe(device="auto"), None, given).gpus == 1.0
    assert crew_of(recipe(device="auto"), None, nodes(4)).gpus == 0.0
    assert crew_of(recipe(device="cuda"), 4, nodes(2, 8, gpus=(4,))).actors == 2
    with pytest.raises(ConfigError, match="has no GPU"):
        crew_of(recipe(device="cuda"), None, nodes(4))


def test_a_crew_fits_what_is_left_of_a_cluster_or_not() -> None:
    crew = crew_of(recipe(), 3, nodes(2, 2))
    assert crew.actors == 3
    assert [crew.fits(nodes(*cpus)) for cpus in ((2, 2), (4,), (1, 1, 1, 1), (3,), (2,), ())] == [True] * 3 + [
        False
    ] * 3
    crew = crew_of(recipe(device="cuda"), None, nodes(4, 4, gpus=(1, 1)))
    assert [crew.fits(nodes(4, 4, gpus=gpus)) for gpus in ((1, 1), (2,), (1,), ())] == [True, True, False, False]
