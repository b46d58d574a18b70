"""`Reduction`: one linear map; every law, and every derived fact against the dense matrix."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcomp.models.types import ShapeError, TokenGrid
from vidcomp.stages.edit import add_tokens, keep_rows, restrict
from vidcomp.stages.reduction import Reduction

UNIT = {torch.float32: 1e-6, torch.float64: 1e-7, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def random_reduction(shape, kept, seed):
    """Any lawful reduction: random anchors with random members, some of weight 0, some twice, entries shuffled."""
    g = torch.Generator().manual_seed(seed)
    n = shape[0] * shape[1] * shape[2]
    anchor = torch.randperm(n, generator=g)[:kept]
    extra = int(torch.randint(0, 3 * n + 1, (), generator=g)) if kept else 0
    row = torch.cat([torch.arange(kept), torch.randint(max(1, kept), (extra,), generator=g)])
    index = torch.cat([anchor, torch.randint(n, (extra,), generator=g)])
    weight = torch.rand(len(row), generator=g, dtype=torch.float64)
    weight[kept:][torch.rand(extra, generator=g) < 0.3] = 0
    weight[:kept] += 0.01
    weight /= torch.zeros(kept, dtype=torch.float64).index_add_(0, row, weight)[row]
    shuffle = torch.randperm(len(row), generator=g)
    return Reduction.from_entries(shape, anchor, row[shuffle], index[shuffle], weight[shuffle])


@st.composite
def reductions(draw, max_kept=1.0):
    shape = tuple(draw(st.integers(1, m)) for m in (5, 4, 6))
    n = shape[0] * shape[1] * shape[2]
    kept = draw(st.integers(0, int(n * max_kept)))
    return random_reduction(shape, kept, draw(st.integers(0, 2**31)))


def dense(r):
    return r.to_sparse().to_dense().double()


quick = settings(max_examples=60, deadline=None)


@quick
@given(reductions(), st.sampled_from(list(UNIT)), st.integers(1, 9))
def test_apply_is_the_matrix_product(r, dtype, channels):
    data = torch.randn(r.source_count, channels).to(dtype)
    got = r.apply(data)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), dense(r) @ data.double(), rtol=2 * UNIT[dtype], atol=4 * UNIT[dtype])


@quick
@given(reductions())
def test_apply_takes_every_layout(r):
    t, h, w = r.grid
    data = torch.randn(t, h, w, 3)
    want = r.apply(data)
    assert want.shape == (len(r), 3)
    assert torch.equal(r.apply(data.reshape(t, h * w, 3)), want)
    assert torch.equal(r.apply(data.reshape(t * h * w, 3)), want)
    assert torch.equal(r.apply(data.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)), want)
    torch.testing.assert_close(r.apply(data[..., 0].flatten()), want[:, 0])
    deep = torch.randn(t, h, w, 2, 3)
    torch.testing.assert_close(r.apply(deep), r.apply(deep.reshape(t, h, w, 6)).reshape(-1, 2, 3))


@quick
@given(reductions(), st.integers(0, 2**31), st.data())
def test_composition(first, seed, data):
    if not len(first):
        return
    second = random_reduction((1, 1, len(first)), data.draw(st.integers(0, len(first))), seed)
    both = second @ first
    x = torch.randn(first.source_count, 4, dtype=torch.float64)
    torch.testing.assert_close(both.apply(x), second.apply(first.apply(x)), rtol=1e-5, atol=1e-5)
    assert torch.equal(both.anchor, first.anchor[second.anchor])
    for row in range(len(both)):
        assert int(both.sizes[row]) == sum(int(first.sizes[i]) for i in second.indices[second.row_of_entry == row])
    for n, (mine, firsts) in enumerate(zip(both.owner.tolist(), first.owner.tolist(), strict=True)):
        assert mine == (int(second.owner[firsts]) if firsts >= 0 else -1), n


@quick
@given(reductions())
def test_facts_from_the_matrix(r):
    matrix, stored = dense(r), torch.zeros(len(r), r.source_count, dtype=torch.bool)
    stored[r.row_of_entry, r.indices] = True
    t, h, w = r.grid
    places = torch.stack(torch.meshgrid(*(torch.arange(s) for s in r.grid), indexing="ij"), -1).reshape(-1, 3)
    assert torch.equal(r.sizes.long(), stored.sum(1))
    assert torch.equal(r.positions.long(), places[r.anchor])
    assert (r.anchor.diff() > 0).all()  # raster order in time
    for k in range(len(r)):
        members = places[stored[k]]
        low, high = members.amin(0), members.amax(0) + 1
        assert r.boxes[k].tolist() == torch.stack([low, high], -1).flatten().tolist()
    for n in range(r.source_count):
        rows = [k for k in range(len(r)) if stored[k, n]]
        want = max(rows, key=lambda k: (matrix[k, n], -k), default=-1)
        assert int(r.owner[n]) == want
    torch.testing.assert_close(matrix.sum(1), torch.ones(len(r)).double(), rtol=1e-5, atol=1e-5)
    assert r.source_count == t * h * w


@quick
@given(reductions())
def test_expand_shows_each_token_its_owner(r):
    rows = torch.randn(len(r), 2)
    out = r.expand(rows, fill=-7)
    for n, owner in enumerate(r.owner.tolist()):
        want = rows[owner] if owner >= 0 else torch.full((2,), -7.0)
        assert torch.equal(out[n], want)


@quick
@given(reductions(), st.integers(0, 2**31))
def test_restrict_leaves_valid_tokens_only(r, seed):
    valid = torch.rand(r.source_count, generator=torch.Generator().manual_seed(seed)) < 0.6
    cut = restrict(r, valid)
    assert valid[cut.indices].all()
    alive = set(r.anchor[valid[r.anchor]].tolist())
    assert alive <= set(cut.anchor.tolist())  # a row whose anchor is valid stays, under that anchor
    assert restrict(r, torch.ones_like(valid)) is r
    assert len(restrict(r, torch.zeros_like(valid))) == 0


@quick
@given(reductions(), st.integers(0, 2**31))
def test_keep_rows(r, seed):
    kept = torch.rand(len(r), generator=torch.Generator().manual_seed(seed)) < 0.5
    ids = kept.nonzero()[:, 0]
    part = keep_rows(r, ids)
    assert torch.equal(part.anchor, r.anchor[ids])
    torch.testing.assert_close(dense(part), dense(r)[ids])


@quick
@given(reductions(max_kept=0.5), st.integers(0, 2**31))
def test_add_tokens(r, seed):
    free = [n for n in range(r.source_count) if n not in set(r.anchor.tolist())]
    order = torch.randperm(len(free), generator=torch.Generator().manual_seed(seed))
    ids = torch.tensor(free)[order[: len(free) // 2]].sort().values
    more = add_tokens(r, ids)
    assert sorted([*r.anchor.tolist(), *ids.tolist()]) == more.anchor.tolist()
    x = torch.randn(r.source_count, 3)
    new = torch.isin(more.anchor, ids)
    assert torch.equal(more.apply(x)[new], x[ids])
    torch.testing.assert_close(more.apply(x)[~new], r.apply(x))
    assert torch.equal(more.anchor[more.owner[ids].long()], ids)  # an added token owns itself
    assert torch.equal(more.sizes[~new], r.sizes)  # its old group's membership is left alone


def test_select_copies_bit_for_bit():
    data = torch.randn(2, 2, 3, 4).bfloat16()
    r = Reduction.select((2, 2, 3), torch.tensor([0, 5, 11]))
    assert r.is_selection
    assert torch.equal(r.apply(data), data.reshape(12, 4)[[0, 5, 11]])
    assert r.owner.tolist() == [0, -1, -1, -1, -1, 1, -1, -1, -1, -1, -1, 2]
    ids = torch.arange(12)
    assert r.apply(ids).tolist() == [0, 5, 11]  # any dtype, where nothing is averaged


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (4, 1, 2)])
def test_keep_none_and_all(shape):
    n = shape[0] * shape[1] * shape[2]
    data = torch.randn(n, 6)
    none, every = (Reduction.select(shape, torch.arange(k)) for k in (0, n))
    assert none.apply(data).shape == (0, 6)
    assert none.boxes.shape == (0, 6)
    assert none.positions.shape == (0, 3)
    assert none.owner.tolist() == [-1] * n
    assert none.to_sparse().shape == (0, n)
    assert torch.equal(every.apply(data), data)
    assert torch.equal(every.owner.long(), torch.arange(n))


def test_from_entries_carries_sizes_and_owners_along():
    r = Reduction.from_entries(
        (1, 1, 4),
        anchor=torch.tensor([3, 0]),
        row=torch.tensor([0, 1, 1]),
        index=torch.tensor([3, 0, 2]),
        weight=torch.tensor([1.0, 0.5, 0.5]),
        sizes=torch.tensor([7, 9]),
        owner=torch.tensor([1, -1, 0, 0]),
    )
    assert r.anchor.tolist() == [0, 3]
    assert r.sizes.tolist() == [9, 7]
    assert r.owner.tolist() == [0, -1, 1, 1]


def test_explicit_zero_weights_are_members():
    r = Reduction.from_entries(
        (3, 1, 1), torch.tensor([0]), torch.zeros(3).long(), torch.arange(3), torch.tensor([1.0, 0.0, 0.0])
    )
    data = torch.tensor([[2.0], [float("nan")], [5.0]])
    assert r.apply(data).tolist() == [[2.0]]
    assert r.sizes.tolist() == [3]
    assert r.boxes.tolist() == [[0, 3, 0, 1, 0, 1]]
    assert r.owner.tolist() == [0, 0, 0]


def test_compress_reduces_all_that_belongs_to_a_grid():
    g = TokenGrid(
        torch.randn(2, 2, 3, 4), torch.tensor([0.5, 7.0]).double(), extra={"deep": torch.randn(2, 2, 3, 5, 2)}
    )
    out = Reduction.select(g.shape, torch.tensor([1, 8])).compress(g)
    assert out.positions.tolist() == [[0, 0, 1], [1, 0, 2]]
    assert out.boxes.tolist() == [[0, 1, 0, 1, 1, 2], [1, 2, 0, 1, 2, 3]]
    assert out.pts_s.tolist() == [0.5, 7.0]
    assert torch.equal(out.extra["deep"], g.extra["deep"].reshape(12, 5, 2)[[1, 8]])
    assert (out.positions.dtype, out.boxes.dtype, out.sizes.dtype) == (torch.int32,) * 3
    with pytest.raises(ShapeError):
        Reduction.select((2, 3, 2), torch.tensor([1])).compress(g)


def good(**changed):
    parts = {
        "grid": (1, 2, 2),
        "indptr": torch.tensor([0, 2, 3]),
        "indices": torch.tensor([0, 1, 2]),
        "weights": torch.tensor([0.5, 0.5, 1.0]),
        "anchor": torch.tensor([0, 2]),
    }
    return Reduction(**{**parts, **changed})


BROKEN = {
    "weights below 0": {"weights": torch.tensor([1.5, -0.5, 1.0])},
    "not finite": {"weights": torch.tensor([float("nan"), 0.5, 1.0])},
    "row sum": {"weights": torch.tensor([0.5, 0.4, 1.0])},
    "float64 weights": {"weights": torch.tensor([0.5, 0.5, 1.0]).double()},
    "anchors descend": {"anchor": torch.tensor([2, 0])},
    "anchor twice": {"indices": torch.tensor([0, 1, 0]), "anchor": torch.tensor([0, 0])},
    "anchor outside its row": {"anchor": torch.tensor([0, 3])},
    "anchor twice in its row": {"indices": torch.tensor([0, 0, 2])},
    "index outside": {"indices": torch.tensor([0, 4, 2])},
    "int32 ids": {"indices": torch.tensor([0, 1, 2]).int()},
    "one row border too few": {"indptr": torch.tensor([0, 3])},
    "border beyond the entries": {"indptr": torch.tensor([0, 2, 4])},
    "more rows than tokens": {"grid": (1, 1, 1)},
    "sizes": {"stated_sizes": torch.ones(3, dtype=torch.int32)},
    "sizes dtype": {"stated_sizes": torch.ones(2)},
    "owner": {"stated_owner": torch.zeros(3, dtype=torch.int32)},
    "owner of no row": {"stated_owner": torch.tensor([0, 0, 2, -1], dtype=torch.int32)},
}


def test_good_is_good():
    assert len(good()) == 2


@pytest.mark.parametrize("name", BROKEN)
def test_laws(name):
    with pytest.raises(ShapeError):
        good(**BROKEN[name])


def test_data_that_does_not_fit():
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        good().apply(torch.zeros(3, 2))
    with pytest.raises(ShapeError):
        good().expand(torch.zeros(3, 2))
    with pytest.raises(ShapeError):
        good() @ good()


def test_repr_shows_shapes():
    assert "anchor=int64(2,)" in repr(good())
