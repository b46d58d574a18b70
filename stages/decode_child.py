"""The decode child, `python -m vidcomp.stages.decode_child MEMORY PARENT`: reads requests on stdin until it closes.

A decoder can hang inside C or crash, and only a process can be killed; this one costs 0.2 s to start, for it imports
numpy and av, never torch. MEMORY is the inherited memfd that pictures go into, PARENT the process it dies with.

    {"do": "open", "path", ...}    -> {"bytes"}, then {"info", "stored", "end", "by_order"} + ticks int64, keys uint8
    {"do": "decode", "path", ...}  -> {"slot"} + places int64, each answered by {"do": "ack"}; then {"done": {...}}
    either                         -> {"failed": {"reason", "message", "fix"}}

A request is complete in itself: the child keeps nothing between two of them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, Final

import av
import numpy as np

from .decode_info import DecodeError
from .decode_open import File, open_file
from .decode_pick import Decoding, Painter, Wanted
from .decode_probe import probe
from .decode_ring import Ring
from .orientation import Orientation
from .wire import receive, send

PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Serve until the parent closes stdin, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    memory, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    replies = own_stdout()
    av.logging.set_level(None)
    while True:
        try:
            request, blob = receive(0)
        except EOFError:
            return
        answer(request, blob, memory, replies)


def die_with(parent: int) -> None:
    """Be killed when the parent's thread that started us ends; it may have ended before we asked."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def own_stdout() -> int:
    """A descriptor of the reply pipe that no library writes to: descriptor 1 becomes stderr."""
    replies = os.dup(1)
    os.dup2(2, 1)
    return replies


def answer(request: dict[str, Any], blob: bytes, memory: int, replies: int) -> None:
    """Do one request; a file that cannot be read is an answer, anything else ends the child."""
    path = request["path"].encode("latin-1")
    try:
        with open_file(path, request["max_pixels"]) as file:
            if request["do"] == "open":
                answer_open(file, replies)
            else:
                answer_decode(file, request, blob, memory, replies)
    except DecodeError as error:
        send(replies, {"failed": {"reason": error.reason, "message": error.message, "fix": error.fix}})


def answer_open(file: File, replies: int) -> None:
    """The file's size first, so that the parent's patience can grow with it; then the facts."""
    send(replies, {"bytes": os.fstat(file.fd).st_size})
    found = probe(file)
    shown = found.timeline
    facts = {"info": found.info.to_json(), "stored": found.stored, "end": shown.end, "by_order": shown.by_order}
    send(replies, facts, shown.ticks.tobytes() + shown.key.tobytes())


def answer_decode(file: File, request: dict[str, Any], blob: bytes, memory: int, replies: int) -> None:
    """The wanted frames through the ring, then how it went."""
    ticks = np.frombuffer(blob, np.int64, request["shown"])
    wanted = Wanted(ticks, np.frombuffer(blob, np.int64, offset=ticks.nbytes), request["by_order"])
    decoding = Decoding(file, wanted, request["threads"])
    painter = Painter(request["stored"], Orientation(*request["turn"]), request["threads"])
    ring = Ring(memory, tuple(request["ring"]), (0, replies))
    for place, frame in decoding.frames():
        picture = painter.paint(frame)
        if picture is not None:
            ring.put(place, picture)
    ring.finish()
    send(replies, {"done": {"errors": decoding.errors + painter.failed, "lost": decoding.lost}})


if __name__ == "__main__":
    main()
