"""LLaVA-Scissor: components, means of means, and what the reference cannot do."""

import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.pipeline.reduce import reduce
from vidcomp.stages import ops_forest, ops_graph
from vidcomp.stages.budget import best_knob
from vidcomp.stages.mergers import _scissor_levels, scissor
from vidcomp.stages.mergers._scissor_rows import assign
from vidcomp.stages.mergers.scissor import Scissor, tokens_of
from vidcomp.stages.methods import assemble


def at_angles(*frames):
    """Unit vectors in the plane, one list of degrees for each frame."""
    angle = torch.deg2rad(torch.tensor(frames, dtype=torch.float64)).float()
    return torch.stack([angle.cos(), angle.sin()], -1)[:, None]


def test_chains_join_and_means_ignore_sizes():
    feat = at_angles([0, 10, 20, 100], [10, 100, 200, 300])  # tau = cos 15
    found = reduce(feat, "scissor", tau=0.966)
    assert found.owner.tolist() == [0, 0, 0, 1, 0, 1, 2, 3]
    assert found.sizes.tolist() == [4, 2, 1, 1]
    assert found.anchor.tolist() == [1, 3, 6, 7]
    want = torch.tensor([1 / 6, 1 / 6, 1 / 6, 0, 1 / 2, 0, 0, 0]) + torch.tensor([1.0, 1, 1, 0, 1, 0, 0, 0])
    torch.testing.assert_close(found.to_sparse().to_dense()[0], want / 5)


def test_zero_vectors_are_one_component():
    feat = torch.cat([torch.zeros(2, 3), torch.eye(3), torch.zeros(1, 3)]).view(2, 1, 3, 3)
    found = reduce(feat, "scissor")
    assert found.owner.tolist() == [0, 0, 1, 2, 3, 0]


def test_a_level_of_one_keeps_all():
    assert reduce(torch.ones(2, 2, 3, 8), "scissor", tau=1.0).is_selection
    assert len(reduce(torch.ones(2, 2, 3, 8), "scissor", tau=0.99)) == 1


@pytest.mark.parametrize("tau", [-0.2, 0.3, 0.6, 0.8])
def test_no_comparison_that_mattered_was_left_out(tau):
    g = torch.Generator().manual_seed(1)
    feat = torch.randn(40, 1, 1, 6, generator=g) * torch.rand(40, 1, 1, 1, generator=g)
    feat = feat + 0.3 * torch.randn(40, 3, 5, 6, generator=g)
    grid = TokenGrid(feat, torch.arange(40).double())
    seen, feat_VD = tokens_of(grid)
    parts = Scissor(tau).components(grid, seen, feat_VD)
    reps = torch.stack([parts.nodes_MD[parts.group_M == k].mean(0) for k in parts.group_M.unique()])
    want = torch.nn.functional.cosine_similarity(feat_VD[:, None], reps, dim=-1).argmax(1)
    assert torch.equal(assign(feat_VD, parts, tau), want)


def test_many_edges_are_joined_as_they_come(monkeypatch):
    feat = torch.randn(500, 4, generator=torch.Generator().manual_seed(2))
    whole = ops_graph.similar_components(feat, 0.95, [(0, 200), (200, 500)])
    monkeypatch.setattr(ops_graph, "BLOCK_CELLS", 3000)
    monkeypatch.setattr(ops_graph, "MOST_EDGES", 50)
    assert torch.equal(whole, ops_graph.similar_components(feat, 0.95, [(0, 200), (200, 500)]))
    assert not set(whole[:200].tolist()) & set(whole[200:].tolist())


def test_exact_budgets_keep_the_frames_level():
    grid = TokenGrid(at_angles([0, 20, 120], [30, 150, 240]), torch.arange(2).double())
    built = assemble("scissor", ("uniform", {}), ("scissor", {}), {}, {})
    at_default = Scissor(0.9).at(1 / 3)
    assert (at_default.tau, at_default.between_frames) == pytest.approx((0.9, 0.9))
    for tokens in range(1, 7):
        assert len(built.decide(grid, tokens=tokens)[0]) == tokens


def rows_and_zeros(zeros):
    """Six orthogonal vectors, the places `zeros` of which are 0."""
    feat = torch.eye(6)
    feat[zeros] = 0
    return feat.view(1, 1, 6, 6)


@pytest.mark.parametrize("place", [0, 3, 5])
def test_a_zero_vector_is_alone_below_a_level_of_zero_too(place):
    found = reduce(rows_and_zeros([place]), "scissor", tau=-0.5)
    assert len(found) == 2
    assert (found.owner == found.owner[place]).sum() == 1


@pytest.mark.parametrize("places", [[0, 1], [0, 5], [2, 4]])
def test_zero_vectors_do_not_join_others(places):
    found = reduce(rows_and_zeros(places), "scissor", tau=-0.5)
    assert len(found) == 2
    assert (found.owner == found.owner[places[0]]).nonzero()[:, 0].tolist() == places
    opposed = torch.tensor([[0.0, 0], [1, 0], [-1, 0]])
    for order in ([0, 1, 2], [1, 2, 0], [1, 0, 2]):
        assert len(reduce(opposed[order].view(1, 1, 3, 2), "scissor", tau=-0.5)) == 3


def scenes(seed, zeros=0.1, steps=6):
    g = torch.Generator().manual_seed(seed)
    scene = torch.randn(2, 3, 4, 12, generator=g).repeat_interleave(steps // 2, 0)
    feat = scene + 0.5 * torch.randn(steps, 3, 4, 12, generator=g)
    return feat * (torch.rand(steps, 3, 4, 1, generator=g) >= zeros)


@pytest.mark.parametrize("seed", range(4))
def test_joining_levels_are_those_of_the_components(seed, monkeypatch):
    feat = scenes(seed).view(-1, 12)
    for rows, cells, held in ((16, 1 << 20, 4), (1, 200, 0), (7, 100, 1)):
        monkeypatch.setattr(ops_forest, "FIRST_ROWS", rows)
        monkeypatch.setattr(ops_graph, "BLOCK_CELLS", cells)
        monkeypatch.setattr(ops_forest, "HELD", held)
        for spans in ([(0, 72)], [(0, 12), (12, 40), (40, 72)]):
            levels = ops_forest.joining_levels(feat, spans)
            for tau in (-1.0, -0.3, 0.0, 0.2, 0.5, 0.7, 0.9, 0.999):
                want = len(ops_graph.similar_components(feat, tau, spans).unique())
                assert len(feat) - int((levels > tau).sum()) == want


@pytest.mark.parametrize("seed", range(3))
def test_exact_budgets_are_those_of_the_best_level(seed):
    """Before tokens are added, as many rows as any level gives that does not give too many."""
    grid = TokenGrid(scenes(seed), torch.arange(6).double())
    whole, m = Segments(torch.tensor([0]), 6), Scissor(0.6)
    for tokens in (0, 1, 2, 3, 5, 9, 20, 40, 60, 71, 72):
        found, _ = m.exact(grid, whole, None, tokens)
        assert len(found) == tokens
        want = best_knob(m, grid, whole, None, tokens).reduce(grid, whole)
        merged = int((found.sizes > 1).sum())
        assert len(want) > tokens or merged >= int((want.sizes > 1).sum()) - 1


def test_exact_budgets_look_at_the_clip_about_as_often_as_reduce(monkeypatch):
    calls = []
    for module, name in ((scissor, "similar_components"), (_scissor_levels, "joining_levels")):
        work = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, work=work: (calls.append(1), work(*args))[1])
    grid, whole = TokenGrid(scenes(0), torch.arange(6).double()), Segments(torch.tensor([0]), 6)
    for tokens in (3, 30, 70):
        calls.clear()
        Scissor(0.6).exact(grid, whole, None, tokens)
        assert len(calls) <= 4
