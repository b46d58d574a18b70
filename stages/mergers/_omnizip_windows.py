"""OmniZip's windows: how much of each stretch of video goes, given how much of its sound stays. Plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_DROP, MOST_DROP = 0.35, 0.75
GUIDANCE = 0.40  # what a window's sound, kept whole, takes off its drop
SAME = 1e-3  # tokens: budgets closer than this are met

Span = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Half-open spans of steps and of audio tokens, in time order; the i-th of both belong together."""

    video: list[Span]
    audio: list[Span]


def pair_windows(steps: int, audio: int, steps_each: int, audio_each: int) -> Windows:
    """The windows of V A V A ... V A: what is left of one kind when the other has ended runs together into one."""
    video_count, audio_count = -(-steps // steps_each), -(-audio // audio_each)
    return Windows(
        spans(steps, steps_each, min(video_count, audio_count + 1)),
        spans(audio, audio_each, min(audio_count, video_count)),
    )


def spans(length: int, each: int, count: int) -> list[Span]:
    """`count` spans of `each`, the last up to `length`."""
    starts = [i * each for i in range(count)]
    return list(zip(starts, [*starts[1:], length], strict=False))


def drop_ratios(sizes: Sequence[int], kept_audio: Sequence[float], drop: float) -> list[float]:
    """The share of its tokens that each video window drops: `sizes` tokens, `kept_audio` shares of its sound.

    Windows without sound drop `drop`; with it 0.35 to 0.75, less where less of the sound is kept, and scaled to `drop`
    of all tokens where there are more than two: but for the first of the least and the first of the largest ratios.
    """
    guided = min(len(sizes), len(kept_audio))
    heard, rest = list(sizes[:guided]), list(sizes[guided:])
    ratios = [clipped(MOST_DROP - GUIDANCE * share) for share in kept_audio[:guided]]
    target = drop * sum(sizes) - drop * sum(rest)
    if guided > 2 and abs(dropped(ratios, heard) - target) > SAME:
        ratios = scaled_to(target, ratios, heard)
    return [*ratios, *(drop for _ in rest)]


def scaled_to(target: float, base: list[float], sizes: list[int]) -> list[float]:
    """`base` brought to `target` dropped tokens, one pass: the reference's order of scaling, clipping and repair."""
    fixed = (base.index(min(base)), base.index(max(base)))
    others = [i for i in range(len(base)) if i not in fixed]
    left = target - base[fixed[0]] * sizes[fixed[0]] - base[fixed[1]] * sizes[fixed[1]]
    factor = left / sum(base[i] * sizes[i] for i in others)
    ratios = list(base)
    for i in others:
        ratios[i] = clipped(base[i] * factor)
    missing = target - dropped(ratios, sizes)
    if abs(missing) > SAME:
        for i in others:
            ratios[i] = clipped(ratios[i] + missing / sum(sizes[j] for j in others))
    return ratios


def dropped(ratios: Sequence[float], sizes: Sequence[int]) -> float:
    """Tokens that the windows drop, before whole numbers are made of them."""
    return sum(ratio * size for ratio, size in zip(ratios, sizes, strict=True))


def clipped(ratio: float) -> float:
    """`ratio` within the bounds."""
    return min(max(ratio, LEAST_DROP), MOST_DROP)
