"""In the child: the sound of a live source, frame by frame; `decode_sound`'s rules on the clock of its pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from av.audio.frame import AudioFrame

from .decode_sound import LOWEST_RATE, Mono, Samples, follows

HELD: Final = 512  # frames, of 20 ms and more


class LiveSound:
    """Mono samples at `rate`, each block with the media time of its first sample.

    Pictures lead: sound that is further than `near_s` from the last picture waits (the last `HELD` frames of it), for
    its clock was set and the picture's has not been yet, or there is no picture so far.
    """

    def __init__(self, rate: int, near_s: float) -> None:
        self._rate = rate
        self._near_s = near_s
        self._held = deque[tuple[AudioFrame, float]](maxlen=HELD)
        self._picture_s: float | None = None
        self._given_s: float | None = None  # until when samples were given
        self._run: Mono | None = None
        self._first: AudioFrame | None = None  # of the run
        self._begins_s = 0.0
        self._seen = self._made = 0  # samples of the run, before and after resampling

    def push(self, frame: AudioFrame, time_s: float | None) -> Iterator[tuple[float, Samples]]:
        """One more frame, of a known time or right behind the one before -> (start_s, samples)."""
        if time_s is None:
            if self._first is None:  # behind nothing
                return
            time_s = self._due_s()
        self._held.append((frame, time_s))
        yield from self._near()

    def picture(self, pts_s: float) -> Iterator[tuple[float, Samples]]:
        """A picture is shown at `pts_s` -> the sound that waited for it."""
        self._picture_s = pts_s
        yield from self._near()

    def restart(self) -> Iterator[tuple[float, Samples]]:
        """The clock was set, or the stream has ended -> what is left of the sound before."""
        yield from self._end_run()
        self._given_s = None

    def _near(self) -> Iterator[tuple[float, Samples]]:
        waiting, self._held = self._held, deque[tuple[AudioFrame, float]](maxlen=HELD)
        for frame, time_s in waiting:
            if self._picture_s is not None and abs(time_s - self._picture_s) <= self._near_s:
                yield from self._heard(frame, time_s)
            else:
                self._held.append((frame, time_s))

    def _heard(self, frame: AudioFrame, time_s: float) -> Iterator[tuple[float, Samples]]:
        if frame.sample_rate < LOWEST_RATE or not frame.samples:
            return
        if self._first is None or not follows(frame, time_s, self._first, self._due_s()):
            yield from self._end_run()
            self._run, self._first, self._begins_s = Mono(frame, self._rate), frame, time_s
        self._seen += frame.samples
        yield from self._pushed(frame)

    def _due_s(self) -> float:
        """When the run's next frame begins."""
        return self._begins_s + (self._seen / self._first.sample_rate if self._first is not None else 0.0)

    def _end_run(self) -> Iterator[tuple[float, Samples]]:
        yield from self._pushed(None)
        self._run = self._first = None
        self._seen = self._made = 0

    def _pushed(self, frame: AudioFrame | None) -> Iterator[tuple[float, Samples]]:
        for samples in self._run.push(frame) if self._run is not None else ():
            start_s = self._begins_s + self._made / self._rate
            self._made += len(samples)
            yield from self._new(start_s, samples)

    def _new(self, start_s: float, samples: Samples) -> Iterator[tuple[float, Samples]]:
        """Without what overlaps with samples that were given before."""
        given_s = start_s if self._given_s is None else self._given_s
        old = max(round((given_s - start_s) * self._rate), 0)
        if len(samples) > old:
            self._given_s = start_s + len(samples) / self._rate
            yield start_s + old / self._rate, samples[old:]
