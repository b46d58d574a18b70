"""The core types: each shape law, its message, and a repr that never prints data."""

import pytest
import torch

from vidcomp.models.types import (
    AudioTrack,
    Budget,
    CompressedTokens,
    Frames,
    Segments,
    ShapeError,
    TokenGrid,
)


def frames(t=3):
    return Frames(torch.zeros(t, 4, 5, 3, dtype=torch.uint8), torch.arange(t).double(), torch.arange(t))


def grid(**more):
    return TokenGrid(torch.zeros(3, 2, 4, 5), torch.arange(3).double(), **more)


def compressed(**more):
    parts = {
        "tokens": torch.zeros(2, 5),
        "positions": torch.zeros(2, 3),
        "boxes": torch.zeros(2, 6),
        "sizes": torch.ones(2),
        "pts_s": torch.zeros(2),
    }
    return CompressedTokens(**{**parts, **more})


WRONG = {
    "frames without channels": (lambda: Frames(torch.zeros(3, 4, 5), torch.zeros(3), torch.zeros(3)), "(3, 4, 5)"),
    "frames in float": (
        lambda: Frames(torch.zeros(1, 4, 5, 3), torch.zeros(1).double(), torch.zeros(1)),
        "torch.float32",
    ),
    "one pts too few": (
        lambda: Frames(torch.zeros(2, 4, 5, 3, dtype=torch.uint8), torch.zeros(1).double(), torch.zeros(2)),
        "(1,)",
    ),
    "pts in float32": (
        lambda: Frames(torch.zeros(2, 4, 5, 3, dtype=torch.uint8), torch.zeros(2), torch.zeros(2)),
        "float64",
    ),
    "stereo": (lambda: AudioTrack(torch.zeros(2, 9), 16000, 0.0), "float32(2, 9)"),
    "no rate": (lambda: AudioTrack(torch.zeros(9), 0, 0.0), "positive"),
    "flat grid": (lambda: TokenGrid(torch.zeros(3, 8, 5), torch.zeros(3)), "(3, 8, 5)"),
    "grid pts": (lambda: TokenGrid(torch.zeros(3, 2, 4, 5), torch.zeros(2)), "(2,)"),
    "attention": (lambda: grid(attention=torch.zeros(3, 8)), "(3, 8)"),
    "valid": (lambda: grid(valid=torch.ones(3, 4, 2, dtype=torch.bool)), "(3, 4, 2)"),
    "frame vectors": (lambda: grid(frame_vectors=torch.zeros(2, 9)), "(2, 9)"),
    "extra": (lambda: grid(extra={"deep": torch.zeros(3, 2, 9)}), "'deep'"),
    "no segment": (lambda: Segments(torch.zeros(0, dtype=torch.int64), 3), "step 0"),
    "late start": (lambda: Segments(torch.tensor([1, 2]), 3), "step 0"),
    "start twice": (lambda: Segments(torch.tensor([0, 1, 1]), 3), "ascend"),
    "start at the end": (lambda: Segments(torch.tensor([0, 3]), 3), "below 3"),
    "positions": (lambda: compressed(positions=torch.zeros(2, 2)), "positions must be (2, 3), got (2, 2)"),
    "boxes": (lambda: compressed(boxes=torch.zeros(1, 6)), "(2, 6)"),
    "extra rows": (lambda: compressed(extra={"deep": torch.zeros(3, 1)}), "'deep'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_shape_laws(name):
    make, words = WRONG[name]
    with pytest.raises(ShapeError) as caught:
        make()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"retain": 0.0},
        {"retain": 1.5},
        {"tokens": 0},
        {"tokens_per_second": 0.0},
        {"retain": 0.5, "tokens": 9},
    ],
)
def test_budget_bounds(wrong):
    with pytest.raises(ValueError, match=r"must be|one budget at a time"):
        Budget(**wrong)


def test_budget_accepts_each_kind():
    for right in ({}, {"retain": 1.0}, {"tokens": 1}, {"tokens_per_second": 0.1}):
        Budget(**right)


def test_repr_shows_shapes_never_data():
    secret = torch.full((3, 2, 4, 5), 123.25)
    shown = repr(TokenGrid(secret, torch.arange(3).double(), extra={"deep": secret}))
    assert "data=float32(3, 2, 4, 5)" in shown
    assert "'deep': float32(3, 2, 4, 5)" in shown
    assert "attention=None" in shown
    assert "123" not in shown
    assert repr(frames()) == "Frames(data=uint8(3, 4, 5, 3), pts_s=float64(3,), index=int64(3,))"


def test_grid_views_share_memory():
    g = TokenGrid(torch.randn(3, 2, 4, 5), torch.arange(3).double())
    assert (g.shape, g.count, g.per_step) == ((3, 2, 4), 24, 8)
    assert g.feat_TND.data_ptr() == g.feat_ND.data_ptr() == g.data.data_ptr()
    # flat id t*H*W + y*W + x: t=2, y=1, x=3 -> 2*8 + 4 + 3
    assert torch.equal(g.feat_ND[23], g.data[2, 1, 3])


def test_segments_spans():
    s = Segments(torch.tensor([0, 2, 5]), 6)
    assert list(s.spans()) == [(0, 2), (2, 5), (5, 6)]
    assert s.lengths.tolist() == [2, 3, 1]
    assert len(s) == 3


def test_frames_slice():
    part = frames(5)[1:3]
    assert len(part) == 2
    assert part.pts_s.tolist() == [1.0, 2.0]
