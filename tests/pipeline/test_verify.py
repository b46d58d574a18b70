"""A folder of records looked through: damage is found and put aside, the manifest comes to say what is true."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import make_clip
from records import make_records, video_record
from safetensors.numpy import save_file

from vidcomp.pipeline import verify as work
from vidcomp.pipeline.cli import verify as command
from vidcomp.pipeline.cli.app import run
from vidcomp.pipeline.manifest import append
from vidcomp.pipeline.rebuild import alone

from .conftest import Cli, tree_bytes

NOTHING = {"torn": 0, "superseded": 0, "gone": 0}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    for number in range(3):
        make_clip(folder / f"{number}.mp4", count=10, seed=number)
    (folder / "bad.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def made(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    assert run(["encode", str(clips), "-o", str(out), "--workers", "0", "--method", "evs"]) == 2
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A folder with three records, a failure, and a manifest of four rows; each test has its own."""
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


def records(out: Path) -> list[Path]:
    return sorted(out.glob("*.safetensors"))


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def dead() -> int:
    """The number of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


# -- damage ------------------------------------------------------------------------------------------


def test_a_sound_folder_stays_as_it_is(cli: Cli, out: Path) -> None:
    before = tree_bytes(out)
    said = cli("verify", out, "--json")
    told = {"checked": 3, "damaged": [], "ok": True, "old": [], "unlisted": [], "leftovers": [], "unfinished": []}
    assert (said.code, said.err, said.json) == (0, "", {**told, "manifest": {"rows": 4, **NOTHING}})
    assert tree_bytes(out) == before
    assert cli("verify", out).out.splitlines()[0] == "3 checked, 0 damaged"


@pytest.mark.parametrize("at", [0, 7, 9, 300, 0.5, -1])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_found_put_aside_and_made_again(cli: Cli, out: Path, clips: Path, at: float, bit: int) -> None:
    record = records(out)[1]
    before = tree_bytes(out)
    size = record.stat().st_size
    flip(record, 8 * (int(at * size) if isinstance(at, float) else at % size) + bit)
    altered = record.read_bytes()
    said = cli("verify", out, "--json")
    moved = out / "quarantine" / record.name
    assert (said.code, said.err.count("\n"), said.json["ok"]) == (2, 1, False)
    assert [(d["record"], d["moved"]) for d in said.json["damaged"]] == [(str(record), str(moved))]
    assert said.json["manifest"] == {"rows": 3, **NOTHING, "gone": 1}
    assert (record.exists(), moved.read_bytes()) == (False, altered)
    again = cli("encode", clips, "-o", out, "--workers", "0", "--method", "evs", "--json").json
    assert again["inputs"] - again["cached"] == 1
    assert record.read_bytes() == before[record.name]


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_torn_record(cli: Cli, out: Path, size: int) -> None:
    record = records(out)[0]
    os.truncate(record, size % record.stat().st_size)
    said = cli("verify", out)
    assert (said.code, record.exists(), (out / "quarantine" / record.name).exists()) == (2, False, True)
    assert said.out.startswith("3 checked, 1 damaged, 1 moved to ")
    assert str(record) in said.err
    assert (cli("verify", out).code, len(rows(out))) == (0, 3)


def test_records_under_each_others_names(cli: Cli, out: Path) -> None:
    a, b, _ = records(out)
    whole = a.read_bytes(), b.read_bytes()
    a.rename(out / "x")
    b.rename(a)
    (out / "x").rename(b)
    said = cli("verify", out, "--json")
    assert [d["record"] for d in said.json["damaged"]] == [str(a), str(b)]
    assert "another record under this name" in said.err
    assert ((out / "quarantine" / a.name).read_bytes(), (out / "quarantine" / b.name).read_bytes()) == whole[::-1]


def test_the_quarantine_overwrites_nothing(cli: Cli, out: Path) -> None:
    record = records(out)[0]
    for text in (b"first", b"second", b"third"):
        record.write_bytes(text)
        assert cli("verify", out).code == 2
    found = {path.name: path.read_bytes() for path in (out / "quarantine").iterdir()}
    key = record.stem
    names = (record.name, f"{key}.1.safetensors", f"{key}.2.safetensors")
    assert found == dict(zip(names, (b"first", b"second", b"third"), strict=True))


def test_keep_moves_nothing(cli: Cli, out: Path, clips: Path) -> None:
    record = records(out)[2]
    flip(record, 100)
    said = cli("verify", out, "--keep", "--json")
    assert (said.code, said.json["damaged"][0]["moved"], record.exists()) == (2, None, True)
    assert not (out / "quarantine").exists()
    assert len(rows(out)) == 3  # the next encode looks at it again
    assert cli("encode", clips, "-o", out, "--workers", "0", "--method", "evs").code == 2
    assert cli("verify", out).code == 0


def test_a_record_of_another_schema_is_not_damaged(cli: Cli, out: Path) -> None:
    for number, schema in enumerate((1, 10**9)):
        record = video_record(number)
        record.meta["schema"] = schema  # type: ignore[index]
        record.save(out / f"{record.meta['key']}.safetensors")
    said = cli("verify", out, "--json")
    old = [out / f"{video_record(number).meta['key']}.safetensors" for number in (0, 1)]
    assert (said.code, set(said.json["old"])) == (0, set(map(str, old)))
    assert all(path.exists() for path in old)
    flip(old[0], 8 * old[0].stat().st_size - 1)
    assert [d["record"] for d in cli("verify", out, "--json").json["damaged"]] == [str(old[0])]


def test_what_a_user_put_here_stays(cli: Cli, tmp_path: Path) -> None:
    """Record files under names of their own, and files of other tools."""
    video_record(1).save(tmp_path / "mine.safetensors")
    video_record(2).save(tmp_path / "altered.safetensors")
    flip(tmp_path / "altered.safetensors", 3000)
    save_file({"weight": np.zeros(4)}, tmp_path / "model.safetensors")
    said = cli("verify", tmp_path, "--json")
    damaged = {Path(d["record"]).name: d["moved"] for d in said.json["damaged"]}
    assert (said.code, damaged["model.safetensors"]) == (2, None)
    assert set(damaged) == {"altered.safetensors", "model.safetensors"}
    assert said.json["unlisted"] == [str(tmp_path / "mine.safetensors")]
    assert (tmp_path / "model.safetensors").exists()
    assert not (tmp_path / "manifest.jsonl").exists()


def test_what_cannot_be_read_is_told_and_stays(cli: Cli, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, real = records(out)[0], work.read_header

    def read(path: Path) -> Any:
        if path == record:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path)

    monkeypatch.setattr(work, "read_header", read)
    said = cli("verify", out, "--json")
    assert (said.code, said.json["damaged"][0]["moved"], len(rows(out))) == (2, None, 4)
    assert "cannot be read (Input/output error)" in said.err


def test_odd_files_in_the_place_of_records(cli: Cli, out: Path) -> None:
    a, b, c = records(out)
    a.unlink()
    os.mkfifo(a)
    b.unlink()
    b.mkdir()
    c.unlink()
    c.symlink_to("nowhere")
    said = cli("verify", out)
    assert (said.code, said.err.count("\n")) == (2, 3)
    assert sorted(path.name for path in (out / "quarantine").iterdir()) == sorted([a.name, b.name])


def test_memory_is_bounded_by_blocks(tmp_path: Path) -> None:
    (path,) = make_records(tmp_path, 1, rows=24, channels=1 << 20)
    assert path.stat().st_size > 45 << 20
    tracemalloc.start()
    assert work.look_at(path) == "whole"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20


def test_how_far_it_is(cli: Cli, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PLAIN_EVERY_S", 0)
    assert cli("verify", out).err.splitlines() == [f"vidcomp: verify: {n} of 3 records" for n in range(3)]
    assert cli("verify", out, "--json").err == ""


# -- the manifest ------------------------------------------------------------------------------------


def test_the_manifest_keeps_the_rows_that_count(cli: Cli, out: Path) -> None:
    path = out / "manifest.jsonl"
    first, second, third, failed = path.read_bytes().splitlines(keepends=True)
    stale = json.dumps({**json.loads(second), "status": "failed:timeout", "key": None}).encode() + b"\n"
    other = json.dumps({**json.loads(second), "recipe": "another"}).encode() + b"\n"
    torn = (b"\xff\xfe\n", b"\n", b"[1]\n", b'{"status": "ok"}\n', first[:40])
    path.write_bytes(b"".join([first[:30] + b"\n", stale, first, second, first, torn[0], *torn[1:4], other, failed]))
    with open(path, "ab") as file:
        file.write(third[:-1])  # whole, but for its end
    assert cli("verify", out, "--json").json["manifest"] == {"rows": 5, "torn": 5, "superseded": 2, "gone": 0}
    assert path.read_bytes() == b"".join([second, first, other, failed, third])
    with open(path, "ab") as file:
        file.write(torn[4])
    assert cli("verify", out, "--json").json["manifest"] == {"rows": 5, **NOTHING, "torn": 1}
    assert path.read_bytes() == b"".join([second, first, other, failed, third])


def test_a_row_whose_record_is_gone_goes_and_the_record_is_made_again(cli: Cli, out: Path, clips: Path) -> None:
    before = tree_bytes(out)
    gone = records(out)[0]
    gone.unlink()
    said = cli("verify", out, "--json")
    assert (said.code, said.json["manifest"]) == (0, {"rows": 3, **NOTHING, "gone": 1})
    assert gone.stem not in {row.get("key") for row in rows(out)}
    again = cli("encode", clips, "-o", out, "--workers", "0", "--method", "evs", "--json").json
    assert (again["inputs"], again["cached"], gone.read_bytes()) == (4, 3, before[gone.name])


def test_every_record_gone(cli: Cli, out: Path) -> None:
    for record in records(out):
        record.unlink()
    assert cli("verify", out, "--json").json["manifest"] == {"rows": 1, **NOTHING, "gone": 3}
    assert [row["status"] for row in rows(out)] == ["failed:not_video"]


def test_records_that_no_row_speaks_of_are_listed(cli: Cli, out: Path) -> None:
    kept = rows(out)[0]
    (out / "manifest.jsonl").write_text(json.dumps(kept) + "\n")
    said = cli("verify", out, "--json")
    assert said.json["unlisted"] == [str(p) for p in records(out) if p.stem != kept["key"]]
    assert (said.code, len(records(out))) == (0, 3)
    (out / "manifest.jsonl").unlink()
    assert len(cli("verify", out, "--json").json["unlisted"]) == 3
    assert not (out / "manifest.jsonl").exists()


def test_many_unlisted_ones_are_few_lines(cli: Cli, tmp_path: Path) -> None:
    made = make_records(tmp_path, 13)
    said = cli("verify", tmp_path)
    assert (said.code, said.err.count("\n")) == (0, 11)
    assert "and 3 more" in said.err
    assert cli("verify", tmp_path, "--json").json["unlisted"] == [str(path) for path in made]


def test_a_rebuild_that_fails_changes_nothing(cli: Cli, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records(out)[0].unlink()
    before = tree_bytes(out)

    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    said = cli("verify", out)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "the disk is full" in said.err
    assert tree_bytes(out) == before


def test_a_row_that_is_being_appended_is_waited_for(out: Path) -> None:
    path = out / "manifest.jsonl"
    records(out)[0].unlink()
    new = json.dumps({"path": "new", "recipe": "r", "status": "failed:empty"}).encode() + b"\n"
    with alone(path):
        rebuilding = threading.Thread(target=lambda: work.rebuild(path, {p.name for p in records(out)}))
        rebuilding.start()
        rebuilding.join(0.2)
        assert rebuilding.is_alive()
        with open(path, "ab") as file:  # whoever holds the lock appends
            file.write(new)
    rebuilding.join(20)
    assert path.read_bytes().endswith(new)
    assert [row["path"] for row in rows(out)].count("new") == 1
    append(path, b'{"path": "later"}\n')
    assert rows(out)[-1] == {"path": "later"}


# -- a run at work, and what dead ones leave ---------------------------------------------------------


def test_nothing_is_changed_under_a_run(cli: Cli, out: Path, sleeper: subprocess.Popen[bytes]) -> None:
    flip(records(out)[0], 100)
    with open(out / "manifest.jsonl", "a") as file:
        file.write("torn")
    told = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**told, "state": "running", "pid": sleeper.pid, "pid_ticks": None}))
    before = tree_bytes(out)
    said = cli("verify", out, "--json")
    assert (said.code, said.json["manifest"], said.json["damaged"][0]["moved"]) == (2, None, None)
    assert f"a run (process {sleeper.pid}) is at work here" in said.err.splitlines()[1]
    assert tree_bytes(out) == before
    (out / "run.json").write_text(json.dumps({**told, "state": "running", "pid": dead()}))
    assert cli("verify", out, "--json").json["manifest"] == {"rows": 3, "torn": 1, "superseded": 0, "gone": 1}


def test_nothing_is_changed_while_a_record_is_made(cli: Cli, out: Path) -> None:
    """By an encode of a single input, or on another machine."""
    lock = out / ".parts" / f"{'0' * 32}.lock"
    lock.parent.mkdir()
    lock.touch()
    records(out)[0].unlink()
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    words = [sys.executable, "-c", code, str(lock)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        said = cli("verify", out, "--json")
        process.communicate(b"\n")
    assert (said.code, said.json["manifest"], len(rows(out))) == (0, None, 4)
    assert "an encode is at work here" in said.err
    assert cli("verify", out, "--json").json["manifest"]["gone"] == 1


def test_leftovers_are_told_and_stay(cli: Cli, out: Path, sleeper: subprocess.Popen[bytes]) -> None:
    left, huge = out / f".a.safetensors.{dead()}.tmp", out / f".a.{'9' * 30}.tmp"
    for path in (left, huge, out / f".manifest.jsonl.{sleeper.pid}.tmp"):
        path.touch()
    key = "1" * 32
    (out / ".parts" / key).mkdir(parents=True)
    before = tree_bytes(out)
    said = cli("verify", out, "--json")
    assert (said.code, said.json["leftovers"], said.json["unfinished"]) == (0, [str(left)], [key])
    said = cli("verify", out)
    assert f"{left}: left over" in said.err
    assert "1 begun: encode goes on with them" in said.out
    assert tree_bytes(out) == before
    assert (out / ".parts" / key).is_dir()


# -- one record, and what is none --------------------------------------------------------------------


def test_one_record_is_only_looked_at(cli: Cli, out: Path) -> None:
    record = records(out)[0]
    assert cli("verify", record, "--json").json == {"checked": 1, "damaged": [], "ok": True}
    flip(record, 8 * record.stat().st_size - 1)
    before = tree_bytes(out)
    said = cli("verify", record, "--json")
    assert (said.code, said.json["ok"], len(said.json["damaged"])) == (2, False, 1)
    assert "is damaged: encode the video again" in said.err
    assert tree_bytes(out) == before


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_nothing_to_verify_is_one_line(cli: Cli, here: Path, name: str) -> None:
    (here / "empty").mkdir()
    said = cli("verify", name)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)


def test_names_cannot_move_the_cursor(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J\nb.safetensors").write_bytes(b"x")
    said = cli("verify", tmp_path)
    assert (said.code, said.err.count("\n"), "\x1b" in said.err + said.out) == (2, 1, False)
