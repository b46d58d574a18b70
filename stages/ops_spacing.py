"""Evenly spaced places, in the float32 arithmetic that the references use."""

from __future__ import annotations

import torch
from torch import Tensor


def linspace_ids(total: int, count: int) -> Tensor:
    """int64 (count,): `count` of the places 0 .. total-1 at even distances, both ends among them; one is place 0.

    rint(linspace(0, total - 1, count)), half to even, in torch's float32 form: counted up from the first place in the
    first half, down from the last in the second. Written out, as a fused multiply-add would round otherwise. More
    places than `total` come twice; so may neighbours where `count` is nearly `total`.
    """
    last = float(total - 1)
    if count < 2:
        return torch.zeros(count, dtype=torch.int64)
    step = torch.tensor(last / (count - 1), dtype=torch.float32)
    at = torch.arange(count)
    up, down = step * at.float(), last - step * (count - 1 - at).float()
    return torch.where(at < count // 2, up, down).round().long()


def apart(ids_K: Tensor, total: int) -> Tensor:
    """The ascending places `ids_K` of 0 .. total-1, at most `total` of them, with those that come twice moved apart."""
    at = torch.arange(len(ids_K), device=ids_K.device)
    return ((ids_K - at).cummax(0).values + at).minimum(total - len(ids_K) + at) if len(ids_K) else ids_K
