"""Density-peak clustering against the definition, and where the definition leaves a choice."""

import math
from itertools import pairwise

import pytest
import torch

from vidcomp.stages import ops, ops_cluster


def tokens(groups, rows, channels=24, seed=0):
    return torch.randn(groups, rows, channels, generator=torch.Generator().manual_seed(seed))


def by_definition(feat_RD, count, k):
    """Centres in score order and labels, in float64, without any care for ties."""
    apart = torch.cdist(feat_RD.double(), feat_RD.double()) / math.sqrt(feat_RD.shape[1])
    density = (-apart.sort(1).values[:, :k].square().mean(1)).exp()
    gap = torch.where(density > density[:, None], apart, apart.max()).amin(1)
    centre = (density * gap).argsort(descending=True)[:count]
    label = apart[:, centre].argmin(1)
    label[centre] = torch.arange(count)
    return centre, label


@pytest.mark.parametrize("by_score", [False, True])
@pytest.mark.parametrize("count", [3, 10, 29])
def test_clusters_are_those_of_the_definition(count, by_score):
    feat = tokens(4, 30)
    centre, label = ops_cluster.cluster(feat, count, 7, by_score=by_score)
    for group in range(4):
        want, want_label = by_definition(feat[group], count, 7)
        assert centre[group].tolist() == (want if by_score else want.sort().values).tolist()
        assert torch.equal(centre[group][label[group]], want[want_label])  # the same centre, whatever its number


def test_groups_do_not_see_each_other():
    feat = tokens(5, 20)
    together = ops_cluster.cluster(feat, 6, 4)
    for group in range(5):
        alone = ops_cluster.cluster(feat[group, None], 6, 4)
        for all_of_them, one in zip(together, alone, strict=True):
            assert torch.equal(all_of_them[group], one[0])


def test_equal_rows_give_one_centre_and_lower_rows_win():
    feat = torch.eye(3).repeat(1, 4, 1)  # rows 0..11 of three kinds, 0 1 2 0 1 2 ...
    centre, label = ops_cluster.cluster(feat, 3, 4)
    assert centre.tolist() == [[0, 1, 2]]
    assert label.tolist() == [[0, 1, 2] * 4]
    centre, label = ops_cluster.cluster(torch.zeros(1, 5, 8), 2, 7)
    assert centre.tolist() == [[0, 1]]
    assert label.tolist() == [[0, 1, 0, 0, 0]]  # equally near: the first; a centre is its own


def test_as_many_centres_as_rows_is_no_clustering():
    for count in (5, 6):
        centre, label = ops_cluster.cluster(tokens(2, 5), count, 3)
        assert centre.tolist() == label.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_rows_that_are_no_numbers_are_chosen_last():
    feat = tokens(1, 6)
    feat[0, 0] = float("nan")
    centre, label = ops_cluster.cluster(feat, 2, 3)
    assert label.shape == (1, 6)
    assert sorted(set(label[0].tolist())) == [0, 1]
    assert centre.shape == (1, 2)


@pytest.mark.parametrize(("groups", "rows", "channels"), [(7, 196, 3584), (1000, 10, 8), (1, 1, 1), (3, 50000, 1)])
def test_batches_cover_all_groups(groups, rows, channels):
    at = list(ops_cluster.batches(5, 5 + groups, rows, channels))
    assert at[0].start == 5
    assert all(a.stop == b.start for a, b in pairwise(at))
    assert at[-1].stop == 5 + groups
    assert list(ops_cluster.batches(5, 5 + groups, 0, channels)) == []


# -- distances and scores ----------------------------------------------------------------------------------


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def squared(feat_RD):
    return ops_cluster.Apart.of(feat_RD[None]).squared_GRR[0]


def test_squared_distances():
    x = seeded(40, 65)
    want = torch.cdist(x.double(), x.double()).square() / 65
    got = squared(x)
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-6)
    assert torch.equal(got, got.T)
    assert (got.diagonal() == 0).all()


def test_squared_distances_stand_an_outlier_channel():
    x = seeded(40, 64)
    x[:, 3] += 3000
    want = torch.cdist(x.double(), x.double()).square() / 64
    torch.testing.assert_close(squared(x).double(), want, rtol=1e-3, atol=1e-5)


def test_equal_rows_are_exactly_0_apart():
    x = seeded(9, 3584)[torch.tensor([0, 1, 1, 2, 0, 0, 3, 1])]
    got = squared(x)
    assert (got[0, [4, 5]] == 0).all()
    assert (got[1, [2, 7]] == 0).all()
    assert got[0, 1] > 0.5


def textbook_dpc(x, k):
    """methods-1 section 0, word by word in float64, without noise."""
    x = x.double()
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") / x.shape[1] ** 0.5
    density = (-apart.square().sort(dim=-1).values[:, :k].mean(-1)).exp()
    gap = torch.where(density > density[:, None], apart, apart.max()).amin(-1)
    return density * gap


@pytest.mark.parametrize("rows", [1, 2, 5, 60])
def test_dpc_scores_are_the_papers(rows):
    for seed in range(5):
        x = seeded(rows, 24, seed=seed) + seeded(4, 24, seed=99)[torch.arange(rows) % 4]
        got = ops_cluster.peak_scores(x, 4)
        want = textbook_dpc(x, 4)
        if rows > 2:  # one row is at distance 0 from all, two have equal density
            torch.testing.assert_close(got.exp().double(), want, rtol=1e-4, atol=1e-6)
        order = got.argsort(descending=True, stable=True)
        assert torch.equal(order, want.argsort(descending=True, stable=True))


def test_dpc_picks_one_of_each_group_of_equal_rows():
    x = seeded(6, 200)[torch.tensor([0] * 9 + [1, 2, 3, 4, 5, 1])]
    assert ops.top(ops_cluster.peak_scores(x, 4), 6).tolist() == [0, 9, 10, 11, 12, 13]


def test_dpc_of_large_features_does_not_underflow():
    x = 100 * seeded(30, 16)
    assert ops_cluster.peak_scores(x, 4).isfinite().all()
    assert len(set(ops_cluster.peak_scores(x, 4).tolist())) == 30


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_dpc_of_all_equal_or_no_rows(rows):
    got = ops_cluster.peak_scores(torch.ones(rows, 8), 4)
    assert got.shape == (rows,)
    assert not got.isnan().any()
    assert ops.top(got, 2).tolist() == [0, 1][: min(rows, 2)]


# -- near-equal rows ---------------------------------------------------------------------------------------


def near_copies(rows, kinds, noise, seed, channels=64):
    """Rows of a few kinds on a float16 grid, each with a little noise of its own."""
    g = torch.Generator().manual_seed(seed)
    kind = torch.randn(kinds, channels, generator=g)
    copies = kind[torch.randint(0, kinds, (rows,), generator=g)] + noise * torch.randn(rows, channels, generator=g)
    return copies.half().float()


@pytest.mark.parametrize("rows", [24, 60])
@pytest.mark.parametrize("noise", [3e-4, 1e-3, 2e-3, 5e-3])
def test_near_equal_rows_keep_their_distances(rows, noise):
    x = near_copies(rows, 8, noise, seed=0)
    want = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").square() / 64
    torch.testing.assert_close(squared(x).double(), want, rtol=1e-3, atol=0)


@pytest.mark.parametrize("noise", [3e-4, 1e-3, 2e-3, 3e-3, 5e-3])
def test_near_equal_rows_are_decided_as_the_reference_does(noise):
    """Where its noise of 1e-6 changes nothing: float32 differences, as its torch.cdist takes of up to 25 rows."""
    steady = 0
    for seed in range(40):
        x = near_copies(24, 8, noise, seed)
        found = [reference_centres(x, 12, 7, seed) for seed in range(6)]
        if all(centres == found[0] for centres in found):
            steady += 1
            assert set(ops_cluster.cluster(x[None], 12, 7)[0][0].tolist()) == found[0]
    assert steady > 20


def reference_centres(x, count, k, seed):
    """methods-1 section 0 in float32; with its noise where there is a seed."""
    apart = torch.cdist(x, x) / x.shape[1] ** 0.5
    density = (-apart.topk(k, largest=False).values.square().mean(1)).exp()
    if seed:
        density = density + torch.rand(len(x), generator=torch.Generator().manual_seed(seed)) * 1e-6
    gap = torch.where(density > density[:, None], apart, apart.max()).amin(1)
    return set((density * gap).topk(count).indices.tolist())


@pytest.mark.parametrize("channels", [48, 512])
def test_ties_of_whole_numbers_go_to_the_lower_row(channels):
    """Distances and densities of such rows are often equal, and a matmul gives them different bits."""
    for seed in range(10):
        x = torch.randint(-1, 2, (40, channels), generator=torch.Generator().manual_seed(seed)).float()
        shuffle = torch.randperm(channels, generator=torch.Generator().manual_seed(seed))
        one, other = (ops_cluster.cluster(rows[None], 20, 7, by_score=True) for rows in (x, x[:, shuffle]))
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)
        exact = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").square().round()
        first = exact[:, one[0][0]].argmin(1)
        first[one[0][0]] = torch.arange(20)
        assert torch.equal(one[1][0], first)
