"""DTD: by features and by pixels, by a level and by a share of each step."""

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.pipeline.reduce import reduce
from vidcomp.stages.mergers.dtd import Dtd
from vidcomp.stages.parts import make

ANGLES = torch.tensor([0.0, 0.3, 0.9, 2.0])  # between steps, by place


def turning(steps=4):
    angle = torch.arange(steps)[:, None] * ANGLES
    return torch.stack([angle.cos(), angle.sin()], -1).view(steps, 2, 2, 2)


def pictures(steps, per_step=2, patch=28):
    grey = torch.arange(steps * per_step)[:, None, None] * torch.tensor([[0, 1], [10, 20]])
    return grey[..., None].expand(-1, -1, -1, 3).repeat_interleave(patch, 1).repeat_interleave(patch, 2).to(torch.uint8)


@pytest.mark.parametrize("threshold", [-1.0, -0.5, 0.5, 0.7, 0.97, 1.0])
def test_by_features(threshold):
    found = reduce(turning(), "dtd", threshold=threshold)
    again = [place for place, angle in enumerate(ANGLES.tolist()) if not torch.tensor(angle).cos() > threshold]
    assert found.anchor.tolist() == [0, 1, 2, 3, *[4 * t + place for t in (1, 2, 3) for place in again]]


def test_a_level_of_one_keeps_all_and_is_strict():
    same = torch.randn(1, 2, 3, 8).expand(5, -1, -1, -1).contiguous()
    assert len(reduce(same, "dtd", threshold=1.0)) == 30
    assert reduce(same, "dtd").anchor.tolist() == list(range(6))
    assert len(reduce(torch.zeros(5, 2, 3, 8), "dtd")) == 30  # the cosine of zero vectors is 0, as in the reference


@pytest.mark.parametrize("share", [0.0, 0.24, 0.25, 0.6, 0.75, 1.0])
def test_by_a_share_of_each_step(share):
    found = reduce(turning(), "dtd", threshold=share, absolute=False)
    stay = list(range(int(4 * share), 4))  # places are in order of change
    assert found.anchor.tolist() == [0, 1, 2, 3, *[4 * t + place for t in (1, 2, 3) for place in stay]]


def test_equal_tokens_go_to_the_lower_index():
    same = torch.randn(1, 2, 3, 8).expand(2, -1, -1, -1).contiguous()
    assert reduce(same, "dtd", threshold=0.5, absolute=False).anchor.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("channels", [None, 4])
def test_by_pixels(channels):
    # first frame of the step before to the last of this one: 3 frames of 0, 1, 10 and 20 grey levels
    features = None if channels is None else torch.zeros(3, 2, 2, channels)
    changes = [0, 3 / 255, 30 / 255, 60 / 255]
    for threshold in (0.0, 1e-9, *changes[1:], 0.13, 1.0):
        found = reduce(features, "dtd", mode="pixel", pixels=pictures(3), threshold=threshold)
        again = [place for place, change in enumerate(changes) if not change < threshold]
        assert found.anchor.tolist() == [0, 1, 2, 3, *[4 * t + place for t in (1, 2) for place in again]]


def test_by_a_share_of_pixels():
    found = reduce(None, "dtd", mode="pixel", pixels=pictures(3), threshold=0.5, absolute=False)
    assert found.anchor.tolist() == [0, 1, 2, 3, 6, 7, 10, 11]


@pytest.mark.parametrize(("frames", "patch"), [(3, 28), (6, 28), (9, 28), (3, 10), (5, 28)])
def test_a_tokens_pixels_are_what_the_grid_makes_of_them(frames, patch):
    pixels = pictures(frames, per_step=1, patch=patch)
    grid = TokenGrid(torch.zeros(3, 2, 2, 4), torch.arange(3).double(), pixels=pixels)
    score = Dtd(mode="pixel").score(grid, None, None).view(3, 4)
    apart = {3: [1, 1], 6: [3, 3], 9: [5, 5], 5: [3, 2]}[frames]  # frames between; of 5 the last step has one
    want = torch.tensor(apart)[:, None] * torch.tensor([0, 1, 10, 20]) / 255
    torch.testing.assert_close(score[1:], want.double(), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("t", "h", "w"), [(4, 2, 2), (3, 3, 2), (3, 2, 5)])
def test_pixels_that_do_not_make_the_grid_are_refused(t, h, w):
    with pytest.raises(ValueError, match="do not divide into the grid") as e:
        reduce(torch.zeros(t, h, w, 4), "dtd", mode="pixel", pixels=pictures(3))
    assert "\n" not in str(e.value)


def test_needs_are_those_of_the_settings():
    assert make("merger", "dtd", {}).needs == frozenset()
    assert make("merger", "dtd", {"mode": "pixel"}).needs == {"pixels"}
    assert Dtd(mode="pixel").at(0.3).needs == {"pixels"}


def test_exact_budgets_keep_what_changed_most():
    grid = TokenGrid(turning(3), torch.arange(3).double())
    for tokens, anchors in ((3, [0, 1, 2]), (5, [0, 1, 2, 3, 7]), (6, [0, 1, 2, 3, 7, 11])):
        assert Dtd().exact(grid, None, None, tokens)[0].anchor.tolist() == anchors


@pytest.mark.parametrize(
    "hyper",
    [
        {"threshold": 1.1},
        {"threshold": -1.1},
        {"threshold": -0.1, "mode": "pixel"},
        {"threshold": -0.1, "absolute": False},
        {"threshold": float("nan")},
        {"mode": "features"},
    ],
)
def test_bad_settings_are_refused(hyper):
    with pytest.raises(ValueError, match="must be"):
        Dtd(**hyper)
