"""A runner in a process of its own: what it loads, prints, changes or leaves behind when it dies is no trouble of ours.

The process leads a session, in which is whatever it starts, a whole cluster perhaps: nothing of it outlives it. Where
it dies or falls silent, another one goes on with what is left. Its other end is `host.py`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .events import AgainError, Done, Event, Heard, Lost, Message, RunnerError
from .local import ended
from .session import end_session

log = logging.getLogger(__name__)

TRIES = 2  # processes in a row that die with nothing done
GRACE_S = 5.0  # for one with nothing to do to end by itself
WORDS = 4096  # bytes of the last that it said on stderr


class GoneError(Exception):
    """The process has died, or says nothing; `str()` says how."""


class Host:
    """One such process, told `hello`."""

    def __init__(self, command: Sequence[str], hello: Message, silence_s: float) -> None:
        self._silence_s = silence_s
        self._rest = b""
        self._stderr = os.memfd_create("vidcomp-stderr")
        pipe = subprocess.PIPE
        try:
            self._popen = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=self._stderr, start_new_session=True
            )
        except OSError as error:
            os.close(self._stderr)
            raise RunnerError("start", f"a process cannot be started ({error.strerror}): free memory") from None
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._in, self._out = self._popen.stdin, self._popen.stdout
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self.give({"hello": hello})

    def give(self, message: Message) -> None:
        """Send a line; that it died meanwhile is noticed when its stdout ends."""
        with contextlib.suppress(BrokenPipeError):
            self._in.write((json.dumps(message) + "\n").encode())
            self._in.flush()

    def messages(self) -> Iterator[dict[str, Any]]:
        """What it says, for as long as it lives. `GoneError`; `AgainError` where it asks for another in its place;
        `RunnerError` where it calls an error fatal."""
        while True:
            if not self._poll.poll(self._silence_s * 1000):
                raise GoneError(f"nothing was heard for {self._silence_s:.0f} s")
            data = os.read(self._out.fileno(), 1 << 16)
            if not data:
                raise GoneError(self._last_words())
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in whole:
                message = json.loads(line)
                if "fatal" in message:
                    raise RunnerError(message["fatal"], message["message"])
                if "again" in message:
                    raise AgainError(message["again"])
                if "warning" in message:
                    log.warning("%s", message["warning"])
                else:
                    yield message

    def end(self, grace_s: float = 0.0) -> None:
        """It, and all that it has started, if it has not ended within `grace_s` of its stdin."""
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace_s)
        end_session(self._popen.pid)
        self._popen.wait()
        self._out.close()
        log.debug("the runner's process said: %s", self._said())
        os.close(self._stderr)

    def _said(self) -> str:
        size = os.fstat(self._stderr).st_size
        return os.pread(self._stderr, WORDS, max(size - WORDS, 0)).decode(errors="replace")

    def _last_words(self) -> str:
        status = self._popen.wait()
        words = " ".join((self._said().strip().splitlines() or [""])[-1].split())[:300]
        return f"{ended(status)}: {words}" if words else ended(status)


class Apart:
    """See `events.Runner`. `command` is the process's, `hello` what it is told first; one that says nothing for
    `silence_s` is taken for dead."""

    def __init__(self, command: Sequence[str], hello: Message, *, silence_s: float) -> None:
        self._command, self._hello, self._silence_s = list(command), hello, silence_s
        self._host: Host | None = None
        self._idle = True

    def run(self, tasks: Sequence[Message]) -> Iterator[Event]:
        """See `events.Runner`; RunnerError where process after process dies with nothing done."""
        left = {task["number"]: task for task in tasks}
        fruitless = 0
        while left:
            before = len(left)
            try:
                yield from self._through(left)
            except (AgainError, GoneError) as error:
                self._broken_off(error, left)
                if len(left) < before:
                    fruitless = 0
                elif isinstance(error, GoneError):
                    fruitless += 1
                if fruitless == TRIES:
                    yield from self._give_up(left, str(error))

    def _broken_off(self, error: Exception, left: Mapping[int, Message]) -> None:
        self._end()
        log.warning("the run was broken off (%s): it goes on with the %d inputs that are left", error, len(left))

    def close(self) -> None:
        """End the process and what it has started."""
        self._end(GRACE_S if self._idle else 0.0)

    def _through(self, left: dict[int, Message]) -> Iterator[Event]:
        """One process does what is left, and takes away what is done."""
        self._idle = False
        host = self._host or self._start()
        host.give({"tasks": list(left.values())})
        for message in host.messages():
            if "end" in message:
                break
            event = event_of(message)
            if isinstance(event, Heard) or left.pop(event.number, None) is not None:
                yield event
        self._idle = True

    def _start(self) -> Host:
        self._host = Host(self._command, self._hello, self._silence_s)
        try:
            next(self._host.messages())  # that it is ready
        except GoneError as error:
            raise RunnerError("start", f"the process that leads the run dies before it is ready ({error})") from None
        return self._host

    def _give_up(self, left: dict[int, Message], why: str) -> Iterator[Event]:
        """A task that is alone may be to blame for it; of many none is."""
        if len(left) > 1:
            raise RunnerError("start", f"the run was broken off {TRIES} times with nothing done ({why})")
        yield Lost(left.popitem()[0], f"the run was broken off ({why})")

    def _end(self, grace_s: float = 0.0) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.end(grace_s)


def event_of(message: dict[str, Any]) -> Event:
    """The reverse of `host.line_of`."""
    if "heard" in message:
        return Heard(message.pop("heard"), message)
    if "done" in message:
        return Done(message.pop("done"), message)
    return Lost(message["lost"], message["why"], message["late"])
