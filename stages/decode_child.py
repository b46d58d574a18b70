"""The decode child, `python -m vidcomp.stages.decode_child MEMORY PARENT`: reads requests on stdin until it closes.

A decoder can hang inside C or crash, and only a process can be killed; this one costs 0.2 s to start, for it imports
numpy and av, never torch. MEMORY is the inherited memfd that pictures go into, PARENT the process it dies with.

    {"do": "open", "path", ...}    -> {"bytes"}, then {"info", ...} + packets' pts and ticks int64, keys, kinds uint8
    {"do": "decode", "path", ...}  -> {"slot"} + places int64, each answered by {"do": "ack"}; then {"done": {...}}
    {"do": "sound", "path", ...}   -> {"sound"} + samples float32, as often as need be; then {"done": {...}}
    any of them                    -> {"failed": {"reason", "message", "fix"}}

A request is complete in itself: the child keeps nothing between two of them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from .decode_decord import DecordDecoding
from .decode_guard import die_with, guard, limit_memory, make_room, own_stdout, refused_size
from .decode_info import DecodeError
from .decode_limits import frame_too_large, too_much_memory
from .decode_open import File, open_file
from .decode_paint import Painter
from .decode_pick import Decoding, Wanted
from .decode_probe import probe
from .decode_ring import Ring
from .decode_route import Packets
from .decode_sound import Sound
from .orientation import Orientation
from .wire import receive, send


def main() -> None:
    """Serve until the parent closes stdin, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    memory, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    replies = own_stdout()
    guard()
    while True:
        try:
            request, blob = receive(0)
        except EOFError:
            return
        if request["do"] != "ack":  # for a picture that came before a verdict
            answer(request, blob, memory, replies)


def answer(request: dict[str, Any], blob: bytes, memory: int, replies: int) -> None:
    """Do one request; a file that cannot be read is an answer, anything else ends the child."""
    path = request["path"].encode("latin-1")
    limit_memory(request["max_memory_bytes"])
    try:
        with open_file(path, request["max_pixels"], request["max_frames"], request["max_duration_s"]) as file:
            if request["do"] == "open":
                answer_open(file, replies)
            elif request["do"] == "sound":
                answer_sound(file, request, replies)
            else:
                answer_decode(file, request, blob, memory, replies)
    except MemoryError:
        fail(replies, too_much_memory(request["max_memory_bytes"]))
        raise SystemExit from None  # what is left of that memory is not the next video's
    except DecodeError as error:
        fail(replies, error)
    except Exception:
        make_room()
        raise


def fail(replies: int, error: DecodeError) -> None:
    """Say why there are no frames, or no more."""
    send(replies, {"failed": {"reason": error.reason, "message": error.message, "fix": error.fix}})


def check_size(file: File) -> None:
    """To be asked after an error: `DecodeError` where it was the size of a frame."""
    if size := refused_size(file.max_pixels):
        raise frame_too_large(size, file.max_pixels) from None


def answer_open(file: File, replies: int) -> None:
    """The file's size first, so that the parent's patience can grow with it; then the facts."""
    send(replies, {"bytes": os.fstat(file.fd).st_size})
    try:
        found = probe(file)
    except DecodeError:
        check_size(file)
        raise
    shown, packets = found.timeline, found.packets
    facts = {
        "info": found.info.to_json(),
        "stored": found.stored,
        "end": shown.end,
        "by_order": shown.by_order,
        "packets": len(packets.pts),
        "steady": found.steady,
    }
    arrays = (packets.pts, shown.ticks, shown.key, packets.kind)
    send(replies, facts, b"".join(array.tobytes() for array in arrays))


def answer_sound(file: File, request: dict[str, Any], replies: int) -> None:
    """The samples as they come; a full pipe makes us wait."""
    sound = Sound(file, request["rate"], request["start_s"], request["count"])
    for samples in sound.samples():
        send(replies, {"sound": len(samples)}, samples.tobytes())
    send(replies, {"done": {"errors": sound.errors, "lost": 0}})


def split(blob: bytes, *counts: int) -> Iterator[np.ndarray]:
    """Arrays int64 of `counts` values, then one of bytes."""
    at = 0
    for count in counts:
        yield np.frombuffer(blob, np.int64, count, at)
        at += 8 * count
    yield np.frombuffer(blob, np.uint8, offset=at)


def answer_decode(file: File, request: dict[str, Any], blob: bytes, memory: int, replies: int) -> None:
    """The wanted frames through the ring, then how it went."""
    if request["backend"] == "decord":
        answer_decord(file, request, blob, memory, replies)
        return
    pts, ticks, index, kind = split(blob, request["packets"], request["shown"], request["wanted"])
    wanted = Wanted(ticks, index, request["by_order"])
    decoding = Decoding(file, wanted, Packets(pts, kind), request["threads"])
    painter = Painter(request["stored"], Orientation(*request["turn"]), request["threads"])
    ring = Ring(memory, tuple(request["ring"]), (0, replies))
    for place, frame in decoding.frames(request["passes"]):
        picture = painter.paint(frame)
        if picture is not None:
            ring.put(place, picture)
    ring.finish()
    errors = decoding.errors + painter.failed
    if errors:
        check_size(file)
    send(replies, {"done": {"errors": errors, "lost": decoding.lost}})


def answer_decord(file: File, request: dict[str, Any], blob: bytes, memory: int, replies: int) -> None:
    """The same by decord, which finds its own way."""
    if request["turn"][1]:
        raise DecodeError("unsupported", "decord does not show mirrored video upright", "take the default backend")
    _, _, index, _ = split(blob, request["packets"], request["shown"], request["wanted"])
    size = tuple(request["ring"][3:1:-1])
    decoding = DecordDecoding(file, index, request["frames"], size, request["threads"])
    ring = Ring(memory, tuple(request["ring"]), (0, replies))
    for place, picture in decoding.pictures():
        ring.put(place, picture)
    ring.finish()
    send(replies, {"done": {"errors": decoding.errors, "lost": decoding.errors}})


if __name__ == "__main__":
    main()
