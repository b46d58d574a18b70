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
    ops.adjacent_cosine(x), ops.unit_rows(x[0]), ops.squared_distances(x[0]), ops.dpc_scores(x[0], 2)
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


# -- centres -----------------------------------------------------------------------------------------------


def test_squared_distances():
    x = seeded(40, 65)
    want = torch.cdist(x.double(), x.double()).square() / 65
    got = ops.squared_distances(x)
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-6)
    assert torch.equal(got, got.T)
    assert (got.diagonal() == 0).all()


def test_squared_distances_stand_an_outlier_channel():
    x = seeded(40, 64)
    x[:, 3] += 3000
    want = torch.cdist(x.double(), x.double()).square() / 64
    torch.testing.assert_close(ops.squared_distances(x).double(), want, rtol=1e-3, atol=1e-5)


def test_equal_rows_are_exactly_0_apart():
    x = seeded(9, 3584)[torch.tensor([0, 1, 1, 2, 0, 0, 3, 1])]
    got = ops.squared_distances(x)
    assert (got[0, [4, 5]] == 0).all()
    assert (got[1, [2, 7]] == 0).all()
    assert got[0, 1] > 0.5


def textbook_dpc(x, k):
    """methods-1 section 0, word by word in float64, without noise."""
    x = x.double()
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") / x.shape[1] ** 0.5
    density = (-apart.square().sort(dim=-1).values[:, :k].mean(-1)).exp()
    gap = torch.where(density > density[:, None], apart, apart.max()).amin(-1)
    return density * gap


@pytest.mark.parametrize("rows", [1, 2, 5, 60])
def test_dpc_scores_are_the_papers(rows):
    for seed in range(5):
        x = seeded(rows, 24, seed=seed) + seeded(4, 24, seed=99)[torch.arange(rows) % 4]
        got = ops.dpc_scores(x, 4)
        want = textbook_dpc(x, 4)
        if rows > 2:  # one row is at distance 0 from all, two have equal density
            torch.testing.assert_close(got.exp().double(), want, rtol=1e-4, atol=1e-6)
        order = got.argsort(descending=True, stable=True)
        assert torch.equal(order, want.argsort(descending=True, stable=True))


def test_dpc_picks_one_of_each_group_of_equal_rows():
    x = seeded(6, 200)[torch.tensor([0] * 9 + [1, 2, 3, 4, 5, 1])]
    assert ops.top(ops.dpc_scores(x, 4), 6).tolist() == [0, 9, 10, 11, 12, 13]


def test_dpc_of_large_features_does_not_underflow():
    x = 100 * seeded(30, 16)
    assert ops.dpc_scores(x, 4).isfinite().all()
    assert len(set(ops.dpc_scores(x, 4).tolist())) == 30


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_dpc_of_all_equal_or_no_rows(rows):
    got = ops.dpc_scores(torch.ones(rows, 8), 4)
    assert got.shape == (rows,)
    assert not got.isnan().any()
    assert ops.top(got, 2).tolist() == [0, 1][: min(rows, 2)]


def test_density_rank_counts_near_equals_by_index():
    thin = torch.tensor([0.5, 0.2 + 1e-9, 0.9, 0.2, 0.5 - 1e-9])
    assert ops.density_rank(thin, 1e-8).tolist() == [2, 0, 4, 1, 3]


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
