"""In the child: what a file holds, from one pass over its packets and its first frame.

The container's clock is believed where it can be: every packet has a pts, no two the same, decoding never runs
backwards, and the first frame comes out under one of them. Where it cannot (raw streams have no times, AVI stores
none for B-frames, some transport streams store fields or restart their clock), every frame is decoded once and the
timeline is made of what comes out: slower, and right.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .decode_damage import Header, Read, damage
from .decode_ends import cut_off
from .decode_entry import Kinds
from .decode_feed import Feed, shows_nothing
from .decode_info import DecodeError, SourceInfo
from .decode_limits import MUTE_PACKETS, too_long, too_many_frames
from .decode_open import AGAIN, File
from .decode_route import DISPOSABLE, PLAIN, Packets
from .decode_timeline import NO_TIME, Timeline, of_frames, of_packets
from .orientation import orientation, upright_size

FIELD_FORMATS: Final = ("mpegts", "mpeg", "h264", "hevc", "mpegvideo")  # a packet may be a field, half of a frame


@dataclass(frozen=True, slots=True)
class Probe:
    """What is known of a file before its frames are asked for; `stored` is (width, height) before turning upright;
    `packets` has none where frames are known by their order; `steady`: the codec's headers never change."""

    info: SourceInfo
    stored: tuple[int, int]
    timeline: Timeline
    packets: Packets
    steady: bool


@dataclass(slots=True)
class Table:
    """All packets in decode order: `pts` in ticks, NO_TIME where no frame comes of one, and `kind`."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    kind: bytearray = field(default_factory=bytearray)

    def packets(self, *, entries: bool, disposable: bool) -> Packets:
        """As arrays, with kinds of packets that cannot be trusted taken for plain."""
        kind = np.frombuffer(bytes(self.kind), np.uint8)
        trusted = np.where(kind == DISPOSABLE, disposable, entries)
        return Packets(np.array(self.pts, np.int64), np.where(trusted, kind, PLAIN).astype(np.uint8))


@dataclass(slots=True)
class Times:
    """In the order they came: `pts`, `dts` and `duration` in ticks, `key` frame or not."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    duration: array[int] = field(default_factory=lambda: array("q"))
    key: bytearray = field(default_factory=bytearray)

    def add(self, pts: int | None, dts: int | None, duration: int | None, key: bool) -> None:
        """One more packet or frame."""
        self.pts.append(NO_TIME if pts is None else pts)
        self.dts.append(NO_TIME if dts is None else dts)
        self.duration.append(duration or 0)
        self.key.append(key)


def probe(file: File) -> Probe:
    """The facts of a file. `DecodeError` where it has no video, none of it can be decoded, or it is over a limit."""
    with Feed.of(file, threads=1) as feed:
        header = Header.of(feed.container, feed.stream)
        scan = Scan(Kinds(feed.stream))
        scan.read(feed, header.codec, file.max_frames)
        shuffled = feed.decoder.has_b_frames and (header.container == "avi" or header.codec == "mpeg4")
    first = scan.first
    if first is None:
        raise DecodeError("corrupt", f"no frame of its {header.codec} video can be decoded", AGAIN)
    fields = first.interlaced_frame and header.container in FIELD_FORMATS
    if first.pts is not None and clock_holds(scan.times, first.pts) and not (shuffled or fields or scan.kinds.hides):
        times = scan.times
        timeline = of_packets(times.pts, times.duration, times.key, first.pts, header)
        packets = scan.packets(fields=first.interlaced_frame)
    else:
        timeline = decoded_timeline(file, header)
        packets = Table().packets(entries=False, disposable=False)
    if timeline.duration_s > file.max_duration_s:
        raise too_long(timeline.duration_s, file.max_duration_s)
    info = _facts(header, first, timeline, cut_off(file) or damage(file, header, scan.met, timeline))
    return Probe(info, (first.width, first.height), timeline, packets, scan.kinds.steady)


@dataclass(slots=True)
class Scan:
    """One reading of a stream to its end, decoding as far as the first frame. `times`: of the packets that show a
    frame; `met`: what else there was."""

    kinds: Kinds
    first: VideoFrame | None = None
    times: Times = field(default_factory=Times)
    table: Table = field(default_factory=Table)
    met: Read = field(default_factory=lambda: Read(0, 0, False))

    def read(self, feed: Feed, codec: str, max_frames: int) -> None:
        """Fill in all of it; given up where no frame comes of many packets."""
        packets = corrupt = 0
        for packet in feed.packets():
            packets += 1
            if packets > max_frames:
                raise too_many_frames(max_frames)
            if self.first is None and packets > MUTE_PACKETS:
                return
            corrupt += packet.is_corrupt
            if self.first is None:
                self.first = next(iter(feed.decode(packet)), None)
            self._note(packet, shown=not shows_nothing(codec, packet))
        self.first = self.first or next(iter(feed.decode(None)), None)
        self.met = Read(packets, corrupt, feed.broken)

    def packets(self, *, fields: bool) -> Packets:
        """The table. Of two `fields` in a packet, only the first one's kind is known."""
        disposable = not (fields or self.kinds.layered)
        return self.table.packets(entries=self.kinds.steady, disposable=disposable)

    def _note(self, packet: Packet[VideoStream], *, shown: bool) -> None:
        kind = self.kinds.of(packet)
        self.table.pts.append(packet.pts if shown and packet.pts is not None else NO_TIME)
        self.table.kind.append(kind if shown or kind == DISPOSABLE else PLAIN)
        if shown:
            self.times.add(packet.pts, packet.dts, packet.duration, packet.is_keyframe)


def clock_holds(times: Times, first: int) -> bool:
    """Whether the packets' pts say when each frame is shown; `first`: the pts of the first decoded frame."""
    pts, dts = np.array(times.pts), np.array(times.dts)
    unique = NO_TIME not in pts and len(np.unique(pts)) == len(pts)
    return unique and first in pts and not (np.diff(dts[dts != NO_TIME]) < 0).any()


def decoded_timeline(file: File, header: Header) -> Timeline:
    """The timeline of the frames that come out when everything is decoded (one thread: see `decode_pick.Decoding`)."""
    times = Times()
    with Feed.of(file, threads=1) as feed:
        for frame in feed.frames():
            times.add(frame.pts, frame.dts, frame.duration, frame.key_frame)
    return of_frames(times.pts, times.duration, times.key, header)


def _facts(header: Header, first: VideoFrame, timeline: Timeline, harm: str) -> SourceInfo:
    turn = orientation(first)
    width, height = upright_size(first.width, first.height, turn)
    return SourceInfo(
        container=header.container,
        codec=header.codec,
        pix_fmt=first.format.name,
        width=width,
        height=height,
        rotation=turn.rotation,
        mirrored=turn.mirrored,
        duration_s=timeline.duration_s,
        fps=timeline.fps,
        variable_rate=timeline.variable,
        has_audio=header.has_audio,
        time_base=timeline.time_base,
        declared_frames=header.frames,
        frames=len(timeline.ticks),
        damage=harm,
    )
