"""Which frames are taken: the rule by hand, the rule by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vidcomp.stages.sample_rate import SAME_TIME_S, plan_fps


def regular(count: int, fps: float, start_s: float = 0.0) -> NDArray[np.float64]:
    return start_s + np.arange(count) / fps


def brute(pts_s: NDArray[np.float64], end_s: float, fps: float) -> list[int]:
    """The rule word for word, target by target."""
    taken, k = set[int](), 0
    while not taken or pts_s[0] + k / fps < end_s - SAME_TIME_S:
        distance = np.abs(pts_s - (pts_s[0] + k / fps))
        taken.add(int(np.flatnonzero(distance <= distance.min() + 2 * SAME_TIME_S)[0]))
        k += 1
    return sorted(taken)


@pytest.mark.parametrize(
    ("pts_s", "end_s", "fps", "taken"),
    [
        (regular(250, 25), 10.0, 1, list(range(0, 250, 25))),  # the usual case
        (regular(250, 25, 100.0), 110.0, 1, list(range(0, 250, 25))),  # the clock begins anywhere
        (regular(250, 25, -3.0), 7.0, 1, list(range(0, 250, 25))),
        (regular(10, 25), 0.4, 25, list(range(10))),  # the source's own rate
        (regular(10, 25), 0.4, 1000, list(range(10))),  # above it: every frame, once
        (regular(10, 25), 0.4, 1e12, list(range(10))),  # and no memory for the targets
        (regular(10, 25), 0.4, 0.001, [0]),  # far below: the first
        (np.array([5.0]), 5.04, 30, [0]),  # one frame
        (np.array([5.0]), 5.0, 1, [0]),  # one frame, no duration
        (np.array([0.0, 1.0]), 2.0, 2, [0, 1]),  # target .5 is a tie: the earlier, once
        (np.array([0.0, 0.4, 0.8, 1.2]), 1.6, 1, [0, 2]),  # 1.0 lies between .8 and 1.2: a tie again
        (np.array([0.0, 0.4, 0.7, 1.2]), 1.6, 1, [0, 3]),  # the nearer one
        (np.array([0.0, 0.1, 5.0, 5.1]), 5.2, 1, [0, 1, 2]),  # a gap: targets 1 2 -> .1, 3 4 5 -> 5.0
        (np.array([0.0, 10.0]), 10.1, 1, [0, 1]),  # a long gap is not filled
        (np.array([0.0, 0.2, 0.4, 3.8, 3.9, 4.0]), 4.1, 1, [0, 2, 3, 5]),  # VFR: 1 -> .4, 2 -> .4, 3 -> 3.8, 4 -> 4.0
        (np.array([0.0, 0.0, 1.0]), 2.0, 1, [0, 2]),  # two frames at one time: the earlier
        (np.array([0.0, 1.0]), 2.0000000000000004, 1, [0, 1]),  # a rounded end makes no target
    ],
)
def test_by_hand(pts_s: NDArray[np.float64], end_s: float, fps: float, taken: list[int]) -> None:
    plan = plan_fps(pts_s, end_s, fps)
    assert plan.dtype == np.int64
    assert plan.tolist() == taken


def test_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        ticks = np.unique(rng.integers(0, 4000, rng.integers(1, 60)))
        pts_s = ticks / rng.choice([1000, 600, 90]) + rng.uniform(-5, 5)
        end_s = pts_s[-1] + rng.uniform(0.001, 0.5)
        fps = float(rng.choice([0.5, 1, 2, 3.7, 10, 29.97]))
        assert plan_fps(pts_s, end_s, fps).tolist() == brute(pts_s, end_s, fps), (pts_s, end_s, fps)


def test_targets_do_not_drift() -> None:
    pts_s = np.arange(30 * 3600 * 4) * 1001 / 30000  # four hours
    plan = plan_fps(pts_s, float(pts_s[-1]) + 1001 / 30000, 3)
    offset = pts_s[plan] - np.arange(len(plan)) / 3
    assert np.abs(offset).max() <= 1001 / 60000 + 1e-9
    assert len(plan) == len(pts_s) * 1001 * 3 // 30000 + 1


@pytest.mark.parametrize(
    ("pts_s", "fps", "says"),
    [
        (np.array([]), 1, "M >= 1"),
        (np.zeros((2, 2)), 1, r"\(2, 2\)"),
        (np.array([1.0, 0.0]), 1, "ascend"),
        (np.array([0.0]), 0, "fps"),
        (np.array([0.0]), float("inf"), "fps"),
        (np.array([0.0]), float("nan"), "fps"),
    ],
)
def test_what_is_refused(pts_s: NDArray[np.float64], fps: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        plan_fps(pts_s, 1.0, fps)
