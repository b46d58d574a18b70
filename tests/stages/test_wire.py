"""Framed messages: whole or an error, never half."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from vidcomp.stages.wire import MAX_BLOB_BYTES, Patience, WireError, receive, send

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


@pytest.mark.parametrize("blob", [b"", b"x", bytes(range(256)) * 40])
def test_a_message_comes_back(pipe: Pipe, blob: bytes) -> None:
    header = {"do": "open", "path": "a\n\u00e9\ud800", "list": [1, 2.5, None]}
    send(pipe[1], header, blob)
    assert receive(pipe[0]) == (header, blob)


def test_messages_keep_their_order_and_borders(pipe: Pipe) -> None:
    for n in range(5):
        send(pipe[1], {"n": n}, b"b" * n)
    assert [receive(pipe[0]) for _ in range(5)] == [({"n": n}, b"b" * n) for n in range(5)]


def test_more_than_a_pipe_holds_passes_without_blocking_ends(pipe: Pipe) -> None:
    blob = os.urandom(1 << 20)
    for fd in pipe:
        os.set_blocking(fd, False)
    writer = threading.Thread(target=send, args=(pipe[1], {}, blob, Patience(10).wait))
    writer.start()
    assert receive(pipe[0], Patience(10).wait) == ({}, blob)
    writer.join()


@pytest.mark.parametrize("cut", [0, 3, 14, 20])
def test_a_peer_that_stops_is_eof(pipe: Pipe, cut: int) -> None:
    text = b'{"a": 1}'
    os.write(pipe[1], (struct.pack("!IQ", len(text), 4) + text + b"blob")[:cut])
    os.close(pipe[1])
    with pytest.raises(EOFError):
        receive(pipe[0])


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!IQ", 1 << 31, 0),  # a header no one sends
        struct.pack("!IQ", 2, MAX_BLOB_BYTES + 1) + b"{}",
        struct.pack("!IQ", 2, 0) + b"[]",  # not an object
        struct.pack("!IQ", 2, 0) + b"{!",
        struct.pack("!IQ", 2, 0) + b"\xff\xff",
    ],
)
def test_what_is_no_message_is_refused(pipe: Pipe, data: bytes) -> None:
    os.write(pipe[1], data)
    with pytest.raises(WireError):
        receive(pipe[0])


def test_patience_ends(pipe: Pipe) -> None:
    patience = Patience(0.2)
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.2 s"):
        receive(pipe[0], patience.wait)
    assert 0.2 <= time.monotonic() - begun < 60


def test_patience_counts_waiting_over_messages_and_nothing_else(pipe: Pipe) -> None:
    patience = Patience(2.0)
    time.sleep(2.1)  # our own time
    send(pipe[1], {})
    assert receive(pipe[0], patience.wait) == ({}, b"")
    assert patience.left_s > 1.0
    for _ in range(2):
        threading.Timer(0.2, send, (pipe[1], {})).start()
        receive(pipe[0], patience.wait)
    assert patience.left_s < 1.65
    with pytest.raises(TimeoutError):
        receive(pipe[0], patience.wait)


def test_a_writer_does_not_wait_for_ever(pipe: Pipe) -> None:
    os.set_blocking(pipe[1], False)
    with pytest.raises(TimeoutError):
        send(pipe[1], {}, b"x" * (1 << 20), Patience(0.1).wait)


def test_a_reader_that_is_gone_is_a_broken_pipe(pipe: Pipe) -> None:
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        send(pipe[1], {}, b"", Patience(1).wait)
