"""Likeness over time against its definition, and measurements that segments bring along."""

import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages import ops_static


def features(t=6, n=5, d=16, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(n, d, generator=g) + 0.6 * torch.randn(t, n, d, generator=g)).to(dtype)


def grid_of(feat):
    return TokenGrid(feat[:, None], torch.arange(len(feat)).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_mutual_cosine_is_the_mean_over_pairs(dtype):
    feat = features(dtype=dtype)
    cosines = torch.cosine_similarity(feat[:, None].double(), feat[None].double(), dim=-1)
    want = torch.stack([cosines[t, u] for t in range(6) for u in range(6) if t != u]).mean(0)
    torch.testing.assert_close(ops_static.mutual_cosine(feat).double(), want, atol=1e-5, rtol=0)
    assert ops_static.mutual_cosine(feat[:1]).tolist() == [0] * 5


def test_mutual_cosine_is_the_same_in_any_block(monkeypatch):
    feat = features(n=40)
    whole = ops_static.mutual_cosine(feat)
    monkeypatch.setattr(ops_static.ops, "WORK_BYTES", 500)
    assert torch.equal(ops_static.mutual_cosine(feat), whole)


def test_unchanged_places():
    similar = torch.tensor([[0.9, 0.9, 0.1], [0.9, 0.8, 0.9], [0.1, 0.9, 0.9]])  # 4 steps, 3 places
    found = ops_static.Traced(torch.tensor([0, 3]), 4, torch.zeros(4, 1), similar)
    assert ops_static.unchanged(found, 0.8).tolist() == [[True, False, False], [False] * 3]  # strict; a lone step
    whole = ops_static.Traced(torch.tensor([0]), 4, torch.zeros(4, 1), similar)
    assert ops_static.unchanged(whole, 0.05).tolist() == [[True] * 3]


def test_equal_steps_are_not_above_one():
    feat = features(t=1).expand(4, -1, -1).contiguous()
    segments = Segments(torch.tensor([0]), 4)
    assert not ops_static.unchanged(ops_static.traced(grid_of(feat), segments), 1.0).any()
    assert not ops_static.above(ops_static.mutual_cosine(feat), 1.0).any()
    assert ops_static.above(ops_static.mutual_cosine(feat), 0.99999).all()


@pytest.mark.parametrize("measure", [ops_static.traced, ops_static.compared])
def test_measurements_are_only_reused_for_the_features_they_are_of(measure):
    grid, other = grid_of(features()), grid_of(features(seed=1))
    segments = measure(grid, Segments(torch.tensor([0, 2]), 6))
    assert measure(grid, segments) is segments
    again = measure(other, segments)
    assert again is not segments
    assert again.of is other.data


def test_window_mean():
    feat = features(dtype=torch.bfloat16)
    mean = ops_static.window_mean(feat)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, feat.float().mean(0))
