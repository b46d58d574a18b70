"""In the child: pictures by decord instead of PyAV, for those who must have its pixels.

What is shown when is told by the same probe, so that statuses, times and limits are the same; decord gives the pixels
alone. Every frame is read from the start on (its seeking and skipping give other frames in open groups and in MPEG-4),
and it must count as many as the container shows. It turns pictures upright by itself, but knows no mirrors. Where a
frame does not decode it gives a neighbour's picture without a word: a damaged file may pass as whole, which is why PyAV
is the default.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decode_info import DecodeError
from .decode_open import File

FIX = "take the default backend"


@dataclass(slots=True)
class DecordDecoding:
    """The frames at presentation indices `index` int64 (n,), upright uint8 (H,W,3). `frames`: how many the container
    shows; `size`: (width, height) upright; `errors`: frames that did not decode, true once `pictures` has ended."""

    file: File
    index: NDArray[np.int64]
    frames: int
    size: tuple[int, int]
    threads: int
    errors: int = 0

    def pictures(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(place in `index`, picture), ascending. `DecodeError`: unsupported, where decord sees another video."""
        from decord import DECORDError

        reader, at = self._reader(), 0
        for place, number in enumerate(self.index.tolist()):
            try:
                for _ in range(number - at):
                    reader.next()
                picture = reader.next().asnumpy()
            except (DECORDError, StopIteration):
                self.errors += len(self.index) - place
                return
            if picture.shape != (self.size[1], self.size[0], 3):
                raise DecodeError("unsupported", f"decord gives pictures of shape {picture.shape}", FIX)
            yield place, picture
            at = number + 1

    def _reader(self) -> Any:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        try:
            reader = decord.VideoReader(f"/proc/self/fd/{self.file.fd}", num_threads=self.threads)
        except decord.DECORDError:
            raise DecodeError("unsupported", "decord cannot open it", FIX) from None
        if len(reader) != self.frames:
            message = f"decord counts {len(reader)} frames where the container shows {self.frames}"
            raise DecodeError("unsupported", message, FIX)
        return reader
