"""In the child: the packets of one connection, as they come, to pictures and sound."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .decode_feed import Feed
from .decode_sound import Samples
from .ingest_clock import JUMP_S, Shown, Steps, Unwrap
from .ingest_events import LossError
from .ingest_pictures import PictureRing, Pictures, size_of
from .ingest_sound import LiveSound
from .ingest_source import cut
from .ingest_voice import Voice
from .sample import Sampling

BARREN: Final = 4  # read timeouts during which packets may come and no picture
AGAIN_S: Final = 0.01
USUAL_FPS: Final = 25.0  # of a source that says nothing

RingOf = Callable[[tuple[int, int], float | None, int | None], PictureRing]


@dataclass(frozen=True, slots=True)
class Asked:
    """How to read a source. `size` (width, height) of the pictures, None: the first frame's, upright. `live`: nobody
    knows its end, and its clock may be set. `patience_s`: to wait for a packet."""

    rule: Sampling
    audio_rate: int | None
    size: tuple[int, int] | None
    live: bool
    patience_s: float


class Reading:
    """One connection. `ring_of` (size, fps, audio_rate) is called once, at the first frame: it opens the ring."""

    def __init__(
        self,
        container: InputContainer,
        streams: tuple[VideoStream, AudioStream | None],
        asked: Asked,
        shown: Shown,
        voice: Voice,
        ring_of: RingOf,
    ) -> None:
        self._container = container
        self._video, self._audio = streams
        self._asked = asked
        self._shown = shown
        self._voice = voice
        self._ring_of = ring_of
        self._feed = Feed(container, self._video, threads=0)
        self._feed.decoder.thread_type = "SLICE"  # threads for whole frames would each hold one back
        self._clock = Unwrap(container.format.name in ("mpegts", "hls"))
        self._sound = LiveSound(asked.audio_rate, JUMP_S if asked.live else math.inf) if asked.audio_rate else None
        self._pictures: Pictures | None = None
        self._barren_s = 0.0  # waited for packets since the last frame

    def run(self) -> None:
        """To its end. `LossError`: cut; whatever came has been given."""
        try:
            for packet in self._packets():
                self._take(packet)
                self._voice.beat()
        finally:
            self._finish()

    def _packets(self) -> Iterator[Packet[Any]]:
        """All packets with data. `LossError`."""
        wanted = [stream for stream in (self._video, self._audio) if stream is not None]
        packets = self._container.demux(*wanted)
        while True:
            begun_s = time.monotonic()
            try:
                packet = next(packets, None)
            except (IndexError, av.error.BlockingIOError) as error:  # of a stream that begins later; nothing yet
                time.sleep(0.0 if isinstance(error, IndexError) else AGAIN_S)
                packets = self._container.demux(*wanted)
                continue
            except av.error.FFmpegError as error:
                if error.errno == errno.ENOMEM:
                    raise MemoryError from None
                raise cut(error, self._asked.patience_s) from None
            self._wait(time.monotonic() - begun_s)
            if packet is None:
                return
            if packet.size:  # to a decoder an empty packet is the end of the stream
                yield packet

    def _wait(self, waited_s: float) -> None:
        self._barren_s += waited_s
        if self._barren_s > BARREN * self._asked.patience_s:
            raise LossError("garbage", f"data came for {self._barren_s:.3g} s, and no picture")

    def _take(self, packet: Packet[Any]) -> None:
        if packet.stream is self._video:
            self._frames(self._feed.decode(packet))
        elif self._sound is not None:
            self._hear(packet)

    def _frames(self, frames: Iterable[VideoFrame]) -> None:
        for frame in frames:
            time_s = self._seconds(frame.pts, self._video.time_base)
            if time_s is None and self._pictures is None:
                continue  # RTSP: of the first frames it is not known yet when they were taken
            self._barren_s = 0.0
            pictures = self._pictures = self._pictures or self._opened(frame)
            pts_s = (self._shown.end_s or 0.0) if time_s is None else time_s
            if self._sound is not None and pictures.jumps(pts_s):
                self._give(self._sound.restart())
            pictures.push(frame, pts_s, float(frame.duration * (self._video.time_base or 0)))
            if self._sound is not None:
                self._give(self._sound.picture(pts_s))

    def _seconds(self, ticks: int | None, time_base: Fraction | None) -> float | None:
        return None if ticks is None or time_base is None else self._clock.seconds(ticks, time_base)

    def _opened(self, frame: VideoFrame) -> Pictures:
        rate = self._video.average_rate or self._video.guessed_rate
        fps = float(rate) if rate else None
        size = self._asked.size or size_of(frame)
        ring = self._ring_of(size, fps, self._asked.audio_rate if self._audio is not None else None)
        steps = Steps(1 / (fps or USUAL_FPS))
        return Pictures(self._asked.rule, size, self._shown, steps, ring, self._voice.say, self._asked.live)

    def _hear(self, packet: Packet[Any] | None) -> None:
        """One packet of sound; None: all that are left."""
        if self._sound is None or self._audio is None:
            return
        try:
            frames = self._audio.codec_context.decode(packet)
        except MemoryError:  # one of FFmpeg's errors too, but no damage
            raise
        except av.error.FFmpegError:
            return
        for frame in frames:
            if isinstance(frame, AudioFrame):
                time_s = self._seconds(frame.pts, frame.time_base)
                self._give(self._sound.push(frame, time_s))

    def _give(self, blocks: Iterator[tuple[float, Samples]]) -> None:
        for start_s, samples in blocks:
            self._voice.say({"sound": start_s}, samples.tobytes())

    def _finish(self) -> None:
        """What the decoders and the sampler still hold."""
        self._frames(self._feed.decode(None))
        self._hear(None)
        if self._pictures is not None:
            self._pictures.finish()
        if self._sound is not None:
            self._give(self._sound.restart())


def streams_of(container: InputContainer, video: VideoStream, *, sound: bool) -> tuple[VideoStream, AudioStream | None]:
    """The video, and FFmpeg's own choice of sound if it is asked for and can be decoded; all others are left unread."""
    best = container.streams.best("audio") if sound else None
    audio = best if isinstance(best, AudioStream) and best.codec_context is not None else None
    for other in container.streams:
        if other is not video and other is not audio:
            other.discard = Discard.all
    return video, audio
