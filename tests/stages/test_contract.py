"""What every merger and segmenter in the folders promises, whoever wrote it: found by listing, tested on arrival."""

from dataclasses import replace

import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages.mergers._fastvid_merge import merge
from vidcomp.stages.mergers._fastvid_plan import Plan
from vidcomp.stages.methods import Method
from vidcomp.stages.parts import make, names

SHAPES = [(6, 4, 5), (1, 3, 4), (7, 1, 3), (2, 5, 1), (9, 6, 4), (1, 1, 1)]
# settings under which a merger is causal
CAUSAL = {"aim": {}, "dtd": {}, "evs": {"threshold": 0.3}, "pool": {}, "rlt": {}, "static_runs": {}, "tome": {}}
END_AT_BORDERS = {"static_runs"}  # averages over a run end with the chunk: its anchors are the same, values are not
NOT_ALL = {  # what the highest knob does not keep apart, by the paper
    "omnizip": "no window drops less than 0.35",
    "prunevid": "static places are averaged at any cluster_ratio",
}
BY_CHANNEL = {"ward": 256}  # the order of more channels matters: they are folded by place
MERGERS = names("merger")


def example(shape=(6, 4, 5), channels=16, seed=0, dtype=torch.float32, data=None, **more):
    """Scenes of slowly changing tokens, with all that a model may give besides."""
    g = torch.Generator().manual_seed(seed)
    t, h, w = shape
    if data is None:
        scene = torch.randn(1 + t // 4, h, w, channels, generator=g)[torch.arange(t) // 4]
        data = scene + 0.4 * torch.randn(t, h, w, channels, generator=g)
    attention = torch.rand(t, h, w, generator=g)
    audio = torch.randn(12 * t, data.shape[3], generator=g)
    more = {"pixels": frames(shape, g), "audio": audio, "audio_attention": torch.rand(12 * t, generator=g), **more}
    return TokenGrid(data.to(dtype), torch.arange(t).double() / 2, attention, data.float().mean((1, 2)), **more)


def frames(shape, g):
    """uint8 pictures, two to a step and 16 x 16 pixels to a token; about half of the tokens are the first step's."""
    t, h, w = shape
    noise = torch.randint(0, 256, (t, 1, h, 1, w, 1, 3), generator=g)
    change = torch.rand(t, 1, h, 1, w, 1, 1, generator=g) < 0.5
    value = torch.where(change, noise, noise[:1])
    return value.expand(t, 2, h, 16, w, 16, 3).reshape(2 * t, 16 * h, 16 * w, 3).byte()


def method(merger, segmenter="dyseg", **hyper):
    return Method(merger, make("segmenter", segmenter, {}), make("merger", merger, hyper))


def changed(grid, **parts):
    return replace(grid, **parts)


def kinds_of_tokens(shape, channels, seed=0):
    """Tokens of whole numbers, some of them twice in a frame: many distances and cosines are equal."""
    t, h, w = shape
    g = torch.Generator().manual_seed(seed)
    data = torch.randint(-1, 2, (t, h * w, channels), generator=g).float()
    data[:, : h * w // 4] = data[:, h * w // 4 : h * w // 4 * 2]
    data[1::2, ::3] = data[::2, ::3][: len(data[1::2])]
    return data.view(t, h, w, channels)


ODD = {
    "identical frames": lambda shape: torch.randn(1, *shape[1:], 16).expand(shape[0], -1, -1, -1).contiguous(),
    "identical tokens": lambda shape: torch.randn(16).expand(*shape, -1).contiguous(),
    "zero vectors": lambda shape: torch.zeros(*shape, 16),
    "some zero vectors": lambda shape: torch.randn(*shape, 16) * (torch.rand(*shape, 1) < 0.5),
    "tiny": lambda shape: torch.randn(*shape, 16) * 1e-12,
    "huge": lambda shape: torch.randn(*shape, 16) * 1e4,
    "one channel": lambda shape: torch.randn(*shape, 1),
}


# -- segmenters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("segmenter"))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_segments_cover_every_step(name, shape):
    segments = make("segmenter", name, {}).segment(example(shape))
    assert isinstance(segments, Segments)
    assert sum(segments.lengths.tolist()) == shape[0]


@pytest.mark.parametrize("name", names("segmenter"))
@pytest.mark.parametrize("odd", ODD)
def test_segmenters_stand_odd_features(name, odd):
    grid = example(data=ODD[odd]((6, 4, 5)))
    part = make("segmenter", name, {})
    assert torch.equal(part.segment(grid).starts, part.segment(grid).starts)


def test_uniform_segments():
    part = make("segmenter", "uniform", {"segments": 3})
    assert part.segment(example((8, 1, 1))).lengths.tolist() == [2, 3, 3]
    assert part.segment(example((2, 1, 1))).lengths.tolist() == [1, 1]


def test_dyseg_cuts_ties_early_and_below_tau():
    same = example((6, 2, 2), data=torch.ones(6, 2, 2, 16))
    assert make("segmenter", "dyseg", {"segments": 3}).segment(same).starts.tolist() == [0, 1, 2]
    vectors = torch.eye(8)[[0, 0, 1, 1, 1, 2]]
    grid = changed(same, frame_vectors=vectors)
    assert make("segmenter", "dyseg", {"segments": 1}).segment(grid).starts.tolist() == [0, 2, 5]
    assert make("segmenter", "dyseg", {"segments": 4}).segment(grid).starts.tolist() == [0, 1, 2, 5]


# -- mergers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segmenter", names("segmenter"))
@pytest.mark.parametrize("merger", MERGERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_laws(merger, segmenter, shape):
    grid = example(shape)
    r, _ = method(merger, segmenter).decide(grid)  # `Reduction` checks its laws when it is made
    assert r.grid == shape
    assert r.apply(grid.data).isfinite().all()
    assert r.compress(grid).tokens.shape == (len(r), 16)


@pytest.mark.parametrize("merger", MERGERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_budgets(merger, shape):
    grid, m = example(shape), method(merger)
    n, hw = grid.count, grid.per_step
    for tokens in sorted({0, 1, 2, shape[0] - 1, hw - 1, hw, hw + 1, n // 2, n - 1, n, n + 5}):
        r, _ = m.decide(grid, tokens=tokens)
        assert len(r) == min(tokens, n)
        assert r.apply(grid.data).isfinite().all()


@pytest.mark.parametrize("merger", MERGERS)
@pytest.mark.parametrize("odd", ODD)
def test_odd_features(merger, odd):
    torch.manual_seed(0)
    for shape in ((6, 4, 5), (1, 2, 3)):
        grid = example(shape, data=ODD[odd](shape))
        m = method(merger)
        assert m.decide(grid)[0].apply(grid.data).isfinite().all()
        for tokens in (0, 1, 7, grid.count):
            assert len(m.decide(grid, tokens=tokens)[0]) == min(tokens, grid.count)


@pytest.mark.parametrize("merger", MERGERS)
def test_keeping_all_at_the_highest_knob(merger):
    grid, part = example(), make("merger", merger, {})
    segments = make("segmenter", "dyseg", {}).segment(grid)
    kept = part.at(1.0).reduce(grid, segments)
    assert len(kept) >= len(part.reduce(grid, segments))
    if merger not in NOT_ALL:
        assert torch.equal(kept.apply(grid.data), grid.feat_ND)
    if "retain" in part.__dataclass_fields__:
        r, _ = method(merger, retain=1.0).decide(grid)
        assert torch.equal(r.apply(grid.data), grid.feat_ND)


@pytest.mark.parametrize("merger", MERGERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_features(merger, dtype):
    grid = example(dtype=dtype)
    m = method(merger)
    r, _ = m.decide(grid)
    assert r.apply(grid.data).dtype == dtype
    # the decision is that of the same values in float32
    wide, _ = m.decide(changed(grid, data=grid.data.float()))
    assert torch.equal(r.anchor, wide.anchor)
    assert len(m.decide(grid, tokens=11)[0]) == 11


@pytest.mark.parametrize("merger", MERGERS)
def test_inputs_are_left_alone(merger):
    grid = example(valid=torch.rand(6, 4, 5) < 0.7)
    tensors = {"data", "attention", "frame_vectors", "valid", "pts_s", "pixels", "audio", "audio_attention"}
    before = {name: getattr(grid, name).clone() for name in tensors}
    for tokens in (None, 9):
        method(merger).decide(grid, tokens=tokens)
    for name, value in before.items():
        assert torch.equal(getattr(grid, name), value), name


@pytest.mark.parametrize("merger", MERGERS)
@pytest.mark.parametrize("tokens", [None, 13])
def test_determinism(merger, tokens):
    grid, m = example(), method(merger)
    first, _ = m.decide(grid, tokens=tokens)
    state = torch.get_rng_state()
    torch.manual_seed(12345)
    again, _ = m.decide(grid, tokens=tokens)
    torch.set_rng_state(state)
    for name in ("indptr", "indices", "weights", "anchor", "owner", "sizes"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name


@pytest.mark.parametrize("merger", MERGERS)
@pytest.mark.parametrize("tokens", [None, 40])
@pytest.mark.parametrize("ties", [False, True])
def test_threads_do_not_choose(merger, tokens, ties):
    """Nor do the last bits of a matmul, which differ on two threads for some shapes: here are ties to decide."""
    shape = (4, 14, 14)
    grid, m = example(shape, data=kinds_of_tokens(shape, 256) if ties else None, channels=256), method(merger)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(m.decide(grid, tokens=tokens)[0])
    finally:
        torch.set_num_threads(before)
    one, two = found
    assert torch.equal(one.anchor, two.anchor)
    assert torch.equal(one.owner, two.owner)
    torch.testing.assert_close(one.apply(grid.data), two.apply(grid.data), rtol=0, atol=1e-5)


@pytest.mark.parametrize("merger", MERGERS)
@pytest.mark.parametrize("tokens", [None, 25])
@pytest.mark.parametrize("channels", [48, 300])
@pytest.mark.parametrize("ties", [False, True])
def test_channel_order_does_not_matter(merger, tokens, channels, ties):
    if channels > BY_CHANNEL.get(merger, channels):
        pytest.skip("a channel's place matters, by its docstring")
    grid, m = example(data=kinds_of_tokens((6, 4, 5), channels) if ties else None, channels=channels), method(merger)
    shuffle = torch.randperm(channels, generator=torch.Generator().manual_seed(3))
    vectors, audio = grid.frame_vectors[:, shuffle], grid.audio[:, shuffle]
    mixed = changed(grid, data=grid.data[..., shuffle].contiguous(), frame_vectors=vectors, audio=audio)
    one, other = (m.decide(g, tokens=tokens)[0] for g in (grid, mixed))
    assert torch.equal(one.anchor, other.anchor)
    assert torch.equal(one.owner, other.owner)


@pytest.mark.parametrize("merger", MERGERS)
def test_memory_layout_does_not_matter(merger):
    grid, m = example(), method(merger)
    strided = changed(grid, data=grid.data.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0))
    assert not strided.data.is_contiguous()
    a, b = (m.decide(g)[0] for g in (grid, strided))
    assert torch.equal(a.anchor, b.anchor)
    torch.testing.assert_close(a.apply(grid.data), b.apply(strided.data))


@pytest.mark.parametrize("merger", MERGERS)
def test_invalid_tokens_are_in_no_row(merger):
    for share in (0.0, 0.1, 0.7):
        valid = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(5)) < share
        grid, m = example((4, 3, 5), valid=valid), method(merger)
        for tokens in (None, 0, 1, 20, 60):
            r, _ = m.decide(grid, tokens=tokens)
            assert valid.flatten()[r.indices].all()
            assert tokens is None or len(r) == min(tokens, int(valid.sum()))


@pytest.mark.parametrize("merger", MERGERS)
def test_a_larger_knob_never_keeps_fewer(merger):
    grid = example((9, 5, 7))
    part, segments = make("merger", merger, {}), make("segmenter", "dyseg", {"segments": 3}).segment(example((9, 5, 7)))
    counts = []
    for i in range(41):
        here = part.at(i / 40)
        counts.append(len(here.step(grid, segments, None)[0]))
        assert here.count(grid, segments, None) == counts[-1]
    assert counts == sorted(counts)


@pytest.mark.parametrize("merger", MERGERS)
def test_scores_are_one_for_each_token(merger):
    grid = example((3, 2, 5))
    score = make("merger", merger, {}).score(grid, Segments(torch.tensor([0]), 3), None)
    assert score.shape == (30,)
    assert score.dtype.is_floating_point


@pytest.mark.parametrize("merger", MERGERS)
def test_causal_only_where_listed(merger):
    assert make("merger", merger, CAUSAL.get(merger, {})).causal == (merger in CAUSAL)


@pytest.mark.parametrize("merger", CAUSAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gated", [False, True])
def test_causal_mergers_do_not_see_chunk_borders(merger, dtype, gated):
    valid = torch.rand(10, 4, 5, generator=torch.Generator().manual_seed(5)) < 0.8 if gated else None
    whole = example((10, 4, 5), dtype=dtype, channels=33, valid=valid)
    m = method(merger, "uniform", **CAUSAL[merger])
    results = []
    for size in (10, 1, 3, 4):
        carry, anchors, values = None, [], []
        for first in range(0, 10, size):
            at = slice(first, first + size)
            part = None if valid is None else valid[at]
            pixels = whole.pixels[2 * at.start : 2 * at.stop]
            grid = TokenGrid(
                whole.data[at].clone(),
                whole.pts_s[at],
                whole.attention[at],
                whole.frame_vectors[at],
                part,
                pixels=pixels,
            )
            r, carry = m.decide(grid, carry)
            anchors.append(r.anchor + first * whole.per_step)
            values.append(r.apply(grid.data))
        results.append((torch.cat(anchors), torch.cat(values)))
    for anchors, values in results[1:]:
        assert torch.equal(anchors, results[0][0])
        assert merger in END_AT_BORDERS or torch.equal(values, results[0][1])


# -- single methods ----------------------------------------------------------------------------------------


def test_evs_keeps_the_first_step_and_what_changed():
    data = torch.zeros(3, 1, 4, 8)
    data[:, :, :, 0] = 1
    data[1:, 0, 2] = torch.eye(8)[3]  # one patch changes at step 1 and stays
    grid = example((3, 1, 4), data=data)
    assert method("evs", threshold=0.5).decide(grid)[0].anchor.tolist() == [0, 1, 2, 3, 6]
    assert method("evs", threshold=0.0).decide(grid)[0].anchor.tolist() == [0, 1, 2, 3, 6]
    assert method("evs", retain=0.5).decide(grid)[0].anchor.tolist() == [0, 1, 2, 3, 4, 6]  # ties: the lower index
    assert method("evs", retain=0.01).decide(grid)[0].anchor.tolist() == [0, 1, 2, 3]  # floor: one whole step


def test_evs_refuses_a_carry_of_another_shape():
    with pytest.raises(ValueError, match="carried step"):
        method("evs", threshold=0.5).decide(example(), torch.zeros(3, 16))


def test_uniform_is_evenly_spaced():
    grid = example((2, 2, 5))
    assert method("uniform", retain=0.25).decide(grid)[0].anchor.tolist() == [2, 6, 10, 14, 18]
    assert method("uniform").decide(grid, tokens=1)[0].anchor.tolist() == [10]


def test_random_draws_afresh_in_every_chunk():
    m = method("random", retain=0.3)
    early = example()
    late = TokenGrid(early.data, early.pts_s + 3, early.attention, early.frame_vectors)
    assert not torch.equal(m.decide(early)[0].anchor, m.decide(late)[0].anchor)
    assert not torch.equal(m.decide(early)[0].anchor, method("random", retain=0.3, seed=1).decide(early)[0].anchor)


def test_pool_averages_what_is_there():
    data = torch.arange(2 * 3 * 5).float().view(2, 3, 5, 1)
    grid = example((2, 3, 5), data=data)
    r, _ = method("pool", spatial=2).decide(grid)
    want = torch.nn.functional.avg_pool2d(data[..., 0], 2, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(r.apply(data)[:, 0], want.flatten())
    assert r.positions[:3].tolist() == [[0, 0, 0], [0, 0, 2], [0, 0, 4]]  # top-left
    assert r.boxes[5].tolist() == [0, 1, 2, 3, 4, 5]
    both, _ = method("pool", spatial=5, temporal=2).decide(grid)
    assert both.apply(data).flatten().tolist() == [14.5]


@pytest.mark.parametrize(
    ("retain", "cells"), [(1.0, (4, 6, 8)), (0.25, (4, 3, 4)), (0.05, (4, 1, 2)), (0.01, (1, 1, 1))]
)
def test_pool_by_retain_keeps_the_pictures_shape(retain, cells):
    r, _ = method("pool", retain=retain).decide(example((4, 6, 8)))
    assert len(r) == cells[0] * cells[1] * cells[2]
    assert len(r) <= max(1, 4 * 6 * 8 * retain)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("stride", [1, 2, 4, 50])
@pytest.mark.parametrize("segments", [1, 3, 8])
def test_fastvid_keeps_its_budget_everywhere(share, stride, segments):
    grid = example((9, 4, 5))
    for retain in (0.0, 0.04, 0.1, 0.3, 0.5, 0.8, 0.95, 1.0):
        m = method("fastvid", retain=retain, context_share=share, anchor_stride=stride)
        starts = torch.arange(segments) * 9 // segments
        r, _ = m.merger.step(grid, Segments(starts, 9), None)
        asked = 9 * int(20 * retain)
        assert asked - 9 < len(r) <= asked  # what centres do not divide into anchors is lost, as in the reference


def four_patches():
    """One frame: patch 3 is the most attended; of the rest, 0 and 1 are near each other, 2 is apart."""
    data = torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1]]).view(1, 1, 4, 3)
    attention = torch.tensor([0.0, 0, 0, 1]).view(1, 1, 4)
    return TokenGrid(data, torch.zeros(1).double(), attention, torch.ones(1, 3))


def test_fastvid_weights():
    m = method("fastvid", retain=0.75, context_share=0.7, beta=0.6, k=2)  # R=3, ctx=2
    r, _ = m.decide(four_patches())
    assert r.anchor.tolist() == [0, 2, 3]
    centre, apart, salient = r.to_sparse().to_dense()
    torch.testing.assert_close(centre, torch.tensor([0.6 + 0.4 / 2, 0.4 / 2, 0, 0]))
    torch.testing.assert_close(apart, torch.tensor([0, 0, 1.0, 0]))
    assert salient.tolist() == [0, 0, 0, 1]


def test_fastvid_weights_where_centres_join_none():
    r = merge(four_patches(), Segments(torch.tensor([0]), 1), Plan([1], {0: 2}, pool_has_centres=False), 0.6, 2)
    assert r.anchor.tolist() == [0, 2, 3]
    torch.testing.assert_close(r.to_sparse().to_dense()[:2], torch.tensor([[0.6, 0.4, 0, 0], [0, 0, 1, 0]]))
