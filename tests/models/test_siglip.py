"""What is SigLIP's alone: its processor's pixels, its pooling head, its checkpoints as they are released."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vidcomp
from vidcomp.models import load as models
from vidcomp.models import settings
from vidcomp.models.jsonfile import CheckpointError


@pytest.fixture(scope="module")
def folder(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make("siglip", tmp_path_factory.mktemp("siglip") / "siglip")
    return made


@pytest.mark.parametrize("case", ["a", "b"])
def test_pixels_are_the_real_processors(shared: Path, case: str) -> None:
    """LLaVA-OneVision's processor has SigLIP's rules; CLIP's mean and std, which it defaults to, are given."""
    with np.load(shared / "golden" / f"preprocess_llava_onevision_{case}.npz") as golden:
        frames = torch.from_numpy(golden["in_frames"])
        wanted = torch.from_numpy(golden["out_pixel_values_videos"])[0].float()
        said = {k: v for k, v in json.loads(str(golden["meta"]))["settings"].items() if k != "video_processor_type"}
    said |= {"image_mean": settings.CLIP_MEAN, "image_std": settings.CLIP_STD}
    ours = vidcomp.preprocess(frames, family="siglip", settings=said)["pixel_values"]
    torch.testing.assert_close(ours, wanted, atol=1e-3, rtol=0)


def test_released_tower_names(tiny_maker: ModuleType, tmp_path: Path, clip: Any) -> None:
    """`SiglipVisionModel` was once saved with its tower inside `vision_model`."""
    folder = tiny_maker.make("siglip_vision_model", tmp_path / "new")
    older = Path(shutil.copytree(folder, tmp_path / "older"))
    weights = load_file(folder / "model.safetensors")
    named = {f"vision_model.{name}": weight for name, weight in weights.items()}
    save_file(named, older / "model.safetensors", metadata={"format": "pt"})
    frames, pts = clip(2, 60, 60), torch.zeros(2).double()
    new, old = (models.load_model(str(at)).encode(frames, pts).data for at in (folder, older))
    assert torch.equal(new, old)


def test_a_head_that_config_denies_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    said = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    said["vision_config"]["vision_use_head"] = False
    (copy / "config.json").write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(CheckpointError, match="unexpected keys"):
        models.load_model(str(copy))


def test_patches_that_leave_a_rim(tiny_maker: ModuleType, tmp_path: Path, folder: Path, clip: Any) -> None:
    """As 14 in 384: the rim is seen by no token, and pixels do not tile the grid."""
    model: Any = models.load_model(str(tiny_maker.make("siglip_vision_model", tmp_path / "rim")))
    sized = model.resize(clip(2, 60, 60), (104, 104))
    rim = sized.clone()
    rim[:, 98:], rim[:, :, 98:] = 0, 0
    pts = torch.zeros(2).double()
    assert torch.equal(model.encode(sized, pts, (104, 104)).data, model.encode(rim, pts, (104, 104)).data)
    assert model.token_pixels is None
    assert models.build_model(str(folder)).token_pixels == 14


def test_another_size_is_refused(folder: Path, clip: Any) -> None:
    with pytest.raises(CheckpointError, match="makes 98 x 98 pixels, the model takes 112 x 112; take the processor"):
        models.build_model(str(folder), settings={"size": {"height": 98, "width": 98}})
    model: Any = models.load_model(str(folder), settings={"size": {"shortest_edge": 112}})
    with pytest.raises(ValueError, match="makes 112 x 161 pixels, the model takes 112 x 112"):
        model.encode(clip(1, 72, 104), torch.zeros(1).double())
    with pytest.raises(ValueError, match="makes 98 x 98 pixels"):
        model.encode(clip(1, 98, 98), torch.zeros(1).double(), (98, 98))
    assert model.encode(clip(1, 80, 80), torch.zeros(1).double()).shape == (1, 8, 8)


def test_settings_inside_processor_config(folder: Path, tmp_path: Path) -> None:
    """transformers 5 saves a processor's parts in one file."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    said = json.loads((copy / "preprocessor_config.json").read_text(encoding="utf-8"))
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"none of processor_config.json"):
        models.build_model(str(copy))
    nested = {"image_processor": said | {"image_mean": [0.25, 0.5, 0.75]}, "processor_class": "SiglipProcessor"}
    (copy / "processor_config.json").write_text(json.dumps(nested), encoding="utf-8")
    assert models.build_model(str(copy)).checkpoint.settings["image_mean"] == [0.25, 0.5, 0.75]  # type: ignore[attr-defined]


def test_defaults() -> None:
    assert settings.resolve("siglip") == {
        "do_resize": True,
        "resample": 3,
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "crop_size": None,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    with pytest.raises(ValueError, match="do_center_crop is on and there is no crop_size"):
        vidcomp.preprocess(torch.zeros(1, 8, 8, 3).byte(), family="siglip", settings={"do_center_crop": True})
    for suffix in ("", "Fast", "Pil"):
        settings.resolve("siglip", {"image_processor_type": "SiglipImageProcessor" + suffix})
