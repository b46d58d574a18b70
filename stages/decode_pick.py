"""In the child: decode from the start to the last wanted frame; only wanted frames are turned into pictures.

On damaged streams FFmpeg's frame threads give other frames and other pixels than one thread does (what a lost block is
patched with depends on which frames are ready). A video's pixels must not depend on the machine, so the first error
that threads meet, or the first frame that they lose, sends the decoding back to the start with one thread; what was
given until then is the same in both. Damage that raises no error anywhere (met with HEVC, seldom) goes unnoticed here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from .decode_feed import Feed
from .decode_open import File
from .orientation import Orientation, upright

Picked = tuple[int, VideoFrame]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to pick. `ticks` int64 (S,), S >= 1: when each frame of the video is shown, up to the last wanted one;
    `index` int64 (n,): which of them are wanted, ascending. `by_order`: frames are known by place, not by pts."""

    ticks: NDArray[np.int64]
    index: NDArray[np.int64]
    by_order: bool


@dataclass(slots=True)
class Picker:
    """One pass over a feed. Of the frames of the video up to the last wanted one, `seen` came out, `lost` were passed
    over, and `patched` had errors that the decoder concealed."""

    feed: Feed
    wanted: Wanted
    seen: int = 0
    lost: int = 0
    patched: int = 0

    @property
    def errors(self) -> int:
        """Packets and frames that did not decode as they should."""
        return self.feed.errors + self.patched

    @property
    def clean(self) -> bool:
        return not (self.errors or self.lost)

    def all(self) -> Iterator[Picked]:
        """(place in `wanted.index`, frame), ascending; what does not come out of the decoder is absent."""
        places = {index: place for place, index in enumerate(self.wanted.index.tolist())}
        for index, frame in self._shown():
            if index in places:
                yield places[index], frame

    def until_error(self) -> Iterator[Picked]:
        """The same, ending with the last frame that no error can have touched.

        Frames come out in the order of showing: a damaged frame may appear after those decoded from it, by as many
        frames as the decoder reorders. So each is held back until that many more are out.
        """
        held: deque[tuple[int, Picked]] = deque()
        for picked in self.all():
            held.append((self.seen, picked))
            while self.clean and held[0][0] < self.seen - self.feed.decoder.reorder_depth - 1:
                yield held.popleft()[1]
            if not self.clean:
                return
        if self.clean:
            yield from (picked for _, picked in held)

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
                self.seen += 1
                self.patched += frame.is_corrupt
                yield due - 1, frame
            if due == len(ticks):
                return
        self.lost += len(ticks) - due


@dataclass(slots=True)
class Decoding:
    """The wanted frames of a file, in at most two passes; `errors`, `lost`: of the pass that counts, true once `frames`
    has ended. Where frames are known by their order only one thread is safe: one lost would shift the rest."""

    file: File
    wanted: Wanted
    threads: int
    errors: int = 0
    lost: int = 0

    def frames(self) -> Iterator[Picked]:
        """(place in `wanted.index`, frame), ascending."""
        given = -1
        if self.threads != 1 and not self.wanted.by_order:
            for place, frame in self._pass(self.threads):
                given = place
                yield place, frame
            if not (self.errors or self.lost):
                return
        for place, frame in self._pass(1):
            if place > given:
                yield place, frame

    def _pass(self, threads: int) -> Iterator[Picked]:
        with Feed.of(self.file, threads) as feed:
            picker = Picker(feed, self.wanted)
            yield from picker.all() if threads == 1 else picker.until_error()
            self.errors, self.lost = picker.errors, picker.lost


class Painter:
    """Frames to upright RGB, the pixels of PyAV's own `frame.to_ndarray(format="rgb24")`.

    `stored` (width, height) is the first frame's size: a frame of another size is scaled to it. One converter serves
    all frames: PyAV makes one per frame, which takes as long as the conversion itself.
    """

    def __init__(self, stored: tuple[int, int], turn: Orientation, threads: int) -> None:
        self._size = stored
        self._turn = turn
        self._threads = threads
        self._converter = VideoReformatter()
        self.failed = 0

    def paint(self, frame: VideoFrame) -> NDArray[np.uint8] | None:
        """uint8 (H,W,3); None, counted in `failed`, for a pixel format that cannot be converted."""
        try:
            rgb = self._converter.reformat(frame, *self._size, format="rgb24", threads=self._threads)
        except av.error.FFmpegError:
            self.failed += 1
            return None
        return upright(cast(NDArray[np.uint8], rgb.to_ndarray()), self._turn)
