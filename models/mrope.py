"""M-RoPE positions of Qwen2-VL's kin: one video block of (time, row, column) between two runs of text.

They are computed from the kept tokens' own grid places, so a pruned video stands where it stood in the whole one.
Two rules say where the text after the video goes on, start being the block's first position:

    "max+1"  one after the largest position of the *whole* block: Qwen's own code, transformers 4.57, vLLM
    "hw"     start + max(rows, columns): transformers 5.23, which lets long videos reach past the text

They agree on clips whose time index stays under max(rows, columns). The names are versions: their meaning is fixed.

Legend: K kept tokens, T steps of the grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

RULES = ("max+1", "hw")


def time_index(steps: int, tokens_per_second: float, seconds_per_step: float) -> Tensor:
    """int64 (steps,): trunc(step * tokens_per_second * seconds_per_step), in float32.

    So does `get_rope_index` of transformers 5.23 when fed by the processor, whose `second_per_grid_ts` is float32.
    """
    interval = tokens_per_second * torch.tensor(seconds_per_step, dtype=torch.float32)
    return (torch.arange(steps) * interval).long()


def span(grid: tuple[int, int, int], times: Tensor, rule: str) -> int:
    """How far after the block's start the text goes on; from the whole grid, whatever was kept of it."""
    if rule not in RULES:
        raise ValueError(f"position_rule must be one of {', '.join(RULES)}, got {rule!r}")
    _, rows, columns = grid
    return max(rows, columns) if rule == "hw" else max(int(times[-1]) + 1, rows, columns)


def block(places: Tensor, grid: tuple[int, int, int], times: Tensor, rule: str) -> tuple[Tensor, int]:
    """int64 (3, K): tokens at `places` int (K,3) t,y,x of `grid`, from the block's start; and the block's `span`.

    `times` int64 (T,) is `time_index` of the whole grid.
    """
    t, y, x = places.long().unbind(1)
    return torch.stack([times[t], y, x]), span(grid, times, rule)
