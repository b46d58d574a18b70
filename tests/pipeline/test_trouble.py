"""What the machine can do to a run: full disks, closed streams, signals, odd names, unreadable folders."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import vidcomp
from vidcomp.pipeline.corpus import items
from vidcomp.pipeline.errors import ConfigError
from vidcomp.pipeline.heavy import signals_held
from vidcomp.pipeline.item import Item
from vidcomp.pipeline.job import Job
from vidcomp.pipeline.presets import build_recipe
from vidcomp.stages import store
from vidcomp.stages.safefile import OutputError
from vidcomp.stages.store import Spool, Store

from .conftest import Cli
from .test_commands import tiny as tiny  # a fixture

VIDCOMP = (sys.executable, "-m", "vidcomp")
ODD = "a\x1b[31m\nb\u202e.mp4"


def shell(words: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A line of sh in which `$@` is `vidcomp ARGUMENTS`."""
    whole = ["sh", "-c", words, "sh", *VIDCOMP, *map(str, arguments)]
    done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    return done


# -- output ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["add", "finish"])
@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "No space left on device): the disk is full: free some space"),
        (errno.EFBIG, "File too large): raise the limit on a file's size (ulimit -f)"),
        (errno.EACCES, "Permission denied): check the permissions"),
    ],
)
def test_a_disk_that_takes_no_more_ends_the_run(
    cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str, where: str
) -> None:
    real = store.write_atomically

    def write(path: Path, *rest: Any, **more: Any) -> None:
        if (".parts" in path.parts) == (where == "add"):
            raise OSError(number, os.strerror(number))
        real(path, *rest, **more)

    monkeypatch.setattr(store, "write_atomically", write)
    shutil.copy(clip, here / "a.mp4")
    said = cli("encode", "a.mp4", clip, "--workers", "0")
    assert (said.code, said.out) == (1, "")
    (line,) = [line for line in said.err.splitlines() if "frames" not in line]
    assert ("vidcomp-out" in line, says in line, "internal" in line) == (True, True, False)
    assert not (here / "vidcomp-out" / "manifest.jsonl").exists()


def test_a_limit_on_file_size_is_told(here: Path, clip: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    words = [*VIDCOMP, "encode", str(clip)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=limit, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "File too large): raise the limit on a file's size" in done.stderr


def test_a_manifest_that_cannot_be_written_is_told(cli: Cli, clip: Path, here: Path) -> None:
    (here / "vidcomp-out" / "manifest.jsonl").mkdir(parents=True)
    said = cli("encode", clip, "--json")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "manifest.jsonl" in said.err


def test_python_hears_of_it_too(clip: Path, here: Path) -> None:
    (here / "file").touch()
    with pytest.raises(OutputError, match=r"file/.*: cannot be .* \(Not a directory\)"):
        vidcomp.encode(clip, out="file")
    with pytest.raises(ConfigError, match="empty name"):
        vidcomp.encode(clip, out="")


def test_an_empty_output_name_is_refused(cli: Cli, clip: Path, here: Path) -> None:
    said = cli("encode", clip, "-o", "")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert list(here.iterdir()) == []


# -- streams -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("methods",), ("methods", "--json")])
def test_a_full_stdout_is_told(arguments: tuple[str, ...]) -> None:
    done = shell('"$@" >/dev/full', *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "stdout: cannot be written (No space left on device)" in done.stderr


def test_a_reader_that_has_gone_is_no_error() -> None:
    done = shell('{ "$@"; echo $? >&2; } | true', "methods")
    assert (done.stdout, done.stderr.strip()) == ("", "130")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_record(clip: Path, here: Path, closed: str) -> None:
    done = shell(f'"$@" {closed}', "encode", clip)
    assert done.returncode == 0, done.stderr
    (record,) = here.glob("vidcomp-out/*.safetensors")
    assert len(vidcomp.load(record))
    missing = shell(f'"$@" {closed}', "encode", "gone.mp4")
    assert (missing.returncode, missing.stdout) == (1, "")


# -- signals -----------------------------------------------------------------------------------------


def stopped(signals: Iterable[int], arguments: tuple[object, ...], ready: Callable[[], object]) -> tuple[int, str]:
    """Exit code and stderr of a run that gets these signals when `ready` returns."""
    words = [*VIDCOMP, *map(str, arguments)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        ready()
        for number in signals:
            run.send_signal(number)
            time.sleep(0.02)
        _, told = run.communicate(timeout=30)
    return run.returncode, told


def opened_for_reading(pipe: Path) -> int:
    """A writer's end of a pipe, as soon as somebody reads it: the process is where it must be, and will wait there."""
    for _ in range(6000):
        with suppress(OSError):  # ENXIO: nobody does yet
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.01)
    raise AssertionError("nobody reads it")


@pytest.mark.parametrize("signals", [(2,), (2, 2), (15,), (15, 15), (15, 2, 2)])
def test_signals_close_together_are_one(clip: Path, here: Path, signals: tuple[int, ...]) -> None:
    os.mkfifo(here / "pipe")  # reading a manifest that never comes: it waits until it is stopped
    (here / "vidcomp-out").mkdir()
    (here / "vidcomp-out" / "manifest.jsonl").symlink_to(here / "pipe")
    writers: list[int] = []
    code, told = stopped(signals, ("encode", clip), lambda: writers.append(opened_for_reading(here / "pipe")))
    os.close(writers[0])
    word = {2: "interrupted", 15: "terminated"}[signals[0]]
    assert (code, told.count("\n")) == (128 + signals[0], 1), told
    assert told == f"vidcomp: {word}: nothing is torn; the same command goes on where it stopped\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_is_one_line(number: int) -> None:
    code = (
        "import builtins, os, sys\n"
        "real = builtins.__import__\n"
        "def held(name, *rest):\n"
        f"    if name == 'typer': builtins.__import__ = real; os.kill(os.getpid(), {int(number)})\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = held\n"
        "from vidcomp.pipeline.cli import main\n"
        "main(['methods'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    word = {2: "interrupted", 15: "terminated"}[int(number)]
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", f"vidcomp: {word}\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [(("encode",), "goes on where it stopped"), (("encode", "--force"), "with --force it starts over")],
)
def test_what_goes_on_after_an_interruption(
    cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    def stop(self: Spool, *rest: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Spool, "add", stop)
    said = cli(*words, clip)
    assert (said.code, says in said.err) == (130, True)
    monkeypatch.setattr(Store, "records", stop)
    assert cli("verify", here).err == "vidcomp: interrupted\n"


# -- names -------------------------------------------------------------------------------------------


def test_names_are_escaped_on_both_streams(cli: Cli, clip: Path, here: Path) -> None:
    shutil.copy(clip, here / ODD)
    (here / f"z{ODD}").write_text("text")
    said = cli("encode", here, "-o", "out\x1b[1m")
    assert said.code == 2
    for text in (said.out, said.err):
        assert not set(text) & {"\x1b", "\u202e"}
        assert r"a\x1b[31m\nb\u202e.mp4" in text
    assert json.loads((here / "out\x1b[1m" / "manifest.jsonl").read_text().splitlines()[0])["path"].endswith(ODD)


@pytest.mark.parametrize("command", ["encode", "verify", "inspect"])
def test_a_name_of_any_length_is_a_line_of_bounded_length(cli: Cli, here: Path, command: str) -> None:
    for name in ("x" * 100_000, "x/" * 50_000):
        said = cli(command, name)
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert len(said.err) < 3000
        assert said.err.rstrip().endswith(("check the path", "check its permissions")) or "too long" in said.err


# -- sources -----------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_listed_is_told(
    cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "in" / "closed").mkdir(parents=True)
    shutil.copy(clip, here / "in" / "a.mp4")
    scan = os.scandir

    def closed(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert [i.name for i in items(["in"])] == ["in/a.mp4", "in/closed"]
    assert [i.name for i in items(["in/closed"])] == ["in/closed"]
    said = cli("encode", "in", "--workers", "0", "--json")
    assert (said.code, said.json["counts"]) == (2, {"ok": 1, "failed:unreadable": 1})
    assert "in/closed: failed:unreadable: the folder cannot be listed: check its permissions" in said.err


def test_a_link_to_nothing_is_told(cli: Cli, clip: Path, here: Path) -> None:
    shutil.copy(clip, here / "a.mp4")
    (here / "b.mp4").symlink_to("gone.mp4")
    for source in ("*.mp4", "."):
        said = cli("encode", source, "--json")
        assert (said.code, said.json["counts"]) == (2, {"ok": 1, "failed:missing": 1})
        assert "b.mp4: failed:missing: a link to gone.mp4, which is not there" in said.err


def test_strict_lists_partial_ones(cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from .test_encode import half

    half(here / "a.mp4", "faststart")
    shutil.copy(clip, here / "b.mp4")
    assert cli("encode", "a.mp4", "b.mp4", "--workers", "0", "--json").json["failures"] == []
    said = cli("encode", "a.mp4", "b.mp4", "--workers", "0", "--json", "--strict")
    (listed,) = said.json["failures"]
    assert (said.code, listed["path"], listed["status"]) == (2, "a.mp4", "partial")
    assert "of 200 frames could be read" in listed["message"]


# -- a shared folder ---------------------------------------------------------------------------------


def test_two_recipes_in_one_folder_add_no_rows_again(cli: Cli, clip: Path, here: Path) -> None:
    sizes = []
    for _ in range(3):
        for method in ("evs", "pool"):
            cli("encode", clip, "--method", method)
        sizes.append(len((here / "vidcomp-out" / "manifest.jsonl").read_text().splitlines()))
    assert sizes == [2, 2, 2]


def test_one_who_waited_for_another_says_cached(clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (Job(build_recipe(), here / "out") for _ in range(2))
    item = Item.local(str(clip))
    find, made = Store.find, first.run(item).facts
    header = find(first.store, made["key"])
    answers = iter([None, header])  # not there yet; there once the lock is ours
    monkeypatch.setattr(Store, "find", lambda self, key: next(answers))
    result = second.run(item)
    monkeypatch.setattr(Store, "find", find)
    first.close()
    second.close()
    assert (result.status, result.cached) == ("ok", True)


# -- settings that no input survives -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("compute.device=meta", "device 'meta' cannot be used"),
        ("compute.threads=100000", "compute.threads: must be less than or equal to 1024"),
        ("decode.threads=100000", "threads must be at most 1024"),
        ("merger.seed=99999999999999999999999", "does not fit in 64 bits"),
    ],
)
def test_a_setting_that_no_input_survives_ends_the_run(
    cli: Cli, clip: Path, here: Path, setting: str, says: str
) -> None:
    said = cli("encode", clip, "--method", "random", "--set", setting)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert says in said.err


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("resample=99", "model.settings cannot be used on any frame"),
        ("image_mean=3", "image_mean must be three numbers"),
        ("rescale_factor=0", "rescale_factor must be above 0"),
        ("image_std=[a]", "image_std must be three numbers"),
    ],
)
def test_a_processors_setting_that_no_frame_survives(
    cli: Cli, clip: Path, here: Path, tiny: Path, setting: str, says: str
) -> None:
    said = cli("encode", clip, "--model", tiny, "--method", "evs", "--set", f"model.settings.{setting}")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert says in said.err


def test_settings_that_are_fine_stay_so(cli: Cli, clip: Path, here: Path, tiny: Path) -> None:
    said = cli("encode", clip, "--model", tiny, "--method", "evs", "--set", "model.settings.resample=2", "--json")
    assert (said.code, said.json["status"]) == (0, "ok"), said.err


@pytest.mark.parametrize("budget", [("--retain", "0.0001"), ("--tokens-per-second", "0.01")])
def test_a_budget_that_keeps_nothing_makes_no_record(cli: Cli, clip: Path, here: Path, budget: tuple[str, ...]) -> None:
    said = cli("encode", clip, *budget, "--json")
    assert (said.code, said.json["status"]) == (2, "failed:unsupported")
    assert "would keep none of its 1176 tokens: raise the budget, or ask for --tokens 1" in said.err
    assert [p.name for p in (here / "vidcomp-out").iterdir()] == ["manifest.jsonl"]
    assert cli("encode", clip, "--tokens", "1", "--json").json["tokens_out"] == 1


def test_a_recomposed_method_is_told_by_its_parts(cli: Cli, clip: Path, here: Path) -> None:
    settings = ("--set", "segmenter.name=dp_static", "--set", "merger.name=prunevid")
    result = cli("encode", clip, "--method", "fastvid", *settings, "--json").json
    assert result["method"] == "dp_static+prunevid"
    assert vidcomp.load(result["record"]).meta["recipe"]["method"] == "dp_static+prunevid"


def test_signals_wait_while_torch_is_imported() -> None:
    reached = []

    def work() -> None:
        with signals_held():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # this process has other threads by now
            reached.append("end")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["end"]
