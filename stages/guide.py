"""Audio guidance: what is heard decides how a chunk's tokens are shared out over its windows of time.

Guidance is a budget, not a method: the chunk's count is what the method keeps unguided, and each window gets its even
share (by its valid tokens) times a weight; see `guide_weights.py`. Windows are counted from the chunk's first step.

Legend: U units of sound (hops, audio tokens), T grid steps, W windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from .guide_weights import omnizip, proportional
from .saliency import Noticed

Mode = Literal["omnizip", "proportional"]

KEPT_SOUND: Final = 0.7  # the share of its sound that OmniZip keeps
TOKEN_S: Final = 0.04  # how long a model's audio token lasts, where there is but one


@dataclass(frozen=True, eq=False)
class Guidance:
    """What was heard of a chunk, and what it makes of its windows of `steps` grid steps, the last one shorter.

    `saliency` float32 (T,) of each grid step; `weights` float32 (T,), of its window, which all its steps show.
    """

    saliency: Tensor
    weights: Tensor
    steps: int

    @property
    def window_weights(self) -> list[float]:
        """One for each window, in order."""
        found: list[float] = self.weights[:: self.steps].tolist()
        return found


@dataclass(frozen=True)
class Guide:
    """How sound guides: the `mode`, and seconds of a window, which is a whole number of grid steps, at least one."""

    mode: Mode
    window_s: float = 2.0

    def steps(self, step_s: float) -> int:
        """Grid steps of a window, `step_s` seconds each."""
        return max(1, round(self.window_s / step_s))

    def guidance(self, noticed: Noticed, borders_s: Tensor, valid: Sequence[int], step_s: float) -> Guidance:
        """Of one chunk: what was noticed of its sound; float64 (T+1,) when its steps start and the last one ends;
        valid tokens of each step."""
        steps = self.steps(step_s)
        heard_T = averaged(noticed.value, noticed.edges_s, borders_s).float()
        sizes = window_sums(valid, steps)
        if self.mode == "omnizip":
            kept_T = averaged(dominant(noticed.value), noticed.edges_s, borders_s)
            weights = omnizip(window_means(kept_T.tolist(), steps), window_sums([1] * len(valid), steps), sizes)
        else:
            weights = proportional(window_means(heard_T.tolist(), steps), sizes)
        each_T = torch.tensor(weights).repeat_interleave(steps)[: len(valid)]
        return Guidance(heard_T, each_T, steps)


# -- from units of sound to grid steps and windows -------------------------------------------------------------


def dominant(value_U: Tensor) -> Tensor:
    """float64 (U,): 1 for the loudest round(0.7 U) units, 0 for the others; units that tie for the last places share
    them, so that silence is even."""
    places = round(KEPT_SOUND * len(value_U))
    if not places:
        return torch.ones_like(value_U)
    last = value_U.sort(descending=True).values[places - 1]
    above, ties = value_U > last, value_U == last
    return above.double() + ties.double() * ((places - int(above.sum())) / int(ties.sum()))


def averaged(value_U: Tensor, edges_s: Tensor, borders_s: Tensor) -> Tensor:
    """float64 (T,): the mean over the time of each step; time without sound counts as 0."""
    if not len(value_U):
        return borders_s.new_zeros(len(borders_s) - 1)
    sums_s = torch.nn.functional.pad((value_U * edges_s.diff()).cumsum(0), (1, 0))
    unit = (torch.searchsorted(edges_s, borders_s, right=True) - 1).clamp(0, len(value_U) - 1)
    into_s = torch.minimum(torch.maximum(borders_s, edges_s[0]), edges_s[-1]) - edges_s[unit]
    mean_T = (sums_s[unit] + value_U[unit] * into_s).diff() / borders_s.diff().clamp_min(1e-9)
    return mean_T.round(decimals=9)  # silence is 0, not what differences of sums leave


def attended(attention_U: Tensor | None, pts_s: Tensor) -> Noticed:
    """A model's own account: float (U,) >= 0 how much each audio token is attended to (None where there are none),
    float64 (U,) when it starts. As a / (a + the chunk's mean), 0 to 1; the last is as long as the one before it."""
    if attention_U is None or not len(pts_s):
        return Noticed(pts_s.new_empty(0), pts_s.new_zeros(1))
    value_U = attention_U.detach().double().cpu()
    value_U = value_U / (value_U + value_U.mean()).clamp_min(torch.finfo(torch.float64).tiny)
    length_s = pts_s.diff()[-1:] if len(pts_s) > 1 else pts_s.new_tensor([TOKEN_S])
    return Noticed(value_U, torch.cat([pts_s, pts_s[-1:] + length_s]))


def window_sums(values: Sequence[int], steps: int) -> list[int]:
    """Of each window of `steps`."""
    return [sum(values[at : at + steps]) for at in range(0, len(values), steps)]


def window_means(values: Sequence[float], steps: int) -> list[float]:
    """Of each window of `steps`."""
    parts = (values[at : at + steps] for at in range(0, len(values), steps))
    return [sum(part) / len(part) for part in parts]
