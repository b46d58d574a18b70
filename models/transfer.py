"""Frames on their way to the model's device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def to_device(data: Tensor, device: Any) -> Tensor:
    """`data` on `device`. To a GPU it goes through pinned memory and without waiting, so that the copy runs beside
    whatever the host does next; torch's allocator keeps the pinned block until the copy is through."""
    if torch.device(device).type != "cuda" or data.device.type != "cpu":
        return data.to(device)
    return data.pin_memory().to(device, non_blocking=True)
