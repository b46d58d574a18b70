"""PruneVid's scenes: the repair of labels by hand, and the cases where the reference crashes."""

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages.segmenters.dpc_frames import DpcFrames, mended, runs


def grid_of(data):
    return TokenGrid(data, torch.arange(len(data)).double())


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        ("aaabbb", "aaabbb"),  # nothing to mend
        ("aabaa", "aaaaa"),  # a lone step joins its neighbours
        ("aabaaa", "aaaaaa"),  # the shorter run of a label loses it, then finds it again on the right
        ("aaabbaab", "aaabbbbb"),  # the short runs of a and b at the end are one block with bb on its left
        ("aacbbb", "aabbbb"),  # right is longer
        ("aacbb", "aaabb"),  # as long: left
        ("cabbb", "bbbbb"),  # no left
        ("aabbaa", "aabbaa"),  # all longest runs of a label stay
        ("aabcddd", "aaddddd"),  # neighbouring lone steps are one block
        ("aabccccdcc", "aacccccccc"),  # the left run has grown by what it took before
        ("aabccdee", "aaacccee"),  # aab -> aaa; then cc and ee are as long: left
    ],
)
def test_repair(labels, want):
    numbers = [ord(c) - ord("a") for c in labels]
    assert "".join(chr(n + ord("a")) for n in mended(numbers)) == want


def test_nothing_that_lasts_is_one_scene():
    assert mended([3, 1, 2]) == [0, 0, 0]
    assert mended([2]) == [0]


def test_runs():
    assert runs([5, 5, 1, 5]) == [(5, 0, 2), (1, 2, 3), (5, 3, 4)]


def test_scenes_are_found():
    g = torch.Generator().manual_seed(0)
    scenes = torch.randn(3, 1, 1, 16, generator=g).repeat_interleave(4, 0)
    grid = grid_of(scenes + 0.1 * torch.randn(12, 4, 5, 16, generator=g))
    assert DpcFrames(segment_ratio=0.25).segment(grid).lengths.tolist() == [4, 4, 4]
    assert DpcFrames(segment_ratio=0.0).segment(grid).lengths.tolist() == [12]  # one cluster at least


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_fewer_steps_than_neighbours(steps):
    grid = grid_of(torch.randn(steps, 2, 2, 8, generator=torch.Generator().manual_seed(steps)))
    assert sum(DpcFrames().segment(grid).lengths.tolist()) == steps


def test_identical_frames_are_one_scene():
    assert DpcFrames().segment(grid_of(torch.randn(1, 2, 2, 8).repeat(12, 1, 1, 1))).lengths.tolist() == [12]


@pytest.mark.parametrize("hyper", [{"segment_ratio": 1.5}, {"k": 0}])
def test_refuses(hyper):
    with pytest.raises(ValueError, match="must be"):
        DpcFrames(**hyper)
