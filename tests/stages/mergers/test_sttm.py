"""STTM: levels, weights and links on small grids, and its edges."""

import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages.mergers._sttm_links import collapse
from vidcomp.stages.mergers._sttm_read import coarsest
from vidcomp.stages.mergers._sttm_tree import Tree, level_sizes
from vidcomp.stages.mergers.sttm import Sttm
from vidcomp.stages.ops_pairs import Pairs

SHAPES = [(1, 1, 1), (3, 1, 1), (2, 1, 7), (2, 6, 1), (1, 5, 5), (3, 7, 6), (2, 3, 9), (2, 2, 9)]


def example(shape, seed=0, channels=8):
    data = torch.randn(*shape, channels, generator=torch.Generator().manual_seed(seed))
    return TokenGrid(data, torch.arange(shape[0]).double())


def decide(grid, **hyper):
    return Sttm(**hyper).reduce(grid, Segments(torch.tensor([0]), grid.shape[0]))


@pytest.mark.parametrize(
    ("size", "root_level", "levels"),
    [
        ((14, 14), 1, [(4, 4), (7, 7), (14, 14)]),
        ((4, 4), 1, [(4, 4)]),
        ((4, 4), 9, [(4, 4)]),
        ((3, 9), 0, [(2, 5), (3, 9)]),
        ((1, 7), 0, [(1, 2), (1, 4), (1, 7)]),
        ((1, 1), 0, [(1, 1)]),
    ],
)
def test_levels(size, root_level, levels):
    assert level_sizes(*size, root_level) == levels


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_are_the_pyramids_cells(shape, weighted):
    grid = example(shape)
    found = decide(grid, spatial_threshold=-2.0, temporal_threshold=None, root_level=0, weighted=weighted)
    tree = Tree.over(*shape[1:], 0, grid.data.device)
    root = coarsest(grid.data, tree, weighted).flatten(0, 1)
    area = found.sizes[:, None] if weighted else 1
    torch.testing.assert_close(found.apply(grid.data) * area, root)
    assert int(found.sizes.sum()) == grid.count


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_unreachable_thresholds_keep_every_token(shape):
    grid = example(shape)
    found = decide(grid, spatial_threshold=1.01, temporal_threshold=1.01, root_level=0)
    assert torch.equal(found.apply(grid.data), grid.feat_ND)


def test_identical_frames_become_the_first():
    grid = example((1, 5, 6))
    same = TokenGrid(grid.data.expand(4, -1, -1, -1).contiguous(), torch.arange(4).double())
    one, many = decide(grid, root_level=0), decide(same, root_level=0)
    assert many.anchor.tolist() == one.anchor.tolist()
    torch.testing.assert_close(many.apply(same.data), one.apply(grid.data))
    assert many.sizes.tolist() == (4 * one.sizes).tolist()


def test_an_empty_slot_holds_the_frames_first_cell():
    data = torch.zeros(1, 5, 5, 2)
    data[..., 0] = 1
    data[0, 0, 0] = torch.tensor([0.0, 1])
    found = decide(TokenGrid(data, torch.zeros(1).double()), root_level=0, temporal_threshold=None)
    # 5 -> 3 -> 2: only the inner cells have four slots of their own; those at the top and left edge are split
    assert found.sizes.tolist().count(16) == 1
    assert found.sizes[found.anchor < 5].tolist() == [1, 1, 1, 1, 1]


def test_a_link_needs_the_threshold():
    data = torch.tensor([[1.0, 0], [0.8, 0.6]]).view(2, 1, 1, 2)
    grid = TokenGrid(data, torch.arange(2).double())
    assert decide(grid, temporal_threshold=0.79).anchor.tolist() == [0]
    assert decide(grid, temporal_threshold=0.81).anchor.tolist() == [0, 1]
    assert decide(grid, temporal_threshold=0.0).anchor.tolist() == [0, 1]


def test_links_collapse_as_far_as_the_references_loop():
    # the first round makes every root its own although 2-3 still crosses: two groups of one component
    pairs = torch.tensor([[0, 2], [1, 3], [2, 3]])
    assert collapse(torch.arange(4), pairs).tolist() == [0, 1, 0, 1]
    assert collapse(torch.arange(3), pairs[:0]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "hyper",
    [{"root_level": -1}, {"head_dim": 0}, {"spatial_threshold": float("nan")}, {"temporal_threshold": float("inf")}],
)
def test_bad_settings_are_refused(hyper):
    with pytest.raises(ValueError, match=next(iter(hyper))):
        Sttm(**hyper)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="divide the 8 channels"):
        decide(example((1, 4, 4)), head_dim=3)


@pytest.mark.parametrize("block_bytes", [1, 1 << 12, 1 << 30])
@pytest.mark.parametrize("head_dim", [None, 4])
def test_blocks_do_not_matter(block_bytes, head_dim, monkeypatch):
    grid = example((7, 5, 6))
    hyper = {"spatial_threshold": 0.1, "temporal_threshold": 0.1, "root_level": 0, "head_dim": head_dim}
    whole = Sttm(**hyper).pyramid(grid)
    monkeypatch.setattr("vidcomp.stages.mergers._sttm_read.BLOCK_BYTES", block_bytes)
    parted = Sttm(**hyper).pyramid(grid)
    assert torch.equal(whole.agree, parted.agree)
    assert sorted(zip(whole.pairs.tolist(), whole.near.tolist(), strict=True)) == sorted(
        zip(parted.pairs.tolist(), parted.near.tolist(), strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("parts", [1, 3])
def test_dots_of_pairs(dtype, parts):
    rows = torch.randn(5, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    first, second = torch.tensor([3, 0, 3, 4, 3]), torch.tensor([1, 0, 3, 2, 1])
    split = rows.view(5, parts, -1)
    dots = Pairs.of(first, second, 5, parts).dots(rows)
    torch.testing.assert_close(dots, (split[first] * split[second]).sum(-1))
    assert Pairs.of(first[:0], second[:0], 5, parts).dots(rows).shape == (0, parts)
