"""The sound of a live source by itself: placed by its own times, held until pictures are there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from vidcomp.stages.ingest_sound import HELD, LiveSound

RATE = 8000
STEP = 160  # samples of a frame: 20 ms
Blocks = list[tuple[float, NDArray[np.float32]]]


def frame(value: float, layout: str = "mono") -> av.AudioFrame:
    channels = av.AudioLayout(layout).nb_channels
    data = np.full((1, STEP * channels), value, np.float32)
    made = av.AudioFrame.from_ndarray(data, format="flt", layout=layout)
    made.sample_rate, made.time_base, made.pts = RATE, Fraction(1, RATE), 0
    return made


def heard(sound: LiveSound, times_s: list[float], value: float = 0.5) -> Blocks:
    return [block for time_s in times_s for block in sound.push(frame(value), time_s)]


def span(blocks: Blocks) -> tuple[float, float]:
    """When they begin and end; none may begin before the one before it ends."""
    at_s = -math.inf
    for start_s, samples in blocks:
        assert start_s >= at_s - 1e-9
        at_s = start_s + len(samples) / RATE
    return blocks[0][0], at_s


def steps(start_s: float, count: int) -> list[float]:
    return [start_s + n * STEP / RATE for n in range(count)]


@pytest.fixture
def sound() -> LiveSound:
    """With a picture at 10 s."""
    made = LiveSound(RATE, 10.0)
    assert list(made.picture(10.0)) == []
    return made


def total(blocks: Blocks) -> int:
    return sum(len(samples) for _, samples in blocks)


def test_frames_follow_each_other(sound: LiveSound) -> None:
    blocks = heard(sound, [time_s + 0.01 * (n % 2) for n, time_s in enumerate(steps(10.0, 50))])  # rounded times
    blocks += sound.restart()
    assert span(blocks) == pytest.approx((10.0, 11.0))
    assert total(blocks) == RATE


def test_a_gap_stays_one(sound: LiveSound) -> None:
    blocks = heard(sound, [*steps(10.0, 5), *steps(10.5, 5)]) + list(sound.restart())
    assert span(blocks) == pytest.approx((10.0, 10.6))
    assert total(blocks) == 10 * STEP


def test_what_overlaps_gives_way_to_what_came_first(sound: LiveSound) -> None:
    blocks = heard(sound, steps(10.0, 10)) + heard(sound, steps(10.1, 10), -0.5) + list(sound.restart())
    assert span(blocks) == pytest.approx((10.0, 10.3))
    values = np.concatenate([samples for _, samples in blocks])
    assert values.tolist() == [0.5] * (10 * STEP) + [-0.5] * (5 * STEP)


def test_all_channels_are_heard_alike(sound: LiveSound) -> None:
    left = np.zeros((1, STEP * 2), np.float32)
    left[0, ::2] = 1.0
    stereo = av.AudioFrame.from_ndarray(left, format="flt", layout="stereo")
    stereo.sample_rate = RATE
    ((_, samples),) = [*sound.push(stereo, 10.0), *sound.restart()]
    assert samples.tolist() == [0.5] * STEP


def test_a_frame_without_a_time_goes_on(sound: LiveSound) -> None:
    blocks = heard(sound, steps(10.0, 5))
    for _ in range(5):
        blocks += sound.push(frame(0.5), None)
    assert span(blocks + list(sound.restart())) == pytest.approx((10.0, 10.2))
    assert list(sound.push(frame(0.5), None)) == []  # behind nothing: nobody knows when
    assert list(sound.restart()) == []


def test_before_the_first_picture_sound_waits() -> None:
    sound = LiveSound(RATE, 10.0)
    assert heard(sound, steps(10.0, 5)) == []
    blocks = list(sound.picture(10.5)) + heard(sound, steps(10.1, 5)) + list(sound.restart())
    assert span(blocks) == pytest.approx((10.0, 10.2))


@pytest.mark.parametrize("to_s", [3610.0, -3590.0])
def test_sound_of_a_clock_that_the_pictures_do_not_have_yet_waits(sound: LiveSound, to_s: float) -> None:
    before = heard(sound, steps(10.0, 5)) + heard(sound, steps(to_s, 5)) + heard(sound, steps(10.1, 5))
    assert span(before + list(sound.restart())) == pytest.approx((10.0, 10.2))
    after = list(sound.picture(to_s)) + heard(sound, steps(to_s + 0.1, 5)) + list(sound.restart())
    assert span(after) == pytest.approx((to_s, to_s + 0.2))


def test_no_more_than_so_much_waits() -> None:
    sound = LiveSound(RATE, 10.0)
    heard(sound, steps(0.0, HELD + 100))
    blocks = list(sound.picture(5.0)) + list(sound.restart())
    assert total(blocks) == HELD * STEP
    assert blocks[0][0] == pytest.approx(100 * STEP / RATE)


def test_a_file_may_have_its_sound_anywhere() -> None:
    sound = LiveSound(RATE, math.inf)
    list(sound.picture(0.0))
    blocks = heard(sound, steps(7000.0, 5)) + list(sound.restart())
    assert span(blocks) == pytest.approx((7000.0, 7000.1))


def test_frames_that_hold_nothing_are_passed_over(sound: LiveSound) -> None:
    slow = frame(0.5)
    slow.sample_rate = 10

    def both() -> Iterator[tuple[float, NDArray[np.float32]]]:
        yield from sound.push(slow, 10.0)
        yield from sound.push(frame(0.5), 10.0)
        yield from sound.restart()

    assert total(list(both())) == STEP
