"""What is CLIP's alone: shortest edge and crop, old settings, its checkpoints as they are released."""

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
from torch import Tensor

import vidcomp
from vidcomp.models import image_pixels, settings
from vidcomp.models import load as models
from vidcomp.models.jsonfile import CheckpointError


@pytest.mark.parametrize("case", ["a", "b"])
def test_pixels_are_the_real_processors(shared: Path, case: str) -> None:
    """LLaVA-NeXT-Video's processor has CLIP's rules and defaults."""
    with np.load(shared / "golden" / f"preprocess_llava_next_video_{case}.npz") as golden:
        frames = torch.from_numpy(golden["in_frames"])
        wanted = torch.from_numpy(golden["out_pixel_values_videos"])[0]
        said = {k: v for k, v in json.loads(str(golden["meta"]))["settings"].items() if k != "video_processor_type"}
    ours = vidcomp.preprocess(frames, family="clip", settings=said)["pixel_values"]
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)
    assert torch.equal(ours, vidcomp.preprocess(frames, family="clip")["pixel_values"])


@pytest.mark.parametrize(
    ("height", "width", "wanted"),
    [(90, 160, (224, 398)), (160, 90, (398, 224)), (84, 126, (224, 336)), (224, 224, (224, 224)), (8, 9, (224, 252))],
)
def test_the_longer_side_is_rounded_down(height: int, width: int, wanted: tuple[int, int]) -> None:
    assert image_pixels.resized(settings.resolve("clip"), height, width) == wanted


def test_a_picture_without_bound_is_refused() -> None:
    assert image_pixels.resized(settings.resolve("clip"), 1, 200) == (224, 44800)
    with pytest.raises(ValueError, match="within 1:200 of each other, got 201 x 1"):
        image_pixels.resized(settings.resolve("clip"), 201, 1)


def test_resizing_in_blocks_changes_nothing(clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, said = clip(5, 72, 104), settings.resolve("clip")
    whole = image_pixels.fit(frames, said)
    monkeypatch.setattr(image_pixels, "BLOCK_PIXELS", 2 * 224 * 323)
    assert torch.equal(image_pixels.fit(frames, said), whole)


def numbered(height: int, width: int) -> Tensor:
    """uint8 (1,height,width,3): red is the row, green the column, both from 1."""
    rows, columns = torch.arange(1, height + 1), torch.arange(1, width + 1)
    picture = torch.stack([*torch.meshgrid(rows, columns, indexing="ij"), torch.ones(height, width).long()], dim=2)
    return picture.byte()[None]


@pytest.mark.parametrize(
    ("size", "crop", "first", "last"),
    [
        ((10, 10), (4, 4), (4, 4), (7, 7)),
        ((11, 10), (4, 3), (4, 4), (7, 6)),  # the odd line is left over at the bottom, and at the right
    ],
)
def test_center_crop(size: Any, crop: Any, first: Any, last: Any) -> None:
    out = image_pixels.center_crop(numbered(*size), *crop)
    assert tuple(out.shape) == (1, *crop, 3)
    assert tuple(out[0, 0, 0, :2].tolist()) == first
    assert tuple(out[0, -1, -1, :2].tolist()) == last


def test_a_crop_larger_than_the_picture() -> None:
    """Black around it; an odd spare line goes below and to the right (over PIL: above and to the left)."""
    out = image_pixels.center_crop(numbered(3, 9), 6, 5)
    assert out[0, :, 2, 0].tolist() == [0, 1, 2, 3, 0, 0]
    assert out[0, 1, :, 1].tolist() == [3, 4, 5, 6, 7]


def test_settings_of_old_checkpoints() -> None:
    older = {"size": 336, "crop_size": 336, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"}
    found = settings.resolve("clip", older)
    assert found["size"] == {"shortest_edge": 336}
    assert found["crop_size"] == {"height": 336, "width": 336}
    assert found["do_center_crop"] is True
    assert found["image_mean"] == settings.CLIP_MEAN


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"crop_size": {"shortest_edge": 3}}, "crop_size must be height and width"),
        ({"crop_size": 0}, "crop_size.height must be a positive number"),
        ({"size": {"height": 3}}, "size must be one of height and width or shortest_edge"),
        ({"size": [224]}, "size must be one of"),
    ],
)
def test_wrong_settings(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings.resolve("clip", given)


def test_a_tower_with_projection(tiny_maker: ModuleType, tmp_path: Path, clip: Any) -> None:
    """`CLIPVisionModelWithProjection` has the same `model_type`; its projection is left alone."""
    folder = tiny_maker.make("clip_vision_model", tmp_path / "alone")
    copy = Path(shutil.copytree(folder, tmp_path / "projected"))
    named = {f"vision_model.{name}": weight for name, weight in load_file(folder / "model.safetensors").items()}
    named["visual_projection.weight"] = torch.zeros(16, 32)
    save_file(named, copy / "model.safetensors", metadata={"format": "pt"})
    frames, pts = clip(2, 60, 60), torch.zeros(2).double()
    alone, projected = (models.load_model(str(at)).encode(frames, pts).data for at in (folder, copy))
    assert torch.equal(alone, projected)


def test_pictures_of_another_size_are_refused(tiny_maker: ModuleType, tmp_path: Path) -> None:
    folder = tiny_maker.make("clip", tmp_path / "clip")
    with pytest.raises(CheckpointError, match="makes 98 x 112 pixels, the model takes 112 x 112"):
        models.build_model(str(folder), settings={"crop_size": {"height": 98, "width": 112}})
    whole = models.build_model(str(folder), settings={"do_center_crop": False})
    assert whole.frame_size(1, 50, 50) == (112, 112)
    with pytest.raises(ValueError, match="makes 112 x 161 pixels"):
        whole.frame_size(1, 72, 104)
