"""The same bytes whoever does the work and in whatever order; and no more work than what has changed."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from vidcomp.pipeline import content
from vidcomp.pipeline.corpus import items
from vidcomp.pipeline.job import Job
from vidcomp.pipeline.manifest import Manifest, rows
from vidcomp.pipeline.presets import build_recipe
from vidcomp.stages.store import record_key

from .conftest import Cli, make_clip
from .test_commands import tiny as tiny  # a fixture

DCT = ("--method", "fastvid", "--fps", "5", "--set", "chunk_frames=8")
QWEN = ("--method", "evs", "--retain", "0.5", "--fps", "4", "--set", "chunk_frames=4")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips of one to three chunks, no two alike; tests do not change them."""
    folder = tmp_path_factory.mktemp("corpus")
    for n in range(7):
        make_clip(folder / f"{n}.mp4", 14 + 5 * n, (64 + 32 * (n % 3), 64))
    return folder


@pytest.fixture
def own(corpus: Path, here: Path) -> Path:
    """A copy of four of them in the working folder."""
    (here / "in").mkdir()
    for path in sorted(corpus.iterdir())[:4]:
        (here / "in" / path.name).write_bytes(path.read_bytes())
    return here / "in"


def records(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.safetensors")}


def state(out: Path) -> dict[str, tuple[int, int]]:
    """Which file stands under each record's name, and since when."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob("*.safetensors")}


def statuses(out: Path) -> dict[str, str]:
    return {Path(row["path"]).name: row["status"] for row in rows(out / "manifest.jsonl")}


# -- the same bytes ----------------------------------------------------------------------------------

slow = pytest.mark.slow


def same_bytes(cli: Cli, corpus: Path, words: Sequence[object], workers: int) -> None:
    """Whether a pool makes what this process makes, from the inputs in another order."""
    mixed = sorted(corpus.iterdir())
    random.Random(workers).shuffle(mixed)
    for out, count, sources in (("here", 0, [corpus]), ("pool", workers, mixed)):
        said = cli("encode", *sources, "-o", out, "--workers", count, "--json", *words)
        assert (said.code, said.json["counts"]) == (0, {"ok": 7}), said.err
    assert len(records(Path("here"))) == 7
    assert records(Path("here")) == records(Path("pool"))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=slow), 2, pytest.param(7, marks=slow)])
def test_the_built_in_encoder_on_so_many_workers(cli: Cli, corpus: Path, here: Path, workers: int) -> None:
    same_bytes(cli, corpus, DCT, workers)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=slow), 2, pytest.param(7, marks=slow)])
def test_a_video_llm_in_bfloat16_on_so_many_workers(
    cli: Cli, corpus: Path, here: Path, tiny: Path, workers: int
) -> None:
    same_bytes(cli, corpus, ("--model", tiny, "--set", "model.dtype=bfloat16", *QWEN), workers)


# -- no more than has changed ------------------------------------------------------------------------


def encode(cli: Cli, source: Path, *more: object) -> tuple[int, set[str]]:
    """(inputs that were cached, names of records that were made) of one run."""
    out = Path("vidcomp-out")
    before = state(out)
    said = cli("encode", source, "--workers", "0", "--json", "--method", "evs", *more)
    assert said.code == 0, said.err
    return said.json["cached"], {name for name, at in state(out).items() if before.get(name) != at}


def test_touched_files_are_not_done_again(cli: Cli, own: Path) -> None:
    assert encode(cli, own)[0] == 0
    for path in own.iterdir():
        os.utime(path, (1, 1))
    before = state(Path("vidcomp-out"))
    assert encode(cli, own) == (4, set())
    assert state(Path("vidcomp-out")) == before
    assert encode(cli, own) == (4, set())


def test_one_byte_of_one_video(cli: Cli, own: Path) -> None:
    encode(cli, own)
    path = own / "3.mp4"
    data = bytearray(path.read_bytes())
    data[data.index(b"x264 - core") + 1] ^= 1  # where the encoder signs: no picture changes
    path.write_bytes(data)
    cached, made = encode(cli, own)
    assert (cached, len(made), len(state(Path("vidcomp-out")))) == (3, 1, 5)
    assert encode(cli, own) == (4, set())


@pytest.mark.parametrize(
    ("setting", "again"),
    [
        ("chunk_frames=16", True),
        ("merger.threshold=0.01", True),
        ("sample.max_frames=1", True),
        ("decode.threads=1", False),
        ("decode.deadline_s=50", False),
        ("compute.threads=2", False),
    ],
)
def test_one_field_of_the_recipe(cli: Cli, own: Path, setting: str, again: bool) -> None:
    encode(cli, own)
    cached, made = encode(cli, own, "--set", setting)
    assert (cached, len(made)) == ((0, 4) if again else (4, 0))
    assert encode(cli, own, "--set", setting) == (4, set())
    assert encode(cli, own) == (4, set())


def finished(folder: Path, count: int) -> None:
    """Inputs, and rows and names of records as a run over them would leave; none of it was ever a video."""
    (folder / "in").mkdir()
    job = Job(build_recipe(), folder / "out")
    for n in range(count):
        (folder / "in" / f"{n}.mp4").write_text(str(n))
    manifest = Manifest(folder / "out")
    for item in items([str(folder / "in")]):
        recipe = job.digest_of(item)
        key = record_key(item.name, recipe)
        manifest.note({"path": item.name, "recipe": recipe, "status": "ok", "key": key, "stamp": item.stamp_text})
        job.store.path(key).touch()


def test_a_finished_run_opens_no_input(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(here, 200)
    before = state(here / "out"), (here / "out" / "manifest.jsonl").read_bytes()
    digested = list[Path]()
    monkeypatch.setattr(content, "content_digest", digested.append)
    monkeypatch.setattr(Job, "run", None)
    said = cli("encode", here / "in", "-o", "out", "--json")
    assert (said.code, said.json["cached"], said.json["counts"], digested) == (0, 200, {"ok": 200}, [])
    assert (state(here / "out"), (here / "out" / "manifest.jsonl").read_bytes()) == before


def test_a_record_that_is_gone_is_made_again(cli: Cli, own: Path) -> None:
    encode(cli, own)
    gone = min(Path("vidcomp-out").glob("*.safetensors"))
    gone.unlink()
    assert encode(cli, own) == (3, {gone.name})
