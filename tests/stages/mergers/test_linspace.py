"""Evenly spaced tokens and thumbnails, where TS-LLaVA's code crashes or repeats itself."""

import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages.mergers.linspace import Linspace
from vidcomp.stages.ops_spacing import apart, linspace_ids
from vidcomp.stages.thumbnail import grid_shape, thumbnail, thumbnail_steps


def example(shape, **more):
    return TokenGrid(torch.randn(*shape, 4), torch.arange(shape[0]).double(), **more)


def kept(grid, **hyper):
    return Linspace(**hyper).reduce(grid, Segments(torch.tensor([0]), grid.shape[0])).anchor.tolist()


@pytest.mark.parametrize("total", [1, 2, 9, 80, 25088, 28800])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 79, 2880, 25087])
def test_the_same_as_torchs_own_where_that_is_sound(total, count):
    ids = linspace_ids(total, count)
    assert (ids - torch.linspace(0, total - 1, count).round().long()).abs().max() <= 1 if count else not len(ids)
    if 0 < count <= total:
        distinct = apart(ids, total)
        assert (distinct.diff() > 0).all()
        assert distinct[0] == 0
        assert count == 1 or distinct[-1] == total - 1
        assert (distinct - ids).abs().max() <= 1


def test_nearly_all_of_many_are_kept_once():
    assert (linspace_ids(25088, 25050).diff() == 0).any()  # what float32 does
    assert len(kept(example((128, 14, 14)), tokens=25050)) == 25050


def test_both_ends_are_kept():
    grid = example((2, 2, 5))
    assert kept(grid, retain=0.25) == [0, 5, 10, 14, 19]
    assert kept(grid, tokens=1) == [0]
    assert kept(grid, tokens=2) == [0, 19]
    assert kept(grid, tokens=99) == list(range(20))
    assert kept(grid, retain=0.0) == [0]


def test_the_papers_default_is_2880_of_50_frames():
    assert Linspace().count(example((50, 24, 24)), Segments(torch.tensor([0]), 50), None) == 2880


def test_valid_tokens_alone_are_counted():
    valid = torch.zeros(2, 2, 5, dtype=torch.bool)
    valid[1, :, 1:4] = True
    assert kept(example((2, 2, 5), valid=valid), tokens=3) == [11, 13, 18]  # places 0, 2 (2.5, to even) and 5 of six


@pytest.mark.parametrize(
    ("hyper", "words"), [({"retain": 2}, "retain"), ({"tokens": 0}, "tokens"), ({"retain": None}, "retain or tokens")]
)
def test_values_out_of_bounds(hyper, words):
    with pytest.raises(ValueError, match=words):
        Linspace(**hyper)


# -- thumbnails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "shape"), [(1, (1, 1)), (2, (2, 1)), (4, (2, 2)), (6, (3, 2)), (7, (7, 1)), (8, (4, 2)), (12, (4, 3))]
)
def test_grid_shapes(cells, shape):
    assert grid_shape(cells) == shape


def test_cells_are_laid_out_row_by_row_in_time():
    frames = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 8, 8, 3) * 10
    picture = thumbnail(frames, cells=4)
    assert picture.dtype == torch.uint8
    assert picture.shape == (8, 8, 3)
    assert picture[::4, ::4, 0].tolist() == [[0, 10], [20, 30]]
    assert picture.is_contiguous()


def test_the_picture_is_not_padded():
    frames = torch.rand(6, 20, 30, 3)
    assert thumbnail(frames, cells=6).shape == (18, 30, 3)
    assert thumbnail(frames, cells=6, size=(336, 337)).shape == (336, 336, 3)


def test_fewer_frames_than_cells_fill_several():
    assert thumbnail_steps(2, 4).tolist() == [0, 0, 1, 1]
    assert thumbnail(torch.rand(1, 8, 8, 3), cells=6).shape == (6, 8, 3)


def test_uint8_is_the_rounded_float():
    frames = torch.randint(0, 256, (5, 33, 21, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for size in (None, (100, 90)):
        wide = thumbnail(frames.float(), 4, size)
        assert torch.equal(thumbnail(frames, 4, size), wide.round().to(torch.uint8))


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (8, 8, 3)])
def test_frames_that_are_none(shape):
    with pytest.raises(ValueError, match="frames must be"):
        thumbnail(torch.zeros(shape))


def test_too_small_a_size():
    with pytest.raises(ValueError, match="do not fit"):
        thumbnail(torch.zeros(1, 8, 8, 3), cells=6, size=(2, 8))
    with pytest.raises(ValueError, match="cells must be"):
        thumbnail(torch.zeros(1, 8, 8, 3), cells=0)
