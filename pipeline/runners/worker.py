"""The worker's end of a pool: tasks come as lines of JSON on stdin, what becomes of them goes out on stdout.

Lines that come in: `{"hello": ...}` once, then tasks `{"number": ...}`. Lines that go out: `{"ready": true}` once,
`{"heard": number, ...}` under way, `{"done": number, ...}`, or `{"fatal": kind, "message": ...}`. Standard library.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

GRACE_S = 2.0  # for the main thread to end by itself: a long call into C lets it hear of no signal
TERMINATED = 143

Say = Callable[[Mapping[str, Any]], None]
Work = Callable[[Mapping[str, Any], Say], Mapping[str, Any]]  # task, what says how it goes -> what came of it
Fatal = Callable[[BaseException], tuple[str, str] | None]  # (kind, message) of an error that ends the whole run


def serve(prepare: Callable[[Mapping[str, Any]], Work], fatal: Fatal) -> None:
    """Do tasks until stdin ends. When it ends in the middle of one, whoever gave it is dead, and so are we."""
    lines: queue.Queue[str | None] = queue.Queue()
    busy = threading.Event()
    out = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not get between our lines
    threading.Thread(target=_read, args=(lines, busy), daemon=True).start()

    def say(message: Mapping[str, Any]) -> None:
        data = memoryview((json.dumps(message) + "\n").encode())
        try:
            while data:
                data = data[os.write(out, data) :]
        except BrokenPipeError:
            os.kill(os.getpid(), signal.SIGTERM)

    def do(task: Mapping[str, Any]) -> None:
        busy.set()
        reply = work(task, lambda message: say({"heard": task["number"], **message}))
        say({"done": task["number"], **reply})
        busy.clear()

    try:
        work = prepare(json.loads(lines.get() or "{}").get("hello", {}))
        say({"ready": True})
        while line := lines.get():
            do(json.loads(line))
    except Exception as error:
        told = fatal(error)
        if told is None:
            raise
        say({"fatal": told[0], "message": told[1]})


def _read(lines: queue.Queue[str | None], busy: threading.Event) -> None:
    """The end of stdin in the middle of a task reaches the main thread, whatever it does, as SIGTERM."""
    for line in sys.stdin:
        lines.put(line)
    lines.put(None)
    busy.wait()  # with nothing left to do, the process ends before
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(TERMINATED)
