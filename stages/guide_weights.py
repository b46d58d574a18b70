"""Weights of a chunk's windows, and whole tokens by them. Plain numbers.

OmniZip drops 0.35 to 0.75 of a window where 0.6 go in all: it keeps 0.25 to 0.65 where 0.4 stay, which is 0.625 to
1.625 of an even share. As guidance that is, less 0.025,

    weight = 0.6 + (0.75 - drop) / 0.4                                                          0.6 to 1.6

`omnizip` takes the drop as published: 0.75 - 0.4 x the share of the window's sound that stays among the most salient
70 % of the chunk's, then the authors' scaling to 0.6 of all. That leaves the windows with the least and the largest
drop as they are and scales the others, so it can turn their order round. Differs from the reference: where all windows
keep the same share, weights are even (there: the first gets more); dominant units alone count, as in the paper (the
code adds evenly spaced anchors). `proportional` is our own,

    weight = 1 + g (saliency - mean saliency)         g = 2, or what the bounds allow

so of two windows the more salient one has the larger weight. In both modes the mean weight, by valid tokens, is 1.

Legend: W windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .mergers._omnizip_windows import MOST_DROP, drop_ratios

LEAST, MOST = 0.6, 1.6
DROP, KEPT = 0.6, 0.4  # OmniZip's own budget: of all tokens
STRENGTH: Final = 2.0  # of `proportional`: saliency is 0 to 1
TINY: Final = 1e-12
SAME_DIGITS: Final = 9  # of shares of sound: what differs less is rounding
HALVINGS: Final = 60  # of the factor that brings weights to a mean of 1


def omnizip(kept: Sequence[float], lengths: Sequence[int], sizes: Sequence[int]) -> list[float]:
    """(W,) weights of windows that keep `kept` of their sound, `lengths` steps and `sizes` valid tokens each."""
    kept = [round(share, SAME_DIGITS) for share in kept]
    if len(set(kept)) == 1:
        return [1.0] * len(kept)
    return balanced([LEAST + (MOST_DROP - drop) / KEPT for drop in drop_ratios(lengths, kept, DROP)], sizes)


def balanced(weights: Sequence[float], sizes: Sequence[int]) -> list[float]:
    """`weights` times the one factor that, within the bounds, brings their mean by `sizes` to 1."""
    low, high = LEAST / MOST, MOST / LEAST  # all at the lower bound, all at the upper one
    for _ in range(HALVINGS):
        factor = (low + high) / 2
        low, high = (low, factor) if mean(scaled(weights, factor), sizes) > 1 else (factor, high)
    return scaled(weights, low)


def scaled(weights: Sequence[float], factor: float) -> list[float]:
    """Within the bounds."""
    return [min(max(weight * factor, LEAST), MOST) for weight in weights]


def proportional(saliency: Sequence[float], sizes: Sequence[int]) -> list[float]:
    """(W,) weights in the order of `saliency`, as far from 1 as that and the bounds allow."""
    middle = mean(saliency, sizes)
    over, under = max(saliency) - middle, middle - min(saliency)
    gain = min(STRENGTH, (MOST - 1) / max(over, TINY), (1 - LEAST) / max(under, TINY))
    return [min(max(1 + gain * (value - middle), LEAST), MOST) for value in saliency]


def mean(values: Sequence[float], sizes: Sequence[int]) -> float:
    """By `sizes`; 1 of nothing."""
    return sum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes) if sum(sizes) else 1.0


def shares(total: int, weights: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """`total` tokens over windows of `sizes` valid tokens, in proportion to weight x size; exact where the windows
    have that many, else all.

    A window that is full gives what is over to the others, in the same proportion; what is left of whole numbers goes
    to the largest remainders, ties to the lower index.
    """
    full: set[int] = set()
    while True:
        free = [i for i in range(len(sizes)) if i not in full]
        left = total - sum(sizes[i] for i in full)
        pull = sum(weights[i] * sizes[i] for i in free)
        due = {i: left * weights[i] * sizes[i] / pull if pull else 0.0 for i in free}
        over = {i for i in free if due[i] >= sizes[i]}
        if not over:
            break
        full |= over
    out = [sizes[i] if i in full else int(due[i]) for i in range(len(sizes))]
    ranked = sorted(free, key=lambda i: (int(due[i]) - due[i], i))
    for i in ranked[: max(total - sum(out), 0)]:
        out[i] += 1
    return out
