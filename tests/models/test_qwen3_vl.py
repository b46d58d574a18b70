"""models/qwen3_vl.py: sizes, prompt, deepstack, against the real processor and model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import real_source
import torch
from torch import Tensor
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from vidcomp.models import load as models
from vidcomp.models.checkpoint import resolve
from vidcomp.models.jsonfile import CheckpointError
from vidcomp.models.preprocess import preprocess
from vidcomp.models.qwen3_vl import load
from vidcomp.models.qwen_clip import clip_size
from vidcomp.models.settings import resolve as settings_of

QUESTION = "What happens after the cut? Ω"


@pytest.fixture(scope="module")
def folder(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make("qwen3_vl", tmp_path_factory.mktemp("qwen3") / "tiny")
    return made


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def llm(folder: Path) -> tuple[Any, Any]:
    return models.load_llm(str(folder))


@pytest.fixture
def recorded(encoder: Any, clip: Any, record_of: Any) -> Any:
    """recorded(frames, keep=None, **how): a record of a clip of that many frames."""

    def make(frames: int, keep: Tensor | None = None, **how: Any) -> Any:
        grid = encoder.encode(clip(frames, 72, 104), torch.arange(frames).double() / how.get("fps", 1.0))
        return record_of(grid, keep, family="qwen3_vl", frames=frames, **how)

    return make


# -- the size of a picture -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["a", "b"])
def test_preprocess_equals_the_real_processor(shared: Path, case: str) -> None:
    with np.load(shared / "golden" / f"preprocess_qwen3_vl_{case}.npz") as golden:
        frames, meta = torch.from_numpy(golden["in_frames"]), json.loads(str(golden["meta"]))
        wanted, grid = torch.from_numpy(golden["out_pixel_values_videos"]), golden["out_video_grid_thw"]
    out = preprocess(frames, family="qwen3_vl", settings=meta["settings"])
    assert out["video_grid_thw"].tolist() == grid.tolist()
    torch.testing.assert_close(out["pixel_values_videos"], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bounds", [(128 * 32 * 32, 768 * 32 * 32), (4096, 25165824), (4096, 192 * 32 * 32)])
def test_sizes_are_the_real_ones(bounds: tuple[int, int]) -> None:
    real = real_source.function("qwen3_vl", "video_processing_qwen3_vl.py", "smart_resize")
    low, high = bounds
    settings = settings_of("qwen3_vl", {"size": {"shortest_edge": low, "longest_edge": high}})
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        frames, height, width = (int(torch.randint(2, n, (1,), generator=generator)) for n in (200, 900, 900))
        if max(height, width) > 200 * min(height, width):
            continue
        wanted = real(frames, height, width, temporal_factor=2, factor=32, min_pixels=low, max_pixels=high)
        assert clip_size(settings, frames, height, width) == wanted, (frames, height, width)


def test_a_longer_clip_has_smaller_pictures(encoder: Any, clip: Any) -> None:
    assert encoder.frame_size(2, 720, 1280) == (224, 416)
    assert encoder.frame_size(40, 720, 1280) == (32, 64)
    size = encoder.frame_size(40, 720, 1280)
    assert encoder.encode(clip(2, 72, 104), torch.zeros(2).double(), size).shape == (1, 1, 2)


def test_a_clip_of_one_frame_is_as_large_as_of_two(encoder: Any) -> None:
    assert encoder.frame_size(1, 720, 1280) == encoder.frame_size(2, 720, 1280)


def test_a_cap_bounds_each_frame() -> None:
    capped = settings_of("qwen3_vl", {"cap_pixels_per_frame": True, "size": {"longest_edge": 25165824}})
    free = settings_of("qwen3_vl", {"size": {"longest_edge": 25165824}})
    assert clip_size(free, 4, 1080, 1920) == (1088, 1920)
    assert clip_size(capped, 4, 1080, 1920) == (640, 1152)  # 768 tokens of 32 x 32 a frame
    # 1000 frames: 25165 pixels would be their share, the floor of int(1.05 * 131072) holds
    assert clip_size(capped, 1000, 1080, 1920) == (256, 480)


@pytest.mark.parametrize("sides", [(0, 10), (10, 0), (1, 201)])
def test_sizes_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="1:200"):
        clip_size(settings_of("qwen3_vl"), 2, *sides)


# -- the prompt ----------------------------------------------------------------------------------------


def real_text(record: Any, fps: float) -> str:
    """What the real processor puts in the place of one video, sampled at `fps` from a source of that rate."""
    t, h, w = record.grid
    processor = SimpleNamespace(
        video_token="<|video_pad|>",
        image_token="<|image_pad|>",
        vision_start_token="<|vision_start|>",
        vision_end_token="<|vision_end|>",
        all_special_multimodal_tokens=["<|video_pad|>"],
        video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2),
        _calculate_timestamps=lambda *a: Qwen3VLProcessor._calculate_timestamps(None, *a),
    )
    told = SimpleNamespace(fps=fps, frames_indices=list(range(len(record.frame_pts_s))))
    inputs = {"video_grid_thw": torch.tensor([[t, 2 * h, 2 * w]]), "video_metadata": [told]}
    text = Qwen3VLProcessor.replace_video_token(processor, inputs, 0)
    marked = ["<|vision_start|><|video_pad|><|vision_end|>"]
    return str(Qwen3VLProcessor.get_text_with_replacements(processor, marked, videos_replacements=[text])[0][0])


@pytest.mark.parametrize("fps", [1.0, 2.0, 3.0, 29.97])
@pytest.mark.parametrize("frames", [1, 6, 7])
def test_the_prompt_is_the_processors(fps: float, frames: int, recorded: Any, llm: tuple[Any, Any]) -> None:
    record = recorded(frames, fps=fps)
    turn = "<|im_start|>user\n{}" + QUESTION + "<|im_end|>\n<|im_start|>assistant\n"
    inputs = models.prepare(*llm, record, QUESTION, position_rule="wrapped")
    assert llm[1].decode(inputs["input_ids"][0]) == turn.format(real_text(record, fps))
    inputs = models.prepare(*llm, record, QUESTION)
    plain = real_text(record, fps).removeprefix("<|vision_start|>").removesuffix("<|vision_end|>")
    assert llm[1].decode(inputs["input_ids"][0]) == turn.format(plain)


def test_times_are_means_of_true_pts(recorded: Any, llm: tuple[Any, Any]) -> None:
    pts = torch.tensor([0.0, 0.9, 1.0, 4.0, 10.04], dtype=torch.float64)
    record = replace(recorded(5), frame_pts_s=pts, grid_pts_s=pts[::2])
    text = llm[1].decode(models.prepare(*llm, record, QUESTION)["input_ids"][0])
    assert [part.split("<")[-1] for part in text.split(" seconds>")[:-1]] == ["0.5", "2.5", "10.0"]


def test_a_step_without_tokens_keeps_its_text(recorded: Any, llm: tuple[Any, Any]) -> None:
    record = recorded(6, torch.tensor([1]))
    text = llm[1].decode(models.prepare(*llm, record, QUESTION)["input_ids"][0])
    start, end = "<|vision_start|>", "<|vision_end|>"
    times = ["<0.5 seconds>", "<2.5 seconds>", "<4.5 seconds>"]
    assert "".join([times[0], start, "<|video_pad|>", end, times[1], start, end, times[2], start, end, "What"]) in text


@pytest.mark.parametrize("rule", ["grid", "wrapped"])
def test_positions_are_those_of_the_whole(rule: str, recorded: Any, llm: tuple[Any, Any]) -> None:
    model, keep = llm[0], torch.tensor([0, 7, 8, 20])
    whole = models.prepare(*llm, recorded(7), QUESTION, position_rule=rule)
    kinds = (whole["input_ids"] == model.config.video_token_id).int() * 2
    t, h, w = recorded(7).grid
    wanted, _ = Qwen3VLModel.get_rope_index(
        model.model, whole["input_ids"], kinds, video_grid_thw=torch.tensor([[t, 2 * h, 2 * w]])
    )
    assert torch.equal(whole["position_ids"], wanted)
    part = models.prepare(*llm, recorded(7, keep), QUESTION, position_rule=rule)
    stays = kinds[0] == 0
    stays[kinds[0].nonzero()[keep, 0]] = True
    assert torch.equal(part["position_ids"], wanted[:, :, stays])
    assert torch.equal(part["input_ids"], whole["input_ids"][:, stays])


# -- deepstack -----------------------------------------------------------------------------------------


def test_deepstack_rows_are_the_models_own(encoder: Any, llm: tuple[Any, Any], clip: Any) -> None:
    frames = clip(5, 72, 104)
    grid = encoder.encode(frames, torch.arange(5).double())
    with torch.no_grad():
        own = llm[0].get_video_features(**encoder.preprocess(frames))
    assert list(grid.extra) == ["deepstack_0", "deepstack_1"]
    torch.testing.assert_close(grid.feat_ND, own.pooler_output[0], atol=1e-5, rtol=0)
    for rows, wanted in zip(grid.extra.values(), own.deepstack_features, strict=True):
        torch.testing.assert_close(rows.flatten(0, 2), wanted[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_deepstack_matters(recorded: Any, llm: tuple[Any, Any]) -> None:
    record = recorded(6, torch.tensor([1, 5]))
    flat = replace(record, extra={name: torch.zeros_like(rows) for name, rows in record.extra.items()})
    swapped = replace(record, extra=dict(zip(record.extra, [*record.extra.values()][::-1], strict=True)))
    logits = [llm[0](**models.prepare(*llm, r, QUESTION)).logits[0, -1] for r in (record, flat, swapped)]
    assert (logits[0] - logits[1]).abs().max() > 1e-3
    assert (logits[0] - logits[2]).abs().max() > 1e-3


def test_a_record_without_deepstack_is_refused(recorded: Any, llm: tuple[Any, Any]) -> None:
    record = recorded(2)
    for extra, name in (({}, "deepstack_0"), ({"deepstack_0": record.extra["deepstack_0"]}, "deepstack_1")):
        with pytest.raises(ValueError, match=f"holds no {name}"):
            models.prepare(*llm, replace(record, extra=extra), QUESTION)


def test_beams(recorded: Any, llm: tuple[Any, Any]) -> None:
    inputs = models.prepare(*llm, recorded(4, torch.tensor([1, 5])), QUESTION)
    out = llm[0].generate(**inputs, num_beams=2, do_sample=False, max_new_tokens=3, min_new_tokens=3)
    assert out.shape[1] == inputs["input_ids"].shape[1] + 3


def test_another_patch_size_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="patch_size is 14, the model's patch_size 16"):
        load(resolve(str(folder), settings={"patch_size": 14}))
