"""models/qwen2_5_vl.py against the real transformers model on a tiny random checkpoint."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidcomp.models import load as models
from vidcomp.models import qwen2_5_vl as qwen
from vidcomp.models import qwen_vision
from vidcomp.models.checkpoint import resolve
from vidcomp.models.jsonfile import CheckpointError

QUESTION = "What happens after the cut? Ω"
CLIPS = [
    (8, 72, 104),
    (9, 72, 104),
    (5, 120, 68),
    (1, 60, 60),
    (4, 90, 400),
]  # odd, portrait, one frame, wide
STEPS = 6


def pixel_inputs(model: Any, encoder: Any, inputs: dict[str, Any], frames: Tensor, seconds: float) -> dict[str, Any]:
    """The model's own pixel path: the same whole prompt, with pixels in place of tokens and positions."""
    ids = inputs["input_ids"]
    return {
        "input_ids": ids,
        "attention_mask": inputs["attention_mask"],
        **encoder.preprocess(frames),
        "mm_token_type_ids": (ids == model.config.video_token_id).int() * 2,
        "second_per_grid_ts": torch.tensor([seconds]),
    }


@torch.no_grad()
def generate(model: Any, inputs: dict[str, Any], steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """(new ids (steps,), logits (steps, V)) of greedy decoding that never stops early."""
    out = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=steps,
        min_new_tokens=steps,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return out.sequences[0, -steps:], torch.cat(out.logits)


@pytest.fixture
def fresh(llm: tuple[Any, Any]) -> tuple[Any, Any]:
    """The language model without rope_deltas of an earlier call."""
    llm[0].model.rope_deltas = None
    return llm


# -- the encoder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", CLIPS)
@torch.no_grad()
def test_tokens_are_the_models_own(shape: Any, clip: Any, encoder: Any, llm: tuple[Any, Any]) -> None:
    frames, pts = clip(*shape), torch.arange(shape[0]).double()
    grid = encoder.encode(frames, pts)
    pixels = encoder.preprocess(frames)
    own = llm[0].get_video_features(**pixels).pooler_output[0]
    t, h, w = pixels["video_grid_thw"][0].tolist()
    assert grid.shape == (t, h // 2, w // 2) == (-(-shape[0] // 2), h // 2, w // 2)
    torch.testing.assert_close(grid.feat_ND, own, atol=1e-5, rtol=0)
    assert grid.pts_s.tolist() == pts[::2].tolist()


@pytest.mark.parametrize("chunk", [2, 4, 6])
@pytest.mark.parametrize("batch_pixels", [1, 3 * 2 * 84 * 112, qwen_vision.BATCH_PIXELS])
def test_chunks_and_passes_change_nothing(clip: Any, encoder: Any, chunk: int, batch_pixels: int) -> None:
    frames, pts = clip(13, 72, 104), torch.arange(13).double() / 3
    whole = encoder.encode(frames, pts)
    size = encoder.frame_size(13, 72, 104)
    small = qwen.Qwen2_5VL(encoder.checkpoint, encoder.dtype, batch_pixels)
    small._tower = encoder._tower
    parts = [small.encode(frames[i : i + chunk], pts[i : i + chunk], size) for i in range(0, 13, chunk)]
    torch.testing.assert_close(torch.cat([part.data for part in parts]), whole.data, atol=1e-5, rtol=0)
    assert torch.equal(torch.cat([part.pts_s for part in parts]), whole.pts_s)


def test_equal_frames_give_equal_bytes(clip: Any, encoder: Any) -> None:
    frames, pts = clip(12, 72, 104), torch.arange(12).double()
    assert torch.equal(encoder.encode(frames, pts).data, encoder.encode(frames.clone(), pts).data)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes(tiny: Path, clip: Any, encoder: Any, dtype: str) -> None:
    frames, pts = clip(4, 72, 104), torch.arange(4).double()
    out = models.load_model(str(tiny), dtype=dtype).encode(frames, pts).data
    assert out.dtype == getattr(torch, dtype)
    torch.testing.assert_close(out.float(), encoder.encode(frames, pts).data, atol=0.1, rtol=0.1)


def test_a_bfloat16_checkpoint_is_answered_from(
    tiny_maker: ModuleType, tmp_path: Path, clip: Any, record_of: Any
) -> None:
    folder = tiny_maker.make("qwen2_5_vl", tmp_path / "half", dtype="bfloat16")
    encoder, (model, tokenizer) = models.load_model(str(folder)), models.load_llm(str(folder))
    frames = clip(5, 72, 104)
    grid = encoder.encode(frames, torch.arange(5).double())
    assert grid.data.dtype == model.dtype == torch.bfloat16
    assert encoder._tower.rotary_pos_emb.inv_freq.dtype == torch.float32
    inputs = models.prepare(model, tokenizer, record_of(grid.data), QUESTION, position_rule="hw")
    with torch.no_grad():
        own = model(**pixel_inputs(model, encoder, inputs, frames, 2.0)).logits
        assert torch.equal(model(**inputs).logits, own)


def test_construct_anywhere_load_in_setup(tiny: Path, clip: Any, encoder: Any) -> None:
    model: Any = pickle.loads(pickle.dumps(models.build_model(str(tiny))))  # as Ray would
    frames, pts = clip(2, 60, 60), torch.zeros(2).double()
    with pytest.raises(RuntimeError, match="setup"):
        model.encode(frames, pts)
    model.setup("cpu")
    assert torch.equal(model.encode(frames, pts).data, encoder.encode(frames, pts).data)
    assert model.family == "qwen2_5_vl"
    assert model.temporal_patch == 2
    with pytest.raises(ValueError, match="one pts per frame"):
        model.encode(frames[:0], pts[:0])
    with pytest.raises(ValueError, match="multiples of 28"):
        model.encode(frames, pts, (50, 56))


def test_settings_reach_the_encoder(tiny: Path, clip: Any) -> None:
    model = models.load_model(str(tiny), settings={"max_pixels": 4 * 28 * 28})
    assert model.encode(clip(2, 72, 104), torch.zeros(2).double()).shape == (1, 1, 2)


# -- the weights ---------------------------------------------------------------------------------------


def rewritten(tiny: Path, folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    shutil.copytree(tiny, folder)
    save_file(change(load_file(tiny / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    return folder


def test_tower_under_the_other_prefix(tiny: Path, tmp_path: Path, clip: Any, encoder: Any) -> None:
    prefixed = {"visual.": "model.visual.", "model.": "model.language_model."}

    def rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        old = {name: next((p for p in prefixed if name.startswith(p)), "") for name in weights}
        return {prefixed.get(old[n], "") + n.removeprefix(old[n]): w for n, w in weights.items()}

    folder = rewritten(tiny, tmp_path / "renamed", rename)
    frames, pts = clip(2, 60, 60), torch.zeros(2).double()
    out = models.load_model(str(folder)).encode(frames, pts).data
    assert torch.equal(out, encoder.encode(frames, pts).data)


def drop(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: w for name, w in weights.items() if name != "visual.blocks.1.mlp.up_proj.bias"}


def widen(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"visual.merger.mlp.2.bias": torch.zeros(7)}


def stray(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"visual.lora_A": torch.zeros(7)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"1 missing keys \(blocks.1.mlp.up_proj.bias\)"),
        (widen, r"1 mismatched keys \(.*merger.mlp.2.bias"),
        (stray, r"1 unexpected keys \(lora_A\)"),
    ],
)
def test_weights_must_fit_exactly(tiny: Path, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        models.load_model(str(rewritten(tiny, tmp_path / "bad", change)))


def test_another_patch_size_is_refused(tiny: Path) -> None:
    with pytest.raises(CheckpointError, match="patch_size is 16, the model's patch_size 14"):
        qwen.load(resolve(str(tiny), settings={"patch_size": 16}))


# -- kept tokens back into the model -------------------------------------------------------------------


@pytest.mark.parametrize("shape", CLIPS)
@pytest.mark.parametrize("fps", [1.0, 3.0])
def test_at_ratio_1_all_is_the_pixel_path(
    shape: Any, fps: float, clip: Any, encoder: Any, fresh: tuple[Any, Any], record_of: Any
) -> None:
    model, tokenizer = fresh
    frames = clip(*shape)
    record = record_of(encoder.encode(frames, torch.arange(shape[0]).double() / fps).data, fps=fps)
    prepared = models.prepare(model, tokenizer, record, QUESTION, position_rule="hw")
    own = pixel_inputs(model, encoder, prepared, frames, 2 / fps)
    with torch.no_grad():
        logits, wanted = model(**prepared).logits, model(**own).logits
    torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=0)
    ids, steps = generate(model, models.prepare(model, tokenizer, record, QUESTION, position_rule="hw"))
    own_ids, own_steps = generate(model, own)
    assert torch.equal(ids, own_ids)
    torch.testing.assert_close(steps, own_steps, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rule", ["max+1", "hw"])
@pytest.mark.parametrize("keep_every", [4, 1000])  # 25 %; a single token
def test_kept_tokens_equal_a_masked_whole(
    rule: str, keep_every: int, clip: Any, encoder: Any, fresh: tuple[Any, Any], record_of: Any
) -> None:
    model, tokenizer = fresh
    tokens = encoder.encode(clip(13, 72, 104), torch.arange(13).double()).data
    count = tokens[..., 0].numel()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    keep = order[: max(1, count // keep_every)].sort().values
    whole = models.prepare(model, tokenizer, record_of(tokens), QUESTION, position_rule=rule)
    part = models.prepare(model, tokenizer, record_of(tokens, keep), QUESTION, position_rule=rule)
    new, steps = generate(model, part)
    wanted = masked_steps(model, whole, keep, new)
    torch.testing.assert_close(steps, wanted, atol=1e-4, rtol=0)
    assert torch.equal(new, wanted.argmax(-1))


@torch.no_grad()
def masked_steps(model: Any, whole: dict[str, Any], keep: Tensor, new: Tensor) -> Tensor:
    """(steps, V): plain forwards over the whole video, dropped keys masked, `new` ids fed one by one."""
    ids, places = whole["input_ids"], whole["position_ids"]
    video = (ids[0] == model.config.video_token_id).nonzero()[:, 0]
    mask = torch.ones_like(ids)
    mask[0, video] = 0
    mask[0, video[keep]] = 1
    embedded = model.get_input_embeddings()(ids)
    embedded[0, video] = whole["mm_encoder_outputs"]["video"].pooler_output[0]
    out = []
    for token in new:
        logits = model(inputs_embeds=embedded, attention_mask=mask, position_ids=places).logits[0, -1]
        out.append(logits)
        embedded = torch.cat([embedded, model.get_input_embeddings()(token[None, None])], dim=1)
        mask = torch.cat([mask, mask.new_ones(1, 1)], dim=1)
        places = torch.cat([places, places[..., -1:] + 1], dim=2)
    return torch.stack(out)


def test_no_token_kept(encoder: Any, clip: Any, fresh: tuple[Any, Any], record_of: Any) -> None:
    model, tokenizer = fresh
    tokens = encoder.encode(clip(4, 72, 104), torch.arange(4).double()).data
    record = record_of(tokens, torch.arange(0))
    whole = models.prepare(model, tokenizer, record_of(tokens), QUESTION)
    new, steps = generate(model, models.prepare(model, tokenizer, record, QUESTION))
    torch.testing.assert_close(steps, masked_steps(model, whole, torch.arange(0), new), atol=1e-4, rtol=0)


def test_beams_and_stale_deltas(encoder: Any, clip: Any, fresh: tuple[Any, Any], record_of: Any) -> None:
    model, tokenizer = fresh
    record = record_of(encoder.encode(clip(4, 72, 104), torch.arange(4).double()).data, torch.tensor([1, 5, 9]))
    first, _ = generate(model, models.prepare(model, tokenizer, record, QUESTION))
    model.model.rope_deltas = torch.tensor([[777]])
    again, _ = generate(model, models.prepare(model, tokenizer, record, QUESTION))
    assert torch.equal(first, again)
    inputs = models.prepare(model, tokenizer, record, QUESTION)
    beams = model.generate(**inputs, num_beams=2, do_sample=False, max_new_tokens=3, min_new_tokens=3)
    assert beams.shape[1] == inputs["input_ids"].shape[1] + 3


def test_the_prompt(encoder: Any, clip: Any, llm: tuple[Any, Any], record_of: Any) -> None:
    model, tokenizer = llm
    record = record_of(encoder.encode(clip(4, 72, 104), torch.arange(4).double()).data, torch.tensor([3, 4]))
    inputs = models.prepare(model, tokenizer, record, QUESTION)
    assert list(inputs) == ["input_ids", "attention_mask", "position_ids", "mm_encoder_outputs"]
    assert tokenizer.decode(inputs["input_ids"][0]) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n<|vision_start|><|video_pad|><|video_pad|><|vision_end|>{QUESTION}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert inputs["position_ids"].shape == (3, 1, inputs["input_ids"].shape[1])


def test_a_tokenizer_without_template(tiny: Path, tmp_path: Path, encoder: Any, clip: Any, record_of: Any) -> None:
    folder = shutil.copytree(tiny, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    model, tokenizer = models.load_llm(str(folder))
    record = record_of(encoder.encode(clip(2, 60, 60), torch.zeros(2).double()).data, torch.tensor([0]))
    ids = models.prepare(model, tokenizer, record, QUESTION)["input_ids"][0]
    assert tokenizer.decode(ids) == f"<|vision_start|><|video_pad|><|vision_end|>{QUESTION}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"meta": {"model": {"family": "dct"}, "seconds_per_step": 1.0}},
            "'dct', the model reads 'qwen2_5_vl'",
        ),
        ({"meta": {"model": {"family": "qwen2_5_vl"}}}, "seconds_per_step"),
        ({"tokens": torch.zeros(2, 56)}, "56 channels, the model's hidden states 48"),
    ],
)
def test_other_records_are_refused(llm: tuple[Any, Any], record_of: Any, change: Any, message: str) -> None:
    record = record_of(torch.zeros(1, 1, 2, 48))
    vars(record).update(change)
    with pytest.raises(ValueError, match=message):
        models.prepare(*llm, record, QUESTION)


def test_other_questions_rules_and_models_are_refused(llm: tuple[Any, Any], record_of: Any) -> None:
    record = record_of(torch.zeros(1, 1, 2, 48))
    with pytest.raises(ValueError, match="3 video placeholders for 2 rows"):
        models.prepare(*llm, record, "What is <|video_pad|>?")
    with pytest.raises(ValueError, match="position_rule must be one of"):
        models.prepare(*llm, record, QUESTION, position_rule="latest")
    with pytest.raises(ValueError, match="no model family 'None'"):
        models.prepare(object(), llm[1], record, QUESTION)
    with pytest.raises(ValueError, match="dct has no language model"):
        models.load_llm("dct")
