"""Ward's trees: connected groups, one tree for all budgets, the same groups as scikit-learn's own cut."""

from itertools import pairwise

import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages.mergers.ward import Ward
from vidcomp.stages.ops_fold import folded
from vidcomp.stages.ops_members import averages


def example(shape=(6, 4, 5), channels=8, seed=0, **more):
    g = torch.Generator().manual_seed(seed)
    scene = torch.randn(1 + shape[0] // 3, *shape[1:], channels, generator=g)[torch.arange(shape[0]) // 3]
    data = scene + 0.3 * torch.randn(*shape, channels, generator=g)
    return TokenGrid(data, torch.arange(shape[0]).double(), **more)


def cut(grid, tokens, starts=(0,), **hyper):
    return Ward(**hyper).exact(grid, Segments(torch.tensor(starts), grid.shape[0]), None, tokens)[0]


def parts_of(found, row):
    """How many unconnected parts a row's members fall into, over the full grid's neighbourhoods."""
    places = {tuple(p) for p in found.coordinates(found.indices[found.row_of_entry == row]).tolist()}
    parts = 0
    while places:
        parts, front = parts + 1, [places.pop()]
        while front:
            t, y, x = front.pop()
            near = {(t + 1, y, x), (t - 1, y, x), (t, y + 1, x), (t, y - 1, x), (t, y, x + 1), (t, y, x - 1)} & places
            places -= near
            front += near
    return parts


@pytest.mark.parametrize("tokens", [1, 2, 13, 60, 119])
def test_groups_are_connected_in_space_and_time(tokens):
    found = cut(example(), tokens)
    assert len(found) == tokens
    assert (found.owner >= 0).all()
    assert all(parts_of(found, row) == 1 for row in range(tokens))


def test_budgets_cut_one_tree():
    grid = example()
    owners = [cut(grid, tokens).owner for tokens in (120, 77, 40, 12, 3, 1)]
    for fine, coarse in pairwise(owners):
        pairs = torch.unique(torch.stack([fine, coarse]), dim=1)
        assert len(pairs[0].unique()) == pairs.shape[1]  # each fine group lies in one coarse group


def test_the_groups_are_scikit_learns():
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.feature_extraction.image import grid_to_graph

    grid = example((4, 5, 6))
    graph = grid_to_graph(4, 5, 6)
    for tokens in (2, 11, 50, 90):
        model = AgglomerativeClustering(n_clusters=tokens, connectivity=graph, linkage="ward")
        theirs = torch.from_numpy(model.fit_predict(grid.feat_ND.numpy()))
        both = torch.stack([cut(grid, tokens).owner, theirs])
        assert torch.unique(both, dim=1).shape[1] == tokens


def spread(feat, label):
    """Sum of squared distances to the groups' means."""
    means = averages((len(feat), 1, 1), feat, label.long()).apply(feat)
    row = averages((len(feat), 1, 1), feat, label.long()).owner.long()
    return float((feat - means[row]).square().sum())


def test_segments_are_not_crossed():
    found = cut(example(), 10, starts=(0, 2, 5))
    run = torch.bucketize(found.indices // 20, torch.tensor([0, 2, 5]), right=True)
    for row in range(10):
        assert len(run[found.row_of_entry == row].unique()) == 1
    few = cut(example(), 2, starts=(0, 1, 3))  # fewer rows than segments: the largest stay
    assert few.sizes.tolist() == [40, 60]


def test_a_skipped_patch_does_not_cut_its_place_in_two():
    grid = example((5, 1, 1), valid=torch.tensor([True, False, False, True, True]).view(5, 1, 1))
    assert cut(grid, 1).indices.tolist() == [0, 3, 4]


def test_anchors_are_the_members_nearest_the_mean():
    data = torch.tensor([0.0, 1.0, 5.0, 5.0, 5.0, 9.0]).view(6, 1, 1, 1)
    grid = TokenGrid(data, torch.arange(6).double())
    found = cut(grid, 3)
    assert found.anchor.tolist() == [0, 2, 5]  # of two, and of equal ones, the lowest
    assert found.apply(data).flatten().tolist() == [0.5, 5.0, 9.0]
    wide = averages((4, 1, 1), torch.tensor([[0.0], [4.0], [5.0], [9.0]]), torch.tensor([0, 0, -1, 0]))
    assert wide.anchor.tolist() == [1]
    assert wide.owner.tolist() == [0, 0, -1, 0]


def test_pairs_are_anchored_at_the_lower_id_in_spite_of_rounding():
    g = torch.Generator().manual_seed(1)
    near = torch.randn(200, 1, 64, generator=g) + 1e-3 * torch.randn(200, 2, 64, generator=g)
    found = averages((400, 1, 1), near.view(400, 64), torch.arange(400) // 2)
    assert found.anchor.tolist() == list(range(0, 400, 2))


def test_folding_keeps_distances():
    feat = torch.randn(40, 3000, generator=torch.Generator().manual_seed(2))
    small = folded(feat, 512, seed=0)
    assert small.shape == (40, 512)
    ratio = torch.pdist(small) / torch.pdist(feat)
    assert 0.85 < ratio.min() < ratio.max() < 1.15
    assert torch.equal(small, folded(feat, 512, seed=0))
    assert torch.equal(folded(feat, 3000, seed=0), feat)


def test_folded_trees_are_about_as_good():
    grid = example((8, 6, 6), channels=900)
    exact, rough = (cut(grid, 40, channels=c) for c in (900, 64))
    feat = grid.feat_ND
    assert spread(feat, rough.owner) < 1.05 * spread(feat, exact.owner)


@pytest.mark.parametrize("hyper", [{"retain": 2}, {"channels": 0}])
def test_values_out_of_bounds(hyper):
    with pytest.raises(ValueError, match=next(iter(hyper))):
        Ward(**hyper)
