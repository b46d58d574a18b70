"""What every picture tower without a language model promises, against its real class on a tiny random checkpoint."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import Tensor

import vidcomp
from vidcomp.models import load as models
from vidcomp.models.families import UnknownModelError
from vidcomp.models.jsonfile import CheckpointError
from vidcomp.models.plain_tower import PlainTower
from vidcomp.models.types import TokenGrid

REAL = {
    "siglip": hf.SiglipModel,
    "siglip_vision_model": hf.SiglipVisionModel,
    "clip": hf.CLIPModel,
    "clip_vision_model": hf.CLIPVisionModel,
    "dinov2": hf.Dinov2Model,
}
FAMILY = {kind: kind.removesuffix("_vision_model") for kind in REAL}  # of a config.json's model_type
BOTH = frozenset({"attention", "frame_vectors"})
SHAPES = [(9, 72, 104), (5, 120, 68), (1, 60, 60), (2, 8, 8), (1, 2160, 3840), (3, 200, 40)]


@pytest.fixture(scope="module", params=sorted(REAL))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make(family, tmp_path_factory.mktemp("tower") / family)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return models.load_model(str(folder))


def real_tower(family: str, folder: Path, attention: str = "sdpa") -> Any:
    """The real class as transformers loads it, or its vision part."""
    whole = REAL[family].from_pretrained(folder, attn_implementation=attention).eval()
    return getattr(whole, "vision_model", whole)


@pytest.fixture(scope="module")
def real(family: str, folder: Path) -> Any:
    return real_tower(family, folder)


def encoded(model: Any, frames: Tensor, **how: Any) -> TokenGrid:
    grid: TokenGrid = model.encode(frames, torch.arange(len(frames)).double(), **how)
    return grid


def close(ours: Tensor, theirs: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


def end(real: Any, states: Tensor) -> Tensor:
    """From the encoder's output to `last_hidden_state`."""
    norm = real.layernorm if isinstance(real, hf.Dinov2Model) else real.post_layernorm
    return states if isinstance(real, hf.CLIPVisionModel) else norm(states)


def pooled(real: Any, states: Tensor) -> Tensor:
    """From `last_hidden_state` to a frame's vector."""
    if isinstance(real, hf.SiglipVisionModel):
        return real.head(states) if real.use_head else states.mean(1)
    return real.post_layernorm(states[:, 0]) if isinstance(real, hf.CLIPVisionModel) else states[:, 0]


def embedded(real: Any, pixels: Tensor) -> Tensor:
    states = real.embeddings(pixels)
    return real.pre_layrnorm(states) if isinstance(real, hf.CLIPVisionModel) else states


def random_keep(grid: TokenGrid, share: float = 0.3) -> Tensor:
    """Ragged: a random share of each frame, nothing of frame 2, all of frame 4."""
    keep = torch.rand(grid.shape, generator=torch.Generator().manual_seed(5)) < share
    keep[2], keep[4] = False, True
    return keep


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_tokens_are_the_real_class(shape: Any, model: Any, real: Any, clip: Any) -> None:
    frames = clip(*shape)
    grid = encoded(model, frames, wants=BOTH)
    pixels = model.preprocess(frames)
    assert list(pixels) == ["pixel_values"]
    out = real(**pixels)
    close(grid.data.flatten(1, 2), out.last_hidden_state[:, model.kind.special :])
    own = out.pooler_output if out.pooler_output is not None else out.last_hidden_state.mean(1)
    close(grid.frame_vectors, own)
    assert grid.pts_s.tolist() == list(range(shape[0]))
    size = model.frame_size(*shape)
    assert pixels["pixel_values"].shape == (shape[0], 3, *size)
    assert grid.shape == (shape[0], size[0] // 14, size[1] // 14)


@torch.no_grad()
def test_attention_is_that_of_eager_weights(family: str, folder: Path, model: Any, clip: Any) -> None:
    frames = clip(9, 72, 104)
    eager = real_tower(family, folder, "eager")
    weights = eager(**model.preprocess(frames), output_attentions=True).attentions[-1]
    plain, grid = encoded(model, frames), encoded(model, frames, wants=frozenset({"attention"}))
    wanted = weights.mean(1).mean(1)[:, model.kind.special :]
    assert wanted.std() > 1e-3
    close(grid.attention.flatten(1), wanted, 1e-6)
    assert torch.equal(plain.data, grid.data)
    assert plain.attention is plain.frame_vectors is grid.frame_vectors is None


def test_frames_resized_before_are_the_same(model: Any, clip: Any) -> None:
    for shape in SHAPES:
        frames, size = clip(*shape), model.frame_size(*shape)
        sized = model.resize(frames, size)
        assert tuple(sized.shape) == (shape[0], *size, 3)
        assert torch.equal(encoded(model, sized, size=size).data, encoded(model, frames).data)
        assert torch.equal(model.preprocess(sized, size)["pixel_values"], model.preprocess(frames)["pixel_values"])


@pytest.mark.parametrize("batch_pixels", [1, 2 * 112 * 112, 1 << 22])
def test_chunks_and_passes_change_nothing(batch_pixels: int, model: Any, clip: Any) -> None:
    frames = clip(13, 72, 104)
    whole = encoded(model, frames, wants=BOTH)
    small = PlainTower(model.kind, model.checkpoint, model.dtype, batch_pixels)
    small.setup("cpu")
    parts = [encoded(small, frames[i : i + 4], wants=BOTH) for i in range(0, 13, 4)]
    for name in ("data", "attention", "frame_vectors"):
        close(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_equal_frames_give_equal_bytes(model: Any, clip: Any) -> None:
    frames = clip(5, 72, 104)
    keep = random_keep(encoded(model, frames))
    for how in ({}, {"keep": keep, "wants": BOTH}):
        assert torch.equal(encoded(model, frames, **how).data, encoded(model, frames.clone(), **how).data)


@torch.no_grad()
def test_keep_is_the_masked_whole(model: Any, real: Any, clip: Any) -> None:
    frames = clip(9, 72, 104)
    keep, special = random_keep(encoded(model, frames)), model.kind.special
    grid = encoded(model, frames, keep=keep)
    mask = torch.cat([torch.ones(9, special, dtype=torch.bool), keep.flatten(1)], dim=1)
    states = real.encoder(embedded(real, model.preprocess(frames)["pixel_values"]), mask[:, None, None])
    whole = end(real, states.last_hidden_state)[:, special:].view_as(grid.data)
    close(grid.data[keep], whole[keep], 1e-6 * 5)
    assert not grid.data[~keep].any()
    assert torch.equal(grid.valid, keep)
    assert (grid.data - encoded(model, frames).data)[keep].abs().max() > 0.1  # not pruning after the encoder


@torch.no_grad()
def test_scores_of_kept_tokens_are_among_themselves(family: str, folder: Path, model: Any, clip: Any) -> None:
    frames = clip(9, 72, 104)
    keep, special = random_keep(encoded(model, frames)), model.kind.special
    grid = encoded(model, frames, keep=keep, wants=BOTH)
    eager, caught = real_tower(family, folder, "eager"), list[Tensor]()
    layers = eager.encoder.layer if family == "dinov2" else eager.encoder.layers
    attention = next(m for name, m in layers[-1].named_children() if "attn" in name or name == "attention")
    attention.register_forward_hook(lambda _module, _args, out: caught.append(out[1]))
    states = embedded(eager, model.preprocess(frames)["pixel_values"])
    for i, shown in enumerate(keep.flatten(1)):
        if shown.any():
            alone = states[i : i + 1, torch.cat([torch.ones(special, dtype=torch.bool), shown])]
            out = end(eager, eager.encoder(alone, None).last_hidden_state)
            close(grid.frame_vectors[i : i + 1], pooled(eager, out))
            close(grid.attention[i][keep[i]], caught[-1].mean(1).mean(1)[0, special:], 1e-6)
    assert not grid.attention[~keep].any()
    assert not grid.frame_vectors[2].any()


def test_the_encoder_sees_only_what_is_kept(model: Any, clip: Any) -> None:
    frames = model.resize(clip(9, 72, 104), size := model.frame_size(9, 72, 104))
    keep, special = random_keep(encoded(model, frames, size=size)), model.kind.special
    seen = list[Tensor]()
    hook = model._passes.tower.encoder.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    grid = encoded(model, frames, size=size, keep=keep)
    hook.remove()
    counts = keep.flatten(1).sum(1).sort().values[1:]  # without the frame that keeps nothing
    shapes = [states.shape[:2] for states in seen]
    longest = torch.cat([torch.full((b,), count - special) for b, count in shapes])
    assert len(longest) == len(counts)
    assert (counts <= longest).all()
    assert (longest <= 1.25 * counts).all()
    dropped = frames.clone()
    squares = (~keep).repeat_interleave(14, dim=1).repeat_interleave(14, dim=2)
    dropped[:, : squares.shape[1], : squares.shape[2]][squares] = 255
    assert not torch.equal(frames, dropped)
    assert torch.equal(encoded(model, dropped, size=size, keep=keep).data, grid.data)


def test_frames_of_equal_counts_are_not_padded(model: Any, clip: Any) -> None:
    frames = clip(6, 72, 104)
    keep = torch.zeros(encoded(model, frames).shape, dtype=torch.bool)
    keep[:, 2, 1:4], keep[3], keep[3, 5, 2:5] = True, False, True
    seen = list[Any]()
    hook = model._passes.tower.encoder.register_forward_pre_hook(lambda _module, args: seen.append(args))
    encoded(model, frames, keep=keep, wants=BOTH)
    hook.remove()
    assert [(tuple(states.shape[:2]), mask) for states, mask in seen] == [((6, 3 + model.kind.special), None)]


def test_all_or_nothing_kept(model: Any, clip: Any) -> None:
    frames = clip(3, 72, 104)
    plain = encoded(model, frames, wants=BOTH)
    everything = torch.ones(plain.shape, dtype=torch.bool)
    grid = encoded(model, frames, wants=BOTH, keep=everything)
    for name in ("data", "attention", "frame_vectors"):
        assert torch.equal(getattr(grid, name), getattr(plain, name))
    none = encoded(model, frames, wants=BOTH, keep=~everything)
    assert not none.data.any()
    assert not none.valid.any()
    with pytest.raises(ValueError, match=r"keep must be \(3, "):
        encoded(model, frames, keep=everything[:2])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes(dtype: str, folder: Path, model: Any, clip: Any) -> None:
    frames = clip(4, 72, 104)
    half, plain = models.load_model(str(folder), dtype=dtype), encoded(model, frames, wants=BOTH)
    grid = encoded(half, frames, wants=BOTH)
    assert grid.data.dtype == grid.frame_vectors.dtype == getattr(torch, dtype)
    assert grid.attention.dtype == torch.float32
    torch.testing.assert_close(grid.data.float(), plain.data, atol=0.1, rtol=0.1)
    torch.testing.assert_close(grid.attention, plain.attention, atol=0.01, rtol=0)


@torch.no_grad()
def test_a_bfloat16_checkpoint(family: str, tiny_maker: ModuleType, tmp_path: Path, clip: Any) -> None:
    folder = tiny_maker.make(family, tmp_path / "half", dtype="bfloat16")
    model, frames = models.load_model(str(folder)), clip(3, 72, 104)
    own = real_tower(family, folder).bfloat16()(**model.preprocess(frames)).last_hidden_state
    assert torch.equal(encoded(model, frames).data.flatten(1, 2), own[:, model.kind.special :])


def test_construct_anywhere_load_in_setup(folder: Path, family: str, model: Any, clip: Any) -> None:
    built: Any = pickle.loads(pickle.dumps(models.build_model(str(folder))))  # as Ray would
    frames, pts = clip(2, 60, 60), torch.zeros(2).double()
    with pytest.raises(RuntimeError, match="setup"):
        built.encode(frames, pts)
    built.setup("cpu")
    assert torch.equal(built.encode(frames, pts).data, encoded(model, frames).data)
    assert (built.family, built.temporal_patch, built.skips) == (FAMILY[family], 1, "exact")
    assert built.provides == BOTH
    with pytest.raises(ValueError, match="one pts a frame"):
        built.encode(frames[:0], pts[:0])


def test_preprocess_by_name(folder: Path, family: str, model: Any, clip: Any) -> None:
    frames = clip(2, 72, 104)
    given = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    own = vidcomp.preprocess(frames, family=FAMILY[family], settings=given)["pixel_values"]
    assert torch.equal(own, model.preprocess(frames)["pixel_values"])
    assert own.dtype == torch.float32
    default = vidcomp.preprocess(frames, family=FAMILY[family])["pixel_values"]
    assert default.shape == (2, 3, 224, 224)
    with pytest.raises(ValueError, match="T >= 1"):
        vidcomp.preprocess(frames[:0], family=FAMILY[family])


def changed(folder: Path, to: Path, file: str, **change: Any) -> Path:
    """A copy whose JSON file says something else."""
    copy = Path(shutil.copytree(folder, to))
    said = json.loads((copy / file).read_text(encoding="utf-8"))
    (copy / file).write_text(json.dumps(said | change), encoding="utf-8")
    return copy


def test_another_processor_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "other", "preprocessor_config.json", image_processor_type="ViTImageProcessor")
    with pytest.raises(ValueError, match=r"settings of ViTImageProcessor, expected \w+ImageProcessor"):
        models.load_model(str(copy))


@pytest.mark.parametrize("change", ["lost", "stray", "shape"])
def test_weights_must_fit_exactly(change: str, family: str, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "bad"))
    weights = load_file(copy / "model.safetensors")
    name = next(n for n in weights if n.endswith("norm1.bias") and not n.startswith("text_model"))
    if change == "lost":
        del weights[name]
    else:
        weights[name + ("_x" if change == "stray" else "")] = torch.zeros(7)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    words = {"lost": "1 missing keys", "stray": "1 unexpected keys", "shape": "1 mismatched keys"}
    with pytest.raises(CheckpointError, match=words[change]) as told:
        models.load_model(str(copy))
    assert "\n" not in str(told.value)


def test_it_has_no_language_model(folder: Path, family: str, real: Any) -> None:
    with pytest.raises(UnknownModelError, match="has no language model") as told:
        models.load_llm(str(folder))
    assert "\n" not in str(told.value)
    with pytest.raises(UnknownModelError, match="has no language model"):
        models.prepare(real, None, [], "What?")
