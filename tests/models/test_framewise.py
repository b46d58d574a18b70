"""The families whose tower takes each frame as a picture, against their real transformers models: what they share."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from vidcomp.models import load as models
from vidcomp.models.families import family_module
from vidcomp.models.framewise_parts import Geometry
from vidcomp.models.framewise_tower import layers_read, passes
from vidcomp.models.jsonfile import CheckpointError
from vidcomp.models.preprocess import preprocess
from vidcomp.models.sizes import counting_sizes

FAMILIES = ["llava_onevision", "llava_next_video", "internvl", "smolvlm"]
CLIPS = [(8, 72, 104), (9, 72, 104), (5, 120, 68), (1, 60, 60), (2, 8, 8), (1, 2160, 3840), (3, 200, 40)]
QUESTION = "What happens after the cut? Ω"
BOTH = frozenset({"attention", "frame_vectors"})


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make(family, tmp_path_factory.mktemp("framewise") / family)
    return made


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def llm(folder: Path) -> tuple[Any, Any]:
    return models.load_llm(str(folder))


def seconds(frames: Tensor) -> Tensor:
    return torch.arange(len(frames)).double()


@torch.no_grad()
def own_rows(family: str, model: Any, pixels: dict[str, Tensor]) -> Tensor:
    """(T*N,D): what the real model makes of its processor's tensors, without the newline."""
    if family == "internvl":
        return model.get_image_features(pixels["pixel_values_videos"][0]).pooler_output.flatten(0, 1)
    if family == "smolvlm":
        return torch.cat(model.get_image_features(**pixels).pooler_output)
    rows: Tensor = model.get_video_features(**pixels).pooler_output[0]
    return rows[:-1] if family == "llava_onevision" else rows


# -- pixels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["a", "b"])
def test_pixels_are_the_real_processors(family: str, case: str, shared: Path) -> None:
    golden = np.load(shared / "golden" / f"preprocess_{family}_{case}.npz")
    settings = json.loads(str(golden["meta"]))["settings"]
    out = preprocess(torch.from_numpy(golden["in_frames"]), family=family, settings=settings)
    assert {f"out_{name}" for name in out} == {name for name in golden.files if name.startswith("out_")}
    for name, value in out.items():
        wanted = golden[f"out_{name}"]
        close = 1e-3 if wanted.dtype == np.float16 else 1e-5
        torch.testing.assert_close(value.double(), torch.from_numpy(wanted).double(), atol=close, rtol=0)


def test_frames_at_model_size_are_taken_as_they_are(encoder: Any, clip: Any) -> None:
    frames = clip(3, 90, 160)
    size = encoder.frame_size(3, 90, 160)
    small = encoder.resize(frames, size)
    assert small.dtype == torch.uint8
    assert tuple(small.shape[1:3]) == size == (encoder.geometry.side,) * 2
    whole = encoder.encode(frames, seconds(frames)).data
    assert torch.equal(encoder.encode(small, seconds(frames), size).data, whole)
    for name, value in encoder.preprocess(frames).items():
        assert torch.equal(encoder.preprocess(small, size)[name], value)


@pytest.mark.parametrize(
    ("geometry", "wanted"),
    [
        (Geometry(384, 14, None), (27, 14, None)),  # LLaVA-OneVision
        (Geometry(336, 14, 2), (24, 12, 28)),  # LLaVA-NeXT-Video
        (Geometry(448, 14, 2), (32, 16, 28)),  # InternVL3
        (Geometry(384, 14, 3), (27, 9, None)),  # SmolVLM2-2.2B: 6 pixels of 384 are in no patch
        (Geometry(512, 16, 4), (32, 8, 64)),  # SmolVLM2-500M
    ],
)
def test_geometry_of_released_models(geometry: Geometry, wanted: tuple[int, int, int | None]) -> None:
    assert (geometry.patches, geometry.tokens, geometry.token_pixels) == wanted


# -- tokens --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", CLIPS)
def test_tokens_are_the_models_own(shape: Any, family: str, encoder: Any, llm: Any, clip: Any) -> None:
    frames = clip(*shape)
    grid = encoder.encode(frames, seconds(frames))
    side = encoder.geometry.tokens
    assert grid.shape == (shape[0], side, side)
    assert torch.equal(grid.pts_s, seconds(frames))
    assert grid.attention is grid.frame_vectors is grid.valid is None
    torch.testing.assert_close(grid.feat_ND, own_rows(family, llm[0], encoder.preprocess(frames)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_the_models_own_to_the_bit(
    dtype: str, family: str, tiny_maker: ModuleType, tmp_path: Path, clip: Any
) -> None:
    folder = tiny_maker.make(family, tmp_path / "half", dtype=dtype)
    encoder, frames = models.load_model(str(folder)), clip(5, 72, 104)
    pixels = {
        name: value.to(getattr(torch, dtype)) if value.is_floating_point() else value
        for name, value in encoder.preprocess(frames).items()
    }
    own = own_rows(family, models.load_llm(str(folder))[0], pixels)
    assert torch.equal(encoder.encode(frames, seconds(frames)).feat_ND, own)


def test_passes_change_nothing(folder: Path, encoder: Any, clip: Any) -> None:
    frames = clip(21, 72, 104)
    keep = some(encoder, frames)
    one_by_one = models.load_model(str(folder))
    one_by_one.batch_pixels = 1
    for chosen in (None, keep):
        got = one_by_one.encode(frames, seconds(frames), wants=BOTH, keep=chosen)
        wanted = encoder.encode(frames, seconds(frames), wants=BOTH, keep=chosen)
        for name in ("data", "attention", "frame_vectors"):
            torch.testing.assert_close(getattr(got, name), getattr(wanted, name), atol=1e-5, rtol=0)


def test_what_goes_together() -> None:
    assert passes([4, 4, 4, 4, 4], 2) == [[0, 1], [2, 3], [4]]
    assert passes([1, 9, 0, 5, 4, 9], 8) == [[1, 5, 3], [4], [0]]
    assert passes([0, 0], 8) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes(dtype: str, folder: Path, clip: Any, encoder: Any) -> None:
    frames = clip(4, 72, 104)
    half = models.load_model(str(folder), dtype=dtype)
    out = half.encode(frames, seconds(frames), wants=BOTH, keep=some(encoder, frames))
    wanted = encoder.encode(frames, seconds(frames), keep=some(encoder, frames))
    assert out.data.dtype == out.frame_vectors.dtype == getattr(torch, dtype)
    assert out.attention.dtype == torch.float32
    torch.testing.assert_close(out.data.float(), wanted.data, atol=0.1, rtol=0.1)


VARIANTS = [
    ("llava_onevision", {"vision_feature_layer": [-2, 1]}),  # two states side by side
    ("llava_onevision", {"vision_feature_layer": 1}),
    ("llava_onevision", {"image_size": 56}),  # 4 x 4 patches, tokens that do not overlap
    ("llava_next_video", {"spatial_pool_mode": "max"}),
    ("llava_next_video", {"spatial_pool_mode": "conv", "vision_feature_layer": -1}),
    ("llava_next_video", {"spatial_pool_stride": 3}),
    ("internvl", {"vision_feature_layer": 2}),  # without the last norm
    ("internvl", {"use_qk_norm": True, "use_mean_pooling": True, "norm_type": "rms_norm"}),
    ("smolvlm", {"scale_factor": 2}),
]


@pytest.mark.parametrize(("family", "changes"), VARIANTS)
def test_other_configs(family: str, changes: Any, tiny_maker: ModuleType, tmp_path: Path, clip: Any) -> None:
    folder = with_config(tiny_maker.make(family, tmp_path / "made"), tmp_path / "other", **changes)
    real = family_module(family).READER.llm_class()
    model = real(real.config_class.from_pretrained(folder))
    sys.modules["tiny_common"].liven(model, 1)
    model.save_pretrained(folder)
    side = changes.get("image_size")
    encoder = models.load_model(str(folder), settings={"size": {"height": side, "width": side}} if side else None)
    frames = clip(5, 72, 104)
    grid = encoder.encode(frames, seconds(frames))
    own = own_rows(family, model.eval(), encoder.preprocess(frames))
    torch.testing.assert_close(grid.feat_ND, own, atol=1e-5, rtol=0)
    keep = some(encoder, frames)
    part = encoder.encode(frames, seconds(frames), keep=keep, wants=BOTH)
    model.set_attn_implementation("sdpa")
    own = masked_rows(family, model, encoder, frames, patches_read(family, encoder, keep))
    torch.testing.assert_close(part.data[keep], own.view(part.data.shape)[keep], atol=1e-5, rtol=0)
    assert part.frame_vectors.shape == (5, 64 if changes.get("vision_feature_layer") == [-2, 1] else 32)


# -- a subset of tokens --------------------------------------------------------------------------------


def some(encoder: Any, frames: Tensor) -> Tensor:
    """bool (T,H,W): about 40 % of the tokens; all of the first frame, one of the second, none of the third."""
    side = encoder.geometry.tokens
    keep = torch.rand(len(frames), side, side, generator=torch.Generator().manual_seed(5)) < 0.4
    keep[0] = True
    keep[1:3] = False
    keep[1, side - 1, 0] = True
    return keep


@torch.no_grad()
def test_keep_is_the_whole_tower_with_dropped_keys_masked(family: str, folder: Path, encoder: Any, clip: Any) -> None:
    frames = clip(9, 72, 104)
    keep = some(encoder, frames)
    grid = encoder.encode(frames, seconds(frames), keep=keep)
    model = models.load_llm(str(folder))[0]
    own = masked_rows(family, model, encoder, frames, patches_read(family, encoder, keep))
    torch.testing.assert_close(grid.data[keep], own.view(grid.data.shape)[keep], atol=1e-5, rtol=0)
    assert (grid.data[~keep] == 0).all()
    assert torch.equal(grid.valid, keep)
    assert (grid.data - encoder.encode(frames, seconds(frames)).data)[keep].abs().max() > 1e-3


def patches_read(family: str, encoder: Any, keep: Tensor) -> Tensor:
    """bool (T,P): patches that kept tokens are made of, by changing one patch at a time."""
    side, step = encoder.geometry.patches, encoder.geometry.step
    if step:
        return keep.repeat_interleave(step, 1).repeat_interleave(step, 2).flatten(1)
    ones = torch.eye(side * side).view(-1, 1, side, side)
    reads = interpolate(ones, size=keep.shape[1:], mode="bilinear")[:, 0] != 0  # (P,H,W)
    return torch.stack([(reads & kept).flatten(1).any(1) for kept in keep])


def masked_rows(family: str, model: Any, encoder: Any, frames: Tensor, seen: Tensor) -> Tensor:
    """The real model's own rows, no patch looking at one that is not `seen`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    mask = torch.cat([seen.new_ones(len(seen), encoder.special), seen], dim=1)[:, None, None]

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **how: Any) -> Any:
        return sdpa_attention_forward(module, query, key, value, mask.expand(-1, -1, query.shape[2], -1), **how)

    AttentionInterface.register("masked_by_test", attend)
    AttentionMaskInterface.register("masked_by_test", sdpa_mask)
    model.config.vision_config._attn_implementation = "masked_by_test"
    return own_rows(family, model, encoder.preprocess(frames))


def test_all_kept_and_none(encoder: Any, clip: Any) -> None:
    frames = clip(4, 72, 104)
    whole = encoder.encode(frames, seconds(frames), wants=BOTH)
    every = torch.ones(whole.shape, dtype=torch.bool)
    kept = encoder.encode(frames, seconds(frames), wants=BOTH, keep=every)
    none = encoder.encode(frames, seconds(frames), wants=BOTH, keep=~every)
    for name in ("data", "attention", "frame_vectors"):
        assert torch.equal(getattr(kept, name), getattr(whole, name))
        assert getattr(none, name).shape == getattr(whole, name).shape
        assert (getattr(none, name) == 0).all()


# -- scores --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_attention_is_what_the_eager_model_says(family: str, folder: Path, encoder: Any, clip: Any) -> None:
    frames = clip(5, 72, 104)
    grid = encoder.encode(frames, seconds(frames), wants=BOTH)
    real = type(encoder._parts.tower).from_pretrained(
        None, config=encoder._parts.tower.config, state_dict=whole_tower(folder, family), attn_implementation="eager"
    )
    pixels = next(iter(encoder.preprocess(frames).values()))[0]
    out = real(pixels, output_attentions=True, output_hidden_states=True)
    layer = {"llava_next_video": -2}.get(family, -1)
    received = out.attentions[layer].mean((1, 2))[:, encoder.special :]
    planes = received.unflatten(1, (encoder.geometry.patches,) * 2)[:, None]
    size = (encoder.geometry.tokens,) * 2
    step = encoder.geometry.step
    pooled = avg_pool2d(planes, step) if step else interpolate(planes, size=size, mode="bilinear")
    torch.testing.assert_close(grid.attention, pooled[:, 0], atol=1e-6, rtol=0)
    states = out.last_hidden_state if family in ("internvl", "smolvlm") else out.hidden_states[layer]
    vectors = states[:, 0] if encoder.special else states.mean(1)
    torch.testing.assert_close(grid.frame_vectors, vectors, atol=1e-5, rtol=0)


def whole_tower(folder: Path, family: str) -> dict[str, Tensor]:
    prefixes = family_module(family).TOWER_PREFIXES
    weights = load_file(folder / "model.safetensors")
    return {n.removeprefix(p): w for n, w in weights.items() for p in prefixes if n.startswith(p)}


# -- weights and settings ------------------------------------------------------------------------------


def test_construct_anywhere_load_in_setup(folder: Path, clip: Any, encoder: Any) -> None:
    model: Any = pickle.loads(pickle.dumps(models.build_model(str(folder))))  # as Ray would
    frames = clip(2, 60, 60)
    with pytest.raises(RuntimeError, match="setup"):
        model.encode(frames, seconds(frames))
    model.setup("cpu")
    assert torch.equal(model.encode(frames, seconds(frames)).data, encoder.encode(frames, seconds(frames)).data)
    assert (model.temporal_patch, model.skips, model.provides) == (1, "exact", BOTH)
    with pytest.raises(ValueError, match="one pts per frame"):
        model.encode(frames, seconds(frames)[:1])
    with pytest.raises(ValueError, match="keep must be"):
        model.encode(frames, seconds(frames), keep=torch.ones(2, 9, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="frames enter the model as"):
        model.encode(frames, seconds(frames), (50, 56))


def test_layers_that_nothing_reads_are_left_out(family: str, encoder: Any) -> None:
    assert len(encoder._parts.layers) == (2 if family == "llava_next_video" else 3)
    assert layers_read(-2, 24) == (23,)
    assert layers_read([-2, 5, 0], 24) == (23, 5, 0)
    with pytest.raises(ValueError, match="vision_feature_layer is 25, of a tower of 24 layers"):
        layers_read(25, 24)


def rewritten(folder: Path, to: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    shutil.copytree(folder, to)
    save_file(change(load_file(folder / "model.safetensors")), to / "model.safetensors", {"format": "pt"})
    return to


def test_every_prefix_is_known(family: str, folder: Path, tmp_path: Path, clip: Any, encoder: Any) -> None:
    module, frames = family_module(family), clip(2, 60, 60)
    wanted = encoder.encode(frames, seconds(frames)).data
    names = load_file(folder / "model.safetensors")
    saved = next(p for p in module.TOWER_PREFIXES if any(name.startswith(p) for name in names))
    for i, prefix in enumerate(module.TOWER_PREFIXES):

        def rename(weights: dict[str, Tensor], to: str = prefix) -> dict[str, Tensor]:
            return {n.replace(saved, to) if n.startswith(saved) else n: w for n, w in weights.items()}

        other = models.load_model(str(rewritten(folder, tmp_path / str(i), rename)))
        assert torch.equal(other.encode(frames, seconds(frames)).data, wanted)


LAST_WEIGHT = {
    "llava_onevision": "multi_modal_projector.linear_2.weight",
    "llava_next_video": "multi_modal_projector.linear_2.weight",
    "internvl": "multi_modal_projector.linear_2.weight",
    "smolvlm": "model.connector.modality_projection.proj.weight",
}


@pytest.mark.parametrize("part", ["tower", "projector"])
@pytest.mark.parametrize("wrong", ["missing", "mismatched", "unexpected"])
def test_weights_must_fit_exactly(family: str, part: str, wrong: str, folder: Path, tmp_path: Path) -> None:
    def change(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        tower = next(n for n in weights if n.endswith(("patch_embedding.bias", "projection.bias", "class_embedding")))
        name = tower if part == "tower" else LAST_WEIGHT[family]
        if wrong == "missing":
            return {n: w for n, w in weights.items() if n != name}
        return weights | {name if wrong == "mismatched" else f"{name}_lora_A": torch.zeros(7)}

    with pytest.raises(CheckpointError, match=r"these are not the weights that config\.json describes: 1 "):
        models.load_model(str(rewritten(folder, tmp_path / "bad", change)))


def with_config(folder: Path, to: Path, **changes: Any) -> Path:
    shutil.copytree(folder, to)
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        (config["vision_config"] if key in config["vision_config"] else config)[key] = value
    (to / "config.json").write_text(json.dumps(config))
    return to


def test_other_settings_are_refused_before_weights_are_read(
    family: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = {"size": {"height": 70, "width": 70}} if family != "smolvlm" else {"max_image_size": {"longest_edge": 70}}
    if family == "llava_next_video":
        side = {"crop_size": {"height": 70, "width": 70}}
    with pytest.raises(CheckpointError, match="makes frames of 70 x 70 pixels, the model takes"):
        models.build_model(str(folder), settings=side)
    with pytest.raises(CheckpointError, match="a vision tower of 'dinov2'"):
        models.build_model(str(with_config(folder, tmp_path / "tower", model_type="dinov2")))

    def older(*args: Any, **kwargs: Any) -> Tensor:
        raise ValueError("Anti-alias option is restricted")

    monkeypatch.setattr("vidcomp.models.resize.interpolate", older)
    with pytest.raises(CheckpointError, match="this torch cannot resize by resample"):
        models.build_model(str(folder))


# -- the language model --------------------------------------------------------------------------------


@torch.no_grad()
def generate(model: Any, inputs: dict[str, Any], **how: Any) -> Tensor:
    out: Tensor = model.generate(**inputs, do_sample=False, max_new_tokens=4, min_new_tokens=4, **how)
    return out[:, -4:]


def record_for(family: str, grid: Any, keep: Tensor | None, record_of: Any) -> Any:
    record = record_of(grid, keep, family=family, frames=grid.shape[0])
    record.meta["source"] = {"duration_s": grid.shape[0] / 1.0}
    return record


def test_beams_of_a_ragged_batch(family: str, encoder: Any, llm: Any, clip: Any, record_of: Any) -> None:
    """Each prompt's beams read its own video, whatever stands beside it in the batch."""
    model, tokenizer = llm
    grids = [
        encoder.encode(clip(count, 72, 104, seed), torch.arange(count).double()) for count, seed in ((4, 1), (7, 2))
    ]
    records = [record_for(family, grid, torch.tensor([1, 2, 5 + i]), record_of) for i, grid in enumerate(grids)]
    records[0] = record_for(family, grids[0], None, record_of)
    inputs = models.prepare(model, tokenizer, records, [QUESTION, "Who?"])
    both = generate(model, inputs, num_beams=3)
    for i, (record, question) in enumerate(zip(records, [QUESTION, "Who?"], strict=True)):
        alone = generate(model, models.prepare(model, tokenizer, record, question), num_beams=3)
        assert torch.equal(both[i], alone[0])


def test_beams_of_a_ragged_batch_that_count_by_size(
    family: str, encoder: Any, llm: Any, clip: Any, record_of: Any
) -> None:
    model, tokenizer = llm
    grids = [encoder.encode(clip(4, 72, 104, seed), torch.arange(4).double()) for seed in (1, 2)]
    records = [record_for(family, grid, torch.tensor([1, 2, 5 + i]), record_of) for i, grid in enumerate(grids)]
    for record in records:
        record.sizes[:] = torch.tensor([9, 1, 400])
    asked = [QUESTION, "Who?"]

    def told(held: Any, questions: Any) -> Tensor:
        inputs = models.prepare(model, tokenizer, held, questions)
        with counting_sizes(model, inputs["input_ids"], held if isinstance(held, list) else [held]):
            return generate(model, inputs, num_beams=3)

    both = told(records, asked)
    for i, (record, question) in enumerate(zip(records, asked, strict=True)):
        assert torch.equal(both[i], told(record, question)[0])


def test_no_token_kept(family: str, encoder: Any, llm: Any, clip: Any, record_of: Any) -> None:
    model, tokenizer = llm
    grid = encoder.encode(clip(3, 72, 104), torch.arange(3).double())
    inputs = models.prepare(model, tokenizer, record_for(family, grid, torch.arange(0), record_of), QUESTION)
    assert generate(model, inputs).shape == (1, 4)


def test_the_wrong_question_and_tokenizer(family: str, encoder: Any, llm: Any, clip: Any, record_of: Any) -> None:
    model, tokenizer = llm
    grid = encoder.encode(clip(2, 72, 104), torch.arange(2).double())
    record = record_for(family, grid, None, record_of)
    placeholder = tokenizer.convert_ids_to_tokens(family_module(family).READER.placeholder(model.config))
    with pytest.raises(ValueError, match=r"the prompt holds 2 video placeholders .* expected 1"):
        models.prepare(model, tokenizer, record, f"What is {placeholder}?")
    other = SimpleNamespace(tokens=torch.zeros(2, 7), meta=record.meta)
    with pytest.raises(ValueError, match="7 channels, the model's hidden states 48"):
        family_module(family).span(model.config, tokenizer, other, "grid")
