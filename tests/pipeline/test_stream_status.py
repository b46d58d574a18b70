"""`vidcomp status` of a stream's folder: counted anew from its index, and from whoever holds it."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from vidcomp.pipeline.cli import status as command
from vidcomp.pipeline.report.stream import StreamTally
from vidcomp.pipeline.stream_folder import INDEX, StreamFolder

from .conftest import Cli

WORDS = ("--method", "evs", "--fps", "5", "--pace", "max", "--set", "chunk_frames=8")


@pytest.fixture
def feed(cli: Cli, clip: Path, here: Path) -> Path:
    """Two runs of one stream, the second behind a gap."""
    for _ in range(2):
        assert cli("stream", clip, "-o", "feed", *WORDS).code == 0
    return here / "feed"


def lines(feed: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (feed / INDEX).read_text().splitlines()]


def test_what_has_been_streamed_is_counted(cli: Cli, feed: Path, clip: Path) -> None:
    chunks = [line for line in lines(feed) if line["event"] == "chunk"]
    told = cli("status", feed, "--json").json["stream"]
    assert (told["state"], told["source"], told["chunks"]) == ("ended", str(clip), len(chunks))
    for name in ("frames", "tokens_in", "tokens", "dropped"):
        assert told[name] == sum(line[name] for line in chunks)
    assert told["until_s"] == chunks[-1]["offset_s"] + chunks[-1]["end_s"]
    assert told["events"] == {"gap": 1}
    shown = cli("status", feed).out
    assert f"{told['tokens']} of {told['tokens_in']} kept (" in shown
    assert "1 gap" in shown
    assert "ended, last chunk 0:00:" in shown


def test_whoever_holds_it_runs(cli: Cli, feed: Path) -> None:
    with StreamFolder(feed).held():
        assert cli("status", feed, "--json").json["stream"]["state"] == "running"
    assert cli("status", feed, "--watch", "--json").json["stream"]["state"] == "ended"  # at once


def test_it_is_watched_until_it_ends(
    feed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = [True, True, False]
    monkeypatch.setattr(StreamFolder, "is_held", lambda self: held.pop(0))
    monkeypatch.setattr(command, "LIVE_EVERY_S", 0.0)
    assert command.watched(feed, quiet=False)["stream"]["state"] == "ended"
    assert held == []
    assert "state running, last chunk 0:00:" in capsys.readouterr().err


def test_one_that_was_killed_has_stopped(cli: Cli, feed: Path) -> None:
    (feed / INDEX).write_text("".join((feed / INDEX).read_text().splitlines(keepends=True)[:-1]))
    assert cli("status", feed, "--json").json["stream"]["state"] == "stopped"
    assert "the same command adds to it" in cli("status", feed).out


def test_one_without_a_chunk(cli: Cli, here: Path) -> None:
    (here / INDEX).write_text('{"event":"start","source":"-","wall_s":1.0}\n')
    told = cli("status", here, "--json").json["stream"]
    assert (told["chunks"], told["tokens"], told["lag_s"]) == (0, 0, None)
    assert cli("status", here).code == 0


def test_a_hostile_folder_is_told_all_the_same(cli: Cli, feed: Path) -> None:
    chunk = next(line for line in lines(feed) if line["event"] == "chunk")
    (feed / INDEX).write_text(json.dumps({**chunk, "lag_s": "late"}) + "\n")
    (feed / ".stream.lock").unlink()
    os.mkfifo(feed / ".stream.lock")
    told = cli("status", feed, "--json").json["stream"]
    assert (told["chunks"], told["lag_s"], told["state"]) == (1, None, "stopped")
    assert cli("status", feed).code == 0


@pytest.mark.parametrize("change", [{"offset_s": 10**400}, {"offset_s": 1e308, "end_s": 1e308}, {"tokens": 10**400}])
def test_a_line_that_cannot_be_reckoned_with_is_none(cli: Cli, feed: Path, change: dict[str, Any]) -> None:
    chunk = next(line for line in lines(feed) if line["event"] == "chunk")
    (feed / INDEX).write_text(json.dumps({**chunk, **change}) + "\n")
    assert cli("status", feed, "--json").json["stream"]["chunks"] == 0
    assert cli("status", feed).code == 0


def test_a_second_look_reads_what_is_new(feed: Path) -> None:
    whole, tally = (feed / INDEX).read_bytes(), StreamTally(feed)
    kept = whole.splitlines(keepends=True)
    (feed / INDEX).write_bytes(b"".join(kept[:2]) + kept[2][:9])  # the third is on its way
    assert tally.look()["chunks"] == 1
    (feed / INDEX).write_bytes(whole)
    assert tally.look() == StreamTally(feed).look()
    (feed / INDEX).write_bytes(kept[0])  # another stream's
    assert tally.look()["chunks"] == 0


def test_whoever_looks_does_not_keep_a_stream_from_starting(feed: Path) -> None:
    lock = os.open(feed / ".stream.lock", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, (lock,)).start()
    with StreamFolder(feed).held():
        assert StreamFolder(feed).is_held()


def test_verify_speaks_of_no_manifest_there(cli: Cli, feed: Path) -> None:
    told = cli("verify", feed)
    assert (told.code, told.out.count("\n")) == (0, 1), told.out
    assert not (feed / "manifest.jsonl").exists()
