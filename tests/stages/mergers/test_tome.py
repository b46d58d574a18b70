"""ToMe: which tokens merge, in what averages, and the rounds' borders."""

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages.mergers import _bipartite as bipartite
from vidcomp.stages.mergers.tome import ToMe


def example(t=3, n=21, d=16, seed=0, dtype=torch.float32):
    data = torch.randn(t, 1, n, d, generator=torch.Generator().manual_seed(seed))
    return TokenGrid(data.to(dtype), torch.arange(t).double())


def literal(frame_ND, rounds, proportional):
    """One frame by the paper's words, token by token: (groups of ids with their anchor first, values)."""
    items = [([i], 1.0, row.double()) for i, row in enumerate(frame_ND)]
    for asked in rounds:
        r = min(asked, len(items) // 2)
        if r == 0:
            continue
        unit = torch.nn.functional.normalize(torch.stack([x for _, _, x in items]), dim=-1)
        best, partner = (unit[::2] @ unit[1::2].T).max(1)
        order = best.argsort(descending=True).tolist()
        joined = [[items[2 * j + 1]] for j in range(len(items) // 2)]
        for a in order[:r]:
            joined[int(partner[a])].append(items[2 * a])
        apart = [items[2 * a] for a in order[r:]]
        items = apart + [mean_of(group, proportional) for group in joined]
    return items


def first(item):
    return item[0][0]


def mean_of(group, proportional):
    shares = [size if proportional else 1.0 for _, size, _ in group]
    value = sum(s * x for s, (_, _, x) in zip(shares, group, strict=True)) / sum(shares)
    return [i for ids, _, _ in group for i in ids], sum(size for _, size, _ in group), value


@pytest.mark.parametrize("rounds", [(4,), (100,), (3, 0, 5), (13,) * 12, ()])
@pytest.mark.parametrize("proportional", [True, False])
@pytest.mark.parametrize("n", [1, 2, 3, 20, 21])
def test_is_the_papers_word(rounds, proportional, n):
    grid = example(2, n)
    found = ToMe(rounds, proportional=proportional).reduce(grid, None)
    expected = [item for frame in grid.feat_TND for item in sorted(literal(frame, rounds, proportional), key=first)]
    assert found.anchor.tolist() == [k // (len(expected) // 2) * n + ids[0] for k, (ids, _, _) in enumerate(expected)]
    assert found.sizes.tolist() == [size for _, size, _ in expected]
    torch.testing.assert_close(found.apply(grid.data), torch.stack([x for _, _, x in expected]).float())


def test_tiles_do_not_choose(monkeypatch):
    grid = example(4, 30, dtype=torch.bfloat16)
    whole = [ToMe((9, 9), scope=scope).reduce(grid, None) for scope in ("frame", "video")]
    scores = [ToMe(scope=scope).score(grid, None, None) for scope in ("frame", "video")]
    monkeypatch.setattr(bipartite, "TILE", 7)
    for scope, found, score in zip(("frame", "video"), whole, scores, strict=True):
        again = ToMe((9, 9), scope=scope).reduce(grid, None)
        assert torch.equal(found.owner, again.owner)
        torch.testing.assert_close(ToMe(scope=scope).score(grid, None, None), score)


def test_a_video_is_one_sequence():
    grid = example(4, 5)
    one = TokenGrid(grid.data.view(1, 1, 20, 16), torch.zeros(1).double())
    here, there = ToMe((6, 3), scope="video").reduce(grid, None), ToMe((6, 3)).reduce(one, None)
    assert torch.equal(here.owner, there.owner)


def test_ties_go_to_the_lower_place():
    grid = TokenGrid(torch.randn(16).expand(1, 1, 8, 16).contiguous(), torch.zeros(1).double())
    assert ToMe((2,)).reduce(grid, None).owner.tolist() == [0, 0, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_similarities_that_nearly_tie_do_not_chain(dtype):
    """60 pairs, each a bit more alike than the one before: the most alike merge, up to what is a tie."""
    step, pairs = 4e-7, torch.arange(60)
    cosine = (0.5 + step * pairs).to(dtype)
    feat = torch.zeros(120, 120, dtype=dtype)
    feat[2 * pairs, 2 * pairs] = 1
    feat[2 * pairs + 1, 2 * pairs], feat[2 * pairs + 1, 2 * pairs + 1] = cosine, (1 - cosine**2).sqrt()
    found = ToMe((5,)).reduce(TokenGrid(feat.view(1, 1, 120, 120), torch.zeros(1).double()), None)
    merged = (found.anchor[found.sizes > 1] // 2).tolist()
    assert merged == [55, 56, 57, 58, 59] if dtype == torch.float64 else min(merged) >= 54


@pytest.mark.parametrize(("retain", "kept"), [(1.0, 21), (0.5, 11), (0.1, 3), (0.0, 1)])
@pytest.mark.parametrize("scope", ["frame", "video"])
def test_a_retained_share(retain, kept, scope):
    grid = example(1)
    assert len(ToMe(retain=retain, scope=scope).reduce(grid, None)) == kept


@pytest.mark.parametrize(
    "hyper", [{"rounds": (-1,)}, {"rounds": (1.5,)}, {"retain": 1.1}, {"rounds": None}, {"scope": "clip"}]
)
def test_bad_settings_are_refused(hyper):
    with pytest.raises(ValueError, match=r"rounds|retain|scope"):
        ToMe(**hyper)
