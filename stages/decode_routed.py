"""In the child: the frames that come of the packets on a route, as long as nothing is wrong with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import dropwhile, islice
from typing import Final

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from .decode_feed import Feed
from .decode_route import Route

SEEK_PACKETS: Final = 500  # to read past fewer costs less than to empty the decoder, as a seek must


@dataclass(slots=True)
class RoutedPass:
    """One pass over a feed, of which only the packets on the route are decoded. `pts` int64 (P,): the packets' own;
    `places`: of the wanted frames, by pts. It ends early at the first sign of trouble."""

    feed: Feed
    route: Route
    pts: NDArray[np.int64]
    places: dict[int, int]
    _out: int = 0  # frames that came out of the decoder
    _held: deque[tuple[int, tuple[int, VideoFrame]]] = field(default_factory=deque)

    def frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """(place, frame) in order, without a gap, up to the last that no error can have touched.

        Frames come out in the order of showing: a damaged frame may appear after those decoded from it, by as many
        frames as the decoder reorders. So each is held back until that many more are out.
        """
        for due, (place, frame) in enumerate(self._untouched()):
            if place != due:
                return
            yield place, frame

    def _untouched(self) -> Iterator[tuple[int, VideoFrame]]:
        for frame in self._decoded():
            self._out += 1
            if self.feed.trouble or frame.is_corrupt:
                return
            if frame.pts is not None and (place := self.places.get(frame.pts)) is not None:
                self._held.append((self._out, (place, frame)))
            while self._held and self._held[0][0] < self._out - self.feed.decoder.reorder_depth - 1:
                yield self._held.popleft()[1]
        if not self.feed.trouble:
            yield from (picked for _, picked in self._held)

    def _decoded(self) -> Iterator[VideoFrame]:
        """Whatever the decoder gives for the route."""
        stream, at = self.feed.packets(), 0
        for number in np.flatnonzero(self.route.need).tolist():
            far = self.route.begin[number] and number - at >= SEEK_PACKETS and self.feed.seekable
            if self.route.flush[number] or (far and at):
                yield from self.feed.drain()
            ahead = self._seek(stream, number) if far else islice(stream, number - at, None)
            for packet in islice(ahead, 1):
                yield from self.feed.decode(packet)
            at = number + 1
        yield from self.feed.decode(None)

    def _seek(self, stream: Iterator[Packet[VideoStream]], number: int) -> Iterator[Packet[VideoStream]]:
        """The packets from `number` on: known by its pts, for a container lands where it sees fit."""
        pts = int(self.pts[number])
        self.feed.seek_before(pts)
        return dropwhile(lambda packet: packet.pts != pts, stream)
