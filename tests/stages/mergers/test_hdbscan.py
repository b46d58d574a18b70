"""HDBSCAN: clusters become means, noise stays by saliency, and what is too much is refused with a way out."""

import subprocess
import sys

import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages.mergers.hdbscan import Hdbscan


def blobs(shape=(3, 6, 8), kinds=4, noise=10, seed=0, **more):
    """Tight groups of directions, and `noise` tokens apart from all."""
    g = torch.Generator().manual_seed(seed)
    n = shape[0] * shape[1] * shape[2]
    kind = torch.arange(n) % kinds
    feat = torch.eye(32)[kind] + 0.02 * torch.randn(n, 32, generator=g)
    odd = torch.arange(noise) * (n // max(1, noise))
    feat[odd] = torch.eye(32)[kinds + torch.arange(noise)]
    return TokenGrid(feat.view(*shape, 32), torch.arange(shape[0]).double(), **more), odd


def whole(grid):
    return Segments(torch.tensor([0]), grid.shape[0])


def test_clusters_come_first_then_what_stands_out():
    grid, odd = blobs()
    found, _ = Hdbscan().exact(grid, whole(grid), None, 14)
    assert len(found) == 14
    merged = found.sizes > 1
    assert int(merged.sum()) == 4
    assert set(found.anchor[~merged].tolist()) == set(odd.tolist())
    assert (found.owner >= 0).all()
    assert found.sizes.sum() == grid.count


def test_fewer_rows_than_clusters_keep_the_largest():
    grid, _ = blobs()
    four, two = (sorted(Hdbscan().exact(grid, whole(grid), None, k)[0].sizes.tolist(), reverse=True) for k in (4, 2))
    assert two == four[:2]


def test_more_rows_than_there_are_split_off_members():
    grid, _ = blobs()
    found, _ = Hdbscan().exact(grid, whole(grid), None, 50)
    assert len(found) == 50
    assert int((found.sizes > 1).sum()) == 4


def test_saliency_by_name():
    grid, odd = blobs(attention=torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(4)))
    found, _ = Hdbscan(saliency="attention").exact(grid, whole(grid), None, 7)
    alone = found.anchor[found.sizes == 1]
    best = odd[grid.attention.flatten()[odd].argsort(descending=True)[:3]]
    assert set(alone.tolist()) == set(best.tolist())
    bare, _ = blobs()
    with pytest.raises(ValueError, match="saliency=attention needs attention"):
        Hdbscan(saliency="attention").reduce(bare, whole(bare))


def test_each_segment_has_its_own_clusters():
    grid, _ = blobs((4, 6, 8), noise=0)
    halves = Segments(torch.tensor([0, 2]), 4)
    group = Hdbscan().clusters(grid, halves).view(4, -1)
    assert group.max() == 7
    assert not set(group[:2].unique().tolist()) & set(group[2:].unique().tolist())


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("projection", [None, 4])
def test_tokens_that_are_all_alike_are_one_cluster(value, projection):
    grid = TokenGrid(torch.full((2, 3, 4, 8), value), torch.arange(2).double())
    found, _ = Hdbscan(projection=projection).exact(grid, whole(grid), None, 1)
    assert found.sizes.tolist() == [24]
    assert found.anchor.tolist() == [0]


def test_lengths_do_not_matter():
    grid, _ = blobs()
    scaled = TokenGrid(grid.data * torch.linspace(0.5, 40, 144).view(3, 6, 8, 1), grid.pts_s)
    assert torch.equal(Hdbscan().clusters(grid, whole(grid)), Hdbscan().clusters(scaled, whole(grid)))


def test_too_many_points_are_refused_with_a_way_out():
    grid, odd = blobs((4, 24, 24))
    for tokens in (None, 9):
        with pytest.raises(ValueError, match=r"steps 0..3 have 2304 tokens.*segments=8.*projection=16.*force=True"):
            Hdbscan().exact(grid, whole(grid), None, tokens) if tokens else Hdbscan().reduce(grid, whole(grid))
    assert len(Hdbscan().reduce(grid, Segments(torch.tensor([0, 2]), 4))) == 230
    for allowed in (Hdbscan(projection=16), Hdbscan(force=True)):
        found, _ = allowed.exact(grid, whole(grid), None, 14)
        assert set(found.anchor[found.sizes == 1].tolist()) == set(odd.tolist())


@pytest.mark.parametrize("hyper", [{"retain": 2}, {"min_cluster": 1}, {"saliency": "x"}, {"projection": 0}])
def test_values_out_of_bounds(hyper):
    with pytest.raises(ValueError, match=next(iter(hyper))):
        Hdbscan(**hyper)


def test_making_one_does_not_import_scikit_learn():
    code = (
        "import sys\nfrom vidcomp.stages.parts import make\n"
        "make('merger', 'ward', {}); make('merger', 'hdbscan', {})\nprint({'sklearn', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
