"""HoliTom by hand: weights, anchors, budgets, and the cases its authors' goldens do not hold."""

import math

import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages import ops_static
from vidcomp.stages.mergers.holitom import HoliTom
from vidcomp.stages.methods import assemble
from vidcomp.stages.parts import make, names


def video(shape=(8, 4, 5), channels=16, seed=0, scenes=1, **more):
    """Scenes of which about two thirds of the places stand still."""
    g = torch.Generator().manual_seed(seed)
    t, h, w = shape
    scene = torch.randn(scenes, h, w, channels, generator=g)[torch.arange(t) * scenes // t]
    restless = torch.where(torch.rand(h, w, 1, generator=g) < 0.67, 0.1, 1.2)
    data = scene + restless * torch.randn(t, h, w, channels, generator=g)
    return TokenGrid(data, torch.arange(t).double(), torch.rand(t, h, w, generator=g), **more)


def whole(grid):
    return Segments(torch.tensor([0]), grid.shape[0])


def method(**hyper):
    return assemble("holitom", ("dp_static", {}), ("holitom", {}), {}, hyper)


def test_rows_by_hand():
    # 2 frames, 5 places: 0, 1, 2, 3 stand still (0 and 1 alike), 4 moves; saved 4 of 10, so r' = 0.36 / 0.6 = 0.6
    still = torch.tensor([[8.0, 0, 0], [8, 1, 0], [0, 8, 0], [0, 0, 8]])
    moving = torch.tensor([[[1.0, 1, 1]], [[-1, 1, 1]]])
    data = torch.cat([torch.stack([still, still]), moving], 1)[:, None]
    grid = TokenGrid(data, torch.arange(2).double(), torch.rand(2, 1, 5))
    r, _ = method(retain=0.36, beta=0.75).decide(grid)
    assert len(r) == 2 + 2  # round(2.4), and ceil(0.6) in each frame
    assert r.sizes.sum() == 10
    dense = r.to_sparse().to_dense().view(4, 2, 5)
    for row, anchor in zip(dense[:-1], r.anchor[:-1].tolist(), strict=True):
        if anchor == 4:
            continue
        joined = [p for p in range(4) if row[0, p] > 0 and p != anchor]
        want = torch.zeros(5)
        want[anchor] = 0.75 if joined else 1
        want[joined] = 0.25 / max(1, len(joined))
        torch.testing.assert_close(row, want.expand(2, -1) / 2)
    assert {4, 9} < set(r.anchor.tolist())


@pytest.mark.parametrize("segmenter", names("segmenter"))
def test_any_segments_and_the_papers_arithmetic(segmenter):
    grid = video(scenes=2, frame_vectors=torch.randn(8, 6, generator=torch.Generator().manual_seed(1)))
    segments = make("segmenter", segmenter, {}).segment(grid)
    for retain in (0.05, 0.3, 0.77):
        part = HoliTom(retain=retain)
        r = part.reduce(grid, segments)
        static = [
            int(
                (torch.cosine_similarity(grid.feat_TND[s : e - 1], grid.feat_TND[s + 1 : e], dim=-1) > 0.8).all(0).sum()
            )
            if e - s > 1
            else 0
            for s, e in segments.spans()
        ]
        lengths = segments.lengths.tolist()
        saved = sum(n * (length - 1) for n, length in zip(static, lengths, strict=True))
        share = min(retain / ((160 - saved) / 160), 1)
        want = sum(
            round(n * share) + length * math.ceil((20 - n) * share) for n, length in zip(static, lengths, strict=True)
        )
        assert len(r) == want == part.count(grid, segments, None)


def test_the_windows_cosines_make_no_difference():
    grid = video()
    segments = method().segmenter.segment(grid)
    plain = Segments(segments.starts, segments.length)
    first, again = (HoliTom().reduce(grid, s) for s in (segments, plain))
    assert torch.equal(first.anchor, again.anchor)
    assert torch.equal(first.weights, again.weights)


def test_keeping_all_still_averages_what_stands_still():
    grid = video()
    segments = whole(grid)
    r = HoliTom(retain=1.0).reduce(grid, segments)
    static = ops_static.unchanged(ops_static.traced(grid, segments), 0.8)[0]
    assert static.any()
    assert not static.all()
    assert len(r) == int(static.sum()) + 8 * int((~static).sum())
    assert (r.owner >= 0).all()
    torch.testing.assert_close(r.apply(grid.data)[:20][static], grid.feat_TND.mean(0)[static])


def test_little_retain_drops_what_stands_still_first():
    grid = video()
    assert len(HoliTom(retain=0.0).reduce(grid, whole(grid))) == 0
    r = HoliTom(retain=1e-6).reduce(grid, whole(grid))
    assert r.positions[:, 0].tolist() == list(range(8))  # one dynamic token of each frame: ceil
    attention = grid.attention.view(8, 20)
    static = ops_static.unchanged(ops_static.traced(grid, whole(grid)), 0.8)[0]
    assert (r.anchor % 20).tolist() == attention.masked_fill(static, -1).argmax(1).tolist()


def test_one_frame_is_the_most_attended():
    grid = video((1, 7, 7))
    r, _ = method(retain=0.2).decide(grid)
    assert r.anchor.tolist() == grid.attention.flatten().topk(10).indices.sort().values.tolist()  # ceil(9.8)


def test_identical_frames_are_one_window_without_dynamic_tokens():
    grid = video((12, 3, 4))
    same = TokenGrid(grid.data[:1].repeat(12, 1, 1, 1), grid.pts_s, grid.attention)
    r, _ = method(retain=0.05).decide(same)
    assert len(r) == round(12 * (0.05 / (1 / 12)))
    assert set(r.positions[:, 0].tolist()) == {0}
    assert r.sizes.sum() == 144
    assert (r.boxes[:, :2] == torch.tensor([0, 12])).all()


def test_attention_that_is_no_number_comes_last_and_ties_go_to_the_lower_index():
    grid = video((1, 2, 3))
    attention = torch.tensor([float("nan"), 1, float("-inf"), 1, 0, 1]).view(1, 2, 3)
    odd = TokenGrid(grid.data, grid.pts_s, attention)
    assert HoliTom(retain=0.3).reduce(odd, whole(odd)).anchor.tolist() == [1, 3]
    still = video((4, 2, 3))
    for value in (float("nan"), float("-inf"), 0.0):
        flat = TokenGrid(still.data, still.pts_s, torch.full((4, 2, 3), value))
        r = HoliTom(retain=0.9).reduce(flat, whole(flat))  # never a static place as a dynamic token
        assert len(r) == HoliTom(retain=0.9).count(flat, whole(flat), None)


def test_attention_is_compared_in_its_own_precision():
    attention = torch.ones(1, 1, 4, dtype=torch.float64)
    attention[0, 0, 3] += 1e-9
    grid = TokenGrid(torch.randn(1, 1, 4, 16), torch.zeros(1).double(), attention)
    assert HoliTom(retain=0.25).reduce(grid, Segments(torch.tensor([0]), 1)).anchor.tolist() == [3]


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_extreme_beta(beta):
    grid = video()
    r = HoliTom(retain=0.2, beta=beta).reduce(grid, whole(grid))
    assert r.apply(grid.data).isfinite().all()
    assert (r.owner >= 0).sum() == r.sizes.sum()


def test_exact_budgets_measure_once(monkeypatch):
    grid, calls = video(), []
    measure = ops_static.ops.adjacent_cosine
    monkeypatch.setattr(ops_static.ops, "adjacent_cosine", lambda *args: calls.append(1) or measure(*args))
    for tokens in (1, 17, 63, 159, 160):
        assert len(method().decide(grid, tokens=tokens)[0]) == tokens
    assert len(calls) == 5


@pytest.mark.parametrize("hyper", [{"retain": 1.1}, {"retain": -0.1}, {"tau": 2}, {"beta": -1}, {"k": 0}])
def test_refuses(hyper):
    with pytest.raises(ValueError, match="must be"):
        HoliTom(**hyper)
