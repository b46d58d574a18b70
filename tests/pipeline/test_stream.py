"""`vidcomp stream`: the chunks of a file are those of `encode`; what has closed is there, and goes on."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from records import damage
from voices import Voice, make_talk

import vidcomp
from vidcomp.models.dct import DctEncoder
from vidcomp.pipeline import live_source
from vidcomp.pipeline.errors import ConfigError
from vidcomp.pipeline.recall import recalled
from vidcomp.pipeline.stream_folder import StreamFolder
from vidcomp.stages.safefile import OutputError

from .conftest import Cli, make_clip
from .test_commands import tiny as tiny  # a fixture

SIZE = (48, 32)
MAX: dict[str, Any] = {"pace": "max"}


def same(a: vidcomp.VideoRecord, b: vidcomp.VideoRecord) -> None:
    """Every tensor bit for bit, and what a reader goes by."""
    ours, theirs = a.tensors(), b.tensors()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    for fact in ("grid", "frames", "fps", "seconds_per_step", "temporal_patch", "method", "model", "recipe_digest"):
        assert a.meta[fact] == b.meta[fact]


def kept(parts: list[Any], whole: vidcomp.VideoRecord) -> None:
    """What `vidcomp.stream` gave, end to end, is the record's rows."""
    for name in ("tokens", "positions", "boxes", "sizes", "pts_s"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


# -- a file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"method": "evs"},
        {"method": "fastvid"},
        {"method": "evs", "settings": ["merger.threshold=0.02", "merger.retain=null", "chunk_frames=7"]},
        {"method": "dycoke", "tokens_per_second": 333.0},
        {"method": "prunevid", "gate": "rlt"},
    ],
)
def test_the_chunks_of_a_file_are_those_of_encode(clip: Path, here: Path, how: dict[str, Any]) -> None:
    how = {"settings": ["chunk_frames=8"], "fps": 5.0, **how}
    whole = vidcomp.encode(clip, out="e", **how)
    parts = list(vidcomp.stream(clip, out="s", **MAX, **how))
    assert len(parts) > 2
    kept(parts, whole)
    same(recalled(Path("s"), None), whole)
    kept(list(vidcomp.stream(clip, **MAX, **how)), whole)  # the same without a folder
    assert sorted(path.name for path in here.iterdir()) == ["e", "s"]


def test_a_video_llm_and_sound_that_guides(here: Path, tiny: Path) -> None:
    clip = make_talk(here / "v.mp4", 6.0, Voice([(1.0, 2.0)], 6.0))
    how = {
        "model": str(tiny),
        "method": "evs",
        "fps": 4.0,
        "settings": ["chunk_frames=8"],
        "audio_guide": "proportional",
    }
    whole = vidcomp.encode(clip, out="e", **how)
    assert whole.saliency is not None
    list(vidcomp.stream(clip, out="s", **MAX, **how))
    same(recalled(Path("s"), None), whole)


def test_at_its_own_pace_it_is_the_same(cli: Cli, here: Path) -> None:
    clip = make_clip(here / "a.mp4", frames=12)
    words = ("--method", "evs", "--fps", "5", "--set", "chunk_frames=2")
    begun_s = time.monotonic()
    said = cli("stream", clip, "-o", "s", *words, "--json")
    assert time.monotonic() - begun_s > 1.1  # the clip is 1.2 s long: its last chunk is not there before
    assert (said.code, said.err) == (0, "")
    told = [json.loads(line) for line in said.out.splitlines()]
    assert [row["event"] for row in told if row["event"] != "live"] == ["chunk"] * 3 + ["end"]
    assert (told[-1]["chunks"], told[-1]["sampled"], told[-1]["dropped"]) == (3, 6, 0)
    same(recalled(Path("s"), None), vidcomp.encode(clip, method="evs", fps=5, settings=["chunk_frames=2"]))


def test_a_stream_computes_on_as_many_threads_as_encode(
    clip: Path, here: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as the recipe says: others round otherwise. The caller's own number is his again between two chunks."""
    encode, seen = DctEncoder.encode, set[int]()

    def counted(self: Any, *rest: Any, **how: Any) -> Any:
        seen.add(torch.get_num_threads())
        return encode(self, *rest, **how)

    monkeypatch.setattr(DctEncoder, "encode", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for source, how in ((clip, MAX), ("-", RAW)):
            for _ in vidcomp.stream(source, method="evs", fps=5.0, settings=["chunk_frames=8"], **how):
                assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == {1}


@pytest.mark.parametrize("chunk", [3, 8, 50])
def test_causal_methods_do_not_depend_on_the_chunk(clip: Path, here: Path, chunk: int) -> None:
    """Rows and what they are made of; sizes and boxes of a run end at a chunk's border."""
    for method, more in (("evs", ["merger.retain=null", "merger.threshold=0.02"]), ("rlt", []), ("dtd", [])):
        whole = vidcomp.encode(clip, method=method, fps=5.0, settings=[*more, "chunk_frames=16"])
        settings = [*more, f"chunk_frames={chunk}"]
        parts = list(vidcomp.stream(clip, method=method, fps=5.0, settings=settings, **MAX))
        assert torch.equal(torch.cat([part.tokens for part in parts]), whole.tokens)
        assert torch.equal(torch.cat([part.positions for part in parts]), whole.positions)


# -- raw frames ---------------------------------------------------------------------------------------------


@pytest.fixture
def raw(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lossless file of 40 frames at 10 fps, whose pixels stand on stdin, raw."""
    random = np.random.default_rng(0)
    still = random.integers(0, 255, (8, *SIZE[::-1], 3), np.uint8)
    pictures = [still[n // 5] // 2 + random.integers(0, 9, still[0].shape, np.uint8) for n in range(40)]
    with av.open("lossless.mov", "w") as out:
        stream = out.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "rgb24"
        for n, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    (here / "raw").write_bytes(b"".join(picture.tobytes() for picture in pictures))
    with open(here / "raw", "rb") as stdin:
        monkeypatch.setattr(live_source, "STDIN_FD", stdin.fileno())
        yield here / "lossless.mov"


RAW: dict[str, Any] = {"pace": "max", "size": SIZE, "rate": 10.0}


@pytest.mark.parametrize("how", [{"method": "evs"}, {"method": "holitom", "settings": ["stand_ins.attention=norm"]}])
def test_raw_frames_are_what_a_lossless_file_is(raw: Path, how: dict[str, Any]) -> None:
    how = {**how, "fps": 5.0, "settings": [*how.get("settings", []), "chunk_frames=8"]}
    parts = list(vidcomp.stream("-", out="s", **RAW, **how))
    whole = vidcomp.encode(raw, out="e", **how)
    kept(parts, whole)
    same(recalled(Path("s"), None), whole)


def test_raw_frames_by_command(cli: Cli, raw: Path) -> None:
    words = ("--size", "48x32", "--fps", "10", "--set", "sample.fps=5", "--set", "chunk_frames=8", "--method", "evs")
    said = cli("stream", "-", "-o", "s", *words, "--pace", "max", "--json")
    assert said.code == 0, said.err
    last = json.loads(said.out.splitlines()[-1])
    assert (last["frames"], last["sampled"], last["chunks"], last["dropped"]) == (39, 20, 3, 0)


def test_a_model_that_is_too_slow_drops_the_oldest(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = DctEncoder.encode

    def slow(self: Any, *rest: Any, **how: Any) -> Any:
        time.sleep(0.8)
        return encode(self, *rest, **how)

    monkeypatch.setattr(DctEncoder, "encode", slow)
    live: dict[str, Any] = {"pace": "real", "size": SIZE, "rate": 100.0}  # forty frames in 0.4 s
    parts = list(vidcomp.stream("-", out="s", method="evs", fps=100.0, settings=["chunk_frames=4"], **live))
    rows = StreamFolder(Path("s")).chunks()
    through = 0
    for row in rows:
        through += row["frames"] + row["dropped"]
        assert vidcomp.load(Path("s", f"{row['key']}.safetensors")).frame_index[-1] == through - 1
    assert (through, sum(row["dropped"] for row in rows) > 0) == (40, True)
    assert len(parts) == len(rows)
    shown = recalled(Path("s"), None).frame_index
    assert shown[-8:].tolist() == list(range(32, 40))  # the newest stay


# -- a stream that goes on ------------------------------------------------------------------------------------

HOW: dict[str, Any] = {"method": "evs", "fps": 5.0, "settings": ["chunk_frames=8"], **MAX}


def test_a_second_run_goes_on_behind_a_gap(clip: Path, here: Path) -> None:
    first = list(vidcomp.stream(clip, out="s", **HOW))
    again = list(vidcomp.stream(clip, out="s", **HOW))
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(first, again, strict=True))
    events = list(StreamFolder(Path("s")).events())
    assert [event["event"] for event in events if event["event"] != "chunk"] == ["start", "end", "start", "gap", "end"]
    (gap,) = [event for event in events if event["event"] == "gap"]
    assert (gap["why"], gap["before"]) == ("restart", len(first))
    whole = recalled(Path("s"), None)
    assert len(whole) == 2 * sum(map(len, first))
    assert (whole.grid_pts_s.diff() > 0).all()
    assert [row["number"] for row in StreamFolder(Path("s")).chunks()] == list(range(2 * len(first)))


def test_a_record_that_a_crash_left_without_its_line_gets_it(clip: Path, here: Path) -> None:
    list(vidcomp.stream(clip, out="s", **HOW))
    index = here / "s" / "index.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    chunks = [n for n, line in enumerate(lines) if b'"event":"chunk"' in line]
    index.write_bytes(b"".join(lines[: chunks[-1]]) + lines[chunks[-1]][:40])  # torn, too
    folder = StreamFolder(here / "s")
    assert len(folder.chunks()) == len(chunks) - 1
    list(vidcomp.stream(clip, out="s", **HOW))
    rows = folder.chunks()
    assert [row["number"] for row in rows] == list(range(2 * len(chunks)))
    assert json.loads(lines[chunks[-1]])["key"] == rows[len(chunks) - 1]["key"]
    assert [row["frames"] for row in rows[: len(chunks)]] == [8, 8, 8, 6]


def test_a_killed_stream_has_lost_no_closed_chunk(clip: Path, here: Path) -> None:
    words = ["stream", str(clip), "-o", "s", "--method", "evs", "--fps", "5", "--set", "chunk_frames=2"]
    with subprocess.Popen([sys.executable, "-m", "vidcomp", *words], stderr=subprocess.DEVNULL) as run:
        folder = StreamFolder(here / "s")
        while len(folder.chunks()) < 3:
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    seen = folder.chunks()
    whole = vidcomp.encode(clip, method="evs", fps=5.0, settings=["chunk_frames=2"])
    so_far = recalled(here / "s", None)
    assert torch.equal(so_far.tokens, whole.tokens[: len(so_far)])
    assert len(seen) >= 3


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_stopped_stream_says_so(clip: Path, here: Path, number: int, word: str) -> None:
    words = ["stream", str(clip), "-o", "s", "--method", "evs", "--fps", "5", "--set", "chunk_frames=2"]
    with subprocess.Popen([sys.executable, "-m", "vidcomp", *words], stderr=subprocess.PIPE, text=True) as run:
        while not StreamFolder(here / "s").chunks():
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(number)
        _, said = run.communicate(timeout=30)
    assert (run.returncode, said.count("\n")) == (128 + number, 1)
    assert said.startswith(f"vidcomp: {word}: nothing is torn; what has closed is kept")


def test_one_stream_at_a_time_and_one_recipe(cli: Cli, clip: Path, here: Path) -> None:
    words = ("stream", clip, "-o", "s", "--pace", "max", "--method", "evs", "--set", "chunk_frames=8")
    assert cli(*words).code == 0
    said = cli(*words, "--fps", "3")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "s: holds a stream of other settings" in said.err
    with open(here / "s" / ".stream.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = cli(*words)
    assert (said.code, "another stream is being written there" in said.err) == (1, True)


def test_a_hostile_index_is_no_index(clip: Path, here: Path) -> None:
    list(vidcomp.stream(clip, out="s", **HOW))
    folder = StreamFolder(here / "s")
    good = folder.chunks()[0]
    wrong: list[Any] = [
        {"key": "../../etc/passwd"},
        {"tokens": -5},
        {"tokens": "x"},
        {"offset_s": "1"},
        {"recipe": [1]},
    ]
    wrong += [{"number": True}, {"gap": 1}, {"wall_s": None}, {"audio": 1.5}]
    lines = [json.dumps(good | change) for change in wrong] + ["[1]", "no json", "{}", '{"event": 5}']
    lines += [json.dumps(good)[:-1] + ', "offset_s": NaN}', json.dumps({k: v for k, v in good.items() if k != "end_s"})]
    folder.index.write_text("".join(f"{line}\n" for line in lines))
    assert folder.chunks() == []
    folder.index.unlink()
    os.mkfifo(folder.index)
    with pytest.raises(OutputError, match="no regular file"):
        folder.chunks()


@pytest.mark.parametrize("stream", [5, {}, {"number": 0}, {"number": 0, "offset_s": 0.0, "end_s": 1.0, "gap": 0}])
def test_a_foreign_record_is_not_taken_up(clip: Path, here: Path, stream: Any) -> None:
    record = vidcomp.encode(clip, out="e", method="evs", fps=5.0, settings=["chunk_frames=8"])
    (here / "s").mkdir()
    replace(record, meta={**record.meta, "stream": stream}).save(here / "s" / f"{record.meta['key']}.safetensors")
    list(vidcomp.stream(clip, out="s", **HOW))
    assert [row["number"] for row in StreamFolder(here / "s").chunks()] == [0, 1, 2, 3]


def test_what_a_crash_left_behind_a_gap_keeps_its_time(clip: Path, here: Path) -> None:
    for _ in range(2):
        list(vidcomp.stream(clip, out="s", **HOW))
    folder = StreamFolder(here / "s")
    lines = folder.index.read_bytes().splitlines(keepends=True)
    (first,) = [n for n, line in enumerate(lines) if b'"event":"gap"' in line]
    folder.index.write_bytes(b"".join(lines[: first + 1]))  # the chunk behind the gap, and all later ones
    rows = [json.loads(line) for line in lines if b'"event":"chunk"' in line]
    for row in rows[5:]:
        folder.record(row["key"]).unlink()
    list(vidcomp.stream(clip, out="s", **HOW))
    found = folder.chunks()
    assert {**found[4], "wall_s": 0} == {k: v for k, v in {**rows[4], "wall_s": 0}.items() if k != "lag_s"}
    assert (recalled(here / "s", None).grid_pts_s.diff() > 0).all()


def test_a_crash_before_the_first_line_binds_the_settings(cli: Cli, clip: Path, here: Path) -> None:
    list(vidcomp.stream(clip, out="s", **HOW))
    (here / "s" / "index.jsonl").unlink()
    said = cli(
        "stream", clip, "-o", "s", "--method", "fastvid", "--fps", "5", "--set", "chunk_frames=8", "--pace", "max"
    )
    assert (said.code, "holds a stream of other settings" in said.err) == (1, True)


def test_another_size_of_pictures(cli: Cli, clip: Path, here: Path, tiny: Path) -> None:
    """A file is refused; what can be scaled is."""
    how = ("--model", tiny, "--method", "evs", "--pace", "max", "--set", "chunk_frames=4")
    assert cli("stream", clip, "-o", "s", *how, "--fps", "2").code == 0
    other = make_clip(here / "other.mp4", frames=30, size=(64, 128))
    said = cli("stream", other, "-o", "s", *how, "--fps", "2")
    assert (said.code, "pictures of another size" in said.err) == (1, True)
    raw = b"".join(bytes([n]) * (64 * 128 * 3) for n in range(8))
    words = ["stream", "-", "-o", "s", *map(str, how), "--size", "64x128", "--fps", "2", "--set", "sample.fps=2"]
    done = subprocess.run([sys.executable, "-m", "vidcomp", *words], input=raw, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert len({tuple(vidcomp.load(p).grid[1:]) for p in (here / "s").glob("*.safetensors")}) == 1
    assert (recalled(here / "s", None).grid_pts_s.diff() > 0).all()


def test_a_damaged_chunk_is_put_aside_and_the_rest_answers(
    cli: Cli, clip: Path, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    list(vidcomp.stream(clip, out="s", **HOW))
    assert cli("verify", "s", "--json").json["unlisted"] == []
    rows = StreamFolder(here / "s").chunks()
    damage(here / "s" / f"{rows[1]['key']}.safetensors")
    with open(here / "s" / ".stream.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "a stream is at work here" in cli("verify", "s").err
    with pytest.raises(ConfigError, match="`vidcomp verify` puts it aside"):
        recalled(Path("s"), None)
    assert cli("verify", "s").code == 2
    assert len(recalled(Path("s"), None)) == sum(row["tokens"] for row in rows) - rows[1]["tokens"]
    assert "1 of its 4 chunks are gone" in caplog.text


# -- asked while it goes --------------------------------------------------------------------------------------


def test_ask_a_folder(cli: Cli, clip: Path, here: Path, tiny: Path) -> None:
    words = ("--model", tiny, "--method", "evs", "--fps", "5", "--set", "chunk_frames=8")
    assert cli("stream", clip, "-o", "s", "--pace", "max", *words).code == 0
    record = cli("encode", clip, *words, "--json").json["record"]
    asked = ("What?", "--model", tiny, "--max-new-tokens", "4", "--json")
    of_record, of_stream = cli("ask", record, *asked), cli("ask", "s", *asked)
    for said in (of_record, of_stream):
        assert said.code == 0, said.err
    same_facts = ("answer", "prompt_tokens", "video_tokens", "new_tokens")
    assert [of_record.json[name] for name in same_facts] == [of_stream.json[name] for name in same_facts]
    for tokens in (1, 5, 17):
        assert cli("ask", "s", *asked, "--memory-tokens", tokens).json["video_tokens"] == tokens


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("empty",), "holds no stream of which a chunk is committed"),
        (("r", "--memory-tokens", "5"), "--memory-tokens is for a stream's folder"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    cli: Cli, clip: Path, here: Path, tiny: Path, words: tuple[str, ...], says: str
) -> None:
    (here / "empty").mkdir()
    os.rename(cli("encode", clip, "--json").json["record"], "r")
    said = cli("ask", words[0], "What?", "--model", tiny, *words[1:])
    assert (said.code, said.err.count("\n"), says in said.err) == (1, 1, True)


# -- what cannot be followed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gone.mp4",), "no such file"),
        (("ftp://host/x",), "ftp:// cannot be followed"),
        (("-",), "need --size WxH and --fps F"),
        (("-", "--size", "48", "--fps", "10"), "--size must be WxH"),
        (("-", "--size", "0x9", "--fps", "10"), "a size and a rate above 0"),
        (("-", "--size", "99999999x99999999", "--fps", "10"), "are over"),
        (("rtsp://h/x", "--open-timeout", "inf"), "--open-timeout must be above 0 and at most"),
        (("rtsp://a b/",), "a URL has no spaces"),
        (("-", "--size", "48x32", "--fps", "10", "--set", "sample.frames=3"), "sampl"),
        (("-", "--size", "48x32", "--fps", "10", "--set", "budget.tokens=3"), "a live source has no end"),
        (("rtsp://h/x", "--set", "sample.end_s=3"), "sampl"),
    ],
)
def test_what_cannot_be_followed_is_one_line(cli: Cli, here: Path, words: tuple[str, ...], says: str) -> None:
    said = cli("stream", *words, "-o", "s")
    assert (said.code, said.err.count("\n")) == (1, 1), said.err
    assert says in said.err
    assert list(here.iterdir()) == []  # refused before anything is begun


def test_what_is_no_video_has_failed(cli: Cli, here: Path) -> None:
    (here / "a.mp4").write_text("no video")
    said = cli("stream", "a.mp4", "-o", "s")
    assert (said.code, said.err.count("\n"), "is no video format" in said.err) == (2, 1, True)


def test_a_pipe_without_a_whole_frame_has_failed(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "raw").write_bytes(b"x" * 1000)
    with open("raw", "rb") as stdin:
        monkeypatch.setattr(live_source, "STDIN_FD", stdin.fileno())
        said = cli("stream", "-", "-o", "s", "--size", "48x32", "--fps", "5")
    assert said.code == 2
    assert said.err.splitlines()[0].endswith("the raw frames end in the middle of one: 1000 of its 4608 bytes came")
    assert said.err.splitlines()[1] == "vidcomp: -: not one frame came: check the source"


def test_a_full_disk_is_told_and_what_was_committed_stays(clip: Path, here: Path) -> None:
    words = [
        "stream",
        str(clip),
        "-o",
        "s",
        "--pace",
        "max",
        "--method",
        "evs",
        "--fps",
        "5",
        "--set",
        "chunk_frames=2",
    ]

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    done = subprocess.run(
        [sys.executable, "-m", "vidcomp", *words, "--set", "merger.retain=1"],
        capture_output=True,
        text=True,
        preexec_fn=few,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "raise the limit on a file's size" in done.stderr
    assert [path for path in (here / "s").iterdir() if path.name.endswith(".tmp")] == []
    assert StreamFolder(here / "s").chunks() == []


def test_a_pace_is_one_of_two() -> None:
    with pytest.raises(ConfigError, match="real or max"):
        vidcomp.stream("-", pace="fast")  # type: ignore[arg-type]
