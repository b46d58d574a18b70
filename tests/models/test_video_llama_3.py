"""models/video_llama_3.py: sizes, the processor's own token mask, prompt and projector, against the real ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import real_source
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.video_llama_3.processing_video_llama_3 import VideoLlama3Processor

from vidcomp.models import load as models
from vidcomp.models.checkpoint import resolve
from vidcomp.models.jsonfile import CheckpointError
from vidcomp.models.preprocess import preprocess
from vidcomp.models.settings import resolve as settings_of
from vidcomp.models.video_llama_3 import load, shared_size

QUESTION = "What happens after the cut? Ω"
FILE = "video_processing_video_llama_3.py"


@pytest.fixture(scope="module")
def folder(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make("video_llama_3", tmp_path_factory.mktemp("llama") / "tiny")
    return made


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def llm(folder: Path) -> tuple[Any, Any]:
    return models.load_llm(str(folder))


@pytest.fixture
def recorded(encoder: Any, clip: Any, record_of: Any) -> Any:
    """recorded(frames, keep=None, fps=1.0): a record of a clip of that many frames, one a step."""

    def make(frames: int, keep: Tensor | None = None, fps: float = 1.0) -> Any:
        grid = encoder.encode(clip(frames, 72, 104), torch.arange(frames).double() / fps)
        return record_of(grid, keep, family="video_llama_3", frames=frames, fps=fps)

    return make


# -- pixels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["a", "b"])
def test_preprocess_equals_the_real_processor(shared: Path, case: str) -> None:
    with np.load(shared / "golden" / f"preprocess_video_llama_3_{case}.npz") as golden:
        frames, meta = torch.from_numpy(golden["in_frames"]), json.loads(str(golden["meta"]))
        wanted = {name.removeprefix("out_"): torch.from_numpy(golden[name]) for name in golden.files if "out_" in name}
    out = preprocess(frames, family="video_llama_3", settings=meta["settings"])
    assert out.keys() == wanted.keys()
    pixels, exact = out.pop("pixel_values_videos"), wanted.pop("pixel_values_videos")
    torch.testing.assert_close(pixels, exact.float(), atol=1e-3, rtol=0)
    assert torch.equal(pixels.half(), exact)  # float16 is all that the golden lost
    assert all(torch.equal(out[name], value) for name, value in wanted.items())


def test_sizes_are_the_real_ones() -> None:
    real = real_source.function("video_llama_3", FILE, "smart_resize")
    settings = settings_of("video_llama_3")
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        frames, height, width = (int(torch.randint(1, n, (1,), generator=generator)) for n in (400, 900, 900))
        if max(height, width) > 200 * min(height, width):
            continue
        wanted = real(height, width, factor=28, min_pixels=128 * 784, max_pixels=768 * 784 // frames)
        assert shared_size(settings, frames, height, width) == wanted, (frames, height, width)
    assert shared_size(settings, 10**6, 720, 1280) == (28, 28)  # the original divides by zero


def still_and_moving(clip: Any) -> Tensor:
    """uint8 (5,56,112,3): the left half moves from frame 3 on, the right half never does."""
    frames = clip(1, 56, 112).repeat(5, 1, 1, 1)
    frames[3:, :, :56] += torch.tensor([3, 9], dtype=torch.uint8).view(2, 1, 1, 1)
    return frames


def test_the_mask_of_the_processor(clip: Any) -> None:
    settings = {"do_resize": False}
    made = preprocess(still_and_moving(clip), family="video_llama_3", settings=settings)
    mask = made["video_compression_mask"].view(5, 2, 4)
    assert mask[0].all()
    for step in (1, 2):  # as before: the first token stays
        assert mask[step].flatten().nonzero().flatten().tolist() == [0]
    for step in (3, 4):
        assert mask[step].tolist() == [[True, True, False, False]] * 2
    real = real_source.function("video_llama_3", FILE, "_get_compression_mask")
    given = {name: made[name] for name in ("pixel_values_videos", "video_grid_thw", "video_merge_sizes")}
    assert torch.equal(real(None, **given), made["video_compression_mask"])
    off = preprocess(
        still_and_moving(clip), family="video_llama_3", settings={**settings, "use_token_compression": False}
    )
    assert off["video_compression_mask"].shape == (40,)
    assert off["video_compression_mask"].all()
    assert preprocess(clip(1, 56, 112), family="video_llama_3")["video_compression_mask"].all()  # one frame


def test_the_mask_drops_nothing_by_itself(encoder: Any, clip: Any) -> None:
    frames = clip(1, 72, 104).repeat(3, 1, 1, 1)
    assert not encoder.preprocess(frames)["video_compression_mask"].all()
    grid = encoder.encode(frames, torch.arange(3).double())
    assert grid.valid is None
    torch.testing.assert_close(grid.data[0], grid.data[2], atol=1e-5, rtol=0)
    assert (encoder.family, encoder.temporal_patch, encoder.token_pixels) == ("video_llama_3", 1, 28)


@torch.no_grad()
def test_tokens_are_the_models_own(encoder: Any, llm: tuple[Any, Any], clip: Any) -> None:
    frames = clip(5, 72, 104)
    pixels = encoder.preprocess(frames)
    del pixels["video_compression_mask"]
    own = llm[0].get_video_features(**pixels).pooler_output[0]
    grid = encoder.encode(frames, torch.arange(5).double())
    torch.testing.assert_close(grid.feat_ND, own, atol=1e-5, rtol=0)


# -- the prompt ----------------------------------------------------------------------------------------


def real_text(record: Any, fps: float) -> str:
    """What the real processor puts in the place of one video, sampled at `fps` from a source of that rate."""
    t, h, w = record.grid
    inputs = {
        "video_grid_thw": torch.tensor([[t, 2 * h, 2 * w]]),
        "video_merge_sizes": torch.tensor([2]),
        "video_compression_mask": torch.ones(t * h * w, dtype=torch.bool),
        "video_metadata": [SimpleNamespace(fps=fps, timestamps=[i / fps for i in range(t)])],
    }
    return str(VideoLlama3Processor.replace_video_token(SimpleNamespace(video_token="<|video_pad|>"), inputs, 0))


@pytest.mark.parametrize("fps", [1.0, 3.0, 29.97])
@pytest.mark.parametrize("frames", [1, 5])
def test_the_prompt_is_the_processors(fps: float, frames: int, recorded: Any, llm: tuple[Any, Any]) -> None:
    record = recorded(frames, fps=fps)
    text = llm[1].decode(models.prepare(*llm, record, QUESTION)["input_ids"][0])
    video = real_text(record, fps)
    assert text == f"<|im_start|>user\n{video}\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    assert video.startswith("Time 0.0s:<|video_pad|>")


def test_frames_without_tokens_keep_their_text(recorded: Any, llm: tuple[Any, Any]) -> None:
    pts = torch.tensor([0.0, 0.3, 7.04], dtype=torch.float64)
    record = replace(recorded(3, torch.tensor([1, 2])), grid_pts_s=pts)
    text = llm[1].decode(models.prepare(*llm, record, QUESTION)["input_ids"][0])
    assert "user\nTime 0.0s:<|video_pad|><|video_pad|>,Time 0.3s:,Time 7.0s:\nWhat" in text


def test_positions_are_those_of_the_whole(recorded: Any, llm: tuple[Any, Any]) -> None:
    keep = torch.tensor([0, 7, 8, 30])
    whole = models.prepare(*llm, recorded(5), QUESTION)
    part = models.prepare(*llm, recorded(5, keep), QUESTION)
    assert torch.equal(whole["position_ids"][0], torch.arange(whole["input_ids"].shape[1]))
    stays = whole["input_ids"][0] != llm[0].config.video_token_id
    stays[(~stays).nonzero()[keep, 0]] = True
    assert torch.equal(part["position_ids"][0], stays.nonzero()[:, 0])
    assert torch.equal(part["input_ids"], whole["input_ids"][:, stays])


# -- the weights ---------------------------------------------------------------------------------------


def drop(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name != "model.projector.readout.2.bias"}


def widen(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"model.projector.readout.0.bias": torch.zeros(7)}


def stray(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"model.vision_model.lora_A": torch.zeros(7)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"1 missing keys \(readout.2.bias\)"),
        (widen, r"1 mismatched keys \(.*readout.0.bias"),
        (stray, r"1 unexpected keys \(lora_A\)"),
    ],
)
def test_weights_must_fit_exactly(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    shutil.copytree(folder, tmp_path / "bad")
    save_file(change(load_file(folder / "model.safetensors")), tmp_path / "bad" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        models.load_model(str(tmp_path / "bad"))


def test_other_geometry_is_refused(folder: Path) -> None:
    for key, value in (("patch_size", 16), ("temporal_patch_size", 2)):
        with pytest.raises(CheckpointError, match=f"the processor's {key} is {value}"):
            load(resolve(str(folder), settings={key: value}))
