"""Pictures go from a child to its parent through a ring of slots in shared memory.

Ordinary videos have rings of one size in memory, so that one mapping on either side serves all of them: to map pages
anew for each video took a tenth of the time of decoding it.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .wire import receive, send

ORDINARY: Final = 64 << 20  # bytes; a file in memory takes what is written to it, not what it may hold


def room(shape: Sequence[int]) -> int:
    """Bytes of shared memory for a ring of this shape."""
    return max(prod(shape), ORDINARY)


def pictures_of(memory: mmap.mmap, shape: Sequence[int]) -> NDArray[np.uint8]:
    """The ring: (slots, pictures, H, W, 3)."""
    return np.frombuffer(memory, np.uint8, prod(shape)).reshape(shape)


@lru_cache(maxsize=1)
def mapped(memory: int, size: int) -> mmap.mmap:
    """The child's mapping, kept until another size is asked for."""
    return mmap.mmap(memory, size)


class Ring:
    """The child's end: `slots` slots of `per_slot` pictures (H,W,3) in the memfd `memory`, filled in turn.

    A full slot is announced as `{"slot": s}` with the pictures' places int64 (n,) as the blob; the parent answers each
    announcement with one message. While every slot is in the parent's hands `put` waits: a slow consumer stops us.
    """

    def __init__(self, memory: int, shape: tuple[int, int, int, int, int], pipes: tuple[int, int]) -> None:
        self._pictures = pictures_of(mapped(memory, room(shape)), shape)
        self._read, self._write = pipes
        self._places: list[int] = []
        self._slot = 0
        self._lent = 0

    def put(self, place: int, picture_HWC: NDArray[np.uint8]) -> None:
        """Copy one picture into the ring."""
        slots, per_slot = self._pictures.shape[:2]
        if self._lent == slots:
            self._take_back()
        self._pictures[self._slot, len(self._places)] = picture_HWC
        self._places.append(place)
        if len(self._places) == per_slot:
            self._announce()

    def finish(self) -> None:
        """Announce what is left, and wait until every slot has come back."""
        if self._places:
            self._announce()
        while self._lent:
            self._take_back()

    def _announce(self) -> None:
        header: dict[str, Any] = {"slot": self._slot}
        send(self._write, header, np.array(self._places, np.int64).tobytes())
        self._slot = (self._slot + 1) % self._pictures.shape[0]
        self._places = []
        self._lent += 1

    def _take_back(self) -> None:
        receive(self._read)
        self._lent -= 1
