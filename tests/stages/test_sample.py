"""Every rule of sampling, by hand and against its law, on regular, variable, gapped and shifted clocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vidcomp.stages.sample import Sampling, Shown, nearest, spread, thinned


def shown(pts_s: Any, end_s: float | None = None, key: tuple[int, ...] = (0,)) -> Shown:
    times = np.asarray(pts_s, np.float64)
    return Shown(times, float(times[-1]) + 0.04 if end_s is None else end_s, np.isin(np.arange(len(times)), key))


REGULAR = shown(np.arange(250) / 25, 10.0, key=(0, 100, 200))
SHIFTED = shown(np.arange(250) / 25 - 3.0, 7.0, key=(0, 100, 200))
GAPPED = shown([0.0, 0.1, 0.2, 5.0, 5.1, 9.0], 9.1, key=(0, 3))


@pytest.mark.parametrize(
    ("rule", "video", "taken"),
    [
        ({"fps": 1.0}, REGULAR, list(range(0, 250, 25))),
        ({"fps": 1.0}, SHIFTED, list(range(0, 250, 25))),
        ({"every": 100}, REGULAR, [0, 100, 200]),
        ({"every": 2}, GAPPED, [0, 2, 4]),
        ({"every": 1000}, REGULAR, [0]),
        ({"frames": 3}, REGULAR, [0, 124, 249]),  # 4.98 s is a tie: the earlier
        ({"frames": 1}, REGULAR, [0]),
        ({"frames": 999}, GAPPED, [0, 1, 2, 3, 4, 5]),
        ({"frames": 4}, GAPPED, [0, 3, 4, 5]),  # 3.0 is nearer to 5.0, 6.0 to 5.1
        ({"frames": 5}, GAPPED, [0, 2, 3, 4, 5]),
        ({"keyframes": True}, REGULAR, [0, 100, 200]),
        ({"keyframes": True, "start_s": 1.0}, REGULAR, [100, 200]),
        ({"times_s": (5.06, 0.05, 5.0, 99.0, -1.0)}, GAPPED, [0, 3, 4]),  # .05 is a tie; outside: nothing
        ({"times_s": (-2.99,)}, SHIFTED, [0]),
        ({"fps": 1.0, "start_s": 2.0, "end_s": 5.0}, REGULAR, [50, 75, 100]),
        ({"fps": 1.0, "start_s": -1.0, "end_s": 1.0}, SHIFTED, [50, 75]),
        ({"every": 1, "start_s": 0.1, "end_s": 5.1}, GAPPED, [1, 2, 3]),
        ({"fps": 25.0, "max_frames": 3}, REGULAR, [0, 124, 249]),
        ({"fps": 0.1, "min_frames": 3}, REGULAR, [0, 124, 249]),
        ({"every": 99, "min_frames": 999}, GAPPED, [0, 1, 2, 3, 4, 5]),
        ({}, shown([5.0]), [0]),
    ],
)
def test_by_hand(rule: dict[str, Any], video: Shown, taken: list[int]) -> None:
    plan = Sampling(**rule).plan(video)
    assert plan.dtype == np.int64
    assert plan.tolist() == taken


@pytest.mark.parametrize(
    ("rule", "video", "rate"),
    [
        ({"fps": 2.0}, REGULAR, 2.0),
        ({"fps": 50.0}, REGULAR, 25.0),  # the source is slower
        ({"fps": 1.0}, GAPPED, 5 / 9.1),  # 0 .2 5.0 5.1 9.0 stand for ten targets
        ({"fps": 5.0, "max_frames": 10}, REGULAR, 1.0),
        ({"every": 5}, REGULAR, 5.0),
        ({"frames": 11, "end_s": 8.0}, shown(np.arange(251) / 25, 10.04), 10 / 7.96),
        ({"frames": 1}, REGULAR, 0.1),
        ({"keyframes": True}, REGULAR, 0.25),
        ({"times_s": (1.0, 3.0)}, REGULAR, 0.5),
        ({"fps": 1.0, "start_s": 2.0, "end_s": 5.0}, REGULAR, 1.0),
    ],
)
def test_the_rate_that_a_plan_has(rule: dict[str, Any], video: Shown, rate: float) -> None:
    sampling = Sampling(**rule)
    assert sampling.rate(video, sampling.plan(video)) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"start_s": 10.0}, "0 to 10 s.*start_s=10"),
        ({"end_s": 0.0}, "end_s=0"),
        ({"start_s": 1.01, "end_s": 1.02}, "start_s=1.01"),
        ({"times_s": (10.0, -0.1)}, "none of the times"),
        ({"keyframes": True, "start_s": 9.0}, "no key frame from 9 to 10 s"),
    ],
)
def test_where_nothing_is_shown(rule: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Sampling(**rule).plan(REGULAR)


def clocks() -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    return [np.unique(rng.integers(0, 3000, rng.integers(1, 80))) / 90 - 7 for _ in range(100)]


def test_spread_gives_as_many_as_there_are_and_no_frame_twice() -> None:
    for pts_s in clocks():
        for count in (1, 2, 3, 7, 50, 200):
            taken = spread(pts_s, count)
            assert len(taken) == min(count, len(pts_s))
            assert (np.diff(taken) > 0).all()
            assert 0 <= taken[0] <= taken[-1] < len(pts_s)
            if count > 1:
                assert (taken[0], taken[-1]) == (0, len(pts_s) - 1)


def test_nearest_by_brute_force() -> None:
    rng = np.random.default_rng(2)
    for pts_s in clocks():
        times_s = rng.uniform(pts_s[0] - 1, pts_s[-1] + 1, 20)
        for index, t in zip(nearest(pts_s, times_s).tolist(), times_s.tolist(), strict=True):
            distance = np.abs(pts_s - t)
            assert distance[index] <= distance.min() + 2e-9
    assert nearest(np.array([0.0, 0.1, 0.2]), np.array([0.05, 0.15])).tolist() == [0, 1]


@pytest.mark.parametrize("most", [1, 2, 5, 9, 10, 11, None])
def test_thinned(most: int | None) -> None:
    kept = thinned(np.arange(10) * 3, most)
    assert len(kept) == min(10, most or 10)
    assert set(kept.tolist()) <= set(range(0, 30, 3))
    assert kept[0] == 0
    assert len(kept) == 1 or kept[-1] == 27
