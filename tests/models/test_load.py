"""What cannot be loaded or prepared is one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import vidcomp


@pytest.mark.parametrize("device", ["meta", "nonsense", *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used") as caught:
        vidcomp.load_model("dct", device=device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["a.safetensors", Path("a.safetensors")])
def test_a_path_is_no_record(path: str | Path) -> None:
    with pytest.raises(TypeError, match="load it first"):
        vidcomp.prepare(None, None, path, "What is this?")


def changed(folder: Path, name: str, **values: object) -> None:
    """One of a checkpoint's JSON files with other values."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("vision", [None, [1], "x", {"hidden_size": "x"}])
def test_a_configuration_of_another_shape(tiny: Path, tmp_path: Path, vision: object) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    changed(copy, "config.json", vision_config=vision)
    with pytest.raises(ValueError, match="copy: its configuration cannot be used") as caught:
        vidcomp.load_model(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"rescale_factor": 0}, {"image_mean": 0.5}, {"image_std": [0, 1, 1]}, {"image_std": [1, 1]}]
)
def test_settings_that_no_pixel_survives(tiny: Path, tmp_path: Path, wrong: dict[str, object]) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    changed(copy, "video_preprocessor_config.json", **wrong)
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} must be"):
        vidcomp.load_model(copy)
    with pytest.raises(ValueError, match=f"{name} must be"):
        vidcomp.preprocess(torch.zeros(2, 56, 56, 3, dtype=torch.uint8), family="qwen2_5_vl", settings=wrong)


def test_a_folder_may_be_a_path(tiny: Path) -> None:
    with pytest.raises(ValueError, match="/nope: no such folder"):
        vidcomp.load_model(Path("/nope"))
    assert vidcomp.load_model(tiny).family == "qwen2_5_vl"
