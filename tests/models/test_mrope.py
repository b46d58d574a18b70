"""models/mrope.py against transformers' own positions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

from vidcomp.models import mrope

FPS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 7.0, 23.976, 29.97, 30.0)


def theirs(grid: tuple[int, int, int], before: int, after: int, tps: int, seconds: float) -> Tensor:
    """`get_rope_index` of the installed transformers on the whole grid, fed as its processor feeds it."""
    t, h, w = grid
    kinds = torch.cat([torch.zeros(before), torch.full((t * h * w,), 2), torch.zeros(after)]).int()[None]
    config = SimpleNamespace(vision_config=SimpleNamespace(spatial_merge_size=2, tokens_per_second=tps))
    model = SimpleNamespace(config=config)
    model.get_vision_position_ids = lambda *a, **k: Qwen2_5_VLModel.get_vision_position_ids(model, *a, **k)
    positions, _ = Qwen2_5_VLModel.get_rope_index(
        model,
        input_ids=torch.zeros_like(kinds).long(),
        mm_token_type_ids=kinds,
        video_grid_thw=torch.tensor([[t, 2 * h, 2 * w]]),
        second_per_grid_ts=torch.tensor([seconds]),
    )
    return positions[:, 0]


def ours(grid: tuple[int, int, int], before: int, after: int, tps: int, seconds: float, rule: str) -> Tensor:
    return positions(before, after, raster(grid), grid, mrope.time_index(grid[0], tps, seconds), rule)


def positions(before: int, after: int, places: Tensor, grid: tuple[int, int, int], times: Tensor, rule: str) -> Tensor:
    """(3, before + K + after): a block between two runs of text."""
    block, length = mrope.block(places, grid, times, rule)
    text = torch.arange(before), before + length + torch.arange(after)
    return torch.cat([text[0].expand(3, -1), before + block, text[1].expand(3, -1)], dim=1)


def raster(grid: tuple[int, int, int]) -> Tensor:
    return torch.cartesian_prod(*(torch.arange(n) for n in grid)).reshape(-1, 3)


def random_cases(count: int) -> list[tuple[tuple[int, int, int], int, int, int, float]]:
    generator = torch.Generator().manual_seed(7)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    grids = [(draw(1, 40), draw(1, 12), draw(1, 12)) for _ in range(count)]
    return [(grid, draw(1, 20), draw(1, 20), draw(1, 5), 2 / FPS[draw(0, len(FPS))]) for grid in grids]


def test_hw_equals_transformers() -> None:
    for case in random_cases(300):
        assert torch.equal(ours(*case, "hw"), theirs(*case)), case


def test_max_plus_1_differs_in_the_text_after_only() -> None:
    for grid, before, after, tps, seconds in random_cases(300):
        wanted = theirs(grid, before, after, tps, seconds)
        block = wanted[:, before : wanted.shape[1] - after]
        wanted[:, wanted.shape[1] - after :] = block.max() + 1 + torch.arange(after)  # 4.57: st_idx = max + 1
        assert torch.equal(ours(grid, before, after, tps, seconds, "max+1"), wanted)


def test_the_documented_long_clip() -> None:
    case = ((60, 4, 4), 4, 3, 2, 1.0)  # specs/consumers.md 0.4: grid (60,8,8) in patches
    assert int(ours(*case, "hw")[:, -1].max()) == 10
    assert int(ours(*case, "max+1")[:, -1].max()) == 125
    assert int(ours(*case, "hw").max()) == 122


@pytest.mark.parametrize("rule", mrope.RULES)
def test_dropping_tokens_moves_nothing(rule: str) -> None:
    grid = (9, 3, 5)
    times = mrope.time_index(9, 2, 1.0)
    whole = positions(4, 3, raster(grid), grid, times, rule)
    keep = torch.tensor([0, 7, 60, 61])  # nothing of the last steps stays
    part = positions(4, 3, raster(grid)[keep], grid, times, rule)
    stays = torch.cat([torch.arange(4), 4 + keep, torch.arange(4 + 135, 4 + 135 + 3)])
    assert torch.equal(part, whole[:, stays])


def test_unknown_rule() -> None:
    with pytest.raises(ValueError, match=r"max\+1, hw"):
        mrope.span((1, 1, 1), torch.zeros(1), "5.23")
