"""Guidance by numbers: weights within their bounds and in order, whole tokens, and every merger window by window."""

from __future__ import annotations

import random

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages.guide import Guidance, Guide, attended, averaged, dominant
from vidcomp.stages.guide_weights import LEAST, MOST, balanced, mean, omnizip, proportional, shares
from vidcomp.stages.guided import decide_guided
from vidcomp.stages.methods import Method
from vidcomp.stages.saliency import Noticed

from .test_contract import MERGERS, example, method

LISTENS = {"omnizip"}  # refused by `build_guide`


def cases(count: int, seed: int = 0):
    draw = random.Random(seed)
    for _ in range(count):
        windows = draw.randint(1, 12)
        yield draw, windows, [draw.choice([0, 1, 7, 196, draw.randint(1, 400)]) for _ in range(windows)]


# -- weights -----------------------------------------------------------------------------------------------


def test_weights_lie_within_the_bounds_and_are_one_on_average() -> None:
    for draw, windows, sizes in cases(300):
        heard = [draw.choice([0.0, draw.random(), 1.0]) for _ in range(windows)]
        for weights in (proportional(heard, sizes), omnizip(heard, [4] * windows, sizes)):
            assert len(weights) == windows
            assert all(LEAST <= weight <= MOST for weight in weights)
            assert mean(weights, sizes) == pytest.approx(1, abs=1e-9)


def test_proportional_keeps_the_order_strictly() -> None:
    for draw, windows, _ in cases(300):
        sizes = [draw.randint(1, 400) for _ in range(windows)]
        heard = [draw.choice([0.0, draw.random(), draw.random() / 1000]) for _ in range(windows)]
        weights = proportional(heard, sizes)
        for i in range(windows):
            for j in range(windows):
                assert (weights[i] < weights[j]) == (heard[i] < heard[j])


def test_little_to_hear_guides_little() -> None:
    weights = proportional([0.0, 0.01, 0.02], [10, 10, 10])
    assert weights == pytest.approx([0.98, 1.0, 1.02])
    assert proportional([0.0, 0.0, 1.0, 0.0], [10] * 4) == pytest.approx([0.8, 0.8, 1.6, 0.8])
    assert proportional([1.0, 0.0, 1.0, 1.0], [10] * 4) == pytest.approx([0.4 / 3 + 1, 0.6, 0.4 / 3 + 1, 0.4 / 3 + 1])


def test_omnizip_takes_the_published_drops() -> None:
    """By hand: kept .9, .5, .6, .8 drop .39, .55, .51, .43 of 0.6 x 4 windows; the first and second are fixed, the
    others scaled by (2.4 - .39 - .55) / .94 and clipped at .75, then given what is missing, clipped again."""
    drops = [0.39, 0.55, 0.75, min(0.43 * 1.46 / 0.94 + (2.4 - 0.39 - 0.55 - 0.75 - 0.43 * 1.46 / 0.94) / 2, 0.75)]
    wanted = balanced([0.6 + (0.75 - drop) / 0.4 for drop in drops], [10] * 4)
    assert omnizip([0.9, 0.5, 0.6, 0.8], [1] * 4, [10] * 4) == pytest.approx(wanted)
    assert omnizip([1.0, 0.0], [4, 4], [10, 10]) == pytest.approx([1.4, 0.6])  # 1.6 and 0.6 are too much together
    assert omnizip([0.7] * 5, [4] * 5, [10] * 5) == [1.0] * 5  # published: the first window gets more


# -- whole tokens ------------------------------------------------------------------------------------------


def test_shares_are_exact_and_never_more_than_there_are() -> None:
    for draw, windows, sizes in cases(500):
        weights = [draw.uniform(LEAST, MOST) for _ in range(windows)]
        total = draw.choice([0, 1, sum(sizes), sum(sizes) + 5, draw.randint(0, sum(sizes) + 1)])
        found = shares(total, weights, sizes)
        assert sum(found) == min(total, sum(sizes))
        assert all(0 <= share <= size for share, size in zip(found, sizes, strict=True))
        full = [share == size for share, size in zip(found, sizes, strict=True)]
        pull = sum(w * n for w, n, done in zip(weights, sizes, full, strict=True) if not done)
        left = total - sum(size for size, done in zip(sizes, full, strict=True) if done)
        for share, weight, size, done in zip(found, weights, sizes, full, strict=True):
            assert done or abs(share - left * weight * size / pull) < 2


def test_shares_go_to_the_largest_remainder_and_the_lower_index() -> None:
    assert shares(10, [1.0, 1.0, 1.0], [10, 10, 10]) == [4, 3, 3]
    assert shares(11, [1.0, 1.6, 0.6], [10, 10, 10]) == [3, 6, 2]  # 3.44, 5.5, 2.06
    assert shares(25, [0.6, 1.6, 0.8], [10, 10, 10]) == [6, 10, 9]  # the second is full: 15 by 3 to 4
    assert shares(5, [1.6, 0.6], [0, 10]) == [0, 5]


# -- sound on steps ----------------------------------------------------------------------------------------


def test_units_are_averaged_over_the_time_of_a_step() -> None:
    edges = torch.tensor([1.0, 1.5, 2.0, 4.0]).double()
    value = torch.tensor([4.0, 2.0, 1.0]).double()
    borders = torch.tensor([0.0, 1.0, 1.25, 1.75, 3.0, 5.0, 9.0]).double()
    wanted = [0.0, 4.0, 3.0, (0.25 * 2 + 1.0) / 1.25, 0.5, 0.0]
    assert averaged(value, edges, borders).tolist() == pytest.approx(wanted)
    assert averaged(value[:0], edges[:1], borders).tolist() == [0.0] * 6


def test_ties_for_the_last_places_share_them() -> None:
    assert dominant(torch.zeros(10).double()).tolist() == pytest.approx([0.7] * 10)
    assert dominant(torch.arange(10.0).double()).tolist() == [0.0] * 3 + [1.0] * 7
    found = dominant(torch.tensor([3.0, 0.0, 0.0, 1.0, 0.0]).double())  # four places
    assert found.tolist() == pytest.approx([1.0, 2 / 3, 2 / 3, 1.0, 2 / 3])
    assert dominant(torch.zeros(0).double()).tolist() == []


def test_a_models_attention_has_no_scale() -> None:
    times = torch.arange(4).double() * 0.04
    one, many = (attended(torch.tensor([1.0, 3.0, 0.0, 4.0]) * scale, times) for scale in (1.0, 1e-4))
    assert one.value.tolist() == pytest.approx([1 / 3, 0.6, 0.0, 2 / 3])
    torch.testing.assert_close(one.value, many.value)
    assert one.edges_s.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert attended(torch.zeros(4), times).value.tolist() == [0.0] * 4
    assert len(attended(None, times[:0]).value) == 0


@pytest.mark.parametrize("mode", ["omnizip", "proportional"])
def test_silence_is_even(mode) -> None:
    noticed = Noticed(torch.zeros(80).double(), torch.arange(81).double() / 20)
    for sound in (noticed, Noticed(noticed.value[:0], noticed.edges_s[:1])):
        found = Guide(mode).guidance(sound, torch.arange(9).double() / 2, [12] * 8, 0.5)
        assert found.steps == 4
        assert found.saliency.tolist() == [0.0] * 8
        assert found.weights.tolist() == pytest.approx([1.0] * 8)


@pytest.mark.parametrize(("window_s", "step_s", "steps"), [(2.0, 1.0, 2), (2.0, 0.5, 4), (2.0, 7.0, 1), (0.1, 1, 1)])
def test_windows_are_whole_steps(window_s: float, step_s: float, steps: int) -> None:
    assert Guide("omnizip", window_s).steps(step_s) == steps


# -- every merger ------------------------------------------------------------------------------------------


def guidance(steps: int, weights: list[float], each: int = 2) -> Guidance:
    shown = torch.tensor(weights).repeat_interleave(each)[:steps]
    return Guidance(torch.zeros(steps), shown, each)


def in_windows(found, guided: Guidance) -> list[int]:
    step = found.positions[:, 0] // guided.steps
    return torch.bincount(step, minlength=len(guided.window_weights)).tolist()


@pytest.mark.parametrize("merger", sorted(set(MERGERS) - LISTENS))
@pytest.mark.parametrize("gated", [False, True])
def test_the_total_is_the_unguided_one_and_the_windows_get_their_shares(merger: str, gated: bool) -> None:
    shape = (7, 4, 5)
    valid = torch.rand(shape, generator=torch.Generator().manual_seed(5)) < 0.7 if gated else None
    grid, m = example(shape, valid=valid), method(merger)
    guided = guidance(7, [0.6, 1.6, 1.0, 0.8])
    seen = torch.ones(shape) if valid is None else valid
    sizes = [int(seen[at : at + 2].sum()) for at in range(0, 7, 2)]
    for tokens in (None, 0, 1, 23, 10**6):
        total = len(m.decide(grid, None, tokens)[0])
        found, _ = decide_guided(m, grid, None, tokens, guided)  # `Reduction` checks its laws when it is made
        assert in_windows(found, guided) == shares(total, guided.window_weights, sizes)
        assert found.apply(grid.data).isfinite().all()
        assert valid is None or bool(valid.flatten()[found.indices].all())
        assert len(found.owner) == grid.count
        if len(found):
            assert torch.equal(found.owner[found.anchor].long(), torch.arange(len(found)))


@pytest.mark.parametrize("merger", sorted(set(MERGERS) - LISTENS))
def test_one_window_is_the_method_itself(merger: str) -> None:
    grid, m = example(), method(merger)
    for tokens in (None, 17):
        one, _ = decide_guided(m, grid, None, tokens, guidance(6, [1.0], each=6))
        other, _ = m.decide(grid, None, tokens)
        assert torch.equal(one.anchor, other.anchor)
        assert torch.equal(one.weights, other.weights)


@pytest.mark.parametrize("merger", sorted(set(MERGERS) - LISTENS))
def test_over_many_chunks_every_total_is_the_unguided_one(merger: str) -> None:
    hyper = {"threshold": 0.3} if merger == "evs" else {}
    whole, m = example((12, 4, 5)), method(merger, "uniform", **hyper)
    carry_on = carry_off = None
    for first in range(0, 12, 4):
        grid = cut(whole, first, first + 4)
        off, carry_off = m.decide(grid, carry_off)
        on, carry_on = decide_guided(m, grid, carry_on, None, guidance(4, [0.7, 1.3]))
        assert len(on) == len(off)
        assert (carry_on is None) == (carry_off is None)
        assert carry_on is None or torch.equal(carry_on, carry_off)


def test_pruning_keeps_the_chunks_own_order() -> None:
    """EVS: of a window's tokens those that changed most since the step before, over the windows' border too."""
    grid, m = example((8, 4, 5)), method("evs", "uniform")
    found, _ = decide_guided(m, grid, None, 40, guidance(8, [1.0, 1.0, 1.4, 0.6]))
    score = m.merger.score(grid, m.segmenter.segment(grid), None).view(4, -1)
    for window, count in enumerate(in_windows(found, guidance(8, [1.0] * 4))):
        mine = found.anchor[found.anchor // 40 == window] % 40
        assert score[window][mine].min() >= score[window].topk(count).values.min()


def test_even_weights_are_not_off() -> None:
    """They spread what a method would heap up: the budget of each window is its even share."""
    grid, m = example((8, 4, 5)), method("evs", "uniform")
    found, _ = decide_guided(m, grid, None, None, guidance(8, [1.0] * 4))
    assert in_windows(found, guidance(8, [1.0] * 4)) == [10, 10, 10, 10]
    assert in_windows(m.decide(grid)[0], guidance(8, [1.0] * 4))[0] >= 20


def cut(grid: TokenGrid, first: int, end: int) -> TokenGrid:
    at = slice(first, end)
    assert grid.attention is not None
    assert grid.frame_vectors is not None
    assert grid.pixels is not None
    parts = grid.attention[at], grid.frame_vectors[at]
    return TokenGrid(grid.data[at], grid.pts_s[at], *parts, pixels=grid.pixels[2 * first : 2 * end])


def test_runs_keep_their_sizes() -> None:
    """A method that states sizes still does, window by window."""
    m: Method = method("rlt", "uniform")
    grid = example((8, 4, 5))
    found, _ = decide_guided(m, grid, None, None, guidance(8, [1.0, 1.0, 1.4, 0.6]))
    assert found.sizes.min() >= 1
    runs, _ = decide_guided(method("static_runs", "uniform"), grid, None, None, guidance(8, [1.0, 1.0, 1.4, 0.6]))
    assert int(runs.sizes.sum()) <= grid.count
