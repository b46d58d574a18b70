"""The other end of `apart.Apart`: a process that hosts a runner.

Lines that come in: `{"hello": ...}` once, then `{"tasks": [...]}` for each run. Lines that go out: `{"ready": true}`
once, `{"heard": number, ...}`, `{"done": number, ...}`, `{"lost": number, ...}`, `{"end": true}` behind each run,
`{"fatal": kind, "message": ...}`, `{"again": why}` of a runner that must be made anew, and `{"warning": ...}` at any
time. Any other exception ends the process: whoever listens may start another.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from .events import AgainError, Done, Event, Heard, Runner, RunnerError
from .session import end_session
from .worker import Fatal

Say = Callable[[Mapping[str, Any]], None]


def host(make: Callable[[Mapping[str, Any]], Runner], fatal: Fatal) -> None:
    """Until stdin ends. Where it ends in the middle of a run, whoever asked for it is dead: then all that this process
    has started ends too, and so does it."""
    lines: queue.Queue[str | None] = queue.Queue()
    idle = threading.Event()
    out = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not get between our lines
    threading.Thread(target=_read, args=(lines, idle), daemon=True).start()

    def say(message: Mapping[str, Any]) -> None:
        data = memoryview((json.dumps(message) + "\n").encode())
        while data:
            data = data[os.write(out, data) :]

    logging.getLogger(__package__.partition(".")[0]).addHandler(Warnings(say))
    try:
        runner = make(json.loads(lines.get() or "{}").get("hello", {}))
        idle.set()
        say({"ready": True})
        while line := lines.get():
            idle.clear()
            for event in runner.run(json.loads(line)["tasks"]):
                say(line_of(event))
            idle.set()
            say({"end": True})
        runner.close()
    except AgainError as error:
        say({"again": str(error)})
    except RunnerError as error:
        say({"fatal": error.kind, "message": error.message})
    except Exception as error:
        told = fatal(error)
        if told is None:
            raise
        say({"fatal": told[0], "message": told[1]})


class Warnings(logging.Handler):
    """Says what is logged as a warning, or worse."""

    def __init__(self, say: Say) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say({"warning": record.getMessage()})


def line_of(event: Event) -> Mapping[str, Any]:
    """An event as JSON."""
    if isinstance(event, Heard):
        return {"heard": event.number, **event.message}
    if isinstance(event, Done):
        return {"done": event.number, **event.reply}
    return {"lost": event.number, "why": event.why, "late": event.late}


def _read(lines: queue.Queue[str | None], idle: threading.Event) -> None:
    for line in sys.stdin:
        lines.put(line)
    lines.put(None)
    if not idle.is_set():
        end_session(os.getsid(0), spare=os.getpid())
        os._exit(1)
