"""Chunks are cut by the plan, whatever the batches are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidcomp.models.types import Frames
from vidcomp.stages.fit import chunks

PLAN = np.array([0, 10, 20, 31, 40, 55, 60])


def batches(index: list[int], size: int) -> list[Frames]:
    """Frames whose pixels are their index."""
    made = []
    for i in range(0, len(index), size):
        ids = torch.tensor(index[i : i + size])
        data = ids.to(torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)
        made.append(Frames(data, ids.double(), ids))
    return made


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_borders_do_not_depend_on_batches(size: int) -> None:
    made = list(chunks(batches(PLAN.tolist(), size), PLAN, 3, lambda d: d))
    assert [(n, f.index.tolist()) for n, f in made] == [(0, [0, 10, 20]), (1, [31, 40, 55]), (2, [60])]
    assert [f.data[:, 0, 0, 0].tolist() for _, f in made] == [[0, 10, 20], [31, 40, 55], [60]]


def test_a_missing_frame_moves_no_border() -> None:
    made = list(chunks(batches([0, 20, 40, 60], 2), PLAN, 3, lambda d: d))
    assert [(n, f.index.tolist()) for n, f in made] == [(0, [0, 20]), (1, [40]), (2, [60])]


def test_a_chunk_without_frames_is_left_out() -> None:
    made = list(chunks(batches([0, 60], 2), PLAN, 3, lambda d: d))
    assert [n for n, _ in made] == [0, 2]
