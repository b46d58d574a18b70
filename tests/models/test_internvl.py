"""models/internvl.py: the prompt as the real processor writes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from vidcomp.models import load as models
from vidcomp.models.jsonfile import CheckpointError

QUESTION = "Why?"


@pytest.fixture(scope="module")
def folder(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make("internvl", tmp_path_factory.mktemp("intern") / "tiny")
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def answerer(folder: Path) -> tuple[Any, Any]:
    return models.load_llm(str(folder))


def processors_text(tokenizer: Any, frames: int) -> str:
    """The whole prompt by the real processor's own rule."""
    from transformers.models.internvl.processing_internvl import InternVLProcessor

    held = {"start_image_token": "<img>", "end_image_token": "</img>", "image_token": "<IMG_CONTEXT>"}
    video = {"pixel_values_videos": torch.zeros(1, frames, 1)}
    written = InternVLProcessor.replace_video_token(SimpleNamespace(**held, image_seq_length=9), video, 0)
    turn = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": QUESTION}]}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert "<video>" in text
    return str(text.replace("<video>", written))


@pytest.mark.parametrize("frames", [1, 12])
def test_the_prompt_is_the_processors(model: Any, answerer: Any, clip: Any, record_of: Any, frames: int) -> None:
    grid = model.encode(clip(frames, 72, 104), torch.arange(frames).double())
    inputs = models.prepare(*answerer, record_of(grid, family="internvl"), QUESTION)
    wanted = answerer[1](processors_text(answerer[1], frames))["input_ids"]
    assert inputs["input_ids"][0].tolist() == wanted
    assert inputs["position_ids"][0].tolist() == list(range(len(wanted)))


def test_dropped_tokens_leave_their_text_and_gaps(model: Any, answerer: Any, clip: Any, record_of: Any) -> None:
    grid = model.encode(clip(3, 72, 104), torch.arange(3).double())
    keep = torch.tensor([2, 20, 26])  # none of the second frame
    whole = models.prepare(*answerer, record_of(grid, family="internvl"), QUESTION)
    part = models.prepare(*answerer, record_of(grid, keep, family="internvl"), QUESTION)
    assert answerer[1].decode(part["input_ids"][0]) == (
        "<|im_start|>user\nFrame1: <img><IMG_CONTEXT></img>\nFrame2: <img></img>\n"
        "Frame3: <img><IMG_CONTEXT><IMG_CONTEXT></img>\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    rows = (whole["input_ids"][0] == answerer[0].config.image_token_id).nonzero()[:, 0]
    left = torch.ones_like(whole["input_ids"][0], dtype=torch.bool)
    left[rows] = False
    left[rows[keep]] = True
    assert torch.equal(part["position_ids"][0], left.nonzero()[:, 0])
    assert torch.equal(part["input_ids"][0], whole["input_ids"][0][left])


def test_two_videos_each_begin_with_frame_1(model: Any, answerer: Any, clip: Any, record_of: Any) -> None:
    grid = model.encode(clip(1, 72, 104), torch.zeros(1).double())
    record = record_of(grid, torch.tensor([0]), family="internvl")
    text = answerer[1].decode(models.prepare(*answerer, [record, record], QUESTION)["input_ids"][0])
    assert text.count("Frame1: <img><IMG_CONTEXT></img>\n") == 2


def test_a_question_that_spells_a_video_is_refused(model: Any, answerer: Any, clip: Any, record_of: Any) -> None:
    record = record_of(model.encode(clip(1, 72, 104), torch.zeros(1).double()), family="internvl")
    with pytest.raises(ValueError, match="the prompt holds 2 video placeholders"):
        models.prepare(*answerer, record, "What is <video>?")


def test_several_feature_layers_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text()) | {"vision_feature_layer": [-2, -1]}
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="must be one layer"):
        models.build_model(str(tmp_path / "other"))
