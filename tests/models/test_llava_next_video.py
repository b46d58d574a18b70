"""models/llava_next_video.py: the prompt with Llama's BOS, and sizes that its processor cannot make."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from vidcomp.models import load as models


@pytest.fixture(scope="module")
def folder(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make("llava_next_video", tmp_path_factory.mktemp("next") / "tiny")
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def answerer(folder: Path) -> tuple[Any, Any]:
    return models.load_llm(str(folder))


def test_the_prompt(model: Any, answerer: Any, clip: Any, record_of: Any) -> None:
    grid = model.encode(clip(2, 72, 104), torch.arange(2).double())
    record = record_of(grid, torch.tensor([3, 17]), family="llava_next_video")
    inputs = models.prepare(*answerer, record, "Why?")
    ids = inputs["input_ids"][0]
    assert answerer[1].decode(ids) == "<s>USER: <video><video>\nWhy? ASSISTANT:"
    assert ids[0] == answerer[1].bos_token_id
    start = len("?USER: ")
    assert inputs["position_ids"][0].tolist() == [*range(start), start + 3, *range(start + 17, start + 18 + 16)]


def test_a_text_that_begins_with_bos_gets_no_other(model: Any, answerer: Any, clip: Any, record_of: Any) -> None:
    network, tokenizer = answerer
    record = record_of(model.encode(clip(1, 72, 104), torch.zeros(1).double()), family="llava_next_video")
    plain, template = tokenizer.chat_template, "<s>" + tokenizer.chat_template
    try:
        tokenizer.chat_template = template
        ids = models.prepare(network, tokenizer, record, "Why?")["input_ids"][0]
    finally:
        tokenizer.chat_template = plain
    assert torch.equal(ids, models.prepare(network, tokenizer, record, "Why?")["input_ids"][0])


def test_without_a_template_too(model: Any, answerer: Any, clip: Any, record_of: Any) -> None:
    network, tokenizer = answerer
    record = record_of(model.encode(clip(1, 72, 104), torch.zeros(1).double()), family="llava_next_video")
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = None
        ids = models.prepare(network, tokenizer, record, "Why?")["input_ids"][0]
    finally:
        tokenizer.chat_template = template
    assert tokenizer.decode(ids) == "<s>" + "<video>" * 9 + "Why?"


def test_a_thread_of_a_picture_is_refused(model: Any) -> None:
    assert model.frame_size(1, 20, 4000) == (84, 84)
    with pytest.raises(ValueError, match="within 1:200 of each other, got 20 x 4001"):
        model.frame_size(1, 20, 4001)


def test_the_middle_is_cut_out(model: Any) -> None:
    frames = torch.zeros(1, 84, 168, 3, dtype=torch.uint8)
    frames[:, :, 42:126] = 200
    assert (model.resize(frames, (84, 84)) == 200).all()
