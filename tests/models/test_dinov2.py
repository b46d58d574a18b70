"""What is DINOv2's alone: pictures of any size, a resize beyond the crop, weights inside a classifier."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

import vidcomp
from vidcomp.models import load as models
from vidcomp.models import settings
from vidcomp.models.jsonfile import CheckpointError


@pytest.fixture(scope="module")
def folder(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make("dinov2", tmp_path_factory.mktemp("dinov2") / "dinov2")
    return made


@torch.no_grad()
def test_pictures_keep_their_aspect_without_the_crop(folder: Path, clip: Any) -> None:
    model: Any = models.load_model(str(folder), settings={"do_center_crop": False})
    frames, pts = clip(3, 72, 104), torch.zeros(3).double()
    pixels = model.preprocess(frames)["pixel_values"]
    assert pixels.shape == (3, 3, 128, 184)
    grid = model.encode(frames, pts)
    own = hf.Dinov2Model.from_pretrained(folder).eval()(pixels).last_hidden_state[:, 1:]
    assert grid.shape == (3, 9, 13)
    torch.testing.assert_close(grid.feat_TND, own, atol=1e-5, rtol=0)
    assert model.token_pixels is None
    assert models.build_model(str(folder)).token_pixels == 14


def test_a_source_of_model_size_is_resized_all_the_same(folder: Path, clip: Any) -> None:
    """Shortest edge 128, crop 112: a source of 112 x 112 loses its rim, frames that were resized before do not."""
    model: Any = models.load_model(str(folder))
    frames, pts = clip(2, 112, 112), torch.zeros(2).double()
    from_source, as_they_are = model.encode(frames, pts).data, model.encode(frames, pts, (112, 112)).data
    assert not torch.equal(from_source, as_they_are)
    sized = model.resize(frames, (112, 112))
    assert torch.equal(model.encode(sized, pts, (112, 112)).data, from_source)
    with pytest.raises(ValueError, match=r"makes \(112, 112\) of \(112, 112\), not \(98, 98\)"):
        model.resize(frames, (98, 98))


def test_the_tower_inside_a_classifier(folder: Path, tmp_path: Path, clip: Any) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "classifier"))
    named = {f"dinov2.{name}": weight for name, weight in load_file(folder / "model.safetensors").items()}
    named |= {"classifier.weight": torch.zeros(5, 64), "classifier.bias": torch.zeros(5)}
    save_file(named, copy / "model.safetensors", metadata={"format": "pt"})
    frames, pts = clip(2, 60, 60), torch.zeros(2).double()
    alone, inside = (models.load_model(str(at)).encode(frames, pts).data for at in (folder, copy))
    assert torch.equal(alone, inside)


def test_a_crop_smaller_than_a_patch_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="makes 8 x 8 pixels, a patch of the model has 14 x 14"):
        models.build_model(str(folder), settings={"crop_size": 8})


def test_it_has_the_processor_of_bit(clip: Any) -> None:
    assert settings.resolve("dinov2") == settings.resolve("clip")
    settings.resolve("dinov2", {"image_processor_type": "BitImageProcessorFast"})
    with pytest.raises(ValueError, match="settings of CLIPImageProcessor, expected BitImageProcessor"):
        settings.resolve("dinov2", {"image_processor_type": "CLIPImageProcessor"})
    frames = clip(1, 90, 160)
    by_name = [vidcomp.preprocess(frames, family=name)["pixel_values"] for name in ("dinov2", "clip")]
    assert torch.equal(*by_name)
