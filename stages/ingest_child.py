"""The ingest child, `python -m vidcomp.stages.ingest_child MEMORY PARENT`: one connection to one live source.

Like the decode child it imports numpy and av, never torch; dies with its parent; and gets its memory limited. It reads
one request on stdin and answers until the connection is gone, each answer with `shown` (see `ingest_clock`):

    {"url", "fps", "every", "audio_rate", "size", "timeouts_s", "max_pixels", "max_memory_bytes", "shown"}
    -> {"connected": patience_s}                  the container stands; a beat or more comes within so many seconds
    -> {"opened": [width, height, fps, audio_rate, wall_s, finite]}, answered by {"ring": shape}
    -> {"picture": [pts_s, number, wall_s]}, then {"slot"} + its number int64, answered by {"do": "ack"}
    -> {"sound": start_s} + samples float32
    -> {"jumped"}, {"resized"}, {"beat"}          see `ingest_pictures`, `ingest_voice`
    -> {"lost": {"reason", "message", "final"}} or {"ended": true}, the last

When the parent does not read, the child waits for it and reads no packet: memory does not grow, a TCP sender is held
up (an RTSP server then drops frames or the connection), and what comes by UDP meanwhile is lost to libav's buffer.
"""

from __future__ import annotations

import signal
import sys
import time
from contextlib import suppress
from typing import Any

from av.container import InputContainer

from .decode_guard import die_with, guard, limit_memory, own_stdout, refused_size
from .decode_info import DecodeError
from .decode_limits import frame_too_large, too_much_memory
from .decode_open import best_video
from .decode_ring import Ring
from .ingest_clock import Shown
from .ingest_events import LossError, LostReason
from .ingest_read import Asked, Reading, streams_of
from .ingest_source import connect, finite, patience_s
from .ingest_voice import Voice, heard
from .sample import Sampling
from .wire import receive


def main() -> None:
    """One connection, then wait for the parent's kill: a polite end could hang."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    memory, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    replies = own_stdout()
    guard()
    request, _ = receive(0)
    limit_memory(request["max_memory_bytes"])
    shown = Shown.from_json(request["shown"])
    voice = Voice(replies, shown)
    try:
        read(request, memory, shown, voice)
    except LossError as loss:
        voice.say({"lost": {"reason": loss.reason, "message": loss.message, "final": loss.final}})
    else:
        voice.say({"ended": True})
    with suppress(EOFError):
        while True:  # the parent still answers for pictures: told of a broken pipe it would think that we died
            receive(0)


def read(request: dict[str, Any], memory: int, shown: Shown, voice: Voice) -> None:
    """The whole connection; returns at the end of a finite source. `LossError`: any other end."""
    wait_s = patience_s(request["url"], request["timeouts_s"][1])
    timeouts_s = (request["timeouts_s"][0], wait_s)
    bounded = False
    try:
        container = connect(request["url"], timeouts_s, request["max_pixels"], sound=request["audio_rate"] is not None)
        voice.say({"connected": wait_s})
        bounded = finite(container, request["url"])
        stream(container, request, memory, shown, voice, live=not bounded)
        check_end(container, bounded)
    except (MemoryError, DecodeError, LossError) as error:
        reason, message = verdict(error, request)
        raise LossError(reason, message, final=bounded and reason not in ("closed", "timeout")) from None


def stream(
    container: InputContainer, request: dict[str, Any], memory: int, shown: Shown, voice: Voice, *, live: bool
) -> None:
    """What the container holds, to its end."""
    rule, rate = Sampling(fps=request["fps"], every=request["every"]), request["audio_rate"]
    wait_s = patience_s(request["url"], request["timeouts_s"][1])
    asked = Asked(rule, rate, request["size"] and tuple(request["size"]), live, wait_s)

    def ring_of(size: tuple[int, int], fps: float | None, audio_rate: int | None) -> Ring:
        voice.say({"opened": [*size, fps, audio_rate, time.time(), not live]})
        reply, _ = receive(0)
        return Ring(memory, tuple(reply["ring"]), (0, voice.replies))

    streams = streams_of(container, best_video(container, request["max_pixels"]), sound=rate is not None)
    Reading(container, streams, asked, shown, voice, ring_of).run()


def check_end(container: InputContainer, bounded: bool) -> None:
    """`LossError` unless the source itself said that it ends here. libav takes a playlist that cannot be fetched any
    more for one that has ended, and tells the difference in words only."""
    hls = container.format.name == "hls"
    if not (not heard(b"Failed to reload playlist") if hls else bounded):
        raise LossError("closed", "the connection was closed")


def verdict(error: MemoryError | DecodeError | LossError, request: dict[str, Any]) -> tuple[LostReason, str]:
    """(reason, message) of a loss. Where no picture came its size may be why, which only libav's words say."""
    if isinstance(error, MemoryError):
        return "too_large", too_much_memory(request["max_memory_bytes"]).message
    if isinstance(error, DecodeError):
        reasons: dict[str, LostReason] = {"unsupported": "unsupported", "too_large": "too_large"}
        return reasons.get(error.reason, "no_video"), error.message
    if error.reason == "garbage" and (size := refused_size(request["max_pixels"])):
        return "too_large", frame_too_large(size, request["max_pixels"]).message
    return error.reason, error.message


if __name__ == "__main__":
    main()
