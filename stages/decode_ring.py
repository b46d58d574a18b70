"""In the child: pictures go into a ring of slots in shared memory; the parent gives back each full slot it hears of."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .wire import receive, send


class Ring:
    """`slots` slots of `per_slot` pictures (H,W,3) in the memfd `memory`, filled in turn.

    A full slot is announced as `{"slot": s}` with the pictures' places int64 (n,) as the blob; the parent answers each
    announcement with one message. While every slot is in the parent's hands `put` waits: a slow consumer stops us.
    """

    def __init__(self, memory: int, shape: tuple[int, int, int, int, int], pipes: tuple[int, int]) -> None:
        self._map = mmap.mmap(memory, int(np.prod(shape)))
        self._pictures: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8).reshape(shape)
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
        """Announce what is left, wait until every slot has come back, and let the memory go."""
        if self._places:
            self._announce()
        while self._lent:
            self._take_back()
        del self._pictures
        self._map.close()

    def _announce(self) -> None:
        header: dict[str, Any] = {"slot": self._slot}
        send(self._write, header, np.array(self._places, np.int64).tobytes())
        self._slot = (self._slot + 1) % self._pictures.shape[0]
        self._places = []
        self._lent += 1

    def _take_back(self) -> None:
        receive(self._read)
        self._lent -= 1
