"""`--audio-guide` from a file to its record: who speaks gets the larger budgets, whatever the sound is like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from media import make_clip
from voices import Voice, make_talk

import vidcomp
from vidcomp.models.types import ShapeError
from vidcomp.pipeline import far
from vidcomp.pipeline.config import Recipe
from vidcomp.pipeline.errors import ConfigError
from vidcomp.pipeline.far_read import FarReader
from vidcomp.pipeline.item import Item
from vidcomp.pipeline.job import Job
from vidcomp.pipeline.presets import build_recipe
from vidcomp.stages.guide_weights import shares
from vidcomp.stages.store import Spool

from .conftest import Cli, tree_bytes

SECONDS = 16.0
SPOKEN = [(4.0, 6.0), (10.0, 12.0)]  # windows 2 and 5 of 8
TALK = Voice(SPOKEN, SECONDS)
MODES = ["omnizip", "proportional"]
METHODS = ["evs", "fastvid"]
MORE = ["tome", "linspace", "dycoke", "prunevid", "pool", "static_runs", "ward"]


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_talk(tmp_path_factory.mktemp("talk") / "talk.mkv", SECONDS, TALK)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


def encode(clip: Path, out: Path, mode: str = "off", chunk: int = 32, **how: Any) -> vidcomp.VideoRecord:
    settings = [f"chunk_frames={chunk}", *how.pop("settings", ())]
    return vidcomp.encode(clip, out=out, audio_guide=mode, settings=settings, **{"fps": 2.0, **how})


def kept(record: vidcomp.VideoRecord, steps: int = 4) -> list[int]:
    """Tokens of each window of 2 s."""
    counts = torch.bincount(record.positions[:, 0].long(), minlength=record.grid[0])
    return [int(part.sum()) for part in counts.split(steps)]


def heard(record: vidcomp.VideoRecord, steps: int = 4) -> list[float]:
    assert record.saliency is not None
    return [float(part.mean()) for part in record.saliency.split(steps)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", [*METHODS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_who_speaks_gets_the_larger_budgets(talk: Path, out: Path, method: str, mode: str) -> None:
    unguided = len(encode(talk, out, method=method))
    for budget, total in (({}, unguided), ({"tokens": 1001}, 1001), ({"tokens_per_second": 33.5}, 536)):
        on = encode(talk, out, mode, method=method, **budget)
        assert len(on) == total
        counts, even = kept(on), len(on) / 8
        assert min(counts[2], counts[5]) > max(counts[i] for i in (0, 1, 3, 4, 6, 7))
        assert all(0.6 * even - 1 <= count <= 1.6 * even + 1 for count in counts)
        assert counts == shares(len(on), on.guide_weights[::4].tolist(), [4 * on.grid[1] * on.grid[2]] * 8)
    assert on.meta["audio_guide"] == {"mode": mode, "window_steps": 4, "heard": True, "by": "analyser"}
    assert min(heard(on)[2], heard(on)[5]) > 0.5
    assert max(heard(on)[i] for i in (0, 1, 3, 4, 6, 7)) < 0.05


def test_off_is_as_if_it_were_not_there(talk: Path, out: Path) -> None:
    plain = vidcomp.encode(talk, out=out, fps=2.0, settings=["chunk_frames=32"])
    off = encode(talk, out)
    assert off.meta["key"] == plain.meta["key"]
    assert off.saliency is None
    assert "audio_guide" not in off.meta
    assert "audio_guide" not in off.meta["recipe"]
    on = encode(talk, out, "omnizip")
    assert on.meta["recipe"]["audio_guide"] == {"mode": "omnizip", "window_s": 2.0}
    assert len({off.meta["key"], on.meta["key"], encode(talk, out, "proportional").meta["key"]}) == 3


def test_a_record_goes_through_a_file(talk: Path, out: Path, tmp_path: Path) -> None:
    on = encode(talk, out, "omnizip")
    on.save(tmp_path / "a.safetensors")
    again = vidcomp.load(tmp_path / "a.safetensors")
    for name in ("saliency", "guide_weights"):
        value = getattr(on, name)
        assert torch.equal(getattr(again, name), value)
        for wrong in (value[:-1], value.double()):
            with pytest.raises(ShapeError, match=name):
                replace(on, **{name: wrong})
    assert not on.meta["method"]["causal"]


@pytest.mark.parametrize("chunk", [8, 12])
def test_each_chunk_is_shared_out_by_itself(talk: Path, out: Path, chunk: int) -> None:
    off, on = (encode(talk, out, mode, chunk, method="fastvid") for mode in ("off", "proportional"))
    assert kept(on, chunk) == kept(off, chunk)
    assert kept(on)[2] > kept(on)[3]
    assert on.saliency.shape == (32,)


def test_a_window_is_as_long_as_is_asked(talk: Path, out: Path) -> None:
    on = encode(talk, out, "proportional", settings=["audio_guide.window_s=0.5"])
    assert on.meta["audio_guide"]["window_steps"] == 1
    ranked = sorted(range(32), key=lambda t: float(on.saliency[t]))
    weights = [float(on.guide_weights[t]) for t in ranked]
    assert weights == sorted(weights)


def test_the_loudest_of_all_sounds_counts_not_its_gain(talk: Path, out: Path, tmp_path: Path) -> None:
    quiet = make_talk(tmp_path / "quiet.mkv", SECONDS, Voice(SPOKEN, SECONDS, loud=0.1))
    one, other = (encode(clip, out, "proportional") for clip in (talk, quiet))
    torch.testing.assert_close(one.saliency, other.saliency, rtol=0, atol=0.02)  # 16 bits round


# -- sound of every kind -----------------------------------------------------------------------------------

KINDS: dict[str, tuple[Voice, ...]] = {
    "8 kHz": (Voice(SPOKEN, SECONDS, rate=8000),),
    "5.1": (Voice(SPOKEN, SECONDS, rate=48000, layout="5.1"),),
    "AAC": (Voice(SPOKEN, SECONDS, rate=44100, layout="stereo", codec="aac"),),
    "shorter": (Voice(SPOKEN, 12.5),),
    "longer": (Voice([*SPOKEN, (17, 30)], 30.0),),
    "later": (Voice(SPOKEN, SECONDS - 3.3, start_s=3.3),),
    "several": (TALK, Voice([(0.0, 2.0)], SECONDS)),  # the first is the one that players play
}


@pytest.mark.parametrize("kind", KINDS)
def test_sound_of_every_kind(kind: str, tmp_path: Path) -> None:
    clip = make_talk(tmp_path / "talk.mkv", SECONDS, *KINDS[kind])
    on = encode(clip, tmp_path / "out", "proportional", method="linspace")
    loud = heard(on)
    assert min(loud[2], loud[5]) > 0.3
    assert min(kept(on)[2], kept(on)[5]) > max(kept(on)[i] for i in (0, 1, 3, 4, 6, 7))
    assert len(on) == len(encode(clip, tmp_path / "out", method="linspace"))


def test_sound_beside_the_videos_clock(talk: Path, out: Path) -> None:
    """A part of the video hears its own part of the sound."""
    window = ["sample.start_s=3.9", "sample.end_s=11"]
    on = encode(talk, out, "proportional", settings=window)
    assert float(on.grid_pts_s[0]) == 4.0
    assert [value > 0.3 for value in heard(on)] == [True, False, False, True]


@pytest.mark.parametrize("mode", MODES)
def test_a_video_without_sound(out: Path, tmp_path: Path, mode: str) -> None:
    clip = make_clip(tmp_path / "mute.mp4", count=40, fps=5, size=(96, 64))
    off, on = encode(clip, out), encode(clip, out, mode)
    for name, value in off.tensors().items():
        assert torch.equal(on.tensors()[name], value)
    assert on.saliency is None
    assert on.meta["audio_guide"] == {"mode": mode, "window_steps": 4, "heard": False}


@pytest.mark.parametrize("mode", MODES)
def test_silent_sound_is_even(out: Path, tmp_path: Path, mode: str) -> None:
    clip = make_talk(tmp_path / "silent.mkv", 8.0, Voice([], 8.0, loud=0.0))
    on = encode(clip, out, mode, method="evs", tokens=401)
    assert on.saliency.tolist() == [0.0] * 16
    assert on.guide_weights.tolist() == pytest.approx([1.0] * 16)
    assert kept(on) == [101, 100, 100, 100]


# -- models that listen ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["qwen2_5_omni", "qwen3_omni_moe"])
def test_a_model_that_listens_decides_by_its_own_attention(
    tiny_maker: ModuleType, talk: Path, tmp_path: Path, family: str
) -> None:
    folder = str(tiny_maker.make(family, tmp_path / family))
    how: dict[str, Any] = {"model": folder, "method": "uniform", "retain": 0.5, "fps": 2.0}
    off, on = (encode(talk, tmp_path / "out", mode, **how) for mode in ("off", "proportional"))
    assert on.meta["audio_guide"]["by"] == "model"
    assert len(on) == len(off)
    assert len(on.audio) == len(off.audio)
    assert bool((on.saliency[:10] > 0).all())  # Qwen2.5-Omni's tiny processor takes 10 s
    assert on.meta["audio_guide"]["window_steps"] == 2
    order = sorted(range(len(kept(on, 2))), key=lambda w: float(on.guide_weights[2 * w]))
    assert [kept(on, 2)[w] for w in order] == sorted(kept(on, 2))
    deaf = encode(talk, tmp_path / "out", "proportional", settings=["model.sound=false"], **how)
    assert deaf.meta["audio_guide"]["by"] == "analyser"
    assert min(heard(deaf, 2)[2], heard(deaf, 2)[5]) > 0.5


# -- how it is asked for -----------------------------------------------------------------------------------


def test_from_the_command_line(cli: Cli, talk: Path, here: Path) -> None:
    said = cli("encode", talk, "--fps", 2, "--audio-guide", "omnizip", "-o", "a", "--json")
    assert said.code == 0
    record = vidcomp.load(said.json["record"])
    assert record.meta["audio_guide"]["mode"] == "omnizip"
    assert len(record) == said.json["tokens_out"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--audio-guide", "loudest"), "audio_guide.mode: must be 'off', 'omnizip' or 'proportional', got 'loudest'"),
        (("--set", "audio_guide.mode=omnizip", "--set", "audio_guide.window_s=0"), "audio_guide.window_s: must be"),
        (("--audio-guide", "omnizip", "--method", "omnizip"), "shares its tokens out by what it hears itself"),
    ],
)
def test_what_cannot_be_is_refused(cli: Cli, talk: Path, here: Path, words: tuple[str, ...], told: str) -> None:
    said = cli("encode", talk, *words)
    assert said.code == 1
    assert told in said.err
    assert said.err.strip().count("\n") == 0


def test_a_gate_leaves_the_total_as_it_is(talk: Path, out: Path) -> None:
    off, on = (encode(talk, out, mode, method="evs", gate="rlt", tokens=900) for mode in ("off", "proportional"))
    assert len(on) == len(off) == 900


# -- the same bytes ----------------------------------------------------------------------------------------


def records(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree_bytes(folder).items() if name.endswith(".safetensors")}


@pytest.mark.parametrize("causal", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    cli: Cli, talk: Path, here: Path, monkeypatch: pytest.MonkeyPatch, causal: bool
) -> None:
    words = ("encode", talk, "--fps", 2, "--audio-guide", "proportional", "--set", "chunk_frames=8")
    words += ("--method", "evs", "--set", "merger.threshold=0.02") if causal else ()
    assert cli(*words, "-o", "whole").code == 0
    add = Spool.add

    def stopping(self: Spool, number: int, *rest: Any) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return add(self, number, *rest)

    monkeypatch.setattr(Spool, "add", stopping)
    assert cli(*words, "-o", "broken").code == 130
    monkeypatch.setattr(Spool, "add", add)
    assert cli(*words, "-o", "broken").code == 0
    assert records(here / "whole") == records(here / "broken")


def test_read_on_another_machine(talk: Path, here: Path) -> None:
    """What a node that reads hands over, in this process: the same bytes."""
    recipe = build_recipe(over={"audio_guide": {"mode": "proportional"}, "sample": {"fps": 2.0}})
    code = far.code_here()

    def stream(cpus: float, generate: Callable[..., Any], *words: Any) -> Any:
        return generate(*words)

    def build(given: Recipe, identity: Any) -> Any:
        from vidcomp.pipeline.encode import VideoEncoder
        from vidcomp.pipeline.far_embed import OneAtATime

        encoder = VideoEncoder(given, identity, FarReader(stream, recipe.model_dump(mode="json"), code, 1))
        encoder.embedder = OneAtATime.of(encoder.embedder)
        return encoder

    for folder, how in (("near", None), ("far", build)):
        job = Job(recipe, here / folder, how)
        assert job.run(Item.local(str(talk))).status == "ok"
        job.close()
    assert len(records(here / "far")) == 1
    assert records(here / "near") == records(here / "far")


def test_workers_give_the_same_bytes(cli: Cli, talk: Path, here: Path) -> None:
    for workers in (0, 1):
        words = ("encode", talk, "--fps", 2, "--audio-guide", "omnizip", "--workers", workers)
        assert cli(*words, "-o", f"w{workers}").code == 0
    assert records(here / "w0") == records(here / "w1")


def test_a_config_error_from_python(talk: Path, out: Path) -> None:
    with pytest.raises(ConfigError, match=r"audio_guide\.mode"):
        encode(talk, out, "louder")
