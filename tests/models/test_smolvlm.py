"""models/smolvlm.py: the prompt as the real processor writes it, its way to resize, and black frames."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from vidcomp.models import load as models
from vidcomp.models import settings as processor_settings
from vidcomp.models.framewise_pixels import longest
from vidcomp.models.framewise_words import number_words

QUESTION = "Why?"


@pytest.fixture(scope="module")
def folder(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make("smolvlm", tmp_path_factory.mktemp("smol") / "tiny")
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def answerer(folder: Path) -> tuple[Any, Any]:
    return models.load_llm(str(folder))


@pytest.fixture
def processing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real processor's module; its num2words is not installed."""
    from transformers.models.smolvlm import processing_smolvlm

    monkeypatch.setattr(processing_smolvlm, "num2words", number_words)
    return processing_smolvlm


def processors_text(processing: Any, tokenizer: Any, frames: int, fps: float, duration_s: float | None) -> str:
    """The whole prompt by the real processor's own rules and template."""
    from transformers.video_utils import VideoMetadata

    about = VideoMetadata(frames, fps=fps, duration=duration_s, frames_indices=list(range(frames)))
    video = {"pixel_values": torch.zeros(1, frames, 1), "video_metadata": [about]}
    names = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"}
    held = SimpleNamespace(**names, global_image_token="<global-img>", image_seq_len=4)
    written = processing.SmolVLMProcessor.replace_video_token(held, video, 0)
    turn = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": QUESTION}]}]
    how = {"tokenize": False, "add_generation_prompt": True}
    text = tokenizer.apply_chat_template(turn, chat_template=processing.DEFAULT_CHAT_TEMPLATE, **how)
    return str(text.replace("<video>", written))


def record(model: Any, clip: Any, record_of: Any, frames: int, fps: float, duration_s: float | None, **how: Any) -> Any:
    grid = model.encode(clip(frames, 72, 104), torch.arange(frames).double() / fps)
    made = record_of(grid, family="smolvlm", frames=frames, fps=fps, **how)
    made.meta["source"] = {"duration_s": duration_s}
    return made


@pytest.mark.parametrize(
    ("frames", "fps", "duration_s"),
    [(1, 1.0, 1.0), (12, 2.0, 6.0), (23, 0.05, 460.9), (9, 0.001, 9e4), (5, 30.0, None)],
)
def test_the_prompt_is_the_processors(
    model: Any, answerer: Any, clip: Any, record_of: Any, processing: Any, frames: int, fps: float, duration_s: Any
) -> None:
    held = record(model, clip, record_of, frames, fps, duration_s)
    inputs = models.prepare(*answerer, held, QUESTION)
    wanted = answerer[1](processors_text(processing, answerer[1], frames, fps, duration_s))["input_ids"]
    assert inputs["input_ids"][0].tolist() == wanted
    assert inputs["position_ids"][0].tolist() == list(range(len(wanted)))


def test_dropped_tokens_leave_their_text(model: Any, answerer: Any, clip: Any, record_of: Any) -> None:
    held = record(model, clip, record_of, 3, 0.02, 155.4, keep=torch.tensor([1, 10, 11]))
    mark = "<fake_token_around_image>"
    assert answerer[1].decode(models.prepare(*answerer, held, QUESTION)["input_ids"][0]) == (
        "<|im_start|>User: You are provided the following series of three frames from a 0:02:35 [H:MM:SS] video.\n\n"
        f"Frame from 00:00:{mark}<global-img><image>{mark}\n"
        f"Frame from 00:50:{mark}<global-img>{mark}\n"
        f"Frame from 01:40:{mark}<global-img><image><image>{mark}\n\nWhy?<end_of_utterance>\nAssistant:"
    )


def test_a_record_without_its_source_is_refused(model: Any, answerer: Any, clip: Any, record_of: Any) -> None:
    held = record(model, clip, record_of, 1, 1.0, 1.0)
    network, tokenizer = answerer
    del held.meta["source"]
    with pytest.raises(ValueError, match="the record does not say source"):
        models.prepare(network, tokenizer, held, QUESTION)


def test_another_models_tokenizer_is_refused(
    model: Any, answerer: Any, clip: Any, record_of: Any, tiny_maker: ModuleType, tmp_path: Path
) -> None:
    other = models.load_llm(str(tiny_maker.make("internvl", tmp_path / "intern")))[1]
    with pytest.raises(ValueError, match="another model's"):
        models.prepare(answerer[0], other, record(model, clip, record_of, 2, 1.0, 2.0), QUESTION)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "zero"),
        (19, "nineteen"),
        (20, "twenty"),
        (64, "sixty-four"),
        (100, "one hundred"),
        (512, "five hundred and twelve"),
        (1000, "one thousand"),
        (1042, "one thousand and forty-two"),
        (1100, "one thousand, one hundred"),
        (12345, "twelve thousand, three hundred and forty-five"),
        (1000001, "one million and one"),
        (3000100, "three million, one hundred"),
        (2 * 10**9 + 5, "two billion and five"),
    ],
)
def test_numbers_in_words(count: int, words: str) -> None:
    assert number_words(count) == words


@pytest.mark.parametrize(
    ("height", "width", "wanted"),
    [
        (90, 160, (820, 1456)),  # 819 is odd
        (84, 126, (970, 1456)),
        (160, 90, (1456, 820)),  # 819.0 by the inverse
        (100, 100, (1456, 1456)),
        (2, 5000, (1, 1456)),  # 0 becomes 1
    ],
)
def test_the_longer_side(height: int, width: int, wanted: tuple[int, int]) -> None:
    assert longest(1456, height, width) == wanted


def test_the_older_name_of_size() -> None:
    old = {"video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 200}}}
    assert processor_settings.resolve("smolvlm", old)["size"] == {"longest_edge": 200}
    both = old | {"size": {"longest_edge": 300}}
    assert processor_settings.resolve("smolvlm", both)["size"] == {"longest_edge": 300}


@torch.no_grad()
def test_black_frames_are_encoded_too(folder: Path, clip: Any, answerer: Any) -> None:
    raw = models.load_model(str(folder), settings={"do_normalize": False})
    frames = clip(3, 72, 104)
    frames[1] = 0
    grid = raw.encode(frames, torch.arange(3).double())
    own = answerer[0].get_image_features(**raw.preprocess(frames)).pooler_output  # the model takes it for padding
    assert len(torch.cat(own)) == 2 * 4
    torch.testing.assert_close(grid.data[[0, 2]].flatten(0, 2), torch.cat(own), atol=1e-5, rtol=0)
    assert (grid.data[1] != 0).any()
