"""OmniZip where its reference crashes or loses data, and the arithmetic of its windows."""

import pytest
import torch

from vidcomp.models.types import Segments, ShapeError, TokenGrid
from vidcomp.stages.mergers._omnizip_audio import listen
from vidcomp.stages.mergers._omnizip_windows import drop_ratios, pair_windows
from vidcomp.stages.mergers.omnizip import OmniZip

SHAPES = [(6, 4, 5), (1, 3, 4), (7, 1, 3), (2, 5, 1), (9, 6, 4), (1, 1, 1)]


def example(shape=(6, 4, 5), audio=150, channels=16, seed=0, dtype=torch.float32, data=None, **more):
    g = torch.Generator().manual_seed(seed)
    if data is None:
        data = torch.randn(*shape, channels, generator=g)
    if audio:
        more["audio"] = torch.randn(audio, channels, generator=g).to(dtype)
        more["audio_attention"] = torch.rand(audio, generator=g)
    return TokenGrid(data.to(dtype), torch.arange(shape[0]).double(), **more)


def whole(grid):
    return Segments(torch.tensor([0]), grid.shape[0])


def both(grid, **hyper):
    merger = OmniZip(**hyper)
    return merger.reduce(grid, whole(grid)), merger.reduce_audio(grid)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("audio", [0, 1, 24, 150, 151, 900])
def test_any_shape_with_any_amount_of_sound(shape, audio):
    grid = example(shape, audio)
    seen, heard = both(grid)
    assert seen.grid == shape
    assert seen.is_selection
    assert len(seen) >= 1
    assert heard.grid == (audio, 1, 1)
    if audio:
        assert heard.apply(grid.audio).isfinite().all()
        assert len(heard) == round(0.7 * audio) + min(round(0.05 * audio), audio - round(0.7 * audio))


def test_without_audio_the_second_is_empty_and_usable():
    grid = example(audio=0)
    seen, heard = both(grid, video_drop=0.5)
    assert len(seen) == 6 * 10
    assert len(heard) == 0
    assert heard.apply(torch.empty(0, 16)).shape == (0, 16)
    assert heard.to_sparse().shape == (0, 0)
    assert heard.owner.shape == heard.sizes.shape == (0,)
    assert heard.boxes.shape == (0, 6)


def test_audio_without_attention_says_what_is_missing():
    grid = TokenGrid(torch.randn(2, 2, 2, 8), torch.arange(2).double(), audio=torch.randn(9, 8))
    with pytest.raises(ValueError, match="audio_attention"):
        OmniZip().reduce(grid, whole(grid))


def test_audio_of_another_space_is_refused():
    grid = TokenGrid(
        torch.randn(2, 2, 2, 8), torch.arange(2).double(), audio=torch.randn(9, 4), audio_attention=torch.rand(9)
    )
    with pytest.raises(ShapeError, match=r"share a space.*\(9, 4\)"):
        OmniZip().reduce_audio(grid)


@pytest.mark.parametrize("audio", [0, 75, 150])
def test_exact_budgets_are_nested_and_hold_the_methods_own_choice(audio):
    grid, merger = example((9, 5, 7), audio), OmniZip()
    own = merger.reduce(grid, whole(grid))
    before = set()
    for tokens in (0, 1, 7, 40, len(own), 200, grid.count, grid.count + 5):
        kept = merger.exact(grid, whole(grid), None, tokens)[0].anchor.tolist()
        assert len(kept) == min(tokens, grid.count)
        assert before <= set(kept)
        before = set(kept)
        if tokens == len(own):
            assert kept == own.anchor.tolist()


def test_exact_budgets_see_valid_tokens_alone():
    valid = torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.4
    grid = example(valid=valid)
    for tokens in (1, 20, 120):
        kept = OmniZip().exact(grid, whole(grid), None, tokens)[0].anchor
        assert valid.flatten()[kept].all()
        assert len(kept) == min(tokens, int(valid.sum()))


@pytest.mark.parametrize("audio", [0, 75, 150, 450])
def test_a_larger_knob_never_keeps_fewer(audio):
    grid, counts = example((9, 5, 7), audio), []
    for i in range(41):
        merger = OmniZip().at(i / 40)
        counts.append(merger.count(grid, whole(grid), None))
        assert i % 10 or len(merger.reduce(grid, whole(grid))) == counts[-1]
    assert counts == sorted(counts)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_decides_as_the_same_values_in_float32(dtype):
    grid = example(dtype=dtype)
    wide = TokenGrid(grid.data.float(), grid.pts_s, audio=grid.audio.float(), audio_attention=grid.audio_attention)
    for low, high in zip(*(both(g) for g in (grid, wide)), strict=True):
        assert torch.equal(low.anchor, high.anchor)
    assert OmniZip().reduce_audio(grid).apply(grid.audio).dtype == dtype


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-12, 1e4])
def test_tokens_that_are_all_alike(value):
    grid = example(data=torch.full((6, 4, 5, 16), value))
    seen, heard = both(grid)
    assert seen.apply(grid.data).isfinite().all()
    assert heard.apply(grid.audio).isfinite().all()
    kept_TN = torch.zeros(120).index_fill(0, seen.anchor, 1).view(6, 20)
    assert (kept_TN.diff(dim=1) <= 0).all()  # ties: the lower index


def test_a_flat_background_gives_one_peak_not_all():
    data = torch.randn(1, 20, 16, generator=torch.Generator().manual_seed(2))
    data[0, :12] = data[0, 0]
    grid = example((1, 4, 5), 0, data=data.view(1, 4, 5, 16))
    kept = OmniZip(video_drop=0.5).reduce(grid, whole(grid)).anchor.tolist()
    assert kept == [0, 1, *range(12, 20)]  # one of the background, all that differs, and one more to fill up


def test_the_input_is_left_alone():
    grid = example()
    before = grid.data.clone(), grid.audio.clone(), grid.audio_attention.clone()
    both(grid)
    assert all(map(torch.equal, before, (grid.data, grid.audio, grid.audio_attention)))


def test_what_is_heard_is_merged_by_half():
    grid = example((2, 2, 2), 40)
    heard = OmniZip(audio_drop=0.5, g=2, contextual_ratio=0.1).reduce_audio(grid)
    dense = heard.to_sparse().to_dense()
    assert dense.shape == (24, 40)
    merged = (dense > 0).sum(1) > 1
    assert 1 <= int(merged.sum()) <= 4
    own = dense[torch.arange(24), heard.anchor]
    torch.testing.assert_close(own, torch.where(merged, 0.5, 1.0))
    assert int((dense > 0).sum(1).max()) <= 3


def test_without_merges_there_are_no_anchors():
    assert listen(torch.arange(10.0), drop=0.5, contextual=0.3, merges=0).kept.tolist() == [False] * 5 + [True] * 5
    found = listen(torch.arange(10.0), drop=0.5, contextual=0.3, merges=1)
    assert found.anchor.tolist() == [0, 1, 2]
    assert found.pool.tolist() == [3, 4]


def test_ties_in_attention_go_to_the_lower_index():
    assert listen(torch.zeros(6), drop=0.5, contextual=0, merges=3).kept.tolist() == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    ("steps", "audio", "video_spans", "audio_spans"),
    [
        (6, 150, [(0, 2), (2, 4), (4, 6)], [(0, 50), (50, 100), (100, 150)]),
        (5, 75, [(0, 2), (2, 4), (4, 5)], [(0, 50), (50, 75)]),
        (9, 50, [(0, 2), (2, 9)], [(0, 50)]),  # steps without sound run together
        (3, 500, [(0, 2), (2, 3)], [(0, 50), (50, 500)]),  # so does sound without steps
        (3, 0, [(0, 3)], []),
    ],
)
def test_windows(steps, audio, video_spans, audio_spans):
    windows = pair_windows(steps, audio, 2, 50)
    assert windows.video == video_spans
    assert windows.audio == audio_spans


def test_drop_ratios():
    assert drop_ratios([10, 10], [1.0, 0.0], 0.9) == [0.35, 0.75]  # two windows with sound: video_drop unused
    assert drop_ratios([10, 10, 30], [0.5], 0.9) == [0.55, 0.9, 0.9]
    even = drop_ratios([40] * 8, [0.7] * 8, 0.6)  # equal sound: the first is fixed, the repair brings the rest
    assert even[0] == pytest.approx(0.47)
    assert sum(even) / 8 == pytest.approx(0.6)
    assert drop_ratios([40] * 4, [0.7] * 4, 0.47 * 1.0) == pytest.approx([0.47] * 4)
    assert max(drop_ratios([40] * 4, [0.1, 0.2, 0.3, 0.9], 1.0)) == 0.75


@pytest.mark.parametrize(
    ("hyper", "words"),
    [({"audio_drop": 1.1}, "audio_drop"), ({"video_drop": -1}, "video_drop"), ({"g": -1}, "g must"),
     ({"frames_per_window": 0}, "frames_per_window"), ({"audio_per_window": 0}, "audio_per_window")],
)  # fmt: skip
def test_values_out_of_bounds(hyper, words):
    with pytest.raises(ValueError, match=words):
        OmniZip(**hyper)
