"""`vidcomp encode`, from the outside: records, cache, resume, and everything that can be wrong with an input."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import vidcomp
from vidcomp.pipeline.encode import VideoEncoder
from vidcomp.stages.embed import Embedder
from vidcomp.stages.read import LocalReader
from vidcomp.stages.store import Spool

from .conftest import Cli, make_clip, tree_bytes

CHUNKS = ("--fps", "5", "--set", "chunk_frames=8")  # 30 frames: three whole chunks and a short one


def test_the_object_that_json_prints(cli: Cli, clip: Path, here: Path) -> None:
    said = cli("encode", clip, "--json")
    result = said.json
    assert (said.code, said.err) == (0, "")
    assert (result["status"], result["cached"], result["frames"], result["grid"]) == ("ok", False, 6, [6, 14, 14])
    assert result["tokens_in"] == 6 * 14 * 14
    assert result["ratio"] == pytest.approx(result["tokens_out"] / result["tokens_in"])
    assert result["seconds"].keys() == {"decode", "embed", "reduce", "store", "total"}
    wanted = {"codec": "h264", "width": 96, "height": 64, "rotation": 0, "fps": 10.0, "duration_s": 6.0}
    assert wanted.items() <= result["source"].items()
    assert (result["source"]["variable_rate"], result["source"]["has_audio"]) == (False, False)
    record = vidcomp.load(result["record"])
    assert len(record) == result["tokens_out"]
    assert record.grid == (6, 14, 14)


def test_the_table_names_what_was_done(cli: Cli, clip: Path, here: Path) -> None:
    said = cli("encode", clip)
    assert "h264 96x64, 6.00 s, 10.00 fps, no audio" in said.out
    assert "import vidcomp; record = vidcomp.load('vidcomp-out/" in said.out
    assert "6 of 6 frames" in said.err


def test_a_second_run_is_served_from_the_cache_and_changes_no_byte(cli: Cli, clip: Path, here: Path) -> None:
    cli("encode", clip, "--json")
    before = tree_bytes(here)
    again = cli("encode", clip, "--json")
    assert (again.code, again.json["cached"]) == (0, True)
    assert tree_bytes(here) == before


def test_force_gives_the_same_bytes(cli: Cli, clip: Path, here: Path) -> None:
    cli("encode", clip)
    before = tree_bytes(here)
    assert cli("encode", clip, "--force", "--json").json["cached"] is False
    assert tree_bytes(here) == before


def test_two_folders_with_the_same_video_share_a_record(cli: Cli, clip: Path, here: Path) -> None:
    for name in ("a", "b"):
        (here / name).mkdir()
        shutil.copy(clip, here / name / f"{name} film.mp4")
    first, second = (cli("encode", here / n, "--json").json for n in ("a", "b"))
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["record"] == second["record"]


def test_a_cache_hit_imports_no_torch(cli: Cli, clip: Path, here: Path) -> None:
    cli("encode", clip)
    code = (
        "import sys; from vidcomp.pipeline.cli.app import run; "
        f"code = run(['encode', {str(clip)!r}, '--json']); "
        "sys.exit(code or any(m in sys.modules for m in ('torch', 'transformers', 'av')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"cached": true' in done.stdout


@pytest.mark.parametrize("method", ["fastvid", "evs", "random"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    words = ("encode", clip, *CHUNKS, "--method", method)
    cli(*words, "-o", "whole")
    add = Spool.add

    def stop_after_two(self: Spool, number: int, *rest: Any) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return add(self, number, *rest)

    monkeypatch.setattr(Spool, "add", stop_after_two)
    said = cli(*words, "-o", "broken")
    assert (said.code, said.err.strip().splitlines()[-1][:21]) == (130, "vidcomp: interrupted:")
    assert list((here / "broken").glob("*.safetensors")) == []
    monkeypatch.setattr(Spool, "add", add)
    embedded = []
    chunks = VideoEncoder.chunks

    def seen(self: VideoEncoder, *rest: Any) -> Any:
        for part in chunks(self, *rest):
            embedded.append(part)
            yield part

    monkeypatch.setattr(VideoEncoder, "chunks", seen)
    assert cli(*words, "-o", "broken").code == 0
    assert len(embedded) == 2  # the two chunks that were there are not done again
    whole, broken = (tree_bytes(here / name) for name in ("whole", "broken"))
    assert {k: v for k, v in whole.items() if k != "manifest.jsonl"} == {
        k: v for k, v in broken.items() if k != "manifest.jsonl"
    }


def test_sigterm_ends_with_143_and_leaves_no_child(
    cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def below() -> set[str]:
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    others, children = below(), set[str]()  # other tests' clusters may be there

    def stop(self: Spool, *rest: Any) -> Any:
        children.update(below() - others)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Spool, "add", stop)
    assert cli("encode", clip).code == 143
    assert children
    assert not children & below()


def test_a_deadline_holds_for_a_single_input_too(cli: Cli, here: Path) -> None:
    make_clip(here / "long.mp4", frames=1500, size=(320, 240))
    said = cli("encode", "long.mp4", "--deadline", "1", "--fps", "10", "--method", "fastvid")
    assert (said.code, "longer than 1 s: raise --deadline" in said.err) == (2, True)
    said = cli("encode", "long.mp4", "--deadline", "1", "--workers", "0")
    assert (said.code, said.err.count("\n"), "ask for --workers 1 or more" in said.err) == (1, 1, True)


def test_exact_budgets(cli: Cli, clip: Path, here: Path) -> None:
    for method in ("fastvid", "evs", "pool"):
        result = cli("encode", clip, *CHUNKS, "--method", method, "--tokens", 101, "--json").json
        assert (result["tokens_out"], result["budget"]["nominal"]) == (101, 101)
    result = cli("encode", clip, *CHUNKS, "--tokens-per-second", 7.5, "--json").json
    assert result["tokens_out"] == 45


def test_a_record_knows_no_path_host_or_time(cli: Cli, clip: Path, here: Path) -> None:
    data = Path(cli("encode", clip, "--json").json["record"]).read_bytes()
    for word in (clip.name, str(here), socket.gethostname(), "seconds_total"):
        assert word.encode() not in data


def test_causal_settings_do_not_depend_on_the_chunk_size(cli: Cli, clip: Path, here: Path) -> None:
    records = []
    for size in (3, 8, 64):
        words = ("--fps", "5", "--method", "evs", "--set", "merger.threshold=0.001", "--set", f"chunk_frames={size}")
        records.append(vidcomp.load(cli("encode", clip, *words, "--json").json["record"]))
    for other in records[1:]:
        assert torch.equal(records[0].tokens, other.tokens)
        assert torch.equal(records[0].positions, other.positions)
        assert torch.equal(records[0].pts_s, other.pts_s)


def test_python_and_the_command_line_make_the_same_record(cli: Cli, clip: Path, here: Path) -> None:
    path = cli("encode", clip, "--method", "fastvid", "--retain", 0.2, "--fps", 2, "--json").json["record"]
    record = vidcomp.encode(clip, model="dct", method="fastvid", retain=0.2, fps=2, out="python")
    record.save("again.safetensors")
    assert Path(path).read_bytes() == Path("python", Path(path).name).read_bytes()
    assert Path(path).read_bytes() == Path("again.safetensors").read_bytes()


# -- what can be wrong -------------------------------------------------------------------------------


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def half(path: Path, movflags: str) -> None:
    data = make_clip(path, frames=200, size=(320, 240), movflags=movflags).read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: p.write_text("not a video\n"), "not_video"),
        (lambda p: p.touch(), "empty"),
        (audio_only, "no_video"),
        (lambda p: half(p, ""), "corrupt"),
        (lambda p: os.mkfifo(p), "unreadable"),
    ],
    ids=["text", "empty", "audio", "index lost", "fifo"],
)
def test_an_input_that_fails_is_one_line_and_exit_2(cli: Cli, here: Path, make: Any, reason: str) -> None:
    make(here / "bad.mp4")
    said = cli("encode", "bad.mp4", "--json")
    assert (said.code, said.json["status"], said.json["record"]) == (2, f"failed:{reason}", None)
    assert said.err.count("\n") == 1
    assert said.err.startswith(f"vidcomp: bad.mp4: failed:{reason}: ")
    assert [p.name for p in (here / "vidcomp-out").iterdir()] == ["manifest.jsonl"]


def test_a_cut_file_with_its_index_is_partial(cli: Cli, here: Path) -> None:
    half(here / "half.mp4", "faststart")
    said = cli("encode", "half.mp4", "--json")
    assert (said.code, said.json["status"], said.json["decoded"]["declared"]) == (0, "partial", 200)
    assert 0 < said.json["decoded"]["decoded"] < 200
    assert cli("encode", "half.mp4", "--strict").code == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gone.mp4"], "no such file"),
        (["empty"], "no videos in this folder"),
        (["{clip}", "--method", "nope"], "no method 'nope'; there are: "),
        (["{clip}", "--retain", "0"], "budget.retain: must be greater than 0, got 0.0"),
        (["{clip}", "--retain", "1.5"], "budget.retain: must be less than or equal to 1, got 1.5"),
        (["{clip}", "--retain", "much"], "--retain"),
        (["{clip}", "--set", "merger.nope=1"], "has no 'nope'; it has: "),
        (["{clip}", "--set", "merger.beta=7"], "beta"),
        (["{clip}", "--method", "evs", "--set", "merger.name=fastvid"], "needs attention, which model 'dct' does not"),
        (["{clip}", "--config", "gone.yaml"], "no config 'gone.yaml'"),
        (["{clip}", "--model", "./empty"], "config.json"),
        (["{clip}", "--nope"], "No such option"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_1(cli: Cli, clip: Path, here: Path, words: list[str], says: str) -> None:
    (here / "empty").mkdir()
    said = cli("encode", *(w.format(clip=clip) for w in words))
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert says in said.err
    assert [p.name for p in here.iterdir()] == ["empty"]


def test_several_inputs_are_all_accounted_for(cli: Cli, clip: Path, here: Path) -> None:
    (here / "in").mkdir()
    shutil.copy(clip, here / "in" / "a.mp4")
    (here / "in" / "b.mp4").write_text("text")
    make_clip(here / "in" / "c.mp4", frames=20)
    said = cli("encode", "in", "--json")
    assert said.code == 2
    assert said.json["counts"] == {"ok": 2, "failed:not_video": 1}
    assert [f["path"] for f in said.json["failures"]] == ["in/b.mp4"]
    assert len(Path(said.json["manifest"]).read_text().splitlines()) == 3
    assert "3 inputs: 1 failed:not_video, 2 ok (3 from the cache)" in cli("encode", "in").out


# -- found by review: each stood broken once ---------------------------------------------------------


def damaged(path: Path) -> Path:
    """A clip whose last tenth is noise: its end decides that it is partial."""
    data = bytearray(make_clip(path, frames=60, size=(160, 120), movflags="faststart").read_bytes())
    tail = len(data) // 8
    data[-tail:] = bytes(b ^ 0x5A for b in data[-tail:])
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("where", ["add", "finish"])
def test_a_damaged_video_is_judged_alike_after_an_interruption(
    cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    bad = damaged(here / "bad.mp4")
    words = ("encode", bad, *CHUNKS)
    whole = cli(*words, "-o", "whole", "--json").json
    assert whole["status"] == "partial"
    real = getattr(Spool, where)

    def stop(self: Spool, *rest: Any) -> Any:
        if where == "finish" or rest[0] == 2:
            raise KeyboardInterrupt
        return real(self, *rest)

    monkeypatch.setattr(Spool, where, stop)
    assert cli(*words, "-o", "broken").code == 130
    monkeypatch.setattr(Spool, where, real)
    again = cli(*words, "-o", "broken", "--json").json
    assert again["status"] == "partial"
    assert Path(again["record"]).read_bytes() == Path(whole["record"]).read_bytes()


def test_a_file_that_changes_while_it_is_read_gets_no_record(
    cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(clip, here / "a.mp4")
    opened = LocalReader.open

    def swap(self: LocalReader, *rest: Any) -> Any:
        make_clip(here / "a.mp4", frames=20)
        return opened(self, *rest)

    monkeypatch.setattr(LocalReader, "open", swap)
    said = cli("encode", "a.mp4", "--json")
    assert (said.code, said.json["status"]) == (2, "failed:unreadable")
    assert "changed while it was read" in said.err
    assert [p.name for p in (here / "vidcomp-out").iterdir()] == ["manifest.jsonl"]


def test_values_that_are_not_finite_are_refused(
    cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = Embedder.embed

    def broken(self: Embedder, *rest: Any) -> Any:
        chunk = embed(self, *rest)
        chunk.grid.data[..., 0] = float("nan")
        return chunk

    monkeypatch.setattr(Embedder, "embed", broken)
    said = cli("encode", clip, "--method", "uniform")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "not finite" in said.err


def test_the_recipe_decides_the_threads(cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, embed, before = [], Embedder.embed, torch.get_num_threads()

    def watch(self: Embedder, *rest: Any) -> Any:
        seen.append(torch.get_num_threads())
        return embed(self, *rest)

    monkeypatch.setattr(Embedder, "embed", watch)
    cli("encode", clip)
    cli("encode", clip, "--force", "--set", "compute.threads=3")
    assert seen == [1, 3]
    assert torch.get_num_threads() == before


def test_more_frames_a_second_than_there_are(cli: Cli, clip: Path, here: Path) -> None:
    result = cli("encode", clip, "--fps", "30", "--tokens-per-second", "10", "--json").json
    assert (result["frames"], result["tokens_out"]) == (60, 60)
    record = vidcomp.load(result["record"])
    assert (record.meta["fps"], record.meta["seconds_per_step"]) == (10.0, 0.1)


def test_a_finished_record_drops_the_spool_that_a_crash_left(cli: Cli, clip: Path, here: Path) -> None:
    path = Path(cli("encode", clip, "--json").json["record"])
    left = path.parent / ".parts" / path.stem
    left.mkdir(parents=True)
    (left / "000000.safetensors").write_bytes(b"left over")
    assert cli("encode", clip, "--json").json["cached"] is True
    assert not left.parent.exists()


def test_an_encoder_that_cannot_be_built_ends_the_run(
    cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: VideoEncoder, *rest: Any) -> None:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(VideoEncoder, "__init__", fail)
    said = cli("encode", clip, clip)
    assert (said.code, said.err) == (1, "vidcomp: model 'dct' cannot be loaded (RuntimeError: out of memory)\n")


@pytest.mark.parametrize(
    "words",
    [
        ["{clip}", "-o", "{clip}"],
        ["{clip}", "-o", "/proc/nope"],
        ["{clip}", "--set", "model.dtype=float16"],
        ["{clip}", "--set", "merger.beta=.nan"],
        ["{clip}", "--set", "merger.beta=2020-01-01"],
        ["{clip}", "--set", "merger.k=2.5"],
        ["{clip}", "--set", "merger.retain=abc"],
        ["{clip}", "--set", "decode.deadline_s=.inf"],
        ["{clip}", "--tokens-per-second", "inf"],
        ["{clip}", "--fps", "nan"],
        ["x" * 300],
        ["{clip}", "--config", "x" * 300],
        ["{clip}", "--set", "compute.device=nonsense"],
    ],
)
def test_odd_settings_are_one_line_too(cli: Cli, clip: Path, here: Path, words: list[str]) -> None:
    said = cli("encode", *(w.format(clip=clip) for w in words))
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1), said.err
    assert "internal" not in said.err


def test_a_name_that_is_no_utf8_can_be_told(here: Path, clip: Path) -> None:
    name = os.fsencode(here) + b"/bad\xff name\n.mp4"
    shutil.copy(os.fsencode(clip), name)
    words = [sys.executable, "-m", "vidcomp", "encode", name]
    done = subprocess.run(
        words, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
