"""Both Omni families with sound, against the real thinkers: the promises of test_family_contract.py for video and audio
tokens that take turns."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omni_case import RATE, audio_tokens, own_path, sound
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidcomp.models import load as models
from vidcomp.models.asking import Asker
from vidcomp.models.families import family_module
from vidcomp.models.types import AudioTokens

QUESTION = "What is heard? Ω"
STEPS = 4


@pytest.fixture(scope="module", params=["qwen2_5_omni", "qwen3_omni_moe"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make(family, tmp_path_factory.mktemp("omni") / family)
    return made


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    return models.load_llm(str(folder))


@pytest.fixture
def llm(loaded: tuple[Any, Any]) -> tuple[Any, Any]:
    """(model, tokenizer), without the rope_deltas of an earlier call."""
    loaded[0].model.rope_deltas = None
    return loaded


@torch.no_grad()
def generate(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    how = {"do_sample": False, "max_new_tokens": STEPS, "min_new_tokens": STEPS}
    out = model.generate(**inputs, **how, return_dict_in_generate=True, output_logits=True)
    return out.sequences[:, -STEPS:], torch.stack(out.logits, dim=1)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def subset(count: int, share: int, seed: int) -> Tensor:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: max(1, count // share)].sort().values


def record(
    encoder: Any, clip: Any, record_of: Any, samples: Tensor, frames: int = 8, fps: float = 2.0, **kept: Any
) -> Any:
    grid = encoder.encode(clip(frames, 72, 104), torch.arange(frames).double() / fps)
    audio = audio_tokens(encoder, samples, kept.get("audio"))
    return record_of(grid, kept.get("video"), fps=fps, family=encoder.family, frames=frames, audio=audio)


# -- the prompt ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [0.15, 0.5, 1.0, 2.0, 3.0, 24.0])
@pytest.mark.parametrize("seconds", [0.5, 4.0, 9.7])  # sound shorter than the video, as long, longer
def test_ids_and_positions_are_the_originals(
    fps: float, seconds: float, encoder: Any, clip: Any, record_of: Any, llm: tuple[Any, Any]
) -> None:
    model, tokenizer = llm
    samples = sound(int(seconds * RATE))
    held = record(encoder, clip, record_of, samples, fps=fps)
    inputs = models.prepare(model, tokenizer, held, QUESTION)
    ids = inputs["input_ids"][0]
    t, h, w = held.grid
    start, end = (tokenizer.decode([getattr(model.config, f"vision_{side}_token_id")]) for side in ("start", "end"))
    written = processors(encoder, tokenizer, (t, 2 * h, 2 * w), fps, held.audio.count)
    assert tokenizer.decode(ids).count(start + written + end) == 1
    own = own_path(model, encoder, inputs, clip(8, 72, 104), fps, samples)
    lengths = own["feature_attention_mask"].sum(1)
    wanted, _ = model.get_rope_index(
        own["input_ids"],
        None,
        own["video_grid_thw"],
        own["attention_mask"],
        True,
        lengths,
        own["video_second_per_grid"],
    )
    assert inputs["position_ids"].dtype == wanted.dtype
    torch.testing.assert_close(inputs["position_ids"], wanted, rtol=2e-7, atol=0)


def processors(encoder: Any, tokenizer: Any, grid: tuple[int, int, int], fps: float, count: int) -> str:
    """What the real processor class writes between the video's marks."""
    module = import_module(f"transformers.models.{encoder.family}.processing_{encoder.family}")
    real = {"qwen2_5_omni": "Qwen2_5OmniProcessor", "qwen3_omni_moe": "Qwen3OmniMoeProcessor"}[encoder.family]
    processor = getattr(module, real).__new__(getattr(module, real))
    processor.video_processor = SimpleNamespace(merge_size=2)
    names = {
        "video_token": ("<|VIDEO|>", "<|video_pad|>"),
        "audio_token": ("<|AUDIO|>", "<|audio_pad|>"),
        "audio_bos_token": ("<|audio_bos|>", "<|audio_start|>"),
        "audio_eos_token": ("<|audio_eos|>", "<|audio_end|>"),
    }
    for name, spellings in names.items():
        setattr(processor, name, next(one for one in spellings if one in tokenizer.all_special_tokens))
    how = {name: getattr(processor, name) for name in ("position_id_per_seconds", "seconds_per_chunk")}
    video = {"video_grid_thw": np.array([grid]), "video_second_per_grid": [2 / fps]}
    made: str = processor.replace_video_with_audio_token(video, 0, {"num_audio_tokens": np.array([count])}, 0, **how)
    return made


# -- the thinker ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 72, 104), (5, 120, 68), (1, 60, 60)])
@pytest.mark.parametrize("seconds", [1.0, 5.3])
def test_all_kept_is_the_real_path(
    shape: Any, seconds: float, encoder: Any, clip: Any, record_of: Any, llm: tuple[Any, Any]
) -> None:
    model, tokenizer = llm
    samples, frames = sound(int(seconds * RATE)), clip(*shape)
    grid = encoder.encode(frames, torch.arange(shape[0]).double() / 2)
    audio = audio_tokens(encoder, samples)
    held = record_of(grid, fps=2.0, family=encoder.family, frames=shape[0], audio=audio)
    held.meta["seconds_per_step"] = 1.0  # of a lone frame too
    inputs = models.prepare(model, tokenizer, held, QUESTION)
    own = own_path(model, encoder, inputs, frames, 2.0, samples)
    own_ids, own_logits = generate(model, own)
    model.model.rope_deltas = None
    ids, logits = generate(model, inputs)
    close(logits, own_logits)
    assert torch.equal(ids, own_ids)


def test_kept_rows_equal_a_masked_whole(encoder: Any, clip: Any, record_of: Any, llm: tuple[Any, Any]) -> None:
    """A quarter of the video and half of the sound, step by step."""
    model, tokenizer = llm
    samples = sound(5 * RATE)
    everything = record(encoder, clip, record_of, samples)
    video, audio = subset(len(everything.tokens), 4, 1), subset(everything.audio.count, 2, 2)
    some = record(encoder, clip, record_of, samples, video=video, audio=audio)
    whole = models.prepare(model, tokenizer, everything, QUESTION)
    ids, logits = generate(model, models.prepare(model, tokenizer, some, QUESTION))
    wanted = masked_steps(model, whole, video, audio, ids[0])
    close(logits[0], wanted)
    assert torch.equal(ids[0], wanted.argmax(-1))
    assert (generate(model, whole)[1] - logits).abs().max() > 1e-3


@torch.no_grad()
def masked_steps(model: Any, whole: dict[str, Any], video: Tensor, audio: Tensor, new: Tensor) -> Tensor:
    """(steps, V): plain forwards over the whole, dropped keys masked, `new` ids fed one by one."""
    mask = torch.ones_like(whole["input_ids"])
    for placeholder, keep in ((model.config.video_token_id, video), (model.config.audio_token_id, audio)):
        rows = (whole["input_ids"][0] == placeholder).nonzero()[:, 0]
        mask[0, rows] = 0
        mask[0, rows[keep]] = 1
    inputs, out = {**whole, "attention_mask": mask}, []
    for token in new:
        out.append(model(**inputs).logits[0, -1])
        embedded = model.get_input_embeddings()(token[None, None])
        inputs = inputs | {
            "input_ids": torch.cat([inputs["input_ids"], token[None, None]], dim=1),
            "inputs_embeds": torch.cat([inputs["inputs_embeds"], embedded], dim=1),
            "attention_mask": torch.cat([inputs["attention_mask"], mask.new_ones(1, 1)], dim=1),
            "position_ids": torch.cat([inputs["position_ids"], inputs["position_ids"][..., -1:] + 1], dim=-1),
        }
    return torch.stack(out)


@pytest.mark.parametrize("kinds", [("video",), ("audio",)])
def test_rows_of_one_kind_may_all_go(
    kinds: tuple[str], encoder: Any, clip: Any, record_of: Any, llm: tuple[Any, Any]
) -> None:
    model, tokenizer = llm
    samples, none = sound(3 * RATE), torch.arange(0)
    everything = record(encoder, clip, record_of, samples)
    some = record(encoder, clip, record_of, samples, **dict.fromkeys(kinds, none))
    whole = models.prepare(model, tokenizer, everything, QUESTION)
    ids, logits = generate(model, models.prepare(model, tokenizer, some, QUESTION))
    video, audio = (
        none if kind in kinds else torch.arange(count)
        for kind, count in (("video", len(everything.tokens)), ("audio", everything.audio.count))
    )
    close(logits[0], masked_steps(model, whole, video, audio, ids[0]))


def test_through_a_file(encoder: Any, clip: Any, record_of: Any, llm: tuple[Any, Any], tmp_path: Path) -> None:
    samples = sound(3 * RATE)
    held = record(encoder, clip, record_of, samples, audio=subset(encoder.audio_count(len(samples)), 3, 5))
    names = ("tokens", "positions", "sizes", "pts_s")
    save_file({name: getattr(held.audio, name) for name in names}, tmp_path / "a.safetensors")
    read = AudioTokens(**load_file(tmp_path / "a.safetensors"), count=held.audio.count)
    first = generate(llm[0], models.prepare(*llm, held, QUESTION))
    vars(held)["audio"] = read
    again = generate(llm[0], models.prepare(*llm, held, QUESTION))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


def test_a_ragged_batch_equals_one_by_one(encoder: Any, clip: Any, record_of: Any, llm: tuple[Any, Any]) -> None:
    """Two with sound of unlike lengths, one without; the real model cannot mix them in a call, here each is exact."""
    model, tokenizer = llm
    records = [
        record(encoder, clip, record_of, sound(3 * RATE), video=torch.arange(0, 400, 7)),
        record_of(encoder.encode(clip(4, 72, 104), torch.arange(4).double()), family=encoder.family, fps=2.0),
        record(encoder, clip, record_of, sound(7 * RATE, 3), audio=torch.arange(0, 60, 2)),
    ]
    asked = [QUESTION, "And now?", "Who speaks?"]
    ids, logits = generate(model, models.prepare(model, tokenizer, records, asked))
    for i, (one, text) in enumerate(zip(records, asked, strict=True)):
        alone, same = generate(model, models.prepare(model, tokenizer, one, text))
        assert torch.equal(ids[i], alone[0])
        close(logits[i], same[0])


def test_two_videos_in_one_prompt(encoder: Any, clip: Any, record_of: Any, llm: tuple[Any, Any]) -> None:
    """Positions of the second go on after the first; its rows are its own."""
    model, tokenizer = llm
    records = [record(encoder, clip, record_of, sound(3 * RATE, seed), frames=4, fps=3.0) for seed in (1, 2)]
    inputs = models.prepare(model, tokenizer, records, QUESTION)
    own = own_path(model, encoder, inputs, clip(4, 72, 104), 3.0, sound(3 * RATE, 1))
    other = own_path(model, encoder, inputs, clip(4, 72, 104), 3.0, sound(3 * RATE, 2))
    for name in ("pixel_values_videos", "video_grid_thw", "video_second_per_grid", "input_features"):
        own[name] = torch.cat([own[name], other[name]])
    own["feature_attention_mask"] = torch.cat([own["feature_attention_mask"], other["feature_attention_mask"]])
    own_ids, own_logits = generate(model, own)
    model.model.rope_deltas = None
    ids, logits = generate(model, inputs)
    close(logits, own_logits)
    assert torch.equal(ids, own_ids)


def test_a_prefix_kept_equals_a_fresh_prefill(encoder: Any, clip: Any, record_of: Any, llm: tuple[Any, Any]) -> None:
    model, tokenizer = llm
    held = record(encoder, clip, record_of, sound(5 * RATE), video=torch.arange(0, 500, 3), audio=torch.arange(30))
    asker = Asker(model, tokenizer, [held])
    for question in (QUESTION, "Who?", QUESTION):
        fresh, _ = generate(model, models.prepare(model, tokenizer, held, question))
        how = {"do_sample": False, "max_new_tokens": STEPS, "min_new_tokens": STEPS}
        assert torch.equal(asker.ask(question, **how), fresh[0])


def test_beams(encoder: Any, clip: Any, record_of: Any, llm: tuple[Any, Any]) -> None:
    model, tokenizer = llm
    held = record(encoder, clip, record_of, sound(3 * RATE), video=torch.arange(9), audio=torch.arange(9))
    inputs = models.prepare(model, tokenizer, held, QUESTION)
    beams = model.generate(**inputs, num_beams=2, do_sample=False, max_new_tokens=3, min_new_tokens=3)
    assert beams.shape[1] == inputs["input_ids"].shape[1] + 3


def test_sound_that_does_not_fit_is_refused(encoder: Any, clip: Any, record_of: Any, llm: tuple[Any, Any]) -> None:
    held = record(encoder, clip, record_of, sound(RATE))
    placeholder = llm[1].decode([llm[0].config.audio_token_id])
    count = len(held.audio)
    with pytest.raises(ValueError, match=f"{count + 1} audio placeholders for {count} rows"):
        models.prepare(*llm, held, f"What is {placeholder}?")
    vars(held)["audio"] = AudioTokens(
        torch.zeros(1, 56), torch.zeros(1).int(), torch.ones(1).int(), torch.zeros(1).double(), 1
    )
    with pytest.raises(ValueError, match="audio tokens have 56 channels, the model's hidden states 48"):
        models.prepare(*llm, held, QUESTION)


def test_the_family_has_two_model_types(family: str, llm: tuple[Any, Any]) -> None:
    assert llm[0].config.model_type == f"{family}_thinker"
    assert family_module(f"{family}_thinker") is family_module(family)
