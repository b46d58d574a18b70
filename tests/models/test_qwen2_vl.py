"""models/qwen2_vl.py: what it does otherwise than Qwen2.5-VL, against the real model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

from vidcomp.models import load as models
from vidcomp.models.checkpoint import resolve
from vidcomp.models.jsonfile import CheckpointError
from vidcomp.models.preprocess import preprocess
from vidcomp.models.qwen2_vl import load

QUESTION = "What happens after the cut? Ω"


@pytest.fixture(scope="module")
def folder(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make("qwen2_vl", tmp_path_factory.mktemp("qwen2") / "tiny")
    return made


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def llm(folder: Path) -> tuple[Any, Any]:
    return models.load_llm(str(folder))


def recorded(encoder: Any, clip: Any, record_of: Any, frames: int = 7, **how: Any) -> Any:
    grid = encoder.encode(clip(frames, 72, 104), torch.arange(frames).double())
    return record_of(grid, family="qwen2_vl", frames=frames, **how)


@pytest.mark.parametrize("case", ["a", "b"])
def test_preprocess_equals_the_real_processor(shared: Path, case: str) -> None:
    """One class for both families: Qwen2VLVideoProcessor."""
    with np.load(shared / "golden" / f"preprocess_qwen2_5_vl_{case}.npz") as golden:
        frames, meta = torch.from_numpy(golden["in_frames"]), json.loads(str(golden["meta"]))
        wanted = torch.from_numpy(golden["out_pixel_values_videos"])
    out = preprocess(frames, family="qwen2_vl", settings=meta["settings"])
    torch.testing.assert_close(out["pixel_values_videos"], wanted.float(), atol=1e-3, rtol=0)


@torch.no_grad()
def test_tokens_are_the_models_own(encoder: Any, llm: tuple[Any, Any], clip: Any) -> None:
    frames = clip(5, 72, 104)
    own = llm[0].get_video_features(**encoder.preprocess(frames)).pooler_output[0]
    grid = encoder.encode(frames, torch.arange(5).double())
    torch.testing.assert_close(grid.feat_ND, own, atol=1e-5, rtol=0)


def test_time_counts_steps(encoder: Any, llm: tuple[Any, Any], clip: Any, record_of: Any) -> None:
    """Whatever a step lasts; and the prompt is the same."""
    slow, fast = (
        models.prepare(*llm, recorded(encoder, clip, record_of, fps=fps), QUESTION, position_rule="hw")
        for fps in (0.25, 30.0)
    )
    kinds = (slow["input_ids"] == llm[0].config.video_token_id).int() * 2
    grid = encoder.preprocess(clip(7, 72, 104))["video_grid_thw"]
    wanted, _ = Qwen2VLModel.get_rope_index(llm[0].model, slow["input_ids"], kinds, video_grid_thw=grid)
    assert torch.equal(slow["position_ids"], wanted)
    assert torch.equal(fast["position_ids"], wanted)


def test_text_goes_on_behind_a_long_video(encoder: Any, llm: tuple[Any, Any], clip: Any, record_of: Any) -> None:
    long = recorded(encoder, clip, record_of, frames=40)
    assert long.grid == (20, 3, 4)
    after = [
        int(models.prepare(*llm, long, QUESTION, position_rule=rule)["position_ids"][0, 0, -1])
        for rule in ("hw", "max+1")
    ]
    assert after[1] - after[0] == 20 - 4
    default = models.prepare(*llm, long, QUESTION)["position_ids"]
    assert int(default[0, 0, -1]) == after[1]


def test_a_config_as_it_was_released(folder: Path, tmp_path: Path, encoder: Any, clip: Any, record_of: Any) -> None:
    """Flat: the language model's settings beside `vision_config`, which calls itself qwen2_vl."""
    old = shutil.copytree(folder, tmp_path / "old")
    config = json.loads((old / "config.json").read_text())
    config |= config.pop("text_config") | {"model_type": "qwen2_vl"}
    rope = config.pop("rope_parameters")
    config |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
    }
    config["vision_config"] |= {"model_type": "qwen2_vl", "in_chans": 3, "spatial_patch_size": 14}
    (old / "config.json").write_text(json.dumps(config))
    frames, pts = clip(3, 60, 60), torch.arange(3).double()
    assert torch.equal(models.load_model(str(old)).encode(frames, pts).data, encoder.encode(frames, pts).data)
    model, tokenizer = models.load_llm(str(old))
    with torch.no_grad():
        inputs = models.prepare(model, tokenizer, recorded(encoder, clip, record_of), QUESTION)
        assert torch.isfinite(model(**inputs).logits).all()


def test_another_patch_size_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="patch_size is 16, the model's patch_size 14"):
        load(resolve(str(folder), settings={"patch_size": 16}))
