"""`vidcomp.reduce`: what it takes for features and pixels, and what it refuses."""

import pytest
import torch

import vidcomp
from vidcomp.stages.listing import UnknownMethodError


def pictures(frames=6, high=32, wide=48):
    return torch.randint(0, 256, (frames, high, wide, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize(
    ("method", "hyper", "grid"),
    [
        ("rlt", {}, (3, 2, 3)),
        ("rlt", {"tubelet": 1, "patch": 8}, (6, 4, 6)),
        ("rlt", {"tubelet": 4}, (2, 2, 3)),  # the last tubelet is half full
    ],
)
def test_pixels_alone_make_the_grid(method, hyper, grid):
    assert vidcomp.reduce(method=method, pixels=pictures(), **hyper).grid == grid
    assert vidcomp.reduce(None, method, pixels=pictures(), **hyper).grid == grid


def test_pixels_alone_make_qwens_grid_where_a_method_has_no_patch():
    assert vidcomp.reduce(method="dtd", mode="pixel", pixels=pictures(5, 56, 84)).grid == (3, 2, 3)


def test_features_and_pixels_share_a_grid():
    features = torch.randn(3, 6, 4)
    found = vidcomp.reduce(features, "dtd", mode="pixel", pixels=pictures(), grid=(2, 3))
    assert found.grid == (3, 2, 3)
    assert found.apply(features).shape == (len(found), 4)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"method": "rlt"}, r"rlt needs pixels: give pixels="),
        ({"method": "dtd", "mode": "pixel", "features": torch.zeros(3, 2, 3, 4)}, r"dtd needs pixels: give pixels="),
        ({"method": "dtd", "pixels": pictures()}, r"dtd needs features, \(T,H,W,D\) or \(T,N,D\)"),
        ({"method": "evs"}, r"evs needs features"),
        ({"method": "rlt", "pixels": pictures(high=40)}, r"uint8\(6, 40, 48, 3\) do not divide into patches of 16"),
        ({"method": "rlt", "pixels": pictures()[0]}, r"pixels must be uint8 \(F,Hp,Wp,3\), got uint8\(32, 48, 3\)"),
        ({"method": "rlt", "pixels": pictures().float()}, r"pixels must be uint8 .* got float32"),
        ({"method": "rlt", "pixels": pictures(), "features": torch.zeros(3, 6, 4)}, r"needs the picture's shape"),
        ({"method": "rlt", "pixels": pictures(), "features": torch.zeros(3, 3, 2, 4)}, r"do not cut .* into the grid"),
        ({"method": "rlt", "pixels": pictures(), "retain": 0.5}, r"has no 'retain'; it has: .*threshold"),
        ({"features": torch.zeros(3, 6, 4)}, r"name a method; there are: .*evs"),
    ],
)
def test_what_cannot_be_used_is_one_line(given, says):
    with pytest.raises(ValueError, match=says) as e:
        vidcomp.reduce(**given)
    assert "\n" not in str(e.value)


def test_an_unknown_method_lists_what_there_is():
    with pytest.raises(UnknownMethodError, match=r"there are: .*dycoke"):
        vidcomp.reduce(torch.zeros(3, 6, 4), "dycocoa")
