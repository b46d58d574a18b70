"""DivPrune: the greedy order against the definition, and what the reference cannot do."""

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.pipeline.reduce import reduce
from vidcomp.stages.mergers._divprune_order import greedy
from vidcomp.stages.mergers.divprune import DivPrune


@pytest.mark.parametrize("stride", [0, 1, 20, 900])
@pytest.mark.parametrize("spread", [0.3, 5.0])
def test_the_order_is_the_definitions(stride, spread):
    g = torch.Generator().manual_seed(stride)
    feat = torch.randn(1, 24, generator=g) + spread * torch.randn(900, 24, generator=g)
    order, far_V = greedy(feat, 700, stride)
    unit = torch.nn.functional.normalize(feat.double())
    away = 1 - unit @ unit.T
    nearest = away.topk(2, dim=0, largest=False).values[1]
    assert nearest[order[0]] >= nearest.max() - 1e-6
    distance = away[order[0]].clone()
    for token in order[1:].tolist():  # each is as far from those before it as any, to rounding
        assert distance[token] >= distance.max() - 1e-6
        distance = torch.minimum(distance, away[token])
    assert len(set(order.tolist())) == 700
    torch.testing.assert_close(far_V[far_V >= 0], distance[far_V >= 0].float(), atol=1e-6, rtol=0)


def test_no_token_twice():
    same = torch.randn(1, 2, 3, 8).expand(4, -1, -1, -1).contiguous()
    found = reduce(same, "divprune", retain=0.5)
    assert len(found) == 12
    assert reduce(same, "divprune", retain=0.25).anchor.tolist() == list(range(6))


def test_zero_vectors_are_one_direction():
    feat = torch.cat([torch.zeros(4, 3), torch.eye(3)]).view(1, 1, 7, 3)
    assert reduce(feat, "divprune", retain=4 / 7).anchor.tolist() == [0, 4, 5, 6]


@pytest.mark.parametrize(("retain", "kept"), [(0.0, 0), (0.25, 2), (0.35, 4), (1.0, 10)])  # 2.5 -> 2, 3.5 -> 4
def test_rounds_half_to_even(retain, kept):
    grid = TokenGrid(torch.randn(2, 1, 5, 4), torch.zeros(2).double())
    assert len(DivPrune(retain).reduce(grid, None)) == kept


def test_one_token():
    assert reduce(torch.randn(1, 1, 1, 4), "divprune", retain=1.0).anchor.tolist() == [0]
