"""FastVID's three code paths: against a plain re-telling of the paper, and where the reference crashes."""

import math

import numpy as np
import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages.mergers import _fastvid_merge
from vidcomp.stages.mergers.fastvid import FastVid
from vidcomp.stages.methods import assemble
from vidcomp.stages.segmenters.dyseg import DySeg

VARIANTS = ["onevision", "llava_video", "qwen2_5_vl"]
SAME = 0.999  # between frame vectors of like frames; 0.9 else, in one scene


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices: threads cost more than they save."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def video(shape=(9, 4, 5), channels=12, seed=0, like=(), scenes=(), valid=None):
    """Noise, with frame vectors that say `like` frames are like the frame before and `scenes` start anew."""
    g = torch.Generator().manual_seed(seed)
    t = shape[0]
    angle, turns = torch.zeros(t, dtype=torch.float64), torch.zeros(t, dtype=torch.int64)
    for frame in range(1, t):
        step = math.acos(SAME if frame in like else 0.9)
        angle[frame], turns[frame] = angle[frame - 1] + step, turns[frame - 1] + (frame in scenes)
    vectors = torch.zeros(t, 2 * (1 + len(scenes)), dtype=torch.float64)
    vectors[torch.arange(t), 2 * turns], vectors[torch.arange(t), 2 * turns + 1] = angle.cos(), angle.sin()
    data, attention = torch.randn(*shape, channels, generator=g), torch.rand(*shape, generator=g)
    return TokenGrid(data, torch.arange(t).double(), attention, vectors.float(), valid)


def cut(*starts, length):
    return Segments(torch.tensor(starts), length)


# -- the paper, token by token -----------------------------------------------------------------------------


def told(grid, segments, m):
    """{anchor: value} as the specification tells it, in float64, one token at a time."""
    x = grid.feat_TND.double().numpy()
    attention = grid.attention.reshape(len(x), -1).numpy()
    out = {}
    for first, end in segments.spans():
        salient, centres = shares(grid, first, end, m)
        ats = {t: set(np.argsort(-attention[t], kind="stable")[:s].tolist()) for t, s in salient.items()}
        pool = [(t, p) for t in range(first, end) for p in range(x.shape[1]) if p not in ats[t]]
        out |= {(t, p): x[t, p] for t in ats for p in ats[t]}
        for t, count in centres.items():
            mine = [(t, p) for p in peaks(x[t], [p for p in range(x.shape[1]) if p not in ats[t]], count, m.k)]
            joined = {c: [] for c in mine}
            for token in pool:
                if m.variant == "onevision" or token not in mine:
                    joined[max(mine, key=lambda c: cosine(x[c], x[token]))].append(x[token])
            for c, members in joined.items():
                w = max(1 / (len(members) + 1), m.beta)
                out[c] = w * x[c] + (1 - w) * np.mean(members, axis=0) if members else x[c]
    return {t * x.shape[1] + p: value for (t, p), value in out.items()}


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def peaks(x, candidates, count, k):
    """DPC: the `count` best candidates."""
    feat = x[candidates]
    d = np.linalg.norm(feat[:, None] - feat, axis=-1) / math.sqrt(x.shape[1])
    density = np.exp(-np.mean(np.sort(d, axis=1)[:, :k] ** 2, axis=1))
    gap = np.array([min(d[i, j] if density[j] > density[i] else d.max() for j in range(len(d))) for i in range(len(d))])
    return [candidates[i] for i in np.argsort(-density * gap)[:count]]


def shares(grid, first, end, m):
    """Salient tokens and centres of each frame of a segment."""
    n, length = grid.per_step, end - first
    r = int(n * m.retain)
    frames = list(range(first, end))
    if m.variant == "onevision":
        ctx = int(r * m.context_share)
        anchors = [t for t in frames if (end - 1 - t) % m.anchor_stride == 0]
        return dict.fromkeys(frames, r - ctx), dict.fromkeys(anchors, ctx * length // len(anchors))
    active = frames
    ctx = int(r * length * m.context_share)
    if m.variant == "qwen2_5_vl":
        vectors = grid.frame_vectors.double().numpy()
        active = [t for t in frames if t == end - 1 or cosine(vectors[t], vectors[t + 1]) < m.ignore]
        ctx = max(ctx, 1)
    anchors = [t for i, t in enumerate(active) if (len(active) - 1 - i) % m.anchor_stride == 0]
    centres = dict(zip(reversed(anchors), dealt(ctx, len(anchors)), strict=True))
    salient = dict.fromkeys(frames, 0) | dict(zip(active, dealt(r * length - ctx, len(active)), strict=True))
    if m.variant == "qwen2_5_vl" and length > 1:
        centres = {t: min(c, n // 2) for t, c in centres.items()}
        salient = {t: min(s, n - centres.get(t, 0)) for t, s in salient.items()}
    return salient, {t: c for t, c in centres.items() if c}


def dealt(tokens, places):
    """One at a time, round and round."""
    hands = [0] * places
    for i in range(tokens):
        hands[i % places] += 1
    return hands


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("retain", "share", "stride", "starts"),
    [
        (0.27, 0.4, 4, (0, 1, 8)),  # one frame, many frames, two frames
        (0.2, 0.5, 3, (0, 3)),
        (0.15, 0.4, 2, (0, 4, 5)),
        (0.4, 0.3, 1, (0, 3)),  # every frame an anchor
        (0.4, 0.4, 2, (0, 3, 6)),  # three frames, two anchors
        (0.3, 0.2, 50, (0,)),
    ],
)
def test_as_told(variant, retain, share, stride, starts):
    grid = video((11, 4, 5), seed=stride, like=(2, 3, 6, 9), scenes=(4,))
    m = FastVid(retain=retain, context_share=share, anchor_stride=stride, variant=variant)
    segments = cut(*starts, length=11)
    want = told(grid, segments, m)
    found = m.reduce(grid, segments)
    assert found.anchor.tolist() == sorted(want)
    assert len(found) == m.count(grid, segments, None)
    values = np.stack([want[anchor] for anchor in sorted(want)])
    assert np.abs(found.apply(grid.data).numpy() - values).max() < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_long_segments_go_in_blocks_with_the_same_result(variant, monkeypatch):
    grid = video((13, 3, 4), like=(3, 7))
    m, segments = FastVid(retain=0.4, anchor_stride=2, variant=variant), cut(0, 12, length=13)
    whole = m.reduce(grid, segments)
    for most in (1, 200):
        monkeypatch.setattr(_fastvid_merge, "MOST_ENTRIES", most)
        parts = m.reduce(grid, segments)
        for name in ("indptr", "indices", "weights", "anchor"):
            assert torch.equal(getattr(parts, name), getattr(whole, name)), name


# -- budgets -----------------------------------------------------------------------------------------------


def test_llava_video_deals_to_the_first_frames_and_the_last_anchors():
    m = FastVid(retain=0.1, context_share=0.4, variant="llava_video")  # N=30: R=3, S=21, ctx=8
    plan = m.plan(video((7, 5, 6)), cut(0, length=7))
    assert plan.salient == [2, 2, 2, 2, 2, 2, 1]
    assert plan.centres == {6: 4, 2: 4}
    plan = FastVid(retain=0.1, context_share=0.34, variant="llava_video").plan(video((7, 5, 6)), cut(0, length=7))
    assert plan.centres == {6: 4, 2: 3}  # ctx=7


def test_qwen_keeps_the_last_frames_of_runs_from_the_grid_whatever_the_segmenter():
    grid = video((8, 5, 6), like=(1, 2, 5), scenes=(6,))
    m = FastVid(retain=0.1, context_share=0.4, anchor_stride=2, variant="qwen2_5_vl")
    for segments in (cut(0, length=8), cut(0, 4, length=8), cut(0, 1, 3, length=8)):
        active = [2, 3, 5, 6, 7] + [end - 1 for _, end in segments.spans()]
        plan = m.plan(grid, segments)
        assert {t for t in range(8) if plan.salient[t]} <= set(active)
        assert set(plan.centres) <= set(active)
    plan = m.plan(grid, cut(0, length=8))  # S=24, ctx=9 over frames 7, 5, 2
    assert plan.centres == {7: 3, 5: 3, 2: 3}
    assert plan.salient == [0, 0, 3, 3, 0, 3, 3, 3]


def test_qwen_cuts_off_what_one_frame_cannot_keep():
    grid = video((8, 4, 4), like=range(1, 8))
    plan = FastVid(retain=0.9, variant="qwen2_5_vl").plan(grid, cut(0, length=8))
    assert plan.centres == {7: 8}
    assert plan.salient == [0] * 7 + [8]


def test_qwen_needs_frame_vectors_itself():
    assert FastVid().needs == FastVid(variant="llava_video").needs == {"attention"}
    assert FastVid(variant="qwen2_5_vl").at(0.5).needs == {"attention", "frame_vectors"}
    grid = TokenGrid(torch.randn(4, 2, 3, 8), torch.arange(4).double(), torch.rand(4, 2, 3))
    alone = assemble("x", ("uniform", {}), ("fastvid", {"variant": "qwen2_5_vl"}), {}, {})
    with pytest.raises(ValueError, match="needs frame_vectors"):
        alone.decide(grid)


@pytest.mark.parametrize(("field", "value"), [("ignore", 1.5), ("variant", "qwen"), ("anchor_stride", 0)])
def test_values_out_of_bounds(field, value):
    with pytest.raises(ValueError, match=f"{field} must be"):
        FastVid(**{field: value})


# -- where the reference crashes ---------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["llava_video", "qwen2_5_vl"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("stride", [1, 2, 50])
def test_budgets_hold_everywhere(variant, share, stride):
    grid = video((9, 4, 5), like=(2, 3, 7))
    for starts in ((0,), (0, 3, 6), range(9)):
        counts = []
        for retain in (0.0, 0.04, 0.1, 0.3, 0.5, 0.8, 0.95, 1.0):
            m = FastVid(retain=retain, context_share=share, anchor_stride=stride, variant=variant)
            counts.append(len(m.reduce(grid, cut(*starts, length=9))))
            asked = max(9 * int(20 * retain), len(starts) if variant == "qwen2_5_vl" else 0)
            assert counts[-1] == asked or (variant == "qwen2_5_vl" and counts[-1] < asked)
        assert counts == sorted(counts)
        assert counts[-1] == grid.count


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 4, 5), (8, 4, 5), (1, 1, 1), (12, 1, 1), (3, 1, 2)], ids=str)
@pytest.mark.parametrize("segments", [1, 8])
def test_fewer_frames_than_segments_and_tiny_grids(variant, shape, segments):
    grid = video(shape)
    for retain in (0.0, 0.27, 0.6, 1.0):
        m = assemble(
            "x", ("dyseg", {"segments": segments}), ("fastvid", {"variant": variant, "retain": retain}), {}, {}
        )
        found, _ = m.decide(grid)
        assert found.apply(grid.data).isfinite().all()
        if retain == 1.0:
            assert torch.equal(found.apply(grid.data), grid.feat_ND)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_context_keeps_salient_tokens_alone(variant):
    grid = video()
    found = FastVid(retain=0.1, context_share=0.0, variant=variant).reduce(grid, cut(0, 4, length=9))
    if variant == "qwen2_5_vl":  # its floor: one context token a segment
        assert (found.sizes > 1).sum() == 2
    else:
        assert found.is_selection
    assert len(found) == 18


@pytest.mark.parametrize("variant", VARIANTS)
def test_fewer_candidates_than_neighbours(variant):
    grid = video((4, 1, 4))
    found = FastVid(retain=0.75, context_share=0.34, variant=variant).reduce(grid, cut(0, 1, 2, 3, length=4))
    assert found.positions[:, 0].bincount().tolist() == [3, 3, 3, 3]


def test_attention_is_compared_in_its_own_precision():
    attention = torch.ones(1, 1, 4, dtype=torch.float64)
    attention[0, 0, 3] += 1e-9
    grid = TokenGrid(torch.randn(1, 1, 4, 16), torch.zeros(1).double(), attention, torch.ones(1, 2))
    found = FastVid(retain=0.25, context_share=0.0).reduce(grid, Segments(torch.tensor([0]), 1))
    assert found.anchor.tolist() == [3]


@pytest.mark.parametrize("variant", VARIANTS)
def test_identical_frames(variant):
    one = video((1, 4, 5))
    grid = TokenGrid(
        one.data.expand(12, -1, -1, -1), torch.arange(12).double(), one.attention.expand(12, -1, -1), torch.ones(12, 7)
    )
    segments = DySeg().segment(grid)
    assert segments.lengths.tolist() == [1] * 7 + [5]
    m = FastVid(retain=0.3, variant=variant, ignore=1.0)
    found = m.reduce(grid, segments)
    per_frame = found.positions[:, 0].bincount(minlength=12).tolist()
    assert per_frame[:7] == [6] * 7
    assert sum(per_frame) == m.count(grid, segments, None)
    if variant == "qwen2_5_vl":  # one run, whose last frame keeps at most itself
        assert per_frame[7:] == [0, 0, 0, 0, 20]
    assert torch.equal(m.reduce(grid, segments).anchor, found.anchor)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_invalid_tokens_are_in_no_row_and_budgets_stay_exact(variant, share):
    valid = torch.rand(9, 4, 5, generator=torch.Generator().manual_seed(1)) < share
    grid = video(valid=valid, like=(2, 3))
    method = assemble("x", ("dyseg", {"segments": 3}), ("fastvid", {"variant": variant}), {}, {})
    segments = method.segmenter.segment(grid)
    for retain in (0.1, 0.5, 0.9, 1.0):
        m = FastVid(retain=retain, variant=variant)
        found = m.reduce(grid, segments)
        assert valid.flatten()[found.indices].all()
        assert len(found) == m.count(grid, segments, None)
    for tokens in (0, 1, 17, 60, 180):
        assert len(method.decide(grid, tokens=tokens)[0]) == min(tokens, int(valid.sum()))
