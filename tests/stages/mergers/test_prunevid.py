"""PruneVid by hand: groups, means, anchors, and the cases where the reference crashes."""

import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages import ops_static
from vidcomp.stages.mergers.prunevid import PruneVid
from vidcomp.stages.methods import assemble
from vidcomp.stages.parts import make, names


def video(shape=(8, 6, 8), channels=16, seed=0, **more):
    """Two scenes of which about half of the places stand still."""
    g = torch.Generator().manual_seed(seed)
    t, h, w = shape
    scene = torch.randn(2, h, w, channels, generator=g)[torch.arange(t) * 2 // t]
    restless = torch.where(torch.rand(h, w, 1, generator=g) < 0.5, 0.1, 1.2)
    data = scene + restless * torch.randn(t, h, w, channels, generator=g)
    return TokenGrid(data, torch.arange(t).double(), **more)


def halves(grid):
    return Segments(torch.tensor([0, grid.shape[0] // 2]), grid.shape[0])


def method(**hyper):
    return assemble("prunevid", ("dpc_frames", {}), ("prunevid", {}), {}, hyper)


def test_rows_are_plain_means_of_clusters():
    grid = video()
    part, segments = PruneVid(), halves(grid)
    r = part.reduce(grid, segments)
    static_SN = part.static(grid, segments)
    assert (r.owner >= 0).all()
    assert r.sizes.sum() == grid.count
    still = static_SN.repeat_interleave(4, 0).flatten()
    for row in range(len(r)):
        members = r.indices[r.indptr[row] : r.indptr[row + 1]]
        torch.testing.assert_close(
            r.weights[r.indptr[row] : r.indptr[row + 1]], torch.full((len(members),), 1 / len(members))
        )
        steps = (members // grid.per_step).unique()
        assert len(still[members].unique()) == 1  # static and dynamic tokens do not mix
        assert len(steps) == (4 if still[members[0]] else 1)
        assert r.positions[row, 0] == steps[0]


@pytest.mark.parametrize("segmenter", names("segmenter"))
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 1.0])
def test_any_segments_and_the_papers_arithmetic(segmenter, ratio):
    grid = video(attention=torch.rand(8, 6, 8), frame_vectors=torch.randn(8, 5))
    segments = make("segmenter", segmenter, {}).segment(grid)
    part = PruneVid(cluster_ratio=ratio)
    want = 0
    for first, end in segments.spans():
        unit = torch.nn.functional.normalize(grid.feat_TND[first:end].double(), dim=-1)
        length = end - first
        alike = torch.einsum("tpd,upd->p", unit, unit)
        static = 0 if length == 1 else int(((alike - length) / (length * (length - 1)) > 0.8).sum())
        sizes = [static] + [48 - static] * length
        want += sum(n if n <= 14 else max(1, int(n * ratio)) for n in sizes)
    assert len(part.reduce(grid, segments)) == want == part.count(grid, segments, None)


def test_small_groups_stay_as_they_are():
    grid = video((8, 2, 7))
    r, _ = method().decide(grid)  # 14 places: no group is clustered
    dynamic = r.sizes == 1
    assert torch.equal(r.apply(grid.data)[dynamic], grid.feat_ND[r.anchor[dynamic]])
    assert len(method(min_cluster=5).decide(grid)[0]) < len(r)


def test_ratio_one_only_averages_over_time():
    grid = video()
    r = PruneVid(cluster_ratio=1.0).reduce(grid, halves(grid))
    assert set(r.sizes.tolist()) == {1, 4}


@pytest.mark.parametrize("shape", [(1, 4, 5), (2, 4, 5), (6, 1, 1), (1, 1, 1), (7, 3, 1)])
def test_short_videos_and_small_grids(shape):
    grid = video(shape)
    r, _ = method().decide(grid)
    assert (r.owner >= 0).all()
    alone = PruneVid().reduce(grid, Segments(torch.arange(shape[0]), shape[0]))
    assert not PruneVid().static(grid, Segments(torch.arange(shape[0]), shape[0])).any()
    assert alone.sizes.sum() == grid.count
    assert not PruneVid(tau=-1.0).static(grid, Segments(torch.arange(shape[0]), shape[0])).any()


def test_identical_frames():
    grid = video((12, 5, 5))
    same = TokenGrid(grid.data[:1].repeat(12, 1, 1, 1), grid.pts_s)
    r, _ = method().decide(same)
    assert len(r) == 12  # int(25 / 2) static clusters in one window
    assert set(r.positions[:, 0].tolist()) == {0}
    assert len(method(tau=1.0).decide(same)[0]) == 12 * 12  # nothing is above 1


def test_batches_do_not_matter(monkeypatch):
    grid = video()
    whole = PruneVid().reduce(grid, halves(grid))
    monkeypatch.setattr("vidcomp.stages.ops_cluster.BATCH_BYTES", 1)
    apart = PruneVid().reduce(grid, halves(grid))
    assert torch.equal(whole.anchor, apart.anchor)
    assert torch.equal(whole.indices, apart.indices)


def test_exact_budgets_measure_once(monkeypatch):
    grid, calls = video(), []
    measure = ops_static.mutual_cosine
    monkeypatch.setattr(ops_static, "mutual_cosine", lambda feat: calls.append(1) or measure(feat))
    for tokens in (1, 40, 200, 383, 384):
        before = len(calls)
        assert len(method().decide(grid, tokens=tokens)[0]) == tokens
        assert len(calls) - before == len(method().segmenter.segment(grid))


def test_single_tokens_are_added_where_a_place_moves_most():
    grid = video()
    score = PruneVid().score(grid, halves(grid), None).view(8, -1)
    static = PruneVid().static(grid, halves(grid)).repeat_interleave(4, 0)
    assert score[~static].min() > score[static].max()
    assert PruneVid().score(grid, Segments(torch.arange(8), 8), None).unique().tolist() == [1]


@pytest.mark.parametrize("hyper", [{"tau": 2}, {"cluster_ratio": 1.1}, {"k": 0}, {"min_cluster": 0}])
def test_refuses(hyper):
    with pytest.raises(ValueError, match="must be"):
        PruneVid(**hyper)
