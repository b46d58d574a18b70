"""What every family with a language model promises, against its real transformers class on a tiny random checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from own_paths import OWN, PARITY_RULE
from torch import Tensor

from vidcomp.models import load as models
from vidcomp.models.asking import Asker, rewind
from vidcomp.models.families import families, family_module
from vidcomp.models.types import TokenGrid
from vidcomp.stages.record import VideoRecord, load
from vidcomp.stages.record_check import FACTS
from vidcomp.stages.schema import SCHEMA

READERS = [name for name in families() if hasattr(family_module(name), "READER")]
SHAPES = [(8, 72, 104), (9, 72, 104), (5, 120, 68), (1, 60, 60)]  # even, odd, portrait, one frame
QUESTION = "What happens after the cut? Ω"
STEPS = 4
FPS = 2.0


@pytest.fixture(scope="module", params=READERS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make(family, tmp_path_factory.mktemp("family") / family)
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
    if hasattr(loaded[0].model, "rope_deltas"):
        loaded[0].model.rope_deltas = None
    return loaded


def kept(grid: TokenGrid, encoder: Any, frames: int, keep: Tensor | None = None) -> VideoRecord:
    """A real record of a grid: all of it, or the flat ids `keep`."""
    t, h, w = grid.shape
    keep = torch.arange(t * h * w) if keep is None else keep
    places = torch.cartesian_prod(*(torch.arange(n) for n in (t, h, w))).reshape(-1, 3).int()[keep]
    owner = torch.full((t * h * w,), -1, dtype=torch.int32)
    owner[keep] = torch.arange(len(keep), dtype=torch.int32)
    meta: dict[str, Any] = dict.fromkeys(FACTS, "")
    meta |= {"schema": SCHEMA, "grid": [t, h, w], "model": {"family": encoder.family}, "fps": FPS, "frames": frames}
    meta |= {"temporal_patch": encoder.temporal_patch, "seconds_per_step": encoder.temporal_patch / FPS}
    meta |= {"source": {"duration_s": frames / FPS, "fps": 24.0}}
    times = torch.arange(frames).double() / FPS
    return VideoRecord(
        tokens=grid.feat_ND[keep],
        positions=places,
        boxes=torch.stack([places, places + 1], dim=2).flatten(1),
        sizes=torch.ones(len(keep), dtype=torch.int32),
        pts_s=grid.pts_s[places[:, 0].long()],
        owner=owner,
        grid_pts_s=grid.pts_s,
        frame_pts_s=times,
        frame_index=torch.arange(frames),
        meta=meta,
        extra={name: value.reshape(t * h * w, *value.shape[3:])[keep] for name, value in grid.extra.items()},
    )


def quarter(grid: TokenGrid, seed: int = 3, share: int = 4) -> Tensor:
    order = torch.randperm(grid.count, generator=torch.Generator().manual_seed(seed))
    return order[: max(1, grid.count // share)].sort().values


def encoded(encoder: Any, clip: Any, shape: tuple[int, int, int]) -> tuple[Tensor, TokenGrid]:
    frames = clip(*shape)
    return frames, encoder.encode(frames, torch.arange(shape[0]).double() / FPS)


@torch.no_grad()
def generate(model: Any, inputs: dict[str, Any], steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """(new ids (B, steps), logits (B, steps, V)) of greedy decoding that never stops early."""
    how = {"do_sample": False, "max_new_tokens": steps, "min_new_tokens": steps}
    out = model.generate(**inputs, **how, return_dict_in_generate=True, output_logits=True)
    return out.sequences[:, -steps:], torch.stack(out.logits, dim=1)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_kept_is_the_pixel_path(shape: Any, family: str, encoder: Any, llm: tuple[Any, Any], clip: Any) -> None:
    model, tokenizer = llm
    frames, grid = encoded(encoder, clip, shape)
    rules = {"position_rule": PARITY_RULE[family]} if family in PARITY_RULE else {}
    inputs = models.prepare(model, tokenizer, kept(grid, encoder, shape[0]), QUESTION, **rules)
    own_ids, own_logits = generate(model, OWN[family](model, encoder, inputs, frames, FPS))
    if hasattr(model.model, "rope_deltas"):
        model.model.rope_deltas = None
    ids, logits = generate(model, inputs)
    close(logits, own_logits)
    assert torch.equal(ids, own_ids)


@pytest.mark.parametrize("share", [4, 100000])  # 25 %; a single token
def test_kept_tokens_equal_a_masked_whole(
    share: int, family: str, encoder: Any, llm: tuple[Any, Any], clip: Any
) -> None:
    model, tokenizer = llm
    _, grid = encoded(encoder, clip, (8, 72, 104))
    keep = quarter(grid, share=share)
    whole = models.prepare(model, tokenizer, kept(grid, encoder, 8), QUESTION)
    part = models.prepare(model, tokenizer, kept(grid, encoder, 8, keep), QUESTION)
    ids, logits = generate(model, part)
    wanted = masked_steps(model, whole, keep, ids[0], family)
    close(logits[0], wanted)
    assert torch.equal(ids[0], wanted.argmax(-1))


@torch.no_grad()
def masked_steps(model: Any, whole: dict[str, Any], keep: Tensor, new: Tensor, family: str) -> Tensor:
    """(steps, V): plain forwards over the whole video, dropped keys masked, `new` ids fed one by one."""
    reader = family_module(family).READER
    rows = (whole["input_ids"][0] == reader.placeholder(model.config)).nonzero()[:, 0]
    mask = torch.ones_like(whole["input_ids"])
    mask[0, rows[: len(rows) - reader.specials]] = 0
    mask[0, rows[keep]] = 1
    inputs, out = {**whole, "attention_mask": mask}, []
    for token in new:
        out.append(model(**inputs).logits[0, -1])
        inputs = inputs | {
            "input_ids": torch.cat([inputs["input_ids"], token[None, None]], dim=1),
            "attention_mask": torch.cat([inputs["attention_mask"], mask.new_ones(1, 1)], dim=1),
            "position_ids": torch.cat([inputs["position_ids"], inputs["position_ids"][..., -1:] + 1], dim=-1),
        }
        if "inputs_embeds" in inputs:
            embedded = model.get_input_embeddings()(token[None, None])
            inputs["inputs_embeds"] = torch.cat([inputs["inputs_embeds"], embedded], dim=1)
    return torch.stack(out)


def test_dropped_rows_matter(encoder: Any, llm: tuple[Any, Any], clip: Any) -> None:
    model, tokenizer = llm
    _, grid = encoded(encoder, clip, (8, 72, 104))
    whole = models.prepare(model, tokenizer, kept(grid, encoder, 8), QUESTION)
    part = models.prepare(model, tokenizer, kept(grid, encoder, 8, quarter(grid)), QUESTION)
    assert (generate(model, whole, 1)[1] - generate(model, part, 1)[1]).abs().max() > 1e-3


def test_through_a_file(encoder: Any, llm: tuple[Any, Any], clip: Any, tmp_path: Path) -> None:
    model, tokenizer = llm
    _, grid = encoded(encoder, clip, (8, 72, 104))
    record = kept(grid, encoder, 8, quarter(grid))
    record.save(tmp_path / "a.safetensors")
    ids, logits = generate(model, models.prepare(model, tokenizer, record, QUESTION))
    read = models.prepare(model, tokenizer, load(tmp_path / "a.safetensors"), QUESTION)
    again, same = generate(model, read)
    assert torch.equal(ids, again)
    assert torch.equal(logits, same)


def test_a_ragged_batch_equals_one_by_one(encoder: Any, llm: tuple[Any, Any], clip: Any) -> None:
    model, tokenizer = llm
    _, grid = encoded(encoder, clip, (8, 72, 104))
    records = [kept(grid, encoder, 8, quarter(grid, seed, share)) for seed, share in ((1, 4), (2, 11))]
    asked = [QUESTION, "And before it?"]
    ids, logits = generate(model, models.prepare(model, tokenizer, records, asked))
    for i, (record, text) in enumerate(zip(records, asked, strict=True)):
        alone, same = generate(model, models.prepare(model, tokenizer, record, text))
        assert torch.equal(ids[i], alone[0])
        close(logits[i], same[0])


def test_two_videos_in_one_prompt(family: str, encoder: Any, llm: tuple[Any, Any], clip: Any) -> None:
    model, tokenizer = llm
    _, grid = encoded(encoder, clip, (4, 72, 104))
    records = [kept(grid, encoder, 4), kept(grid, encoder, 4, quarter(grid))]
    inputs = models.prepare(model, tokenizer, records, QUESTION)
    reader = family_module(family).READER
    wanted = sum(len(record) + reader.specials for record in records)
    assert int((inputs["input_ids"] == reader.placeholder(model.config)).sum()) == wanted
    swapped = models.prepare(model, tokenizer, records[::-1], QUESTION)
    assert (generate(model, inputs, 1)[1] - generate(model, swapped, 1)[1]).abs().max() > 1e-4


def test_a_prefix_kept_equals_a_fresh_prefill(encoder: Any, llm: tuple[Any, Any], clip: Any) -> None:
    model, tokenizer = llm
    _, grid = encoded(encoder, clip, (8, 72, 104))
    record = kept(grid, encoder, 8, quarter(grid))
    asker = Asker(model, tokenizer, [record])
    for question in (QUESTION, "Who?", QUESTION):
        how = {"do_sample": False, "max_new_tokens": STEPS, "min_new_tokens": STEPS}
        fresh, logits = generate(model, models.prepare(model, tokenizer, record, question))
        assert torch.equal(asker.ask(question, **how), fresh[0])
        out = asker_logits(asker, question)
        close(out, logits[0, 0])


def asker_logits(asker: Asker, question: str) -> Tensor:
    """(V,): of the first new token."""
    prompt = asker.prompt(question)
    cache = asker.prefill()
    rewind(cache, prompt.prefix)
    inputs = asker._inputs(prompt)
    out = asker.model.generate(
        **inputs,
        past_key_values=cache,
        max_new_tokens=1,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    first: Tensor = out.logits[0][0]
    return first


def test_chunks_equal_the_whole(encoder: Any, clip: Any) -> None:
    frames, pts = clip(13, 72, 104), torch.arange(13).double() / FPS
    whole, size = encoder.encode(frames, pts), encoder.frame_size(13, 72, 104)
    parts = [encoder.encode(frames[i : i + 4], pts[i : i + 4], size) for i in range(0, 13, 4)]
    close(torch.cat([part.data for part in parts]), whole.data)
    for name, value in whole.extra.items():
        close(torch.cat([part.extra[name] for part in parts]), value)
    assert torch.equal(torch.cat([part.pts_s for part in parts]), whole.pts_s)


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 2160, 3840), (3, 200, 40)])
def test_odd_sizes(shape: Any, encoder: Any, llm: tuple[Any, Any], clip: Any) -> None:
    _, grid = encoded(encoder, clip, shape)
    assert torch.isfinite(grid.data).all()
    inputs = models.prepare(*llm, kept(grid, encoder, shape[0], quarter(grid)), QUESTION)
    assert torch.isfinite(generate(llm[0], inputs, 1)[1]).all()


def test_bfloat16(family: str, tiny_maker: ModuleType, tmp_path: Path, clip: Any) -> None:
    folder = tiny_maker.make(family, tmp_path / "half", dtype="bfloat16")
    encoder, (model, tokenizer) = models.load_model(str(folder)), models.load_llm(str(folder))
    frames, grid = encoded(encoder, clip, (5, 72, 104))
    assert grid.data.dtype == model.dtype == torch.bfloat16
    rules = {"position_rule": PARITY_RULE[family]} if family in PARITY_RULE else {}
    inputs = models.prepare(model, tokenizer, kept(grid, encoder, 5), QUESTION, **rules)
    _, own = generate(model, OWN[family](model, encoder, inputs, frames, FPS), 1)
    if hasattr(model.model, "rope_deltas"):
        model.model.rope_deltas = None
    _, ours = generate(model, inputs, 1)
    torch.testing.assert_close(ours, own, atol=0.1, rtol=0.05)


def test_rows_that_count_by_size(family: str, encoder: Any, llm: tuple[Any, Any], clip: Any) -> None:
    """A row of size 3 weighs as three like it: the whole mask with its log, given to `forward`, says the same."""
    from vidcomp.models.sizes import biased, counting_sizes, log_sizes

    model, tokenizer = llm
    _, grid = encoded(encoder, clip, (4, 72, 104))
    record = kept(grid, encoder, 4, quarter(grid))
    record.sizes[:] = torch.arange(len(record)) % 5 + 1
    inputs = models.prepare(model, tokenizer, record, QUESTION)
    plain = generate(model, inputs, 2)[1]
    with counting_sizes(model, inputs["input_ids"], [record]):
        counted = generate(model, inputs, 2)[1]
    assert (counted - plain).abs().max() > 1e-4
    close(generate(model, inputs, 2)[1], plain)  # and nothing of it is left
    reader, ids = family_module(family).READER, inputs["input_ids"]
    n = ids.shape[1]
    mask = biased(None, log_sizes(ids, reader.placeholder(model.config), [record], reader.specials), n, n)
    with torch.no_grad():
        wanted = model(**{**inputs, "attention_mask": mask}).logits[0, -1]
    close(counted[0, 0], wanted)


def test_other_records_are_refused(family: str, encoder: Any, llm: tuple[Any, Any], clip: Any) -> None:
    _, grid = encoded(encoder, clip, (2, 60, 60))
    record = kept(grid, encoder, 2)
    other = VideoRecord(
        **{n: getattr(record, n) for n in record.__dataclass_fields__}
        | {"meta": {**record.meta, "model": {"family": "dct"}}}
    )
    with pytest.raises(ValueError, match=f"'dct', the model reads '{family}'"):
        models.prepare(*llm, other, QUESTION)
    with pytest.raises(ValueError, match="position_rule must be one of"):
        models.prepare(*llm, record, QUESTION, position_rule="latest")
