"""Clips in which somebody "speaks" at known times: voiced harmonics under formants, in syllables, over low noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from media import pictures
from numpy.typing import NDArray

FORMANTS = ((600, 150), (1200, 200), (2500, 300))  # Hz: middle and width
PITCH_HZ = 120
SYLLABLES_HZ = 4
NOISE = 0.001

Span = tuple[float, float]


@dataclass(frozen=True)
class Voice:
    """One audio stream: who speaks when, `seconds` of it from `start_s` on; `loud` 0 is digital silence."""

    spoken_s: Sequence[Span]
    seconds: float
    start_s: float = 0.0
    rate: int = 16000
    layout: str = "mono"
    loud: float = 0.4
    codec: str = "pcm_s16le"

    def samples(self) -> NDArray[np.float32]:
        """(channels, S)."""
        channels = av.AudioLayout(self.layout).nb_channels
        return np.stack([self.loud * spoken(self.spoken_s, self.seconds, self.rate, self.start_s)] * channels)


def spoken(spans_s: Sequence[Span], seconds: float, rate: int = 16000, start_s: float = 0.0) -> NDArray[np.float32]:
    """(S,): within `spans_s` a voice of peak 1, noise all over it."""
    time = start_s + np.arange(round(seconds * rate)) / rate
    pitches = PITCH_HZ * np.arange(1, int(min(4000, rate / 2 - 1) // PITCH_HZ))
    strength = sum(np.exp(-(((pitches - middle) / width) ** 2)) for middle, width in FORMANTS)
    voice = sum(s * np.sin(2 * np.pi * f * time) for s, f in zip(strength, pitches, strict=True))
    syllables = (0.5 - 0.5 * np.cos(2 * np.pi * SYLLABLES_HZ * time)) ** 2
    heard = np.any([(time >= first) & (time < end) for first, end in [*spans_s, (0, 0)]], axis=0)
    noise = NOISE * np.random.default_rng(0).standard_normal(len(time))
    return (voice / max(np.abs(voice).max(), 1e-9) * syllables * heard + noise).astype(np.float32)


def make_talk(path: Path, seconds: float, *voices: Voice, size: tuple[int, int] = (96, 64), fps: int = 4) -> Path:
    """`fps` pictures a second for `seconds`, and a stream of sound for each voice."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        streams = [out.add_stream(voice.codec, rate=voice.rate, layout=voice.layout) for voice in voices]
        sound = chain.from_iterable(packets(*each) for each in zip(streams, voices, strict=True))
        for n, picture in enumerate(pictures(round(seconds * fps), size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, fps)
            out.mux(video.encode(frame))
            for packet in islice(sound, 16):  # side by side, as films have it
                out.mux(packet)
        for packet in chain(video.encode(None), sound):
            out.mux(packet)
    return path


def packets(stream: Any, voice: Voice) -> Iterator[Any]:
    """1024 samples each."""
    samples, first = voice.samples(), round(voice.start_s * voice.rate)
    for at in range(0, samples.shape[1], 1024):
        part = np.ascontiguousarray(samples[:, at : at + 1024])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=voice.layout)
        frame.sample_rate, frame.pts, frame.time_base = voice.rate, first + at, Fraction(1, voice.rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)
