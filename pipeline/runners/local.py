"""A pool of processes on this machine: each does one task at a time; one that dies takes no other with it.

Never `multiprocessing` (it needs a `__main__` guard in the user's script): workers are commands with pipes.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .events import Done, Event, Heard, Lost, Message, RunnerError

GRACE_S = 2.0  # between asking a worker to end and ending it
TICK_S = 0.5
FAILED_STARTS = 3  # workers that die before they are ready, one after the other


@dataclass(eq=False)
class Worker:
    """One process. `task`: the number of what it does, since `since_s`; `heard_s`: when it last said anything; `late`:
    the bound, in seconds, at which it was killed."""

    popen: subprocess.Popen[bytes]
    ready: bool = False
    task: int | None = None
    since_s: float = 0.0
    heard_s: float = field(default_factory=time.monotonic)
    late: float | None = None
    _rest: bytes = b""

    def give(self, message: Message) -> None:
        """Send a line; a worker that died meanwhile is noticed when its stdout ends."""
        with contextlib.suppress(BrokenPipeError):
            assert self.popen.stdin is not None
            self.popen.stdin.write((json.dumps(message) + "\n").encode())
            self.popen.stdin.flush()

    def lines(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The whole lines that its stdout has come to."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        yield from map(json.loads, whole)

    def ask_to_end(self) -> None:
        """SIGTERM: it has until somebody calls `end`."""
        with contextlib.suppress(OSError):
            self.popen.terminate()

    def end(self, grace_s: float = 0.0) -> int:
        """Its exit status, when it has ended by itself within `grace_s`, or was killed with all that it started."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(grace_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return self.popen.wait()


class Pool:
    """`workers` processes of `command`, each told `hello` first. `deadline_s` bounds a task; `stall_s` how long its
    worker, or one that starts, may say nothing."""

    def __init__(
        self, command: Sequence[str], hello: Message, workers: int, *, deadline_s: float | None, stall_s: float
    ) -> None:
        self.command, self.hello, self.size = list(command), hello, workers
        self.deadline_s, self.stall_s = deadline_s, stall_s
        self._workers: list[Worker] = []
        self._select = selectors.DefaultSelector()
        self._failed_starts = 0

    def run(self, tasks: Sequence[Message]) -> Iterator[Event]:
        """See `events.Runner`; tasks start in the order given."""
        waiting, left = deque(tasks), len(tasks)
        while left:
            self._feed(waiting)
            for event in self._hear():
                left -= not isinstance(event, Heard)
                yield event

    def close(self) -> None:
        """End every worker: all are asked, and together have `GRACE_S` for it."""
        for worker in self._workers:
            worker.ask_to_end()
        until = time.monotonic() + GRACE_S
        for worker in self._workers:
            worker.end(max(until - time.monotonic(), 0))
        self._workers.clear()
        self._select.close()

    def _feed(self, waiting: deque[Message]) -> None:
        """Start what workers are missing, and give a task to each that has none."""
        busy = sum(worker.task is not None for worker in self._workers)
        while len(self._workers) < min(self.size, busy + len(waiting)):
            self._start()
        for worker in self._workers:
            if worker.ready and worker.task is None and waiting:
                task = waiting.popleft()
                worker.task, worker.since_s, worker.heard_s = task["number"], time.monotonic(), time.monotonic()
                worker.give(task)

    def _start(self) -> None:
        try:
            popen = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise RunnerError("start", f"a worker cannot be started ({error.strerror}): free memory") from None
        worker = Worker(popen)
        self._workers.append(worker)
        assert popen.stdout is not None
        os.set_blocking(popen.stdout.fileno(), False)
        self._select.register(popen.stdout, selectors.EVENT_READ, worker)
        worker.give({"hello": self.hello})

    def _hear(self) -> Iterator[Event]:
        found = self._select.select(TICK_S)
        for key, _ in found:  # before any is judged: whoever takes our events may have been slow
            key.data.heard_s = time.monotonic()
        self._end_late()
        for key, _ in found:
            worker: Worker = key.data
            data = os.read(key.fd, 1 << 16)
            for line in worker.lines(data):
                yield from self._told(worker, line)
            if not data:
                yield from self._gone(worker)

    def _told(self, worker: Worker, line: dict[str, Any]) -> Iterator[Event]:
        if "fatal" in line:
            raise RunnerError(line["fatal"], line["message"])
        if "ready" in line:
            worker.ready, self._failed_starts = True, 0
        elif "heard" in line:
            yield Heard(line.pop("heard"), line)
        else:
            worker.task = None
            yield Done(line.pop("done"), line)

    def _gone(self, worker: Worker) -> Iterator[Event]:
        self._select.unregister(worker.popen.stdout)  # type: ignore[arg-type]
        self._workers.remove(worker)
        status = worker.end()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS:
                raise RunnerError(
                    "start", f"workers die before they are ready ({ended(status)}): see above, free memory"
                )
        if worker.task is not None:
            late = worker.late is not None
            why = f"it took longer than {worker.late:.0f} s" if late else f"its worker died ({ended(status)})"
            yield Lost(worker.task, why, late)

    def _end_late(self) -> None:
        """Kill what is over its time; that its stdout ends then is told in the next round."""
        for worker in self._workers:
            if worker.late is None:
                worker.late = self._passed(worker, time.monotonic())
                if worker.late is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(worker.popen.pid, signal.SIGKILL)

    def _passed(self, worker: Worker, now: float) -> float | None:
        """The bound that a worker is over, if it has anything to do."""
        if worker.ready and worker.task is None:
            return None
        if worker.task is not None and self.deadline_s is not None and now - worker.since_s > self.deadline_s:
            return self.deadline_s
        return self.stall_s if now - worker.heard_s > self.stall_s else None


def ended(status: int) -> str:
    """`signal 9 (SIGKILL)`, `exit 1`."""
    if status >= 0:
        return f"exit {status}"
    with contextlib.suppress(ValueError):
        return f"signal {-status} ({signal.Signals(-status).name})"
    return f"signal {-status}"
