"""The readers of `bench_decode` against one another: one process each, asked in turn."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

HERE: Final = Path(__file__).resolve().parent
START_S: Final = 120.0
MOST_S: Final = 1200.0  # for what nothing is known of yet
ROUNDS: Final = 2
MORE_ROUNDS: Final = 3  # as long as the two best times of those that matter differ by more than `STEADY`
STEADY: Final = 1.1
QUIET: Final = 0.1  # of the machine, that others may take
FAR: Final = 1.5  # times the best peer: so slow a one is not asked again
TOO_FAR: Final = 2.0  # times plain PyAV: so slow a one is not waited for
READERS: Final = ("plain", "vidcomp", "seek", "decord", "torchcodec")
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """Frames of one file: indices in the order of showing, pts in ticks, and the bytes of a picture."""

    path: Path
    index: list[int]
    pts: list[int]
    bytes: int


@dataclass(slots=True)
class Runner:
    """A reader in its process; `failed`: why it is of no more use."""

    name: str
    popen: subprocess.Popen[bytes]
    runs: list[Answer] = field(default_factory=list)
    failed: str = ""

    @classmethod
    @contextlib.contextmanager
    def of(cls, name: str, task: Task) -> Iterator[Self]:
        """Started, and told its job; it is not waited for."""
        words = [sys.executable, str(HERE / "bench_decode_peer.py"), name, str(task.path)]
        quiet = subprocess.DEVNULL
        pipe = subprocess.PIPE
        popen = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=quiet, bufsize=0, start_new_session=True)
        runner = cls(name, popen)
        try:
            runner.say(json.dumps({"index": task.index, "pts": task.pts, "bytes": task.bytes}))
            yield runner
        finally:
            runner.end()

    @property
    def wall_s(self) -> float:
        """The best time; endless where there is none."""
        return min((run["wall_s"] for run in self.runs), default=float("inf"))

    @property
    def steady(self) -> bool:
        """Whether the best time came twice."""
        times = sorted(run["wall_s"] for run in self.runs)
        return len(times) > 1 and times[1] <= STEADY * times[0]

    def say(self, text: str) -> None:
        """One line."""
        assert self.popen.stdin is not None
        left = memoryview(text.encode() + b"\n")
        while left:
            left = left[self.popen.stdin.write(left) :]

    def hear(self, limit_s: float) -> Answer:
        """Its answer; `failed` where there is none in time."""
        assert self.popen.stdout is not None
        ready = select.select([self.popen.stdout], [], [], limit_s)[0]
        if not ready:
            found = {"failed": f"over {limit_s:.0f} s"}
        elif line := b"".join(self._line()):
            found = json.loads(line)
        else:
            found = {"failed": "its process died"}
        self.failed = found.get("failed", "")
        return found

    def _line(self) -> Iterator[bytes]:
        assert self.popen.stdout is not None
        while part := self.popen.stdout.readline():
            yield part
            if part.endswith(b"\n"):
                return

    def ask(self, word: str, limit_s: float = MOST_S) -> Answer:
        """One answer to one word."""
        try:
            self.say(word)
        except BrokenPipeError:
            self.failed = "its process died"
            return {"failed": self.failed}
        return self.hear(limit_s)

    def run(self, limit_s: float) -> None:
        """One time more."""
        if "failed" not in (found := self.ask("run", limit_s)):
            self.runs.append(found)

    def end(self) -> None:
        """Its process, and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.communicate()


# -- what is right -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame as PyAV's full decode shows it."""

    number: int
    hash: str


Right = Mapping[int, Picture]  # by pts


def full_decode(tasks: Sequence[Task]) -> Right:
    """All frames of all tasks on one file."""
    pts = sorted({tick for task in tasks for tick in task.pts})
    with Runner.of("plain", Task(tasks[0].path, [], pts, tasks[0].bytes)) as runner:
        runner.hear(START_S)
        found = runner.ask("hash")
    if runner.failed or len(found["hashes"]) != len(pts):
        raise RuntimeError(f"{tasks[0].path}: PyAV does not decode it: {runner.failed or 'frames are missing'}")
    pictures = map(Picture, found["numbers"], found["hashes"])
    return dict(zip(pts, pictures, strict=True))


def nothing_s(path: Path) -> Answer:
    """FFmpeg decoding all of it, to nothing."""
    with Runner.of("ffmpeg", Task(path, [], [], 1)) as runner:
        runner.hear(START_S)
        for _ in range(ROUNDS):
            if not runner.failed:
                runner.run(MOST_S)
    return figures(runner, [])


# -- the race ----------------------------------------------------------------------------------------------


def race(task: Task, right: Right) -> dict[str, Answer]:
    """The figures of each reader."""
    numbers = [right[pts].number for pts in task.pts]
    with contextlib.ExitStack() as stack:
        runners = [stack.enter_context(Runner.of(name, task)) for name in READERS]
        for runner in runners:
            runner.hear(START_S)
        for n in range(MORE_ROUNDS):
            if n < ROUNDS or not steady(runners, numbers):
                one_round(runners[n % 2 :] + runners[: n % 2], numbers)
        found = {runner.name: figures(runner, numbers) for runner in runners}
        found["vidcomp"] |= compared(next(r for r in runners if r.name == "vidcomp"), task, right)
    return found


def one_round(runners: list[Runner], numbers: list[int]) -> None:
    """Each that is not out of the race."""
    for runner in runners:
        if not runner.failed and matters(runner, runners, numbers):
            plain_s = next(r for r in runners if r.name == "plain").wall_s
            runner.run(min(MOST_S, TOO_FAR * plain_s + 10))


def matters(runner: Runner, runners: list[Runner], numbers: list[int]) -> bool:
    """Whether its figures may still count for something."""
    return runner.name in ("vidcomp", "plain") or not runner.runs or runner.wall_s <= FAR * best(runners, numbers)


def best(runners: list[Runner], numbers: list[int]) -> float:
    """The time of the best peer that gives the right frames."""
    peers = [r for r in runners if r.name != "vidcomp" and r.runs and r.runs[-1]["numbers"] == numbers]
    return min((r.wall_s for r in peers), default=float("inf"))


def steady(runners: list[Runner], numbers: list[int]) -> bool:
    """Whether more rounds would tell nothing new."""
    fastest = best(runners, numbers)
    return all(r.steady for r in runners if r.runs and (r.name == "vidcomp" or r.wall_s == fastest))


def figures(runner: Runner, numbers: list[int]) -> Answer:
    """Its best run, and how many frames are not the right ones."""
    if not runner.runs:
        return {"failed": runner.failed}
    run = min(runner.runs, key=lambda run: run["wall_s"])
    found = run["numbers"]
    wrong = sum(a != b for a, b in zip(found, numbers, strict=False)) + abs(len(found) - len(numbers))
    kept = {key: run[key] for key in ("wall_s", "cpu_s", "others")}
    return {**kept, "runs": len(runner.runs), "wrong": wrong}


def compared(runner: Runner, task: Task, right: Right) -> Answer:
    """How many of its frames differ in any bit from a full decode's."""
    found = {} if runner.failed else runner.ask("hash")
    if runner.failed:
        return {"failed": runner.failed, "wrong": len(task.pts), "frames": len(task.pts)}
    wanted = [right[pts].hash for pts in task.pts]
    same = sum(a == b for a, b in zip(found["hashes"], wanted, strict=False))
    return {"wrong": max(len(wanted), len(found["hashes"])) - same, "frames": len(wanted)}
