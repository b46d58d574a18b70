"""In the child: a decoded frame as an upright picture."""

from __future__ import annotations

from typing import Any, cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from .orientation import Orientation, upright


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
        """uint8 (H,W,3), a view of the frame it keeps alive; None, counted in `failed`, for a pixel format that cannot
        be converted."""
        try:
            rgb = self._converter.reformat(frame, *self._size, format="rgb24", threads=self._threads)
        except MemoryError:  # one of FFmpeg's errors too
            raise
        except av.error.FFmpegError:
            self.failed += 1
            return None
        return upright(_view(rgb), self._turn)


def _view(rgb: VideoFrame) -> NDArray[np.uint8]:
    """A frame's own memory as (H,W,3): its rows may be longer than its pixels."""
    plane = rgb.planes[0]
    return np.ndarray((rgb.height, rgb.width, 3), np.uint8, cast(Any, plane), strides=(plane.line_size, 3, 1))
