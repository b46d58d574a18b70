"""In the child: packets in, frames out; what does not decode is counted and passed over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final, Self

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .decode_guard import Overheard, short_of_memory
from .decode_open import File

FRAME_BYTES: Final = 4  # of a pixel, roughly
MUTE: Final = ("vp8", "mpeg1video", "mpeg2video")  # on threads they give other pixels of damage, without a word


class Feed:
    """One stream read once, from its start. `threads`: of the decoder, 0 for as many as there are cores."""

    def __init__(self, container: InputContainer, stream: VideoStream, threads: int) -> None:
        self.container = container
        self.stream = stream
        self.decoder = stream.codec_context
        self.decoder.thread_count = 1 if self.decoder.name in MUTE else threads
        self.decoder.thread_type = "SLICE" if self.decoder.name == "ffv1" else "AUTO"  # as MUTE, of frame threads
        self.broken = False  # the container itself could not be read to its end
        self._overheard = Overheard(self.decoder.name)
        self._failed = 0
        self._failed_before_key = 0
        self._keyed = False

    @classmethod
    @contextlib.contextmanager
    def of(cls, file: File, threads: int) -> Iterator[Self]:
        """A feed of the file's video, opened anew."""
        with file.container() as container:
            yield cls(container, file.video(container), threads)

    @property
    def errors(self) -> int:
        """Packets that did not decode. Those before the first key frame never can (a recording that begins in the
        middle of a group of pictures): they are no damage and not counted."""
        return self._failed - (self._failed_before_key if self._keyed else 0)

    @property
    def trouble(self) -> bool:
        """Whether some packet did not decode, or the decoder has had something to say of one."""
        return self.errors > 0 or self._overheard.complained()

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """All packets with data in decode order; ends early, `broken`, where the container cannot be read on."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except IndexError:  # a packet of a stream that begins in mid-file: PyAV does not know it
                packets = self.container.demux(self.stream)
                continue
            except av.error.FFmpegError:
                self.broken = True
                return
            if packet is None:
                return
            if packet.size:  # to a decoder an empty packet is the end of the stream
                yield packet

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """The frames that one more packet completes; None: all that are left."""
        self._keyed = self._keyed or (packet is not None and packet.is_keyframe)
        try:
            return self.decoder.decode(packet)
        except MemoryError:  # one of FFmpeg's errors too, but no damage
            raise
        except av.error.FFmpegError:
            if short_of_memory(FRAME_BYTES * self.decoder.width * self.decoder.height):
                raise MemoryError from None  # as some decoders do not say
            self._failed += 1
            self._failed_before_key += not self._keyed
            return []

    @property
    def seekable(self) -> bool:
        """Whether its container has an index to seek by."""
        return self.container.format.name in ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")

    def seek_before(self, pts: int) -> None:
        """Go on with the packets from somewhere before the key frame shown at `pts`. The decoder must be empty."""
        second = round(1 / (self.stream.time_base or 1))  # indices are by dts, which is earlier
        with contextlib.suppress(av.error.FFmpegError):  # then it goes on where it is
            self.container.seek(pts - second, stream=self.stream)

    def drain(self) -> list[VideoFrame]:
        """The frames that are left; the decoder then forgets all it has seen, and may be given any entry."""
        left = self.decode(None)
        self.decoder.flush_buffers()
        return left

    def frames(self) -> Iterator[VideoFrame]:
        """All frames in presentation order. An error among those that threads have left at the end hides the rest of
        them (PyAV asks no further), so one who uses threads must count what comes out."""
        for packet in self.packets():
            yield from self.decode(packet)
        yield from self.decode(None)


def shows_nothing(codec: str, packet: Packet[Any]) -> bool:
    """Whether no frame comes of a packet: an edit list leaves it out, or it is VP8's frame for reference only."""
    return packet.is_discard or (codec == "vp8" and not bytes(memoryview(packet)[:1])[0] & 0x10)
