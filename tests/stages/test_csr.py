"""The sparse arithmetic behind `Reduction`, against dense matrices."""

import pytest
import torch

from vidcomp.models.types import ShapeError
from vidcomp.stages import csr


def dense(indptr, indices, weights, columns):
    out = torch.zeros(len(indptr) - 1, columns, dtype=torch.float64)
    rows = csr.row_of_entry(indptr)
    return out.index_put((rows, indices), weights.double(), accumulate=True)


def random_csr(rows, columns, entries, seed=0):
    g = torch.Generator().manual_seed(seed)
    row = torch.randint(rows, (entries,), generator=g)
    index = torch.randint(columns, (entries,), generator=g)
    return csr.build(rows, row, index, torch.rand(entries, generator=g))


def test_build_adds_up_duplicates_and_keeps_empty_rows():
    indptr, indices, weights = csr.build(
        3, torch.tensor([2, 0, 2, 2]), torch.tensor([1, 4, 1, 0]), torch.tensor([0.25, 1.0, 0.5, 0.0])
    )
    assert indptr.tolist() == [0, 1, 1, 3]
    assert indices.tolist() == [4, 0, 1]
    assert weights.tolist() == [1.0, 0.0, 0.75]


def test_build_of_nothing():
    none = torch.zeros(0, dtype=torch.int64)
    indptr, indices, weights = csr.build(2, none, none, torch.zeros(0))
    assert indptr.tolist() == [0, 0, 0]
    assert len(indices) == len(weights) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("entries", [30, 900])  # few: rows read where they lie; many: block of channels by block
@pytest.mark.parametrize("contiguous", [True, False])
def test_matmul_equals_dense(dtype, entries, contiguous):
    matrix = random_csr(20, 50, entries)
    data = torch.randn(50, 300).to(dtype)
    data = data if contiguous else data.T.contiguous().T
    got = csr.matmul(*matrix, data)
    want = dense(*matrix, 50) @ data.double()
    assert got.dtype == dtype
    step = {torch.float64: 1e-7, torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    torch.testing.assert_close(got.double(), want, rtol=step, atol=step * 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("entries", [200, 6000])
def test_matmul_bits_do_not_depend_on_threads(dtype, entries):
    matrix = random_csr(64, 400, entries)
    data = torch.randn(400, 513).to(dtype)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(csr.matmul(*matrix, data))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_matmul_bits_do_not_depend_on_the_path(monkeypatch):
    matrix = random_csr(64, 400, 3000)
    data = torch.randn(400, 300)
    results = []
    for again in (0, 10**6):
        monkeypatch.setattr(csr, "READ_AGAIN", again)
        results.append(csr.matmul(*matrix, data))
    assert torch.equal(*results)


@pytest.mark.parametrize("shape", [(50, 0), (50, 1)])
def test_matmul_narrow(shape):
    assert csr.matmul(*random_csr(20, 50, 90), torch.ones(shape)).shape == (20, shape[1])


def test_matmul_skips_members_of_weight_zero():
    data = torch.tensor([[1.0], [float("nan")]])
    got = csr.matmul(torch.tensor([0, 2]), torch.tensor([0, 1]), torch.tensor([1.0, 0.0]), data)
    assert got.tolist() == [[1.0]]


def test_matmul_refuses_integers():
    with pytest.raises(ValueError, match="floating point"):
        csr.matmul(torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), torch.ones(1, 2, dtype=torch.int64))


def test_matmul_lets_gradients_through():
    for dtype in (torch.float32, torch.bfloat16):
        data = torch.randn(50, 8, dtype=dtype, requires_grad=True)
        csr.matmul(*random_csr(20, 50, 90), data).float().sum().backward()
        assert data.grad is not None


def test_compose_equals_dense():
    first, second = random_csr(30, 50, 200), random_csr(7, 30, 40, seed=1)
    got = dense(*csr.compose(second, first), 50)
    torch.testing.assert_close(got, dense(*second, 30) @ dense(*first, 50), rtol=1e-6, atol=1e-6)


def test_owner_prefers_weight_then_lower_row():
    row, index = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 1, 3])
    weight = torch.tensor([1.0, 0.25, 0.5, 0.5, 0.0])
    assert csr.owner_by_weight(row, index, weight, 5).tolist() == [0, 1, -1, 2, -1]


def test_boxes_are_half_open():
    places = torch.tensor([[0, 1, 2], [3, 0, 2], [1, 1, 1]])
    got = csr.row_boxes(torch.tensor([0, 0, 1]), places, 2)
    assert got.tolist() == [[0, 4, 0, 2, 2, 3], [1, 2, 1, 2, 1, 2]]


@pytest.mark.parametrize(
    ("indptr", "indices"),
    [([0, 2], [0]), ([1, 1], [0]), ([0, 2, 1, 2], [0, 1]), ([0, 1], [5]), ([0, 1], [-1])],
)
def test_check_bounds(indptr, indices):
    with pytest.raises(ShapeError):
        csr.check_bounds(torch.tensor(indptr), torch.tensor(indices), 5)


@pytest.mark.parametrize("weights", [[0.5, 0.4], [1.5, -0.5], [float("nan"), 1.0], [float("inf"), 0.0]])
def test_check_weights(weights):
    with pytest.raises(ShapeError):
        csr.check_weights(torch.tensor([0, 2]), torch.tensor(weights), 1e-4)
