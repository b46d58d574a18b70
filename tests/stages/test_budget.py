"""Exact budgets: shares of chunks, and any merger brought to an exact number of rows."""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages.budget import ChunkBudget, bisect, exactly, share_of_rate, share_of_total
from vidcomp.stages.parts import Merger
from vidcomp.stages.reduction import Reduction

cuts = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@given(st.integers(0, 10**7), cuts)
def test_shares_of_a_total_sum_to_it(tokens, lengths):
    borders = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    shares = [share_of_total(tokens, borders[-1], a, b) for a, b in pairwise(borders)]
    assert sum(shares) == tokens
    for share, length in zip(shares, lengths, strict=True):
        assert abs(share - Fraction(tokens * length, borders[-1])) < 1


@given(st.sampled_from([0.1, 0.3, 7.5, 12, 1 / 3]), st.sampled_from([1.0, 0.7, Fraction(30000, 1001), 2]), cuts)
def test_shares_of_a_rate_do_not_depend_on_the_cuts(rate, fps, lengths):
    borders = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    shares = [share_of_rate(rate, fps, a, b) for a, b in pairwise(borders)]
    assert min(shares) >= 0
    assert sum(shares) == share_of_rate(rate, fps, 0, borders[-1])


def test_a_rate_means_the_decimal_that_was_written():
    assert exactly(0.1) == Fraction(1, 10)
    assert share_of_rate(0.1, 1.0, 0, 10) == 1
    assert share_of_rate(0.7, 0.1, 0, 3) == 21  # 0.7 / 0.1 * 3 is 20.999999999999996 in floats
    assert share_of_rate(10, 30, 0, 3) == 1


def test_chunk_budget():
    assert ChunkBudget({"retain": 0.5}, 9, 1.0).of(0, 4) is None
    assert ChunkBudget({}, 9, 1.0).of(0, 4) is None
    assert [ChunkBudget({"tokens": 10}, 9, 1.0).of(a, b) for a, b in ((0, 4), (4, 8), (8, 9))] == [4, 4, 2]
    assert ChunkBudget({"tokens_per_second": 2.5}, 9, 1.0).of(0, 4) == 10


@dataclass(frozen=True)
class Ceiling(Merger):
    """A method with floors: `least` + ceil(knob * N) first tokens of each step, the last of them a mean of the rest."""

    retain: float = 0.1
    least: int = 0

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        n = grid.per_step
        kept = min(n, self.least + -(-round(self.retain * n * 1000) // 1000))
        ids = torch.arange(grid.count).view(-1, n)
        if not kept:
            return Reduction.select(grid.shape, ids[:0].flatten())
        own = ids.new_tensor(range(n)).clamp_max(kept - 1)
        row = (torch.arange(len(ids))[:, None] * kept + own).flatten()
        weight = torch.where(own == kept - 1, 1 / (n - kept + 1), 1.0).repeat(len(ids))
        return Reduction.from_entries(grid.shape, ids[:, :kept].flatten(), row, ids.flatten(), weight)

    def at(self, knob: float):
        return replace(self, retain=knob)

    def score(self, grid, segments, carry):
        return grid.data[..., 0].flatten()


def example(t=3, h=2, w=5, ties=False, **more):
    data = torch.randn(t, h, w, 4, generator=torch.Generator().manual_seed(0))
    data = data.round() if ties else data
    return TokenGrid(data, torch.arange(t).double(), **more), Segments(torch.tensor([0]), t)


@pytest.mark.parametrize("least", [0, 4])
@pytest.mark.parametrize("ties", [False, True])
def test_bisect_is_exact_at_every_count(least, ties):
    grid, segments = example(ties=ties)
    for tokens in (0, 1, 2, 5, 11, 12, 13, 20, 29, 30, 33):
        found, carry = bisect(Ceiling(least=least), grid, segments, None, tokens)
        assert len(found) == min(tokens, grid.count)
        assert carry is None


def test_bisect_takes_the_largest_count_and_adds_by_score():
    grid, segments = example()
    merger = Ceiling()
    found, _ = bisect(merger, grid, segments, None, 8)  # counts go by threes: 6, then two more
    base = merger.at(0.15).reduce(grid, segments)
    assert len(base) == 6
    score = merger.score(grid, segments, None)
    free = [n for n in range(grid.count) if n not in base.anchor.tolist()]
    best = sorted(free, key=lambda n: (-score[n], n))[:2]
    assert found.anchor.tolist() == sorted([*base.anchor.tolist(), *best])
    for n in best:
        assert int(found.anchor[found.owner[n].long()]) == n
        assert torch.equal(found.apply(grid.data)[found.owner[n].long()], grid.feat_ND[n])
    # the groups they left keep their values and sizes
    old = [found.anchor.tolist().index(a) for a in base.anchor.tolist()]
    assert torch.equal(found.apply(grid.data)[old], base.apply(grid.data))
    assert torch.equal(found.sizes[old], base.sizes)


def test_bisect_below_the_floor_keeps_the_best_rows():
    grid, segments = example(ties=True)
    merger = Ceiling(least=4)
    lowest = merger.at(0).reduce(grid, segments)
    score = merger.score(grid, segments, None)
    found, _ = bisect(merger, grid, segments, None, 5)
    best = sorted(lowest.anchor.tolist(), key=lambda n: (-score[n], n))[:5]
    assert found.anchor.tolist() == sorted(best)


def test_bisect_of_valid_tokens_only():
    valid = torch.rand(3, 2, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    grid, segments = example(valid=valid)
    for tokens in (0, 1, 8, int(valid.sum()), 30):
        found, _ = bisect(Ceiling(), grid, segments, None, tokens)
        assert len(found) == min(tokens, int(valid.sum()))
        assert valid.flatten()[found.indices].all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(0, 60), st.integers(0, 3))
def test_bisect_of_any_shape(t, h, w, tokens, least):
    grid, segments = example(t, h, w)
    assert len(bisect(Ceiling(least=least), grid, segments, None, tokens)[0]) == min(tokens, grid.count)
