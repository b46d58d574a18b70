"""Sampling frame by frame: the same frames as the plan of the whole stream, decided one frame late at most."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vidcomp.stages.sample import Sampling, Shown
from vidcomp.stages.sample_live import LiveSampler, check

STEPS_S = st.one_of(
    st.sampled_from([0.0, 0.04, 1 / 30, 1001 / 30000, 0.5, 1.0, 7.0]),  # ties, usual rates, gaps
    st.floats(1e-4, 3.0),
)
RATES = st.one_of(st.sampled_from([0.1, 1.0, 2.0, 25.0, 30.0, 30000 / 1001, 1000.0]), st.floats(0.05, 100.0))


def planned(rule: Sampling, pts_s: list[float], end_s: float) -> list[int]:
    times = np.array(pts_s)
    return rule.plan(Shown(times, end_s, np.ones(len(times), bool))).tolist()


def live(rule: Sampling, pts_s: list[float], end_s: float) -> list[int]:
    """Numbers of the frames taken; each by the time the next one has come."""
    sampler: LiveSampler[int] = LiveSampler.of(rule)
    taken = list[int]()
    for n, at_s in enumerate(pts_s):
        new = sampler.push(at_s, n)
        assert len(new) <= 1
        assert all(number in (n - 1, n) for number in new)
        taken += new
    return taken + sampler.flush(end_s)


@settings(max_examples=500, deadline=None)
@given(
    start_s=st.sampled_from([0.0, -3.0, 0.128, 1e5]),
    steps_s=st.lists(STEPS_S, max_size=60),
    last_s=st.floats(1e-4, 2.0),
    fps=RATES,
)
@example(start_s=0.0, steps_s=[1.0], last_s=1.0, fps=2.0)  # a target in the middle of two frames
@example(start_s=0.0, steps_s=[1.0, 0.0], last_s=0.04, fps=1.0)  # two frames at one time, the last
@example(start_s=0.0, steps_s=[0.1, 4.9, 0.1], last_s=0.1, fps=1.0)  # a gap
def test_by_fps_the_frames_of_the_plan_are_taken(
    start_s: float, steps_s: list[float], last_s: float, fps: float
) -> None:
    pts_s = np.cumsum([start_s, *steps_s]).tolist()
    end_s = pts_s[-1] + last_s
    rule = Sampling(fps=fps)
    assert live(rule, pts_s, end_s) == planned(rule, pts_s, end_s)


@given(count=st.integers(1, 40), every=st.integers(1, 50))
def test_by_every_the_frames_of_the_plan_are_taken(count: int, every: int) -> None:
    pts_s = [n / 25 for n in range(count)]
    rule = Sampling(every=every)
    assert live(rule, pts_s, count / 25) == planned(rule, pts_s, count / 25)


def test_without_a_rule_one_frame_a_second_is_taken() -> None:
    pts_s = [n / 10 for n in range(35)]
    assert live(Sampling(), pts_s, 3.5) == [0, 10, 20, 30] == planned(Sampling(), pts_s, 3.5)


def test_a_stream_without_frames_gives_none() -> None:
    assert LiveSampler[int](fps=1.0).flush(0.0) == []


def test_only_one_frame_is_kept() -> None:
    sampler = LiveSampler[int](fps=1e-3)
    for n in range(1000):
        sampler.push(n / 25, n)
    assert sampler._waiting == [999]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sampling(frames=8),
        lambda: Sampling(keyframes=True),
        lambda: Sampling(times_s=[1.0]),
        lambda: Sampling(fps=1.0, start_s=1.0),
        lambda: Sampling(fps=1.0, end_s=1.0),
        lambda: Sampling(fps=1.0, max_frames=10),
        lambda: Sampling(fps=1.0, min_frames=2),
        lambda: Sampling(fps=0.0),
        lambda: Sampling(fps=float("nan")),
        lambda: Sampling(every=0),
    ],
)
def test_what_needs_the_whole_video_is_refused(make: Callable[[], Sampling]) -> None:
    with pytest.raises(ValueError, match=r"live source|must be"):
        check(make())
