"""`vidcomp ask` and `Asker`: one prefill for many questions, kept on disk if wanted, and all that can be wrong."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import vidcomp
from vidcomp.models.asking import Asker
from vidcomp.models.consume import refuse_stray
from vidcomp.models.families import families, family_module

from .conftest import Cli

READERS = [name for name in families() if hasattr(family_module(name), "READER")]
QUESTIONS = ("What happens?", "Who is it? Ω")
SHORT = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}


@dataclass(frozen=True)
class Case:
    """A tiny checkpoint and a record of it."""

    folder: Path
    clip: Path
    out: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", self.folder.with_suffix(".out"))

    def encode(self, **how: Any) -> vidcomp.VideoRecord:
        how = {"method": "evs", "retain": 0.5, "fps": 2.0, **how}
        return vidcomp.encode(self.clip, model=str(self.folder), out=self.out, **how)

    def path(self, **how: Any) -> Path:
        """Of a record's file."""
        return self.out / f"{self.encode(**how).meta['key']}.safetensors"

    @cached_property
    def record(self) -> vidcomp.VideoRecord:
        return self.encode()

    @cached_property
    def file(self) -> Path:
        return self.path()

    @cached_property
    def llm(self) -> tuple[Any, Any]:
        return vidcomp.load_llm(str(self.folder))

    def fresh(self, question: str, *records: vidcomp.VideoRecord, **how: Any) -> Tensor:
        """New ids from a prompt of its own."""
        model, tokenizer = self.llm
        inputs = vidcomp.prepare(model, tokenizer, list(records) or self.record, question)
        made: Tensor = model.generate(**inputs, **{**SHORT, **how})
        return made[0, inputs["input_ids"].shape[1] :]

    def text(self, question: str, *records: vidcomp.VideoRecord, **how: Any) -> str:
        return str(self.llm[1].decode(self.fresh(question, *records, **how), skip_special_tokens=True)).strip()


@pytest.fixture(scope="session")
def cases(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Callable[..., Case]:
    """Of a family; `text`: changes to the language model's part of config.json."""
    home = tmp_path_factory.mktemp("ask")

    @lru_cache
    def case(family: str, dtype: str = "float32", seed: int = 0, text: str = "{}") -> Case:
        folder = home / f"{family}-{dtype}-{seed}-{len(text)}"
        tiny_maker.make(family, folder, dtype=dtype, seed=seed)
        config = json.loads((folder / "config.json").read_text())
        if changes := json.loads(text):
            config["text_config"] = {k: v for k, v in config["text_config"].items() if k != "layer_types"} | changes
            (folder / "config.json").write_text(json.dumps(config))
        return Case(folder, clip)

    return case


@pytest.fixture
def case(cases: Callable[..., Case]) -> Case:
    return cases("qwen2_5_vl")


@pytest.fixture
def prefilled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of all prefixes that are computed."""
    lengths, prefill = list[int](), Asker.prefill

    def watched(self: Asker) -> Any:
        if self.cache is None:
            lengths.append(len(self.prefix.ids))
        return prefill(self)

    monkeypatch.setattr(Asker, "prefill", watched)
    return lengths


def words(case: Case, *questions: str, file: Path | None = None) -> list[object]:
    """The command line's."""
    return ["ask", file or case.file, *questions, "--model", case.folder, "--max-new-tokens", 6]


# -- answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", READERS)
def test_every_family_answers_and_keeps_its_prefix(
    cli: Cli, cases: Callable[..., Case], family: str, here: Path, prefilled: list[int]
) -> None:
    case = cases(family)
    for _ in range(2):
        said = cli(*words(case, *QUESTIONS), "--save-kv", "kv", "--json")
        assert (said.code, said.err) == (0, "")
        wanted = [case.text(question, min_new_tokens=None) for question in QUESTIONS]
        assert [one["answer"] for one in said.json["answers"]] == wanted
    assert len(prefilled) == len(list((here / "kv").iterdir())) == 1


def test_one_question(cli: Cli, case: Case, here: Path) -> None:
    said = cli(*words(case, QUESTIONS[0]), "--json")
    assert said.json["record"] == str(case.file)
    assert said.json["question"] == QUESTIONS[0]
    assert said.json["answer"] == case.text(QUESTIONS[0], min_new_tokens=None)
    assert said.json["video_tokens"] == len(case.record)
    assert said.json["prompt_tokens"] == vidcomp.prepare(*case.llm, case.record, QUESTIONS[0])["input_ids"].shape[1]
    assert said.json["seconds"].keys() == {"load", "prefill", "answer"}
    assert list(here.iterdir()) == []


def test_answers_come_as_they_are_made(cli: Cli, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = list[str]()
    monkeypatch.setattr("vidcomp.pipeline.cli.ask.put_part", parts.append)
    assert cli("ask", case.file, QUESTIONS[0], "--model", case.folder, "--max-new-tokens", 40).code == 0
    assert len(parts) > 1
    assert "".join(parts).strip() == case.text(QUESTIONS[0], max_new_tokens=40, min_new_tokens=None)


def test_several_questions_are_told_apart(cli: Cli, case: Case) -> None:
    said = cli(*words(case, *QUESTIONS))
    assert said.code == 0
    assert [line for line in said.out.splitlines() if line.startswith("> ")] == [f"> {text}" for text in QUESTIONS]


def test_a_question_does_not_know_of_the_one_before(cli: Cli, case: Case) -> None:
    one, other = (cli(*words(case, *texts), "--json").json["answers"] for texts in (QUESTIONS, QUESTIONS[::-1]))
    assert [said["answer"] for said in one] == [said["answer"] for said in other[::-1]]


def test_two_videos(cli: Cli, case: Case) -> None:
    second = case.path(retain=0.2)
    said = cli(*words(case, QUESTIONS[0]), "--also", second, "--json")
    assert said.json["also"] == [str(second)]
    records = [case.record, vidcomp.load(second)]
    assert said.json["answer"] == case.text(QUESTIONS[0], *records, min_new_tokens=None)
    assert said.json["video_tokens"] == sum(map(len, records))


def test_bfloat16(cli: Cli, cases: Callable[..., Case], case: Case, here: Path) -> None:
    half = cases("qwen2_5_vl", dtype="bfloat16")
    answers = [cli(*words(half, *QUESTIONS), "--save-kv", "kv", "--json").json["answers"] for _ in range(2)]
    assert [one["answer"] for one in answers[0]] == [half.text(text, min_new_tokens=None) for text in QUESTIONS]
    assert [one["answer"] for one in answers[0]] == [one["answer"] for one in answers[1]]
    assert cli(*words(case, *QUESTIONS), "--dtype", "bfloat16", "--save-kv", "kv").code == 0
    assert len(list((here / "kv").iterdir())) == 2


@pytest.mark.parametrize("question", ["", "  \n", "?" * 4100, "Was ist das?\n\nUnd 这是什么 🎬\x00\x1b[2J"])
def test_odd_questions(cli: Cli, case: Case, question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is longer than the tokenizer's idea of a text."""
    logger, heard = logging.getLogger("transformers"), list[logging.LogRecord]()
    monkeypatch.setattr(logger, "handlers", [handler := logging.Handler()])
    handler.emit = heard.append  # type: ignore[method-assign]
    said = cli(*words(case, question), "--json")
    assert (said.code, said.err, heard) == (0, "", [])
    assert said.json["answer"] == case.text(question, min_new_tokens=None)
    if "\x1b" in question:
        assert "\x1b" not in cli(*words(case, question, question)).out


# -- the prefix on disk --------------------------------------------------------------------------------


def test_what_decides_a_prefix(cli: Cli, cases: Callable[..., Case], case: Case, here: Path) -> None:
    """Each of these is a file of its own, questions are not."""
    other, seeded = case.path(retain=0.2), cases("qwen2_5_vl", seed=1)
    asked = [
        words(case, *QUESTIONS),
        [*words(case, *QUESTIONS), "--also", other],
        [*words(case, *QUESTIONS, file=other), "--also", case.file],
        words(case, *QUESTIONS, file=other),
        [*words(case, *QUESTIONS), "--count-sizes"],
        [*words(case, *QUESTIONS), "--position-rule", "hw"],
        [*words(case, *QUESTIONS), "--dtype", "float16"],
        words(seeded, *QUESTIONS),
    ]
    for count, line in enumerate(asked, 1):
        for questions in (QUESTIONS, QUESTIONS[::-1]):
            assert cli(*[word for word in line if word not in QUESTIONS], *questions, "--save-kv", "kv").code == 0
            assert len(list((here / "kv").iterdir())) == count


@pytest.mark.parametrize("place", [20, 0.5, -1])  # header, tensors, the last byte
def test_a_damaged_prefix_is_made_anew(cli: Cli, case: Case, here: Path, prefilled: list[int], place: float) -> None:
    def ask() -> str:
        return str(cli(*words(case, QUESTIONS[0]), "--save-kv", "kv", "--json").json["answer"])

    first = ask()
    (path,) = (here / "kv").iterdir()
    good = path.read_bytes()
    data = bytearray(good)
    data[round(place * len(data)) if 0 < place < 1 else round(place)] ^= 1
    path.write_bytes(data)
    assert ask() == first
    assert path.read_bytes() == good
    path.write_bytes(good[: len(good) // 2])
    assert ask() == first
    assert len(prefilled) == 3
    assert ask() == first
    assert len(prefilled) == 3


def test_a_prefix_that_cannot_be_kept(cli: Cli, case: Case) -> None:
    said = cli(*words(case, QUESTIONS[0]), "--save-kv", "/proc/nope")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "/proc/nope" in said.err


SLIDING = json.dumps({"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1})


def test_a_window_that_slides(cli: Cli, cases: Callable[..., Case]) -> None:
    """Each question gets a prefill of its own; no file could hold the cache, no bias its keys."""
    case = cases("qwen2_vl", text=SLIDING)
    assert "sliding_attention" in case.llm[0].config.text_config.layer_types
    asker = Asker(*case.llm, case.record)
    for question in (*QUESTIONS, QUESTIONS[0]):
        assert len(asker.prefix.ids) > 24
        assert torch.equal(asker.ask(question, **SHORT), case.fresh(question))
    for option, why in ((["--save-kv", "kv"], "leave --save-kv out"), (["--count-sizes"], "sliding_attention")):
        said = cli(*words(case, QUESTIONS[0]), *option)
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert why in said.err


# -- refused -------------------------------------------------------------------------------------------


def refused(cli: Cli, code: int, says: str, *line: object) -> None:
    said = cli(*line)
    assert (said.code, said.out, said.err.count("\n")) == (code, "", 1), said
    assert says in said.err
    assert "internal" not in said.err


def test_another_model(cli: Cli, cases: Callable[..., Case], case: Case, tiny_maker: ModuleType) -> None:
    def ask(folder: object, *more: object) -> list[object]:
        return ["ask", case.file, "What?", "--model", folder, *more]

    other = cases("qwen2_5_vl", seed=1).folder
    refused(cli, 1, "the record was made for another model (weights: record '", *ask(other))
    other = cases("llava_onevision").folder
    refused(cli, 1, "(family: record 'qwen2_5_vl', model 'llava_onevision'", *ask(other))
    other = cases("qwen2_5_vl", text=json.dumps({"rope_theta": 5e5})).folder
    refused(cli, 1, "(config: record '", *ask(other))
    refused(cli, 1, "is a folder: it has no revision 'main'", *ask(case.folder, "--revision", "main"))
    refused(cli, 1, "family 'siglip' has no language model", *ask(cases("siglip").folder))
    refused(cli, 1, "family 'dct' has no language model", *ask("dct"))
    refused(cli, 1, "dct is built in and has no revision", *ask("dct", "--revision", "main"))
    refused(cli, 1, "config.json", *ask(case.out))
    refused(cli, 1, "nowhere", *ask("nobody/nowhere"))


def test_a_record_that_no_model_reads(cli: Cli, cases: Callable[..., Case], case: Case) -> None:
    for other in (cases("siglip").file, cases("qwen2_vl").file):
        refused(cli, 1, "the record was made for another model (family: record '", *words(case, "What?", file=other))
    plain = Path(vidcomp.encode(case.clip, out=case.out).meta["key"])
    refused(cli, 1, "record 'dct'", *words(case, "What?", file=case.out / f"{plain}.safetensors"))


def test_other_settings(cli: Cli, case: Case) -> None:
    setting = "model.settings.max_pixels=6272"
    small = case.path(settings=[setting])
    refused(cli, 1, "(settings.size: record ", *words(case, "What?", file=small))
    refused(cli, 1, "(settings.size: record ", *words(case, "What?"), "--set", setting)
    assert cli(*words(case, "What?", file=small), "--set", setting).code == 0
    refused(cli, 1, "only model.settings.A=B can be set here", *words(case, "What?"), "--set", "merger.beta=1")
    refused(cli, 1, "nonsense", *words(case, "What?"), "--set", "model.settings.nonsense=1")
    refused(cli, 1, "write it as key.subkey=value", *words(case, "What?"), "--set", "model.settings.a")


def test_another_schema_or_a_damaged_record(cli: Cli, case: Case, tmp_path: Path) -> None:
    old = replace(case.record, meta={**case.record.meta, "schema": 0})
    old.save(tmp_path / "old.safetensors")
    refused(cli, 2, "schema 0, this vidcomp reads ", *words(case, "What?", file=tmp_path / "old.safetensors"))
    data = bytearray(case.file.read_bytes())
    data[-40] ^= 1
    (tmp_path / "torn.safetensors").write_bytes(data)
    refused(cli, 2, "torn.safetensors", *words(case, "What?", file=tmp_path / "torn.safetensors"))
    refused(cli, 1, "no such record", *words(case, "What?", file=tmp_path / "none.safetensors"))
    refused(cli, 1, "no such record", *words(case, "What?"), "--also", tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used"),
        (["--device", "meta"], "device 'meta' cannot be used"),
        (["--dtype", "float64"], "dtype must be one of"),
        (["--position-rule", "latest"], "position_rule must be one of max+1, hw"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
    ],
)
def test_other_options(cli: Cli, case: Case, option: list[str], says: str) -> None:
    refused(cli, 1, says, *words(case, "What?"), *option)


@pytest.mark.parametrize(
    ("family", "spelled"),
    [
        ("qwen2_5_vl", "<|video_pad|>"),
        ("qwen2_5_vl", "<|vision_start|><|video_pad|><|vision_end|>"),
        ("smolvlm", "<image>"),
        ("qwen2_5_omni", "<|VIDEO|>"),
        ("qwen2_5_omni", "<|AUDIO|>"),
        ("qwen3_omni_moe", "<|audio_pad|>"),
    ],
)
def test_a_question_that_spells_a_placeholder(cli: Cli, cases: Callable[..., Case], family: str, spelled: str) -> None:
    case = cases(family)
    refused(cli, 1, "the question spells the placeholder", *words(case, f"What is {spelled}?"))
    asker = Asker(*case.llm, case.record)
    with pytest.raises(ValueError, match="spells the placeholder"):
        asker.ask(f"What is {spelled}?", **SHORT)
    assert torch.equal(asker.ask("What?", **SHORT), case.fresh("What?"))


def test_every_question_is_looked_at_before_the_first_is_answered(cli: Cli, case: Case, prefilled: list[int]) -> None:
    refused(cli, 1, "spells the placeholder", *words(case, "What?", "What is <|video_pad|>?"))
    assert prefilled == []


# -- Asker ---------------------------------------------------------------------------------------------


def test_a_longer_answer_goes_on_from_the_shorter(case: Case) -> None:
    asker = Asker(*case.llm, case.record)
    counts = (3, 12, 1, 12)
    told = [asker.ask("What?", **{**SHORT, "max_new_tokens": n, "min_new_tokens": n}) for n in counts]
    assert [len(one) for one in told] == list(counts)
    assert all(torch.equal(one, told[1][: len(one)]) for one in told)


@pytest.mark.parametrize("call", [1, 3, 4])  # of the last layer: as the question begins, as it is answered
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_question_that_breaks_off(case: Case, call: int, error: type[BaseException]) -> None:
    asker, calls = Asker(*case.llm, case.record), 0
    asker.prefill()

    def breaks(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error("broken off")

    last = [layer for layer in case.llm[0].get_decoder().modules() if hasattr(layer, "is_causal")][-1]
    hook = last.register_forward_pre_hook(breaks)
    with pytest.raises(error, match="broken off"):
        asker.ask(QUESTIONS[0], **SHORT)
    hook.remove()
    for question in QUESTIONS:
        assert torch.equal(asker.ask(question, **SHORT), case.fresh(question))


def test_a_prefill_that_breaks_off(case: Case) -> None:
    asker = Asker(*case.llm, case.record, count_sizes=True)

    def breaks(*_: Any) -> None:
        raise RuntimeError("broken off")

    hook = case.llm[0].lm_head.register_forward_pre_hook(breaks)
    with pytest.raises(RuntimeError, match="broken off"):
        asker.ask(QUESTIONS[0], **SHORT)
    hook.remove()
    assert torch.equal(Asker(*case.llm, case.record).ask(QUESTIONS[0], **SHORT), case.fresh(QUESTIONS[0]))


@pytest.mark.parametrize("how", [{"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}])
def test_beams(case: Case, how: dict[str, int]) -> None:
    asker = Asker(*case.llm, case.record)
    for question in QUESTIONS:
        assert torch.equal(asker.ask(question, **SHORT, **how), case.fresh(question, **how))
        assert torch.equal(asker.ask(question, **SHORT), case.fresh(question))


def test_what_is_asked_about(case: Case) -> None:
    with pytest.raises(TypeError, match=r"got the path .*: load it first"):
        Asker(*case.llm, [case.file])
    with pytest.raises(ValueError, match="no video to ask about"):
        Asker(*case.llm, [])
    one, listed = (Asker(*case.llm, records).ask("What?", **SHORT) for records in (case.record, [case.record]))
    assert torch.equal(one, listed)


def test_a_template_that_writes_the_question_first(cases: Callable[..., Case]) -> None:
    case = cases("qwen2_5_vl", seed=2)
    model, tokenizer = case.llm
    tokenizer.chat_template = (
        "{% for part in messages[0]['content'] | reverse %}{% if part['type'] == 'text' %}{{ part['text'] }}"
        "{% else %}<|vision_start|><|video_pad|><|vision_end|>{% endif %}{% endfor %}"
    )
    with pytest.raises(ValueError, match="writes the question before the videos"):
        Asker(model, tokenizer, case.record).ask("What?", **SHORT)
    assert len(case.fresh("What?")) == 6


# -- rows that count by size ---------------------------------------------------------------------------


def test_sizes_count(cli: Cli, case: Case) -> None:
    merged = case.encode(method="tome", tokens=9, retain=None)
    assert int(merged.sizes.max()) > 1
    model, tokenizer = case.llm
    inputs = vidcomp.prepare(model, tokenizer, merged, QUESTIONS[0])
    with vidcomp.counting_sizes(model, inputs["input_ids"], [merged]):
        wanted = model.generate(**inputs, **SHORT)[0, inputs["input_ids"].shape[1] :]
    asker = Asker(model, tokenizer, merged, count_sizes=True)
    for _ in range(2):
        assert torch.equal(asker.ask(QUESTIONS[0], **SHORT), wanted)
    said = cli(*words(case, QUESTIONS[0], file=case.path(method="tome", tokens=9, retain=None)), "--count-sizes")
    with vidcomp.counting_sizes(model, inputs["input_ids"], [merged]):
        told = case.text(QUESTIONS[0], merged, min_new_tokens=None)
    assert (said.code, said.out.strip()) == (0, "".join(c if c.isprintable() else ascii(c)[1:-1] for c in told))


@pytest.mark.parametrize("family", ["qwen2_5_omni", "qwen3_omni_moe"])
def test_sizes_of_sound_count_too(cases: Callable[..., Case], family: str) -> None:
    """As the whole mask with the log of each row's size, given to `forward`."""
    from vidcomp.models.sizes import biased, counting_sizes
    from vidcomp.models.types import AudioTokens

    case = cases(family)
    model, tokenizer = case.llm
    rows = torch.randn(7, case.record.tokens.shape[1], generator=torch.Generator().manual_seed(0))
    at = torch.tensor([0, 3, 4, 9, 20, 31, 40]).int()
    sound = AudioTokens(rows, at, torch.tensor([3, 1, 5, 8, 1, 9, 2]).int(), at.double() / 25, 50)
    record = replace(case.record, audio=sound)
    inputs = vidcomp.prepare(model, tokenizer, record, "What?")
    ids = inputs["input_ids"]
    bias = torch.zeros(ids.shape)
    for placeholder, held in ((model.config.video_token_id, record), (model.config.audio_token_id, sound)):
        bias[ids == placeholder] = held.sizes.float().log()
    with torch.no_grad():
        plain = model(**inputs).logits[0, -1]
        wanted = model(**{**inputs, "attention_mask": biased(None, bias, *[ids.shape[1]] * 2)}).logits[0, -1]
        with counting_sizes(model, ids, [record]):
            counted = model(**inputs).logits[0, -1]
    torch.testing.assert_close(counted, wanted, atol=1e-4, rtol=0)
    assert (counted - plain).abs().max() > 1e-4


def test_a_batch_with_padding_counts_in_half_precision(cases: Callable[..., Case]) -> None:
    case = cases("qwen2_5_vl", dtype="bfloat16")
    merged = case.encode(method="tome", tokens=9, retain=None)
    inputs = vidcomp.prepare(*case.llm, [merged, case.record], ["What is it?" * 9, "Who?"])
    with torch.no_grad(), vidcomp.counting_sizes(case.llm[0], inputs["input_ids"], [merged, case.record]):
        assert torch.isfinite(case.llm[0](**inputs).logits).all()


def test_a_stray_placeholder_is_counted() -> None:
    refuse_stray("video", torch.tensor([1, 7, 7, 2]), 7, 2)
    with pytest.raises(ValueError, match="holds 2 audio placeholders for 1 rows"):
        refuse_stray("audio", torch.tensor([1, 7, 7, 2]), 7, 1)
