"""Checkpoints of the Omni families: the whole model's as released, the thinker's alone, and their settings."""

from __future__ import annotations

import json
import pickle
import shutil
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from omni_case import listen, sound

from vidcomp.models import load as models
from vidcomp.models.checkpoint import identify, resolve
from vidcomp.models.preprocess import preprocess
from vidcomp.models.settings import TABLES

PROCESSORS = {"qwen2_5_omni": "Qwen2_5OmniProcessor", "qwen3_omni_moe": "Qwen3OmniMoeProcessor"}


@pytest.fixture(scope="module", params=sorted(PROCESSORS))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make(family, tmp_path_factory.mktemp("omni") / family)
    return made


@pytest.fixture(scope="module")
def alone(family: str, tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights, saved from the thinker."""
    made: Path = tiny_maker.make(f"{family}_thinker", tmp_path_factory.mktemp("thinker") / family)
    return made


def test_the_thinker_alone_is_the_same_model(family: str, folder: Path, alone: Path, clip: Any, record_of: Any) -> None:
    kinds = [json.loads((one / "config.json").read_text())["model_type"] for one in (folder, alone)]
    assert kinds == [family, f"{family}_thinker"]
    logits = []
    for one in (folder, alone):
        encoder: Any = models.load_model(str(one))
        model, tokenizer = models.load_llm(str(one))
        assert encoder.family == resolve(str(one)).family == identify(str(one))["family"] == family
        grid = encoder.encode(clip(4, 72, 104), torch.arange(4).double())
        inputs = models.prepare(model, tokenizer, record_of(grid, family=family), "What?")
        with torch.no_grad():
            logits.append(model(**inputs).logits)
        heard = listen(encoder, sound(9000))[0]
        assert heard.shape == (encoder.audio_count(9000), 48)
    assert torch.equal(*logits)


def test_its_identity_stays_as_it_is_found(folder: Path) -> None:
    model: Any = models.load_model(str(folder))
    assert model.checkpoint.identity() == identify(str(folder))
    assert identify(str(folder), settings={"chunk_length": 60}) != identify(str(folder))


def test_construct_anywhere_load_in_setup(folder: Path) -> None:
    model: Any = pickle.loads(pickle.dumps(models.build_model(str(folder))))  # as Ray would
    model.setup("cpu")
    assert torch.equal(listen(model, sound(9000))[0], listen(models.load_model(str(folder)), sound(9000))[0])


def test_the_processor_decides_the_size(family: str, folder: Path) -> None:
    """Its class passes a size at every call, over the checkpoint's JSON; what the user says stands over both."""
    real = getattr(import_module(f"transformers.models.{family}.processing_{family}"), PROCESSORS[family])
    wanted = real.videos_kwargs["size"]
    assert json.loads((folder / "preprocessor_config.json").read_text())["max_pixels"] not in wanted.values()
    assert resolve(str(folder)).settings["size"] == TABLES[family].defaults["size"] == wanted
    model: Any = models.load_model(str(folder), settings={"max_pixels": 200 * 28 * 28, "size": {"shortest_edge": 4096}})
    assert model.checkpoint.settings["size"] == {"shortest_edge": 4096, "longest_edge": 200 * 28 * 28}
    unit = model.token_pixels
    assert unit == {"qwen2_5_omni": 28, "qwen3_omni_moe": 32}[family]
    assert model.frame_size(1000, 3 * unit, 5 * unit) == (3 * unit, 5 * unit)  # whatever the clip's length


def test_sound_settings_come_from_either_file(folder: Path, tmp_path: Path) -> None:
    assert resolve(str(folder)).settings["chunk_length"] == 10
    newer = shutil.copytree(folder, tmp_path / "newer")
    said = json.loads((newer / "preprocessor_config.json").read_text())
    both = {"feature_extractor": {**said, "chunk_length": 7}, "video_processor": said}
    (newer / "processor_config.json").write_text(json.dumps(both))
    assert resolve(str(newer)).settings["chunk_length"] == 7


@pytest.mark.parametrize("case", ["a", "b"])
def test_preprocess_equals_the_real_processor(family: str, shared: Path, case: str) -> None:
    """The same class as Qwen2.5-VL's: Qwen2VLVideoProcessor."""
    with np.load(shared / "golden" / f"preprocess_qwen2_5_vl_{case}.npz") as golden:
        frames, meta = torch.from_numpy(golden["in_frames"]), json.loads(str(golden["meta"]))
        wanted = {name: torch.from_numpy(golden[f"out_{name}"]) for name in ("pixel_values_videos", "video_grid_thw")}
    out = preprocess(frames, family=family, settings={"patch_size": 14, **meta["settings"]})
    assert torch.equal(out["video_grid_thw"], wanted["video_grid_thw"])
    torch.testing.assert_close(out["pixel_values_videos"], wanted["pixel_values_videos"].float(), atol=1e-3, rtol=0)
