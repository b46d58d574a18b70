"""The shared tensor functions, against plain float64 and against torch's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcomp.stages import ops

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
STEP = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-6, torch.float16: 2e-6}


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def at_threads(f):
    before = torch.get_num_threads()
    try:
        out = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out.append(f())
        return out
    finally:
        torch.set_num_threads(before)


# -- cosines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 1, 1), (6, 7, 33), (4, 300, 1200)])
def test_adjacent_cosine_is_torchs(dtype, shape):
    x = seeded(*shape).to(dtype)
    got = ops.adjacent_cosine(x)
    wide = x.double()
    want = torch.cosine_similarity(wide[1:], wide[:-1], dim=-1)
    assert got.shape == (shape[0] - 1, shape[1])
    torch.testing.assert_close(got.double(), want, rtol=0, atol=STEP[dtype])


def test_adjacent_cosine_eps_rule():
    # norms below eps count as eps, as torch does it: (1e-9)^2 / eps^2 = 0.01
    x = torch.tensor([[[1e-9]], [[1e-9]], [[0.0]], [[3.0]]])
    want = torch.cosine_similarity(x[1:], x[:-1], dim=-1)
    torch.testing.assert_close(ops.adjacent_cosine(x), want)
    assert ops.adjacent_cosine(x)[1:].tolist() == [[0.0], [0.0]]


def test_adjacent_cosine_with_a_step_before():
    x = seeded(5, 4, 9).bfloat16()
    assert torch.equal(ops.adjacent_cosine(x[2:], x[1]), ops.adjacent_cosine(x)[1:])


@pytest.mark.parametrize("channels", [1, 7, 896, 3584])
def test_equal_vectors_are_exactly_alike(channels):
    x = seeded(1, 50, channels).expand(4, -1, -1) * torch.tensor([1.0, 1, 2, 0.5])[:, None, None]
    assert (ops.adjacent_cosine(x) == 1).all()
    scaled = torch.cat([x[:1], 3 * x[:1]])
    assert (ops.dissimilarity(ops.adjacent_cosine(scaled)) == 0).all()


def test_row_wise_bits_depend_on_nothing_around(monkeypatch):
    x = seeded(4, 37, 129)
    want = ops.adjacent_cosine(x)
    for one, two in (at_threads(lambda: ops.adjacent_cosine(x)), at_threads(lambda: ops.squared_norms(x[0]))):
        assert torch.equal(one, two)
    monkeypatch.setattr(ops, "WORK_BYTES", 5 * 4 * 129)
    assert torch.equal(ops.adjacent_cosine(x), want)
    assert torch.equal(ops.adjacent_cosine(x[1:3, 5:9]), want[1:2, 5:9])


@pytest.mark.parametrize("dtype", DTYPES)
def test_row_cosine(dtype, monkeypatch):
    monkeypatch.setattr(ops, "WORK_BYTES", 3 * 4 * 9)
    x, target = seeded(11, 9).to(dtype), seeded(4, 9, seed=1)
    pick = torch.tensor([0, 3, 1, 1, 2, 0, 3, 3, 2, 1, 0])
    want = torch.cosine_similarity(x.double(), target[pick].double(), dim=-1)
    torch.testing.assert_close(ops.row_cosine(x, target, pick).double(), want, rtol=0, atol=2e-6)
    one = torch.cosine_similarity(x.double(), target[:1].double(), dim=-1)
    torch.testing.assert_close(ops.row_cosine(x, target[:1]).double(), one, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_means_and_units(dtype):
    x = seeded(3, 5, 17).to(dtype)
    wide = x.double()
    torch.testing.assert_close(ops.squared_norms(x[0]).double(), wide[0].square().sum(-1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ops.step_means(x).double(), wide.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ops.unit_rows(x[0]).norm(dim=-1), torch.ones(5).to(ops.wide_dtype(dtype)))
    assert ops.unit_rows(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2


def test_inputs_are_left_alone():
    x = seeded(3, 5, 17)
    before = x.clone()
    ops.adjacent_cosine(x), ops.unit_rows(x[0]), ops.levelled(x[0], 2.0), ops.ranks(x)
    ops.dissimilarity(x), ops.top_mask(x, 2), ops.best_centre(x[0], x[1])
    assert torch.equal(x, before)


# -- choosing ----------------------------------------------------------------------------------------------

scores = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 1.0, float("nan"), float("inf"), float("-inf")]), max_size=12)


@settings(deadline=None)
@given(scores, st.integers(0, 14))
def test_top_is_a_stable_sort(values, k):
    low = [(float("-inf") if v != v else v) for v in values]
    want = sorted(sorted(range(len(values)), key=lambda i: (-low[i], i))[:k])
    assert ops.top(torch.tensor(values), k).tolist() == want


def test_top_mask_takes_a_count_for_each_list():
    x = torch.tensor([[1.0, 1, 1], [3, 2, 1], [0, 5, 5]])
    got = ops.top_mask(x, torch.tensor([2, 0, 1]))
    assert got.tolist() == [[True, True, False], [False] * 3, [False, True, False]]
    assert ops.top_mask(x.half(), 1).sum() == 3
    assert ops.top_mask(torch.zeros(2, 0), 3).shape == (2, 0)


def test_near_equal_values_are_one_level_and_do_not_chain():
    values = torch.tensor([0.5, 0.2 + 1e-9, 0.9, 0.2, 0.5 - 1e-9])
    assert torch.equal(ops.levelled(values, 1e-8), torch.tensor([0.5, 0.2, 0.9, 0.2, 0.5]))
    steps = torch.arange(20).double()  # each within 1.25 of the next
    assert ops.levelled(steps, 1.25).tolist() == [i - i % 3 for i in range(20)]
    assert ops.levelled(steps, 0.5) is steps


@settings(deadline=None)
@given(st.lists(st.integers(-3, 9), max_size=12), st.sampled_from([0.0, 0.5, 1.0, 1.5]), st.sampled_from([0.0, 0.25]))
def test_levels_are_those_found_one_by_one(values, least, growth):
    tolerance = [least + growth * max(v, 0) for v in values]
    want, first, last = list(values), None, None
    for i in sorted(range(len(values)), key=lambda i: values[i]):
        new = first is None or values[i] > values[last] + tolerance[last]
        first = i if new or values[i] > values[first] + 2 * tolerance[first] else first
        want[i], last = values[first], i
    got = ops.levelled(torch.tensor(values).double().expand(2, -1), torch.tensor(tolerance).double())
    assert got.tolist() == [want, want]


def test_ranks_go_by_value_and_then_by_index():
    assert ops.ranks(torch.tensor([[0.5, 0.2, 0.9, 0.2], [1.0, 1, 1, 1]])).tolist() == [[2, 0, 3, 1], [0, 1, 2, 3]]


# -- centres -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_best_centre(dtype, monkeypatch):
    monkeypatch.setattr(ops, "WORK_BYTES", 7 * 4 * 33)
    x, centres = seeded(50, 33).to(dtype), seeded(12, 33, seed=1)
    unit = ops.unit_rows(centres.to(dtype))
    got = ops.best_centre(x, unit, groups=3)
    cos = torch.nn.functional.normalize(x.double(), dim=-1) @ unit.double().T
    assert torch.equal(got, cos.view(50, 3, 4).argmax(-1))


def test_best_centre_ties_go_to_the_lower_number():
    unit = torch.eye(4)[torch.tensor([1, 1, 0, 0])]
    x = torch.tensor([[0.0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]])
    assert ops.best_centre(x, unit)[:, 0].tolist() == [0, 0, 2]


@pytest.mark.parametrize("groups", [1, 3])
def test_best_centre_takes_cosines_equal_but_for_rounding_for_a_tie(groups):
    """Rows and centres of whole numbers, scaled: many cosines are equal, and a matmul gives them different bits."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(-1, 2, (60, 48), generator=g).float()
    centre = torch.randint(0, 2, (12, 48), generator=g) * 2.0 - 1  # of one length
    dots = (x @ centre.T).view(60, groups, -1)
    assert ((dots == dots.amax(-1, keepdim=True)).sum(-1) > 1).any()
    for scale in (1, 0.3 + torch.rand(60, 1, generator=g)):
        assert torch.equal(ops.best_centre(x * scale, ops.unit_rows(0.7 * centre), groups), dots.argmax(-1))
