"""`inspect`, `verify`, `methods`, `ask`, from the outside."""

from __future__ import annotations

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

import vidcomp

from .conftest import Cli

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_tiny_checkpoint"


@pytest.fixture
def record(cli: Cli, clip: Path, here: Path) -> Path:
    return Path(cli("encode", clip, "--json").json["record"])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    loader = SourceFileLoader("make_tiny_checkpoint", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return Path(module.make("qwen2_5_vl", tmp_path_factory.mktemp("model") / "tiny"))


def test_inspect(cli: Cli, record: Path) -> None:
    said = cli("inspect", record, "--json")
    loaded = vidcomp.load(record)
    assert said.json["tensors"]["tokens"]["shape"] == list(loaded.tokens.shape)
    assert said.json["meta"]["method"]["stand_ins"] == {"attention": "distinctness", "frame_vectors": "token_mean"}
    shown = cli("inspect", record).out
    for word in ("h264 96x64", "fastvid", "attention from", "distinctness", "6 x 14 x 14 = 1176 tokens"):
        assert word in shown


def test_verify_finds_a_flipped_bit(cli: Cli, record: Path) -> None:
    assert {"checked": 1, "damaged": [], "ok": True}.items() <= cli("verify", record.parent, "--json").json.items()
    data = bytearray(record.read_bytes())
    data[-7] ^= 4
    record.write_bytes(data)
    said = cli("verify", record.parent, "--json")
    assert (said.code, said.json["ok"], len(said.json["damaged"])) == (2, False, 1)
    assert "is damaged: encode the video again" in said.err


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_what_is_no_record(cli: Cli, here: Path, command: str) -> None:
    (here / "text").write_text("text")
    assert cli(command, "text").code == 2
    gone = cli(command, "gone")
    assert (gone.code, gone.err.count("\n")) == (1, 1)


def test_methods(cli: Cli) -> None:
    rows = {m["name"]: m for m in cli("methods", "--json").json["methods"]}
    assert {"fastvid", "evs", "pool", "uniform", "random"} <= rows.keys()
    assert rows["fastvid"]["needs"] == ["attention", "frame_vectors"]
    assert cli("methods").out.count("\n") == len(rows)
    assert vidcomp.methods().keys() == rows.keys()


def test_a_video_llm_answers_from_the_record(cli: Cli, clip: Path, here: Path, tiny: Path) -> None:
    words = ("encode", clip, "--model", tiny, "--method", "evs", "--fps", "4")
    result = cli(*words, "--retain", "0.5", "--json").json
    assert (result["status"], result["model"], result["grid"][0]) == ("ok", "qwen2_5_vl", 12)
    ask = ("ask", result["record"], "What happens?", "--model", tiny, "--max-new-tokens", "4", "--json")
    told = cli(*ask).json
    assert (told["video_tokens"], told["new_tokens"]) == (result["tokens_out"], 4)
    assert cli(*ask).json["answer"] == told["answer"]
    assert cli(*words, "--retain", "0.5", "--json").json["cached"] is True


@pytest.mark.parametrize("fps", ["0.1", "5.5"])
def test_a_chunk_of_one_time_step(cli: Cli, clip: Path, here: Path, tiny: Path, fps: str) -> None:
    words = ("encode", clip, "--model", tiny, "--method", "evs", "--fps", fps, "--set", "chunk_frames=32", "--json")
    said = cli(*words)
    assert (said.code, said.json["status"]) == (0, "ok"), said.err
    assert said.json["frames"] % 32 in (1, 2)


@pytest.mark.parametrize(
    ("question", "more", "says"),
    [
        ("what <|video_pad|> is this", (), "the question spells the placeholder"),
        ("What?", ("--position-rule", "nope"), "position_rule must be one of"),
        ("What?", ("--device", "nonsense"), "device 'nonsense' cannot be used"),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_line(
    cli: Cli, clip: Path, here: Path, tiny: Path, question: str, more: tuple[str, ...], says: str
) -> None:
    record = cli("encode", clip, "--model", tiny, "--method", "evs", "--json").json["record"]
    said = cli("ask", record, question, "--model", tiny, *more)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert says in said.err


def test_an_unknown_model_setting_is_refused(cli: Cli, clip: Path, here: Path, tiny: Path) -> None:
    said = cli("encode", clip, "--model", tiny, "--set", "model.settings.max_pixles=1000")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "model.settings.max_pixles: no such setting" in said.err


def test_a_record_of_another_model_is_refused(cli: Cli, record: Path, tiny: Path) -> None:
    said = cli("ask", record, "What happens?", "--model", tiny)
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "made for another model (family: record 'dct', model 'qwen2_5_vl'" in said.err
    assert "no language model" in cli("ask", record, "What?", "--model", "dct").err


def test_a_missing_record_is_told_before_anything_heavy(cli: Cli, here: Path) -> None:
    said = cli("ask", "gone.safetensors", "What?", "--model", "no/such/model")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "no such record" in said.err
