"""Every family from a video file to its model's answer: `encode` in chunks -> record file -> `prepare` -> `generate`,
against the real transformers class on the frames that were sampled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch
from own_paths import OWN, PARITY_RULE
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import vidcomp
from vidcomp.models import load as models
from vidcomp.models.families import BUILT_IN, families, family_module
from vidcomp.models.types import Frames
from vidcomp.pipeline.build import build_method
from vidcomp.pipeline.errors import ConfigError
from vidcomp.pipeline.presets import build_recipe
from vidcomp.pipeline.report.facts import facts
from vidcomp.stages.decode import Decoder
from vidcomp.stages.embed import SCORES, Embedder

FAMILIES = [name for name in families() if name not in BUILT_IN]
READERS = [name for name in FAMILIES if hasattr(family_module(name), "READER")]
UNTILED = {"llava_onevision", "smolvlm"}  # whose pixels do not tile the token grid
TILED = [name for name in FAMILIES if name not in UNTILED]
QUESTION = "What happens after the cut? Ω"
STEPS = 4
FPS = 2.0
CHUNKS = ["chunk_frames=4"]  # of 13 frames: three, and one with a single frame
WHOLE = {"method": "uniform", "retain": 1.0}
CONVOLVED = (torch.ops.aten.convolution,)  # pixels into patches, of whole pictures in some towers
GATE: dict[str, Any] = {"gate": "rlt", "config": {"gate": {"threshold": 0.05}}}


@dataclass(frozen=True)
class Case:
    """A family's tiny checkpoint, and the clip that it is shown."""

    family: str
    folder: Path
    clip: Path
    out: Path

    @cached_property
    def encoder(self) -> Any:
        return models.load_model(str(self.folder))

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        return vidcomp.load_llm(str(self.folder))

    @property
    def llm(self) -> tuple[Any, Any]:
        """(model, tokenizer), without the rope_deltas of an earlier call."""
        if hasattr(self.loaded[0].model, "rope_deltas"):
            self.loaded[0].model.rope_deltas = None
        return self.loaded

    def encode(self, clip: Path | None = None, **how: Any) -> vidcomp.VideoRecord:
        """As a user does; the record is read from its file."""
        how = {"settings": CHUNKS, **how}
        return vidcomp.encode(clip or self.clip, model=str(self.folder), fps=FPS, out=self.out, **how)


def film(path: Path, moving: range) -> Path:
    """6.5 s at 10 fps of a texture that stands, but for its right half, which drifts while `moving`; a cut at 36."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 8, 14, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 112, 64, "yuv420p"
        for n in range(65):
            picture = noise[int(n >= 36)].copy()
            picture[:, 56:] = np.roll(picture[:, 56:], 3 * len(range(moving.start, min(n, moving.stop))), axis=1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def cases(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The case of a family, made when it is first asked for."""
    home = tmp_path_factory.mktemp("families")
    clip = film(home / "film.mp4", range(65))

    @lru_cache
    def case(family: str) -> Case:
        return Case(family, tiny_maker.make(family, home / family), clip, home / f"{family}.out")

    return case


@pytest.fixture
def case(cases: Callable[[str], Case], family: str) -> Case:
    return cases(family)


@pytest.fixture(scope="module")
def frames(cases: Callable[[str], Case]) -> Frames:
    """The 13 that are sampled, at source size."""
    with Decoder() as decoder:
        batches = list(decoder.open(cases("clip").clip).frames(np.arange(0, 65, 5)))
    return Frames(*(torch.cat([getattr(b, name) for b in batches]) for name in ("data", "pts_s", "index")))


@torch.no_grad()
def generate(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """(new ids (STEPS,), logits (STEPS, V)) of greedy decoding that never stops early."""
    how = {"do_sample": False, "max_new_tokens": STEPS, "min_new_tokens": STEPS}
    out = model.generate(**inputs, **how, return_dict_in_generate=True, output_logits=True)
    return out.sequences[0, -STEPS:], torch.cat(out.logits)


def flat(record: vidcomp.VideoRecord) -> Tensor:
    """int64 (K,): the source token that each row is anchored at."""
    (t, y, x), (_, h, w) = record.positions.long().unbind(1), record.grid
    return (t * h + y) * w + x


@pytest.mark.parametrize("family", READERS)
def test_a_whole_record_is_the_pixel_path(case: Case, frames: Frames) -> None:
    record = case.encode(**WHOLE)
    assert record.frame_index.tolist() == frames.index.tolist()
    assert len(record) == record.owner.numel()
    rules = {"position_rule": PARITY_RULE[case.family]} if case.family in PARITY_RULE else {}
    inputs = vidcomp.prepare(*case.llm, record, QUESTION, **rules)
    own = OWN[case.family](case.llm[0], case.encoder, inputs, frames.data, FPS)
    own_ids, own_logits = generate(case.llm[0], own)
    ids, logits = generate(case.llm[0], inputs)
    torch.testing.assert_close(logits, own_logits, atol=1e-4, rtol=0)
    assert torch.equal(ids, own_ids)


@pytest.mark.parametrize("method", ["evs", pytest.param("dycoke", marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", READERS)
def test_few_tokens_answer(case: Case, method: str) -> None:
    whole = case.encode(**WHOLE)
    count = len(whole) * 3 // 10
    record = case.encode(method=method, tokens=count)
    assert len(record) == count
    assert torch.equal(record.tokens, whole.tokens[flat(record)])  # both methods drop, and mix nothing
    for name, rows in record.extra.items():
        assert torch.equal(rows, whole.extra[name][flat(record)])
    model, tokenizer = case.llm
    inputs = vidcomp.prepare(model, tokenizer, record, QUESTION)
    reader = family_module(case.family).READER
    assert int((inputs["input_ids"] == reader.placeholder(model.config)).sum()) == count + reader.specials
    logits = generate(model, inputs)[1]
    assert torch.isfinite(logits).all()
    full = generate(model, vidcomp.prepare(model, tokenizer, whole, QUESTION))[1]
    assert (full[0] - logits[0]).abs().max() > 1e-4


@pytest.mark.parametrize("method", [pytest.param("holitom", marks=pytest.mark.slow), "fastvid"])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_models_own(case: Case, frames: Frames, method: str) -> None:
    """Rows are what the method makes, chunk by chunk, of the model's attention and frame vectors, though stand-ins are
    named; of stand-ins it makes others."""
    named = {"attention": "norm", "frame_vectors": "token_mean"}
    config = {"stand_ins": named, "merger": {"name": method, "retain": 0.3}}
    record = case.encode(method=method, settings=[*CHUNKS, config])
    given = case.encoder.provides
    assert record.meta["method"]["stand_ins"] == {need: how for need, how in named.items() if need not in given}
    decide = build_method(build_recipe(method=method, settings=[config])).decide
    size, patch = case.encoder.frame_size(13, 64, 112), case.encoder.temporal_patch

    def by_hand(wants: frozenset[str]) -> Tensor:
        made = []
        for first in range(0, 13, 4):
            part = frames[first : first + 4]
            grid = case.encoder.encode(part.data, part.pts_s, size, wants=wants)
            kept = decide(grid)[0].compress(grid)
            step = torch.tensor([first // patch, 0, 0])
            made.append(torch.cat([kept.positions + step, kept.tokens], dim=1))
        return torch.cat(made)

    rows, other = torch.cat([record.positions, record.tokens], dim=1), by_hand(frozenset())
    torch.testing.assert_close(rows, by_hand(SCORES), atol=1e-4, rtol=1e-4)
    assert rows.shape != other.shape or (rows - other).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["qwen2_5_vl", "siglip"])
def test_sinks_are_masked_on_request(case: Case, frames: Frames) -> None:
    """The method is shown what stands within the bound, and no other token."""
    config = {"merger": {"name": "holitom", "retain": 0.3}}
    bound = "model.sink_times=1.05"
    record = case.encode(method="holitom", settings=[*CHUNKS, config, bound])
    assert record.meta["recipe"]["sink_times"] == 1.05
    assert ("sinks", "beyond 1.05 x a frame's median attention") in facts(record.meta)
    size = case.encoder.frame_size(13, 64, 112)
    decide = build_method(build_recipe(method="holitom", settings=[config])).decide
    seen, rows = [], []
    for first in range(0, 13, 4):
        part = frames[first : first + 4]
        grid = case.encoder.encode(part.data, part.pts_s, size, wants=SCORES)
        assert grid.attention is not None
        median = grid.attention.flatten(1).median(1).values[:, None, None]
        far = grid.attention > 1.05 * median
        seen.append(far)
        rows.append(decide(replace(grid, attention=grid.attention.masked_fill(far, 0)))[0].compress(grid).tokens)
    torch.testing.assert_close(record.tokens, torch.cat(rows), atol=1e-4, rtol=1e-4)
    assert torch.cat(seen).any()
    plain = case.encode(method="holitom", settings=[*CHUNKS, config])
    assert "sink_times" not in plain.meta["recipe"]
    assert plain.meta["key"] != record.meta["key"]
    with pytest.raises(ConfigError, match="method 'evs' knows no received attention"):
        case.encode(method="evs", settings=[bound])


@pytest.mark.parametrize("family", TILED)
def test_what_a_gate_skips_is_not_encoded(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    work, embed = list[int](), Embedder.embed

    def counted(self: Embedder, *rest: Any) -> Any:
        with FlopCounterMode(display=False) as counter:
            made = embed(self, *rest)
        work.append(sum(n for op, n in counter.get_flop_counts()["Global"].items() if op not in CONVOLVED))
        return made

    monkeypatch.setattr(Embedder, "embed", counted)
    whole, record = case.encode(**WHOLE, force=True), case.encode(**WHOLE, **GATE, force=True)
    share = len(record) / len(whole)
    assert 0.3 < share < 0.9
    full, gated = sum(work[:4]), sum(work[4:])
    assert gated < (2 + share) / 3 * full  # tiny models: projectors, which see the whole grid, weigh as much as towers
    assert record.meta["method"]["gate"]["skips"] == "exact"
    owner = record.owner[record.owner >= 0]  # a run ends at a chunk's border, what is beyond it is in no row
    assert torch.equal(record.sizes.long(), torch.bincount(owner))
    standing = record.positions[:, 2] < record.grid[2] // 2
    assert int(standing.sum()) < int((~standing).sum()) / 2


@pytest.mark.parametrize("family", sorted(UNTILED))
def test_a_gate_needs_pixels_that_tile_the_grid(case: Case) -> None:
    with pytest.raises(vidcomp.ConfigError) as told:
        case.encode(**WHOLE, **GATE)
    why = f"gate 'rlt': model '{case.family}' cannot skip (pixels do not tile its token grid): leave the gate out"
    assert str(told.value) == why


@pytest.mark.parametrize("family", TILED)
def test_a_chunk_in_which_nothing_moves(case: Case, tmp_path: Path) -> None:
    """All of its tokens are skipped; the record says when its steps were, and holds none of their rows."""
    clip = film(tmp_path / "still.mp4", range(10))
    record = case.encode(clip, **GATE, method="evs", retain=0.5)
    steps = 4 // case.encoder.temporal_patch
    assert not int((record.positions[:, 0] // steps == 1).sum())
    assert len(record.grid_pts_s) == record.grid[0]
    if case.family in READERS:
        model, tokenizer = case.llm
        assert torch.isfinite(generate(model, vidcomp.prepare(model, tokenizer, record, QUESTION))[1]).all()


@pytest.mark.parametrize("method", ["dtd", "static_runs"])
def test_a_method_goes_on_behind_skipped_tokens(cases: Callable[[str], Case], tmp_path: Path, method: str) -> None:
    """It carries the last step over a chunk's border, and what was skipped there has no values."""
    clip, how = cases("clip").clip, {"fps": FPS, "method": method, "out": tmp_path}
    one, many = (vidcomp.encode(clip, **how, **GATE, settings=[f"chunk_frames={n}"]) for n in (64, 4))
    assert torch.equal(one.positions, many.positions)


def test_what_still_chunks_leave_of_a_budget_is_spent_later(tmp_path: Path) -> None:
    """Of the chunks of 4 frames the first has 196 tokens to encode, the second none, the others enough."""
    clip = film(tmp_path / "late.mp4", range(40, 65))
    how = {"fps": FPS, "method": "evs", "settings": CHUNKS, "out": tmp_path, **GATE}
    record = vidcomp.encode(clip, tokens=700, **how)
    chunk = record.positions[:, 0] // 4
    assert torch.bincount(chunk).tolist() == [196, 0, 700 * 12 // 13 - 196, 700 - 700 * 12 // 13]
    assert len(vidcomp.encode(clip, tokens_per_second=700 / 6.5, **how)) == 700


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in READERS])
def test_a_tower_alone_answers_nothing(case: Case) -> None:
    with pytest.raises(ValueError, match=f"family '{case.family}' has no language model"):
        vidcomp.load_llm(str(case.folder))
    assert case.encode(**WHOLE).grid == (13, 8, 8)
