"""HoliTom's windows: the optimum by trying every cut, ties, and limits."""

from itertools import combinations

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages import ops_static
from vidcomp.stages.segmenters.dp_static import DpStatic, at_least, best_windows


def saved(same, starts):
    """Tokens that these windows save."""
    ends = [*starts[1:], len(same) + 1]
    return sum(int(same[s : e - 1].all(0).sum()) * (e - s - 1) for s, e in zip(starts, ends, strict=True) if e - s > 1)


def every_cut(steps):
    return ([0, *cut] for k in range(steps) for cut in combinations(range(1, steps), k))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("most", [1, 3, 1024])
def test_no_other_cut_saves_more(seed, most):
    same = torch.rand(6, 5, generator=torch.Generator().manual_seed(seed)) < 0.6
    found = best_windows(same, most)
    lengths = [b - a for a, b in zip(found, [*found[1:], 7], strict=True)]
    assert max(lengths) <= most
    allowed = [c for c in every_cut(7) if max(b - a for a, b in zip(c, [*c[1:], 7], strict=True)) <= most]
    assert saved(same, found) == max(saved(same, cut) for cut in allowed)


def test_ties_go_to_the_lone_step_then_to_the_shortest_window():
    assert best_windows(torch.zeros(3, 4, dtype=torch.bool), 1024) == [0, 1, 2, 3]  # nothing to save: alone
    # steps 0-1 and 1-2 are alike in one place each, never both: one window saves 1, whichever it is
    same = torch.tensor([[True, False], [False, True]])
    assert best_windows(same, 1024) == [0, 2]  # at step 2: alone after [0, 1] ties with [1, 2] after 0


def test_counting_runs():
    assert at_least(torch.tensor([0, 2, 5, 1]), 4).tolist() == [4, 3, 2, 1]


def test_cuts_at_a_scene_change_and_brings_its_cosines_along():
    g = torch.Generator().manual_seed(0)
    scenes = torch.randn(2, 3, 4, 16, generator=g)[[0, 0, 0, 1, 1]] + 0.05 * torch.randn(5, 3, 4, 16, generator=g)
    grid = TokenGrid(scenes, torch.arange(5).double())
    segments = DpStatic().segment(grid)
    assert segments.starts.tolist() == [0, 3]
    assert ops_static.traced(grid, segments) is segments
    assert DpStatic(max_window=2).segment(grid).lengths.tolist() == [2, 1, 2]  # [1, 2] saves no more
    assert DpStatic(tau=1.0).segment(grid).lengths.tolist() == [1] * 5


def test_one_step():
    assert DpStatic().segment(TokenGrid(torch.ones(1, 2, 2, 4), torch.zeros(1).double())).starts.tolist() == [0]


@pytest.mark.parametrize("hyper", [{"tau": 1.5}, {"max_window": 0}])
def test_refuses(hyper):
    with pytest.raises(ValueError, match="must be"):
        DpStatic(**hyper)
