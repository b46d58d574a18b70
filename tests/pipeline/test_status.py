"""How far a folder's runs are: counted anew from the manifest's own lines, and from the records themselves."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from media import make_clip

import vidcomp
from vidcomp.pipeline.cli import status as command
from vidcomp.pipeline.cli.app import run
from vidcomp.pipeline.corpus import items
from vidcomp.pipeline.job import Job
from vidcomp.pipeline.presets import build_recipe
from vidcomp.pipeline.report.status import Tally
from vidcomp.pipeline.run import How, Run
from vidcomp.pipeline.stats import ticks_of

from .conftest import Cli

VIDCOMP = (sys.executable, "-m", "vidcomp")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("status")
    for number in range(2):
        make_clip(folder / f"{number}.mp4", count=10, seed=number)
    (folder / "bad.mp4").write_bytes(b"no video")
    out = folder / "made"
    words = ["encode", str(folder), "-o", str(out), "--workers", "0", "--method", "evs"]
    assert run(words) == 2
    make_clip(folder / "2.mp4", count=10, seed=2)
    assert run(words) == 2
    assert run([*words, "--retain", "0.5", str(folder / "0.mp4")]) == 2
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


Going = Callable[..., None]


@pytest.fixture
def going(out: Path, sleeper: subprocess.Popen[bytes]) -> Going:
    """Make the last run one that goes on, in a process that lives, with other numbers."""
    told = json.loads((out / "run.json").read_text())

    def write(state: str = "running", **more: Any) -> None:
        who = {"pid": sleeper.pid, "pid_ticks": ticks_of(sleeper.pid)}
        text = json.dumps({**told, "state": state, **who, "started_s": time.time() - 90, **more})
        (out / "new").write_text(text)
        os.replace(out / "new", out / "run.json")

    return write


def counted(out: Path) -> dict[str, int]:
    """Statuses of the last whole line of each path and recipe."""
    last = {}
    for line in (out / "manifest.jsonl").read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        last[row["path"], row["recipe"]] = row["status"]
    return dict(Counter(last.values()))


def row(path: str, status: str, **more: object) -> bytes:
    return json.dumps({"path": path, "recipe": "r", "status": status, **more}).encode() + b"\n"


# -- what is told ------------------------------------------------------------------------------------


def test_the_manifest_is_counted(cli: Cli, out: Path) -> None:
    told = cli("status", out, "--json").json
    assert told["counts"] == counted(out) == {"ok": 6, "failed:not_video": 2}
    assert (told["inputs"], told["recipes"], told["out"]) == (8, 2, str(out))
    shown = cli("status", out)
    assert (shown.code, shown.err) == (0, "")
    assert "2 failed:not_video, 6 ok, by 2 recipes" in shown.out


def test_the_last_run_is_told(cli: Cli, out: Path) -> None:
    """Its numbers are those of the records that it made."""
    told = cli("status", out, "--json").json["run"]
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    made = [r for r in rows if r["recipe"] == rows[-1]["recipe"] and r["status"] == "ok"]
    records = [vidcomp.load(out / f"{r['key']}.safetensors") for r in made]
    assert (told["state"], told["inputs"], told["done"], told["failed"]) == ("ended", 4, 4, 1)
    assert told["tokens_out"] == sum(map(len, records))
    assert told["tokens_in"] == sum(len(record.owner) for record in records)
    spent = {stage: sum(r["seconds"][stage] for r in made) for stage in ("decode", "embed", "reduce", "store")}
    assert told["stage_seconds"] == pytest.approx(spent)
    assert told["bottleneck"] == max(spent, key=lambda stage: spent[stage])
    shown = cli("status", out).out
    assert re.search(rf"tokens +{told['tokens_out']} of {told['tokens_in']} kept \(\d+\.\d %\)", shown)
    assert f": mostly {told['bottleneck']}\n" in shown
    assert re.search(r"run +ended \(local, process \d+\) after 0:00:\d\d, 0:\d\d:\d\d ago\n", shown)
    assert "left " not in shown


def test_what_was_known_before(cli: Cli, made: Path, out: Path, tmp_path: Path) -> None:
    new = make_clip(tmp_path / "3.mp4", count=10, seed=3)
    assert cli("encode", made.parent, new, "-o", out, "--workers", "0", "--method", "evs").code == 2
    assert re.search(r"done +5 of 5, 4 of them known before, 1 failed\n", cli("status", out).out)


def test_a_run_that_goes_on(cli: Cli, out: Path, going: Going, sleeper: subprocess.Popen[bytes]) -> None:
    going(seconds=60, done=3, inputs=9, workers=2, eta_s=3725.4, videos_per_s=0.05, video_hours_per_hour=1.25)
    told = cli("status", out, "--json").json["run"]
    assert (told["state"], told["eta_s"], told["pid"]) == ("running", 3725.4, sleeper.pid)
    going(
        seconds=60,
        done=3,
        inputs=9,
        workers=2,
        eta_s=3725.4,
        videos_per_s=0.05,
        video_hours_per_hour=1.25,
        result_s=time.time() - 30,
    )
    shown = cli("status", out).out
    assert re.search(rf"running \(local, 2 workers, process {sleeper.pid}\) for 0:01:\d\d, last result 0:00:3\d", shown)
    assert "0.05 videos/s, 1.2 h of video an hour" in shown
    assert re.search(r"done +3 of 9", shown)
    assert re.search(r"left +1:02:05\n", shown)


@pytest.mark.parametrize("workers", [0, 1])
def test_how_far_a_long_video_is(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While none is through yet."""
    monkeypatch.setattr("vidcomp.pipeline.stats.EVERY_S", 0.0)
    clips = [str(make_clip(tmp_path / f"{n}.mp4", count=60 - 30 * n)) for n in range(2)]
    out, shown = tmp_path / "out", list[str | None]()
    job = Job(build_recipe(method="evs", settings=["chunk_frames=2", "sample.fps=10"]), out)

    def hear(name: str, message: Mapping[str, Any]) -> None:
        if not going.stats.done:
            told = dict(command.rows(command.state_of(out, command.tally_of(out))))
            shown.append(told.get("now"))  # as it was written last: another thread may be at it

    going = Run(job, How(workers=workers), hear)
    assert [result.status for result in going.results(items(clips))] == ["ok", "ok"]
    shares = [int(now.removeprefix("1 under way at ").removesuffix("%")) for now in shown if now is not None]
    assert max(shares) > 50 > min(shares) > 0
    assert going.stats.to_json()["under_way"] == []


def test_a_number_that_was_given_again_is_no_run(cli: Cli, out: Path, going: Going) -> None:
    """As that of a container's first process is."""
    going(pid_ticks=1)
    assert cli("status", out, "--json").json["run"]["state"] == "stopped"
    assert cli("status", out, "--watch").code == 0


def test_a_run_without_a_result_says_so(cli: Cli, out: Path, going: Going) -> None:
    going(result_s=None, under_way=[0.25])
    shown = cli("status", out).out
    assert "no result yet" in shown
    assert re.search(r"now +1 under way at 25%\n", shown)


@pytest.mark.parametrize(
    "told",
    [
        {"under_way": "ab"},
        {"under_way": [{}]},
        {"pid": 10**30},
        {"pid": "1"},
        {"tokens_in": 10**400},
        {"stage_seconds": {"decode": "x"}},
        {"eta_s": "soon"},
        {"started_s": None},
    ],
)
def test_a_hostile_file_of_numbers_is_none(cli: Cli, out: Path, going: Going, told: dict[str, Any]) -> None:
    going(**told)
    said = cli("status", out, "--json")
    assert (said.code, said.json["run"]) == (0, None)
    assert cli("status", out, "--watch").code == 0


def test_a_file_of_an_earlier_version_is_read(cli: Cli, out: Path, sleeper: subprocess.Popen[bytes]) -> None:
    whole = json.loads((out / "run.json").read_text())
    older = {name: value for name, value in whole.items() if name not in ("under_way", "result_s")}
    (out / "run.json").write_text(json.dumps(older))
    assert cli("status", out, "--json").json["run"]["under_way"] == []


def test_a_run_whose_process_is_gone(cli: Cli, out: Path, going: Going, sleeper: subprocess.Popen[bytes]) -> None:
    going(eta_s=100.0)
    sleeper.communicate(b"\n")
    assert cli("status", out, "--json").json["run"]["state"] == "stopped"
    shown = cli("status", out, "--watch").out
    assert "its process is gone, the same command goes on" in shown
    assert "left " not in shown


def test_single_inputs_are_counted_too(cli: Cli, clip: Path, here: Path) -> None:
    assert cli("encode", clip).code == 0
    told = cli("status", "vidcomp-out", "--json").json
    assert (told["run"], told["counts"]) == (None, {"ok": 1})
    shown = cli("status", "vidcomp-out", "--watch")
    assert (shown.code, shown.out) == (0, "out     vidcomp-out\ninputs  1 ok\n")


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"state": "ended"', b"\xff", b"{}"])
def test_a_damaged_stats_file_counts_as_none(cli: Cli, out: Path, damage: bytes) -> None:
    (out / "run.json").write_bytes(damage)
    said = cli("status", out, "--json")
    assert (said.code, said.json["run"]) == (0, None)


@pytest.mark.parametrize(("name", "says"), [("gone", "no such folder"), ("file", "no such folder"), ("empty", "yet")])
def test_what_is_no_folder_of_records_is_one_line(cli: Cli, here: Path, name: str, says: str) -> None:
    (here / "empty").mkdir()
    (here / "file").touch()
    for words in ((), ("--json",), ("--watch",)):
        said = cli("status", name, *words)
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert f"{name}: " in said.err
        assert says in said.err


def test_names_cannot_move_the_cursor(cli: Cli, out: Path) -> None:
    odd = out.rename(out.parent / "a\x1b[2J\nb")
    said = cli("status", odd)
    assert (said.code, "\x1b" in said.out) == (0, False)
    assert cli("status", odd, "--json").json["out"] == str(odd)


# -- looking again -----------------------------------------------------------------------------------


def test_a_second_look_reads_what_is_new(tmp_path: Path) -> None:
    path, tally = tmp_path / "manifest.jsonl", Tally(tmp_path)
    assert tally.look() == {"inputs": 0, "recipes": 0, "counts": {}}
    added = [
        row("a", "ok"),
        row("b", "failed:empty"),
        b'{"path": "c',
        b'", torn\n',
        row("b", "ok"),
        row("d", "ok")[:-1],
    ]
    added += [
        b"\n",
        row("f", "ok")[:20],
        row("f", "ok")[20:],
        row("d", "partial"),
        row("a", "ok", recipe="s", recipe_base="r"),
        row("e", "ok", recipe="t"),
    ]
    for data in added:
        with open(path, "ab") as file:
            file.write(data)
        assert tally.look()["counts"] == counted(tmp_path)
    assert tally.look() == {"inputs": 6, "recipes": 2, "counts": {"ok": 5, "partial": 1}}
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"z"'))  # what was read once is not read again
    assert tally.look()["inputs"] == 6


@pytest.mark.parametrize(("in_place", "rows"), [(True, 1), (False, 1), (False, 9)])
def test_a_rebuilt_manifest_is_read_anew(tmp_path: Path, in_place: bool, rows: int) -> None:
    path, tally = tmp_path / "manifest.jsonl", Tally(tmp_path)
    path.write_bytes(row("a", "failed:empty") + row("a", "ok") + row("b", "ok"))
    tally.look()
    new = path if in_place else tmp_path / "new"
    new.write_bytes(b"".join(row(f"b{number}", "ok") for number in range(rows)))
    new.rename(path)
    assert tally.look() == {"inputs": rows, "recipes": 1, "counts": {"ok": rows}}


# -- watching ----------------------------------------------------------------------------------------


@pytest.fixture
def looks(out: Path, going: Going, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The run gets one video further between two looks, and ends with its third."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        going("running" if len(slept) < 3 else "ended", done=len(slept), inputs=3)
        with open(out / "manifest.jsonl", "ab") as file:
            file.write(row(f"new{len(slept)}", "ok"))

    going(done=0, inputs=3)
    monkeypatch.setattr(command.time, "sleep", sleep)
    monkeypatch.setattr(command, "PLAIN_EVERY_S", 0)
    return slept


def test_watching_tells_until_the_run_ends(cli: Cli, out: Path, looks: list[float]) -> None:
    said = cli("status", out, "--watch")
    assert (said.code, looks) == (0, [command.LIVE_EVERY_S] * 3)
    assert [line.split(" (")[0] for line in said.err.splitlines()] == [f"vidcomp: {n} of 3" for n in range(3)]
    assert "9 ok" in said.out
    assert re.search(r"run +ended .*\ndone +3 of 3", said.out)


def test_watching_for_a_program_is_one_object_at_the_end(cli: Cli, out: Path, looks: list[float]) -> None:
    said = cli("status", out, "--watch", "--json")
    assert (said.code, said.err, said.json["run"]["done"], said.json["counts"]["ok"]) == (0, "", 3, 9)


def on_a_terminal(out: Path) -> tuple[subprocess.Popen[bytes], int]:
    """`status --watch` with a terminal for stderr; the process, and the terminal's other side."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*VIDCOMP, "status", str(out), "--watch"], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    return process, ours


def read_until(fd: int, word: bytes) -> bytes:
    data = b""
    while word not in data and select.select([fd], [], [], 60)[0]:
        try:
            data += os.read(fd, 1 << 16)
        except OSError:  # the other side is closed
            break
    return data


def test_a_terminal_is_written_over(out: Path, going: Going) -> None:
    going(done=1, inputs=3)
    process, terminal = on_a_terminal(out)
    first = read_until(terminal, b"1 of 3")
    going(done=2, inputs=3)
    second = read_until(terminal, b"2 of 3")
    going("ended", done=3, inputs=3)
    rest = read_until(terminal, b"never")
    os.close(terminal)
    printed = process.communicate(timeout=60)[0]
    assert b"running" in first
    assert b"\x1b[1A" in second  # up a line, and over it
    assert b"done" not in rest.rpartition(b"\x1b[2K")[2]  # after the last line is blanked nothing stays
    assert b"3 of 3" not in first + second + rest  # the end stands on stdout, once, without control characters
    assert (process.returncode, printed.count(b"3 of 3"), b"\x1b" in printed) == (0, 1, False)


def test_interrupting_ends_it(out: Path, going: Going) -> None:
    going(done=1, inputs=3)
    process, terminal = on_a_terminal(out)
    read_until(terminal, b"1 of 3")
    process.send_signal(signal.SIGINT)
    rest = read_until(terminal, b"never")
    os.close(terminal)
    assert process.communicate(timeout=60)[0] == b""
    assert (process.returncode, b"vidcomp: interrupted" in rest, b"Traceback" in rest) == (130, True, False)


# -- light -------------------------------------------------------------------------------------------


def test_looking_imports_nothing_heavy(out: Path) -> None:
    code = (
        "import sys\nfrom vidcomp.pipeline.cli.app import run\n"
        "codes = [run([name, sys.argv[1]]) for name in ('status', 'failures', 'verify')]\n"
        "print(codes, sorted({'torch', 'transformers', 'ray', 'sklearn', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 0] []"
