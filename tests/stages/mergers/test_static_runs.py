"""Static runs: where they begin, what they average, and what a share of tokens buys."""

from itertools import pairwise

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.pipeline.reduce import reduce
from vidcomp.stages.mergers.static_runs import StaticRuns


def by_hand(feat_TND, threshold):
    """Starts of the runs, in plain Python."""
    feat = feat_TND.double()
    starts = []
    for n in range(feat.shape[1]):
        first = None
        for t in range(len(feat)):
            if first is None or not torch.cosine_similarity(feat[t, n], first, dim=0) > threshold:
                first = feat[t, n]
                starts.append(t * feat.shape[1] + n)
    return sorted(starts)


def example(t=12, n=7, d=16, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    scene = torch.randn(3, n, d, generator=g)[torch.arange(t) // 5]
    return (scene + 0.3 * torch.randn(t, n, d, generator=g)).to(dtype)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.6, 0.9, 0.95])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_runs_begin_where_the_first_token_is_left(threshold, dtype):
    feat_TND = example(dtype=dtype)
    found = reduce(feat_TND, "static_runs", threshold=threshold)
    assert found.anchor.tolist() == by_hand(feat_TND, threshold)
    assert int(found.sizes.sum()) == 12 * 7


def test_a_row_is_its_runs_mean():
    feat_TND = torch.eye(4)[[0, 0, 1, 1, 1, 0]][:, None] * torch.tensor([1, 2, 3, 4, 5, 6.0])[:, None, None]
    found = reduce(feat_TND, "static_runs")
    assert found.anchor.tolist() == [0, 2, 5]
    assert found.sizes.tolist() == [2, 3, 1]
    assert found.apply(feat_TND).tolist() == [[1.5, 0, 0, 0], [0, 4, 0, 0], [6, 0, 0, 0]]
    assert found.owner.tolist() == [0, 0, 1, 1, 1, 2]


def test_slow_drift_is_noticed():
    angle = torch.arange(40) * 0.05  # neighbours are similar to 0.9988, never below a threshold
    feat_TND = torch.stack([angle.cos(), angle.sin()], -1)[:, None]
    found = reduce(feat_TND, "static_runs", threshold=0.9)  # arccos 0.9 = 0.451: ten steps
    assert found.positions[:, 0].tolist() == [0, 10, 20, 30]


def test_equal_tokens_are_one_run_zero_vectors_too():
    for feat_TND in (torch.zeros(6, 3, 8), torch.randn(1, 3, 8).expand(6, -1, -1)):
        assert reduce(feat_TND, "static_runs", threshold=0.999999).anchor.tolist() == [0, 1, 2]
        assert len(reduce(feat_TND, "static_runs", threshold=1.0)) == 18  # strict: nothing is above 1


def test_an_invalid_token_ends_a_run():
    valid = torch.ones(5, 1, 2, dtype=torch.bool)
    valid[2, 0, 1] = False
    grid = TokenGrid(torch.ones(5, 1, 2, 3), torch.arange(5).double(), valid=valid)
    found = StaticRuns().reduce(grid, None)
    assert found.anchor.tolist() == [0, 1, 7]
    assert found.sizes.tolist() == [5, 2, 2]


def test_runs_go_on_over_a_border_without_a_row():
    data = torch.ones(2, 1, 2, 3)
    grid = TokenGrid(data, torch.arange(2).double())
    _, carry = StaticRuns().step(grid, None, None)
    changed = torch.cat([data[:1], data[1:] * torch.tensor([1, 1, -1])])
    found, _ = StaticRuns().step(TokenGrid(changed, torch.arange(2).double()), None, carry)
    assert found.anchor.tolist() == [2, 3]
    assert found.owner.tolist() == [-1, -1, 0, 1]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 1 / 3, 0.5, 0.9, 1.0])
def test_a_share_of_tokens_is_exact(share):
    found = StaticRuns(retain=share).reduce(_grid(example()), None)
    assert len(found) == int(84 * share)


def test_a_share_is_met_by_the_threshold_that_gives_no_more():
    feat_TND = example()
    for threshold in (0.3, 0.8, 0.93):
        starts = by_hand(feat_TND, threshold)
        found, _ = StaticRuns().exact(_grid(feat_TND), None, None, len(starts))
        assert len(found) == len(starts)
    assert reduce(feat_TND, "static_runs", retain=1.0).is_selection


@pytest.mark.parametrize("seed", range(8))
def test_more_tokens_never_err_more(seed):
    feat_TND = example(seed=seed)
    errors = []
    for tokens in range(21, 85, 9):
        found, _ = StaticRuns().exact(_grid(feat_TND), None, None, tokens)
        shown = found.expand(found.apply(feat_TND))
        errors.append(float((shown - feat_TND.reshape(84, -1)).square().mean()))
    assert all(b <= 1.1 * a for a, b in pairwise(errors))
    assert errors[-1] == 0


def _grid(feat_TND):
    return TokenGrid(feat_TND[:, None], torch.arange(len(feat_TND)).double())


def test_settings():
    assert StaticRuns().causal
    by_share = StaticRuns().at(0.4)
    assert (by_share.retain, by_share.threshold, by_share.causal) == (0.4, None, False)
    for bad in ({"threshold": 1.5}, {"retain": -0.1}, {"threshold": None}):
        with pytest.raises(ValueError, match=r"static_runs needs|must be in"):
            StaticRuns(**bad)
