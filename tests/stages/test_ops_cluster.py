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


def test_scores_order_as_those_for_one_group():
    feat = tokens(2, 40)
    scores = ops_cluster.density_peaks(ops_cluster.squared_distances(feat), 5)
    for group in range(2):
        torch.testing.assert_close(scores[group], ops.dpc_scores(feat[group], 5))


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
