"""In the child: a file's sound as mono float32 at one rate, laid on the video's clock.

Sound is placed by its own pts: what begins late, or stops in between, leaves silence there; what overlaps gives way to
what came first. Times that differ by less than SLACK_S from what the samples before them make due are a container's
rounding, and the samples just go on.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard
from numpy.typing import NDArray

from .decode_info import DecodeError
from .decode_open import File

Samples = NDArray[np.float32]
SLACK_S: Final = 0.02
LOWEST_RATE: Final = 1000  # Hz of the source: from fewer, one packet would become minutes


@dataclass(slots=True)
class Sound:
    """The sound of `file` from `start_s` on, `count` samples at `rate`. `errors`: packets that did not decode, true
    once `samples` has ended."""

    file: File
    rate: int
    start_s: float
    count: int
    errors: int = 0

    def samples(self) -> Iterator[Samples]:
        """All of them, in blocks of at most a second or one packet. `DecodeError`: no_audio."""
        with self.file.container() as container:
            stream = audio(container)
            at = 0
            for place, samples in self._placed(container, stream):
                yield from self._silence(min(place, self.count) - at)
                at = max(at, min(place, self.count))
                new = samples[at - place : self.count - place] if place < self.count else samples[:0]
                if len(new):
                    yield new
                at += len(new)
                if at == self.count:
                    return
            yield from self._silence(self.count - at)

    def _silence(self, count: int) -> Iterator[Samples]:
        for done in range(0, count, self.rate):
            yield np.zeros(min(self.rate, count - done), np.float32)

    def _placed(self, container: InputContainer, stream: AudioStream) -> Iterator[tuple[int, Samples]]:
        """(number of its first sample, samples) of what the file holds, in its order."""
        with closing(self._frames(container, stream)) as frames:
            for begins_s, run in runs(frames):
                place = round((begins_s - self.start_s) * self.rate)
                for samples in resampled(run, self.rate):
                    yield place, samples
                    place += len(samples)

    def _frames(self, container: InputContainer, stream: AudioStream) -> Generator[AudioFrame]:
        """Whatever decodes."""
        packets = container.demux(stream)
        while True:
            try:
                if (packet := next(packets, None)) is None:
                    return
                yield from (frame for frame in packet.decode() if isinstance(frame, AudioFrame))
            except (av.error.FFmpegError, IndexError):  # of the container: then there is no next packet
                self.errors += 1


def audio(container: InputContainer) -> AudioStream:
    """The stream FFmpeg itself would play, all others left unread. `DecodeError`: there is none that can be read."""
    stream = container.streams.best("audio")
    if not isinstance(stream, AudioStream):
        raise DecodeError("no_audio", "the file holds no sound", "leave audio guidance off")
    if stream.codec_context is None:
        raise DecodeError("unsupported", "there is no decoder for its audio codec", "convert it to AAC")
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    return stream


def runs(frames: Iterator[AudioFrame]) -> Iterator[tuple[float, Iterator[AudioFrame]]]:
    """(when it begins, its frames) of each stretch without a gap, an overlap or a change of format. Each must be read
    to its end before the next is asked for."""
    ahead = next(frames, None)

    def stretch() -> Iterator[AudioFrame]:
        nonlocal ahead
        assert ahead is not None
        first, begins_s, seen = ahead, ahead.time or 0.0, 0
        while ahead is not None and follows(ahead, ahead.time, first, begins_s + seen / first.sample_rate):
            frame, seen = ahead, seen + ahead.samples
            ahead = next(frames, None)
            yield frame

    while ahead is not None:
        if ahead.sample_rate < LOWEST_RATE or not ahead.samples:
            ahead = next(frames, None)
            continue
        yield ahead.time or 0.0, stretch()


def follows(frame: AudioFrame, time_s: float | None, first: AudioFrame, due_s: float) -> bool:
    """Whether a frame of this time goes on where those since `first` end."""
    kept = (frame.sample_rate, frame.layout.name, frame.format.name)
    same = kept == (first.sample_rate, first.layout.name, first.format.name)
    return same and frame.samples > 0 and (time_s is None or abs(time_s - due_s) < SLACK_S)


def resampled(run: Iterator[AudioFrame], rate: int) -> Iterator[Samples]:
    """A whole run as mono at `rate`."""
    first = next(run)
    mono = Mono(first, rate)
    for frame in chain([first], run, [None]):
        yield from mono.push(frame)


class Mono:
    """FFmpeg's change of rate, its delay made good; mono is the mean of all channels, as librosa and torchaudio have it
    (FFmpeg's own mix is louder by 3 dB or more). For one run, whose frames are all as its `first`."""

    def __init__(self, first: AudioFrame, rate: int) -> None:
        self._channels = first.layout.nb_channels
        self._resampler = AudioResampler("flt", first.layout.name, rate)  # PyAV cannot read planes from the ninth on

    def push(self, frame: AudioFrame | None) -> Iterator[Samples]:
        """What one more frame completes; None: what is left."""
        if frame is not None:
            frame.pts = None
        for made in self._resampler.resample(frame):
            yield made.to_ndarray().reshape(-1, self._channels).mean(axis=1, dtype=np.float32)
