"""Runs of tokens at one place."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcomp.models.types import TokenGrid
from vidcomp.stages import ops
from vidcomp.stages.ops_runs import GONE, NEW, mark, run_cosine, run_entries


def entries_by_hand(start, valid):
    rows = []
    for n in range(start.shape[1]):
        row = None
        for t in range(len(start)):
            if start[t, n]:
                rows.append(row := [])
            if row is not None and valid[t, n]:
                row.append(t * start.shape[1] + n)
    return sorted(rows)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**16))
def test_entries(t, n, seed):
    g = torch.Generator().manual_seed(seed)
    valid = torch.rand(t, n, generator=g) < 0.8
    start = (torch.rand(t, n, generator=g) < 0.4) & valid
    indptr, indices = run_entries(start, valid)
    rows = [indices[a:b].tolist() for a, b in pairwise(indptr)]
    assert rows == entries_by_hand(start, valid)
    assert indices[indptr[:-1]].tolist() == start.flatten().nonzero()[:, 0].tolist()


def test_mark():
    valid = torch.tensor([[1, 1, 0], [1, 0, 1], [1, 1, 1]]).bool().view(3, 1, 3)
    grid = TokenGrid(torch.zeros(3, 1, 3, 1), torch.arange(3).double(), valid=valid)
    rest = [[5, GONE, NEW], [5, NEW, 5]]
    assert mark(torch.full((2, 3), 5.0), grid, None).tolist() == [[NEW, NEW, GONE], *rest]
    before = torch.tensor([[True, False, True]])
    assert mark(torch.full((3, 1, 3), 5.0), grid, before).tolist() == [[5, NEW, GONE], *rest]


def test_cosines_are_with_the_first_token(monkeypatch):
    feat = torch.randn(7, 10, 12, generator=torch.Generator().manual_seed(0))
    feat[3] = feat[2] + 0.1
    near, first = run_cosine(feat, 0.5)
    assert near[0].isnan().all()
    for n in range(10):
        begun = 0
        for t in range(1, 7):
            torch.testing.assert_close(near[t, n], torch.cosine_similarity(feat[t, n], feat[begun, n], dim=0))
            begun = begun if near[t, n] > 0.5 else t
        assert torch.equal(first[n], feat[begun, n])
    monkeypatch.setattr(ops, "WORK_BYTES", 4 * 12 * 3)  # three places a block
    again, _ = run_cosine(feat, 0.5)
    assert torch.equal(again[1:], near[1:])


def test_cosines_go_on_from_the_carried_tokens():
    feat = torch.randn(8, 5, 6, generator=torch.Generator().manual_seed(1)).bfloat16()
    whole, last = run_cosine(feat, 0.3)
    early, first = run_cosine(feat[:3], 0.3)
    late, end = run_cosine(feat[3:], 0.3, first_ND=first)
    assert torch.equal(torch.cat([early, late]).nan_to_num(9), whole.nan_to_num(9))
    assert torch.equal(end, last)
    assert end.dtype == torch.bfloat16
