"""The pool of processes: whatever a worker does, every task has one end, and nothing is left running."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from vidcomp.pipeline.runners.events import Done, Event, Heard, Lost, RunnerError
from vidcomp.pipeline.runners.local import Pool

WORKER = """
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path
from vidcomp.pipeline.runners.worker import serve

libc = ctypes.CDLL(None)

def prepare(told):
    number = len(os.listdir(told["folder"]))
    Path(told["folder"], str(os.getpid())).touch()
    at_start = (told["at_start"] + ["fine"] * 9)[number]
    if at_start == "refuse":
        raise ValueError("no such model")
    DOES[at_start]({}, print)
    def work(task, say):
        say({"pid": os.getpid()})
        return {"got": DOES[task["do"]](task, say)}
    return work

def talk(task, say):
    for n in range(task["times"]):
        say({"n": n})
        time.sleep(0.05)

def deaf(task, say):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)

def start_others(task, say):
    say({"pid": subprocess.Popen(["sleep", "600"]).pid})
    deaf(task, say)

def write(task, say):
    print("from a library", flush=True)
    os.system("echo from its child")
    os.write(2, b"noise\\n" * 100_000)
    return "x" * (3 << 20)

DOES = {
    "fine": lambda task, say: task.get("word"),
    "die": lambda task, say: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda task, say: os._exit(3),
    "segfault": lambda task, say: libc.memset(0, 1, 1),
    "raise": lambda task, say: 1 / 0,
    "hang": lambda task, say: ctypes.PyDLL(None).sleep(600),  # in C, holding the GIL
    "wait": lambda task, say: libc.sleep(600),
    "talk": talk,
    "deaf": deaf,
    "start others": start_others,
    "write": write,
}
serve(prepare, lambda error: ("Refused", str(error)) if isinstance(error, ValueError) else None)
"""
COMMAND = (sys.executable, "-P", "-c", WORKER)


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """What workers say on stderr is not ours to show."""
    yield
    capfd.readouterr()


def pool(folder: Path, size: int = 2, at_start: Sequence[str] = (), **bounds: float) -> Pool:
    folder.mkdir(exist_ok=True)
    given = {"deadline_s": None, "stall_s": 60.0, **bounds}
    return Pool(COMMAND, {"folder": str(folder), "at_start": list(at_start)}, size, **given)  # type: ignore[arg-type]


def tasks(*does: str | dict[str, Any]) -> list[dict[str, Any]]:
    return [{"number": n, **({"do": do} if isinstance(do, str) else do)} for n, do in enumerate(does)]


def ends(events: Sequence[Event]) -> dict[int, Event]:
    """The end of each task; there must be one."""
    told = [event for event in events if not isinstance(event, Heard)]
    assert set(Counter(event.number for event in told).values()) == {1}
    return {event.number: event for event in told}


def whole(folder: Path, given: Sequence[dict[str, Any]], **how: Any) -> dict[int, Event]:
    """The end of each task, of a pool that must leave nobody."""
    with closing(pool(folder, **how)) as runner:
        found = ends(list(runner.run(given)))
    assert not [pid for pid in started(folder) if alive(pid)]
    return found


def started(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pids: Sequence[int]) -> bool:
    """Whether all end, of themselves."""
    until = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(map(alive, pids))


# -- one end for each --------------------------------------------------------------------------------


def test_a_worker_that_dies_takes_no_other_task_with_it(tmp_path: Path) -> None:
    bad = {"die": "signal 9 (SIGKILL)", "exit": "exit 3", "segfault": "signal 11 (SIGSEGV)", "raise": "exit 1"}
    fine = [{"do": "fine", "word": f"{n} \udcff\n"} for n in range(6)]
    found = whole(tmp_path / "w", tasks(*fine[:3], *bad, *fine[3:]))
    for number, how in enumerate(bad.values(), 3):
        assert found.pop(number) == Lost(number, f"its worker died ({how})")
    told = [end.reply for _, end in sorted(found.items()) if isinstance(end, Done)]
    assert told == [{"got": task["word"]} for task in fine]


def test_tasks_start_in_their_order_on_no_more_workers_than_there_are_tasks(tmp_path: Path) -> None:
    with closing(pool(tmp_path / "w", 7)) as runner:
        assert len(ends(list(runner.run(tasks("fine", "fine"))))) == 2
    assert len(started(tmp_path / "w")) <= 2
    with closing(pool(tmp_path / "v", 1)) as runner:
        events = list(runner.run(tasks("fine", "fine", "fine")))
    assert [(type(event), event.number) for event in events] == [(kind, n) for n in range(3) for kind in (Heard, Done)]
    assert len(started(tmp_path / "v")) == 1


@pytest.mark.parametrize("do", ["hang", "wait", "start others", {"do": "talk", "times": 12_000}])
def test_a_task_that_does_not_end_is_ended_at_its_deadline(tmp_path: Path, do: str | dict[str, Any]) -> None:
    found = whole(tmp_path / "w", tasks(do, *["fine"] * 4), deadline_s=1.0)
    assert found.pop(0) == Lost(0, "it took longer than 1 s", late=True)
    assert all(isinstance(end, Done) for end in found.values())


def test_a_worker_that_says_nothing_hangs_and_one_that_talks_does_not(tmp_path: Path) -> None:
    found = whole(tmp_path / "w", tasks("wait", {"do": "talk", "times": 60}), stall_s=2.0, deadline_s=500.0)
    assert found == {0: Lost(0, "it took longer than 2 s", late=True), 1: Done(1, {"got": None})}


def test_a_slow_taker_of_events_is_not_a_silent_worker(tmp_path: Path) -> None:
    with closing(pool(tmp_path / "w", stall_s=2.0)) as runner:
        events = runner.run(tasks("fine", {"do": "talk", "times": 10}))
        found = [next(events)]
        time.sleep(3)
        assert all(isinstance(end, Done) for end in ends([*found, *events]).values())


def test_what_a_library_prints_and_how_much_it_says(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = whole(tmp_path / "w", tasks("write", "write", "write"))
    assert found == {n: Done(n, {"got": "x" * (3 << 20)}) for n in range(3)}
    said = capfd.readouterr()
    assert (said.out, said.err.count("from a library"), said.err.count("from its child")) == ("", 3, 3)


def test_a_pool_does_more_tasks_later_also_when_a_worker_died_meanwhile(tmp_path: Path) -> None:
    with closing(pool(tmp_path / "w")) as runner:
        assert isinstance(ends(list(runner.run(tasks("die"))))[0], Lost)
        assert isinstance(ends(list(runner.run(tasks("fine"))))[0], Done)
        assert isinstance(ends(list(runner.run(tasks("fine"))))[0], Done)
    assert len(started(tmp_path / "w")) == 2


# -- starting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "die", "raise"])
def test_workers_that_die_at_their_start_end_the_run(tmp_path: Path, how: str) -> None:
    with closing(pool(tmp_path / "w", 1, [how] * 3)) as runner, pytest.raises(RunnerError) as told:
        list(runner.run(tasks("fine")))
    assert told.value.kind == "start"
    assert "workers die before they are ready" in told.value.message
    assert len(started(tmp_path / "w")) == 3
    assert not any(map(alive, started(tmp_path / "w")))


def test_one_that_dies_at_its_start_is_replaced(tmp_path: Path) -> None:
    assert isinstance(whole(tmp_path / "w", tasks("fine"), size=1, at_start=["exit", "die"])[0], Done)


def test_one_that_hangs_at_its_start_is_replaced(tmp_path: Path) -> None:
    assert isinstance(whole(tmp_path / "w", tasks("fine"), size=1, at_start=["hang"], stall_s=3.0)[0], Done)


def test_what_no_worker_survives_is_told_as_it_was_raised(tmp_path: Path) -> None:
    with closing(pool(tmp_path / "w", 2, ["refuse"] * 2)) as runner, pytest.raises(RunnerError) as told:
        list(runner.run(tasks("fine", "fine")))
    assert (told.value.kind, told.value.message) == ("Refused", "no such model")


def test_a_command_that_cannot_be_started(tmp_path: Path) -> None:
    runner = Pool([str(tmp_path / "gone")], {}, 1, deadline_s=None, stall_s=60)
    with closing(runner), pytest.raises(RunnerError, match="cannot be started"):
        list(runner.run(tasks("fine")))


# -- ending ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("do", ["hang", "wait", "start others", "fine"])
def test_a_run_that_is_left_leaves_nobody(tmp_path: Path, do: str) -> None:
    given = tasks({"do": do}, {"do": do}, "wait")
    pids = []
    with closing(pool(tmp_path / "w")) as runner:
        events = runner.run(given)
        for event in events:
            pids += [event.message["pid"]] if isinstance(event, Heard) else []
            if len(pids) == (4 if do == "start others" else 2):
                break
        events.close()  # type: ignore[attr-defined]
    assert not any(map(alive, started(tmp_path / "w")))
    assert gone(pids)  # of those that workers had started it is not we who hear


PARENT = """
import sys
from vidcomp.pipeline.runners.local import Pool
pool = Pool([sys.executable, "-P", "-c", sys.argv[1]], {"folder": sys.argv[2], "at_start": []}, 2,
            deadline_s=None, stall_s=600)
for n, event in enumerate(pool.run([{"number": n, "do": do, "times": 12000} for n, do in enumerate(sys.argv[3:])])):
    print(event.number, flush=True)
"""


@pytest.mark.parametrize("does", [("wait", "talk"), ("fine", "talk"), ("deaf", "talk")])
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, does: tuple[str, str]) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    words = [sys.executable, "-c", PARENT, WORKER, str(folder), *does]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        heard, pids = set[str](), list[int]()
        while len(heard) < 2 or len(pids) < 2:
            heard.add(parent.stdout.readline())
            pids = started(folder)
        parent.send_signal(signal.SIGKILL)
    assert gone(pids)


def test_a_worker_that_waits_for_its_first_task_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(f'{{"hello": {{"folder": "{tmp_path / "w"}", "at_start": []}}}}\n')
        worker.stdin.flush()
        assert worker.stdout.readline() == '{"ready": true}\n'
        worker.stdin.close()
        assert worker.wait(10) == 0
