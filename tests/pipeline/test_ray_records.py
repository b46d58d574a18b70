"""Records of `--engine ray` are those of one process, with the built-in encoder, with a video LLM, and with sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import Cli, make_clip
from .ray_help import kept
from .test_commands import tiny as tiny  # a fixture
from .test_engines import DCT, QWEN
from .test_sound import Track, make

pytest.importorskip("ray")

SLOW = pytest.mark.slow
LISTENING = ("--fps", "2", "--set", "chunk_frames=4")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips of one to three chunks, no two alike."""
    folder = tmp_path_factory.mktemp("ray")
    for n in range(7):
        make_clip(folder / f"{n}.mp4", 14 + 5 * n, (64 + 32 * (n % 3), 64))
    return folder


@pytest.fixture(scope="module")
def with_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips with sound in several pieces, in other places than the pictures, and without."""
    folder = tmp_path_factory.mktemp("sound")
    make(folder / "long.mkv", Track(seconds=23.0), seconds=23.0)
    make(folder / "later.mkv", Track(start_s=1.7, seconds=3.0))
    make(folder / "stereo.mkv", Track(video_s=1.3, rate=48000, layout="stereo"))
    make(folder / "mute.mkv", None)
    return folder


@pytest.fixture(scope="module")
def omni(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that listens."""
    return tiny_maker.make("qwen2_5_omni", tmp_path_factory.mktemp("omni") / "checkpoint")


def same_bytes(cli: Cli, corpus: Path, words: Sequence[object], workers: int) -> int:
    """How many records one process makes, and Ray the same bytes of each."""
    count = len(list(corpus.iterdir()))
    for out, how in (("here", ("--workers", 0)), ("far", ("--engine", "ray", "--workers", workers))):
        said = cli("encode", corpus, "-o", out, *how, "--json", *words)
        assert (said.code, said.json["counts"]) == (0, {"ok": count}), said.err
    assert kept(Path("here")) == kept(Path("far"))
    return len(list(Path("far").glob("*.safetensors")))


@SLOW
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_built_in_encoder_on_so_many_actors(cli: Cli, corpus: Path, here: Path, workers: int) -> None:
    assert same_bytes(cli, corpus, DCT, workers) == 7


@pytest.mark.parametrize("workers", [pytest.param(1, marks=SLOW), 2, pytest.param(7, marks=SLOW)])
def test_a_video_llm_in_bfloat16_on_so_many_actors(
    cli: Cli, corpus: Path, here: Path, tiny: Path, workers: int
) -> None:
    assert same_bytes(cli, corpus, ("--model", tiny, "--set", "model.dtype=bfloat16", *QWEN), workers) == 7


@SLOW
@pytest.mark.parametrize("method", [("omnizip",), ("uniform", "--retain", "1.0")])
def test_a_model_that_listens(cli: Cli, with_sound: Path, here: Path, omni: Path, method: Sequence[str]) -> None:
    assert same_bytes(cli, with_sound, ("--model", omni, *LISTENING, "--method", *method), 1) == 4


@SLOW
def test_sound_that_only_guides(cli: Cli, with_sound: Path, here: Path) -> None:
    words = ("--method", "evs", "--retain", "0.5", "--set", "audio_guide.mode=proportional")
    assert same_bytes(cli, with_sound, (*LISTENING, *words), 1) == 4
