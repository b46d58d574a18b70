"""A runner in a process of its own, played by small programs: what becomes of tasks when that process dies, and how."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vidcomp.pipeline.runners.apart import Apart, event_of
from vidcomp.pipeline.runners.events import Done, Event, Heard, Lost, RunnerError
from vidcomp.pipeline.runners.host import line_of

SILENCE_S = 60.0
# `hello` names a file that counts lives; `lives` has what is said in each: "done" for the next task, "die", "hang",
# and any other word as it is
PROGRAM = """
import json, os, subprocess, sys, time

def say(message):
    print(json.dumps(message), flush=True)

hello = json.loads(sys.stdin.readline())["hello"]
with open(hello["count"], "a+") as file:
    file.write(f"{os.getpid()}\\n")
    file.seek(0)
    words = hello["lives"][len(file.readlines()) - 1]
if words and words[0] == "early":
    sys.exit("it cannot begin")
say({"ready": True})
tasks = [task["number"] for task in json.loads(sys.stdin.readline())["tasks"]]
for word in words:
    if word == "done":
        say({"done": tasks.pop(0), "facts": os.getpid()})
    elif word == "heard":
        say({"heard": tasks[0], "stage": "embed"})
    elif word == "die":
        sys.exit("no more strength")
    elif word == "child":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL)
    elif word == "hang":
        time.sleep(600)
    else:
        say(word)
say({"end": True})
sys.stdin.readline()
"""

Run = Callable[..., list[Event]]


@pytest.fixture
def lives(tmp_path: Path) -> Path:
    """The processes that there were, a number a line."""
    return tmp_path / "lives"


@pytest.fixture
def run(lives: Path) -> Iterator[Run]:
    """Three tasks (or as many as are asked for), through processes that say what is given for each."""
    made: list[Apart] = []

    def through(*words: list[Any], tasks: int = 3, silence_s: float = SILENCE_S) -> list[Event]:
        hello = {"count": str(lives), "lives": words}
        made.append(Apart([sys.executable, "-c", PROGRAM], hello, silence_s=silence_s))
        return list(made[-1].run([{"number": n} for n in range(tasks)]))

    yield through
    for each in made:
        each.close()


def numbers(events: list[Event]) -> list[int]:
    assert all(isinstance(event, Done) for event in events)
    return [event.number for event in events]


def pids(lives: Path) -> list[int]:
    return [int(line) for line in lives.read_text().splitlines()]


def test_one_does_them_all(run: Run, lives: Path) -> None:
    assert run(["done", "heard", "done", "done"]) == [
        Done(0, {"facts": pids(lives)[0]}),
        Heard(1, {"stage": "embed"}),
        Done(1, {"facts": pids(lives)[0]}),
        Done(2, {"facts": pids(lives)[0]}),
    ]


def test_where_one_dies_another_does_what_is_left(run: Run, lives: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert numbers(run(["done", "die"], ["done", "done"])) == [0, 1, 2]
    assert len(pids(lives)) == 2
    assert "broken off (exit 1: no more strength): it goes on with the 2 inputs" in caplog.text


def test_processes_that_get_nothing_done_end_the_run(run: Run, lives: Path) -> None:
    with pytest.raises(RunnerError) as told:
        run(["done", "die"], ["die"], ["die"], ["done", "done"])
    assert told.value.message == "the run was broken off 2 times with nothing done (exit 1: no more strength)"
    assert len(pids(lives)) == 3


def test_what_is_done_between_counts(run: Run) -> None:
    assert numbers(run(["die"], ["done", "die"], ["die"], ["done", "die"], ["die"], ["done"])) == [0, 1, 2]


def test_a_task_that_is_alone_may_be_to_blame(run: Run) -> None:
    assert run(["die"], ["die"], tasks=1) == [Lost(0, "the run was broken off (exit 1: no more strength)")]


def test_asking_for_another_is_no_failure(run: Run, lives: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However often, with nothing done between: a cluster may lose one node after the other."""
    again = [{"again": "the cluster has 2 CPUs left"}]
    assert numbers(run(["die"], again, again, again, ["done", "done", "done"])) == [0, 1, 2]
    assert len(pids(lives)) == 5
    assert caplog.text.count("broken off (the cluster has 2 CPUs left)") == 3


def test_what_is_done_before_asking_for_another_counts_too(run: Run) -> None:
    again = {"again": "the cluster has 2 CPUs left"}
    assert numbers(run(["die"], ["done", again], ["die"], ["done", "done"])) == [0, 1, 2]


def test_silence_is_death(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    assert numbers(run(["done", "hang"], ["done", "done"], silence_s=4.0)) == [0, 1, 2]
    assert "nothing was heard for 4 s" in caplog.text


def test_what_it_has_started_dies_with_it(run: Run, lives: Path) -> None:
    run(["child", "die"], ["done", "done", "done"])
    assert not [path for path in Path("/proc").glob("[0-9]*") if of_session(path, pids(lives)[0])]


def of_session(process: Path, session: int) -> bool:
    try:
        state, _, _, its, *_ = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return int(its) == session and state not in "ZX"


def test_what_ends_the_whole_run_does_so_under_its_name(run: Run) -> None:
    with pytest.raises(RunnerError) as told:
        run([{"fatal": "OutputError", "message": "the disk is full"}])
    assert (told.value.kind, told.value.message) == ("OutputError", "the disk is full")


def test_one_that_cannot_begin_ends_the_run(run: Run) -> None:
    with pytest.raises(RunnerError, match=r"dies before it is ready .*it cannot begin"):
        run(["early"])


def test_warnings_are_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert numbers(run([{"warning": "a node is slow"}, "done", "done", "done"])) == [0, 1, 2]
    assert "a node is slow" in caplog.text


def test_a_command_that_is_not_there_is_told() -> None:
    with pytest.raises(RunnerError, match="a process cannot be started"):
        next(Apart(["/no/such/program"], {}, silence_s=1.0).run([{"number": 0}]))


def test_the_program_above_speaks_as_the_other_end_does() -> None:
    for event in (Done(1, {"facts": 2}), Heard(1, {"stage": "embed"}), Lost(1, "it died", late=True)):
        assert event_of(json.loads(json.dumps(line_of(event)))) == event
