"""In the child: the wanted frames, from as few packets as can be; only they are turned into pictures.

First by a route (`decode_route`), on any number of threads. On damaged streams that would give other pixels than a
full decode does, and frame threads give others than one thread (what a lost block is patched with depends on which
frames are at hand). A video's pixels must depend on neither, so the first error, or a wanted frame that does not come,
sends the decoding back to the start: all packets, one thread. What was given until then is the same in both. Damage
that raises no error anywhere (met with HEVC, seldom) goes unnoticed here, as does damage in packets on no route.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from .decode_feed import Feed
from .decode_open import File
from .decode_route import Packets, route
from .decode_routed import RoutedPass

Picked = tuple[int, VideoFrame]
Passes = Literal["both", "route", "full"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to pick. `ticks` int64 (S,), S >= 1: when each frame of the video is shown, up to the last wanted one;
    `index` int64 (n,): which of them are wanted, ascending. `by_order`: frames are known by place, not by pts."""

    ticks: NDArray[np.int64]
    index: NDArray[np.int64]
    by_order: bool


@dataclass(slots=True)
class FullPass:
    """Everything decoded, from the start to the last wanted frame. Of the frames of the video up to there `lost` did
    not come out, and `patched` had errors that the decoder concealed."""

    feed: Feed
    wanted: Wanted
    lost: int = 0
    patched: int = 0

    @property
    def errors(self) -> int:
        """Packets and frames that did not decode as they should."""
        return self.feed.errors + self.patched

    def frames(self) -> Iterator[Picked]:
        """(place in `wanted.index`, frame), ascending; what does not come out of the decoder is absent."""
        places = {index: place for place, index in enumerate(self.wanted.index.tolist())}
        for index, frame in self._shown():
            if index in places:
                yield places[index], frame

    def _shown(self) -> Iterator[tuple[int, VideoFrame]]:
        """(index, frame) of the video's frames; others, as those before its start, are passed over."""
        ticks = self.wanted.ticks.tolist()
        due = 0  # the index of the frame that should come next
        for number, frame in enumerate(self.feed.frames()):
            tick = number if self.wanted.by_order else frame.pts
            while tick is not None and due < len(ticks) and ticks[due] < tick:
                due += 1
                self.lost += 1
            if due < len(ticks) and tick == ticks[due]:
                due += 1
                self.patched += frame.is_corrupt
                yield due - 1, frame
            if due == len(ticks):
                return
        self.lost += len(ticks) - due


@dataclass(slots=True)
class Decoding:
    """The wanted frames of a file. `errors`, `lost`: of a full pass, true once `frames` has ended."""

    file: File
    wanted: Wanted
    packets: Packets
    threads: int
    errors: int = 0
    lost: int = 0

    def frames(self, passes: Passes = "both") -> Iterator[Picked]:
        """(place in `wanted.index`, frame), ascending: by the route, by a full pass, or by the first and, at the first
        sign of trouble, the second."""
        given = -1
        if passes != "full" and not self.wanted.by_order:
            for place, frame in self._routed():
                given = place
                yield place, frame
        if given < len(self.wanted.index) - 1 and passes != "route":
            yield from (picked for picked in self._full() if picked[0] > given)

    def _routed(self) -> Iterator[Picked]:
        """As far as nothing is wrong."""
        ticks = self.wanted.ticks[self.wanted.index]
        with Feed.of(self.file, self.threads) as feed:
            places = {tick: place for place, tick in enumerate(ticks.tolist())}
            yield from RoutedPass(feed, route(self.packets, ticks), self.packets.pts, places).frames()

    def _full(self) -> Iterator[Picked]:
        with Feed.of(self.file, threads=1) as feed:
            whole = FullPass(feed, self.wanted)
            yield from whole.frames()
            self.errors, self.lost = whole.errors, whole.lost
