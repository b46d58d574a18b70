"""One file by several children: the same pictures and the same verdict as by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from media import make_clip, packet_place, patch
from numpy.typing import NDArray
from streams import clip, samplings

from vidcomp.stages.decode import Decoder, Outcome
from vidcomp.stages.decode_split import Batch, in_turn, shares

GROUPS = {"g": "10", "sc_threshold": "0", "bf": "2"}


def read(decoder: Decoder, path: Path, index: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[int], Outcome]:
    source = decoder.open(path)
    batches = list(source.frames(index[index < len(source.pts_s)]))
    pictures = np.concatenate([batch.data.numpy() for batch in batches])
    return pictures, [i for batch in batches for i in batch.index.tolist()], source.outcome


@pytest.fixture(scope="module")
def decoders() -> Iterator[list[Decoder]]:
    made = [Decoder(processes=count) for count in (1, 2, 3)]
    yield made
    for decoder in made:
        decoder.close()


@pytest.mark.parametrize("kind", ["x264 closed", "x264 open ts", "x265 open", "x265 radl", "VP9", "MPEG-2", "MJPEG"])
def test_seams_are_exact(decoders: list[Decoder], tmp_path: Path, kind: str) -> None:
    path = clip(tmp_path, kind)
    for index in samplings():
        one, *others = [read(decoder, path, index) for decoder in decoders]
        assert one[2].status == "ok"
        for other in others:
            assert np.array_equal(other[0], one[0])
            assert other[1:] == one[1:]


@pytest.mark.parametrize("at", [3, 45, 88])
def test_damage_is_the_same_whoever_meets_it(decoders: list[Decoder], tmp_path: Path, at: int) -> None:
    path = make_clip(tmp_path / "a.mp4", count=90, options=GROUPS)
    place, size = packet_place(path, at)
    patch(path, place + 4, b"\xff" * (size - 4))
    for index in (np.arange(90), np.arange(0, 90, 4), np.sort([at - 1, 60])):
        one, *others = [read(decoder, path, index) for decoder in decoders]
        for other in others:
            assert np.array_equal(other[0], one[0])
            assert other[1:] == one[1:]
        assert one[2].status == "partial" or len(index) < 90


def test_children_are_kept_and_closed(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", count=60, options=GROUPS)
    with Decoder(processes=3) as decoder:
        seen = []
        for _ in range(2):
            read(decoder, path, np.arange(60))
            seen.append([process._popen.pid for process in decoder.ready(3)])
        assert seen[0] == seen[1]
        for batch in decoder.open(path).frames(np.arange(60)):
            assert len(batch)
            break  # the rest is not wanted
        assert len(read(decoder, path, np.arange(60))[1]) == 60


def test_shares_take_groups_in_turn() -> None:
    group = np.array([0, 0, 1, 1, 1, 2, 3])
    assert [part.tolist() for part in shares(group, 2)] == [[0, 1, 5], [2, 3, 4, 6]]
    assert [part.tolist() for part in shares(group[:2], 4)] == [[0, 1]]


def stream(places: list[list[int]]) -> Iterator[Batch]:
    """Batches whose pictures are their places."""
    for batch in places:
        yield np.array(batch), np.array(batch, np.uint8).reshape(-1, 1, 1, 1)


def test_in_turn_joins_and_cuts_batches() -> None:
    parts = [np.array([0, 1, 4, 5]), np.array([2, 3, 6])]
    got = list(in_turn([stream([[0, 1, 2], [3]]), stream([[0], [1, 2]])], parts))
    assert [batch[0].tolist() for batch in got] == [[0, 1], [2], [3], [4], [5], [6]]
    assert [int(batch[1][0, 0, 0, 0]) for batch in got] == [0, 0, 1, 2, 3, 2]


@pytest.mark.parametrize(("first", "given"), [([[0, 1]], 4), ([[0], [2, 3]], 1), ([], 0)])
def test_in_turn_ends_where_a_picture_is_missing(first: list[list[int]], given: int) -> None:
    parts = [np.array([0, 1, 4, 5]), np.array([2, 3, 6])]
    got = list(in_turn([stream(first), stream([[0, 1, 2]])], parts))
    assert sum(len(batch[0]) for batch in got) == given
