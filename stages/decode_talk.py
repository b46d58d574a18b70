"""The parent's side of the two conversations with a decode child; its own side is `decode_child`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .decode_process import Process
from .decode_ring import pictures_of, room
from .wire import Patience

SLOT_BYTES: Final = 32 << 20  # few enough pictures to be early, many enough for a message to cost nothing
SLOTS: Final = 2  # the child fills one while the other is read


def ask_open(
    process: Process, request: Mapping[str, Any], patience: Patience, more: Callable[[int], Patience]
) -> tuple[dict[str, Any], bytes]:
    """What a file holds -> (facts, arrays); `more` says how patient to be once the file's bytes are known."""
    process.ask(patience, request)
    found, _ = process.hear(patience)
    return process.hear(more(found["bytes"]))


@dataclass(slots=True)
class Account:
    """How decoding went, in the child's words; true once its frames have been read to their end."""

    errors: int = 0
    lost: int = 0


def ask_frames(
    process: Process,
    request: Mapping[str, Any],
    arrays: bytes,
    size: tuple[int, int],
    patience: Patience,
    account: Account,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Asks now; then (places int64 (n,) among the wanted, their pictures uint8 (n,H,W,3)) batch by batch.

    `size` (width, height) upright. Each batch is copied out of the shared memory, at a tenth of what decoding it took,
    and its slot given back before it is yielded: the child goes on while the consumer works.
    """
    width, height = size
    shape = (SLOTS, max(SLOT_BYTES // (width * height * 3), 1), height, width, 3)
    memory = process.reserve(room(shape))
    process.ask(patience, {**request, "ring": shape}, arrays)
    return _batches(process, memory, shape, patience, account)


def _batches(
    process: Process, memory: mmap, shape: tuple[int, ...], patience: Patience, account: Account
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    while "slot" in (message := process.hear(patience))[0]:
        reply, blob = message
        places = np.frombuffer(blob, np.int64)
        pictures = pictures_of(memory, shape)[reply["slot"], : len(places)].copy()
        process.ask(patience, {"do": "ack"})
        yield places, pictures
    done = message[0]["done"]
    account.errors, account.lost = done["errors"], done["lost"]


def ask_sound(
    process: Process, request: Mapping[str, Any], patience: Patience, account: Account
) -> Iterator[NDArray[np.float32]]:
    """Mono samples float32 (n,), piece by piece."""
    process.ask(patience, request)
    while "sound" in (message := process.hear(patience))[0]:
        yield np.frombuffer(message[1], np.float32)
    account.errors = message[0]["done"]["errors"]
