"""RLT: differences of pixels, runs, and frames that do not fit."""

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.pipeline.reduce import reduce
from vidcomp.stages.mergers.rlt import Rlt

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def video(frames, h=2, w=3, patch=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    base = torch.randint(0, 256, (1, h * patch, w * patch, 3), generator=g)
    moving = (torch.rand(frames, h, w, 1, generator=g) < 0.3).repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    other = torch.randint(0, 256, (frames, h * patch, w * patch, 3), generator=g)
    return torch.where(moving, other, base).to(torch.uint8)


def as_specified(pixels, tubelet, patch):
    """The method's text, in float64 over whole normalised arrays."""
    x = (pixels.double() / 255 - MEAN) / STD
    apart = (x[tubelet - 1 :: tubelet][1:] - x[::tubelet][:-1]).abs().mean(-1)
    t, h, w = apart.shape
    return apart.view(t, h // patch, patch, w // patch, patch).mean((2, 4))


@pytest.mark.parametrize(("tubelet", "patch"), [(2, 16), (1, 16), (3, 8), (4, 4)])
def test_differences(tubelet, patch):
    pixels = video(12)
    want = as_specified(pixels, tubelet, patch)
    t, h, w = 12 // tubelet, 32 // patch, 48 // patch
    grid = TokenGrid(torch.zeros(t, h, w, 5), torch.arange(t).double(), pixels=pixels)
    method = Rlt(tubelet=tubelet, patch=patch)
    score = method.score(grid, None, None).view(t, h, w)
    assert score[0].isinf().all()
    torch.testing.assert_close(score[1:], want.double(), rtol=0, atol=1e-6)
    found = method.reduce(grid, None)
    stays = torch.cat([torch.ones(1, h, w, dtype=torch.bool), want > 0.1])
    assert torch.equal(found.anchor, stays.flatten().nonzero()[:, 0])


def test_strided_pixels_are_the_same_pixels():
    pixels = video(6)
    strided = pixels.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    assert torch.equal(reduce(None, "rlt", pixels=pixels).anchor, reduce(None, "rlt", pixels=strided).anchor)


def test_a_row_is_its_runs_first_tubelet():
    pixels = torch.zeros(10, 16, 32, 3, dtype=torch.uint8)
    pixels[4:, :, 16:] = 200  # the right patch changes once, at step 2 of 5
    features = torch.arange(10.0).view(5, 1, 2, 1)
    found = reduce(features, "rlt", pixels=pixels)
    assert found.anchor.tolist() == [0, 1, 5]
    assert found.sizes.tolist() == [5, 2, 3]
    assert found.apply(features).flatten().tolist() == [0, 1, 5]
    assert found.owner.tolist() == [0, 1, 0, 1, 0, 2, 0, 2, 0, 2]
    assert found.boxes[2].tolist() == [2, 5, 0, 1, 1, 2]


def test_slow_drift_is_not_noticed():
    pixels = torch.arange(20, dtype=torch.uint8).mul(2)[:, None, None, None].expand(-1, 16, 16, 3)
    assert reduce(None, "rlt", pixels=pixels, tubelet=1).sizes.tolist() == [20]


@pytest.mark.parametrize(("level", "kept"), [(0, 1), (1, 2)])
def test_the_threshold_is_strict(level, kept):
    pixels = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    pixels[1] += 51  # a fifth of white; with std 1 the mean change is 51/255
    at = 51 / 255 if level == 0 else 51 / 255 - 1e-9
    assert len(reduce(None, "rlt", pixels=pixels, tubelet=1, std=(1, 1, 1), threshold=at)) == kept


def test_one_grey_level_in_one_pixel_is_above_zero():
    pixels = torch.full((4, 32, 32, 3), 7, dtype=torch.uint8)
    pixels[2:, 20, 3, 1] = 8
    assert reduce(None, "rlt", pixels=pixels, threshold=0).anchor.tolist() == [0, 1, 2, 3, 6]
    assert len(reduce(None, "rlt", pixels=pixels, threshold=-1)) == 8


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_frames_that_do_not_fill_tubelets(frames):
    pixels = torch.zeros(frames, 16, 16, 3, dtype=torch.uint8)
    pixels[-1] = 255
    found = reduce(None, "rlt", pixels=pixels)
    assert found.grid == ((frames + 1) // 2, 1, 1)
    assert found.positions[:, 0].tolist() == ([0] if frames < 3 else [0, frames // 2])


@pytest.mark.parametrize("shape", [(4, 2, 3), (5, 2, 3), (3, 2, 2), (3, 4, 6)])
def test_a_grid_that_the_pixels_do_not_make_is_refused(shape):
    with pytest.raises(ValueError, match=r"do not cut uint8\(6, 32, 48, 3\) into the grid") as e:
        reduce(torch.zeros(*shape, 4), "rlt", pixels=video(6) if shape[0] < 6 else None)
    assert "\n" not in str(e.value)


def test_exact_budgets_begin_runs_where_most_changed():
    pixels = torch.zeros(4, 16, 32, 3, dtype=torch.uint8)
    pixels[1:, :, :16], pixels[2:, :, 16:] = 50, 90
    find = Rlt(tubelet=1)
    grid = TokenGrid(torch.zeros(4, 1, 2, 1), torch.arange(4).double(), pixels=pixels)
    for tokens, anchors in ((1, [0]), (2, [0, 1]), (3, [0, 1, 5]), (4, [0, 1, 2, 5]), (5, [0, 1, 2, 3, 5])):
        found, _ = find.exact(grid, None, None, tokens)
        assert found.anchor.tolist() == anchors
        assert int(found.sizes.sum()) == (4 if tokens == 1 else 8)


def test_settings_come_as_any_sequence_and_are_kept_as_tuples():
    assert Rlt(std=[1, 1, 1]) == Rlt(std=(1.0, 1.0, 1.0))
    assert hash(Rlt(mean=[0, 0, 0]))


@pytest.mark.parametrize(
    ("hyper", "says"),
    [
        ({"threshold": float("nan")}, "threshold must be at least -1"),
        ({"tubelet": 0}, "tubelet must be at least 1"),
        ({"patch": 0}, "patch must be at least 1"),
        ({"std": (0, 1, 1)}, "std above 0"),
        ({"mean": (0, 1)}, "3 numbers each"),
    ],
)
def test_bad_settings_are_refused(hyper, says):
    with pytest.raises(ValueError, match=says):
        Rlt(**hyper)
