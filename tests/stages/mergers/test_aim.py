"""AIM: its two rounds at every size, and plain means."""

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages.mergers.aim import Aim
from vidcomp.stages.mergers.tome import ToMe


def example(t=3, n=21):
    data = torch.randn(t, 1, n, 16, generator=torch.Generator().manual_seed(0))
    return TokenGrid(data, torch.arange(t).double())


@pytest.mark.parametrize(("n", "kept"), [(1, 1), (2, 1), (3, 2), (15, 5), (16, 4), (49, 13), (196, 49)])
def test_two_rounds(n, kept):
    found = Aim().reduce(example(2, n), None)
    assert found.positions[:, 0].bincount().tolist() == [kept, kept]
    assert found.sizes.sum() == 2 * n


def test_is_tome_with_plain_means():
    grid = example()
    ours, theirs = Aim().reduce(grid, None), ToMe((10, 5), proportional=False).reduce(grid, None)
    assert torch.equal(ours.to_sparse().to_dense(), theirs.to_sparse().to_dense())


def test_rounds_may_be_given():
    assert len(Aim((3,)).reduce(example(2), None)) == 2 * 18
    assert len(Aim(retain=0.5).reduce(example(2), None)) == 2 * 11
