"""The media clock of a live source, by itself: what is a jump, what is late, what only was held up."""

from __future__ import annotations

from fractions import Fraction

import pytest

from vidcomp.stages.ingest_clock import TS_BASE, TS_WRAP, Shown, Unwrap


def after(frames: list[tuple[float, float]]) -> Shown:
    """Once these (pts_s, now_s) have been shown, 40 ms each."""
    shown = Shown()
    for pts_s, now_s in frames:
        shown.count(pts_s, 0.04, now_s, anew=False)
    return shown


STEADY = [(100.0 + n / 25, 5.0 + n / 25) for n in range(26)]  # until 101.0, at 6.0


@pytest.mark.parametrize(
    ("pts_s", "now_s", "place"),
    [
        (101.04, 6.04, "next"),
        (109.0, 6.04, "next"),  # early, but within the limit
        (112.0, 6.04, "jump"),
        (4700.0, 6.04, "jump"),
        (131.0, 36.0, "next"),  # nothing came for as long
        (101.0, 6.04, "late"),
        (100.96, 6.04, "late"),
        (100.4, 6.04, "jump"),
        (0.0, 6.04, "jump"),
    ],
)
def test_where_a_frame_belongs(pts_s: float, now_s: float, place: str) -> None:
    assert after(STEADY).place(pts_s, now_s, live=True) == place


def test_a_gap_in_a_file_is_no_jump() -> None:
    assert after(STEADY).place(4700.0, 6.04, live=False) == "next"
    assert after(STEADY).place(0.0, 6.04, live=False) == "jump"


def test_what_was_held_up_may_catch_up() -> None:
    """A consumer stopped us for 40 s; what the sender still had comes at once, then what it sends now."""
    held_up = [*STEADY, (101.04, 46.0), (101.08, 46.01)]
    assert after(held_up).place(141.0, 46.02, live=True) == "next"
    assert after(held_up).place(152.0, 46.02, live=True) == "jump"


def test_a_clock_that_was_set_is_measured_from_there() -> None:
    shown = after(STEADY)
    shown.count(4700.0, 0.04, 6.04, anew=True)
    assert shown.place(4700.04, 6.08, live=True) == "next"
    shown.count(10.0, 0.04, 6.12, anew=True)
    assert shown.place(25.0, 6.16, live=True) == "jump"


def test_what_is_known_crosses_to_another_child() -> None:
    shown = after(STEADY)
    assert Shown.from_json(shown.to_json()) == shown
    assert (shown.number, shown.last_s, shown.end_s) == (26, 101.0, pytest.approx(101.04))


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        ([TS_WRAP - 1, 0, 3600], [TS_WRAP - 1, TS_WRAP, TS_WRAP + 3600]),
        ([TS_WRAP - 1, 0, TS_WRAP - 2, 1], [TS_WRAP - 1, TS_WRAP, TS_WRAP - 2, TS_WRAP + 1]),  # two streams
        ([9000, TS_WRAP + 8000], [9000, 8000]),  # libav: before the first, so it must have wrapped
        ([360_000_000, 360_000_000 - 324_000_000 + TS_WRAP], [360_000_000, 36_000_000]),  # an hour back
        ([-5, 5], [-5, 5]),
    ],
)
def test_a_ts_clock_goes_the_shorter_way_round(ticks: list[int], expected: list[int]) -> None:
    clock = Unwrap(True)
    assert [clock.seconds(tick, TS_BASE) for tick in ticks] == [tick / 90000 for tick in expected]


def test_other_clocks_do_not_wrap() -> None:
    for clock, base in ((Unwrap(True), Fraction(1, 1000)), (Unwrap(False), TS_BASE)):
        assert [clock.seconds(tick, base) for tick in (TS_WRAP, 0)] == [float(TS_WRAP * base), 0.0]
