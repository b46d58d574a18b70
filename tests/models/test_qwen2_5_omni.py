"""What Qwen2.5-Omni alone does. With sound: test_omni_sound.py; its towers: test_omni_audio.py, test_qwen_vision.py."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from omni_case import RATE, audio_tokens, listen, sound
from transformers.models.qwen2_5_omni.processing_qwen2_5_omni import Qwen2_5OmniProcessor

from vidcomp.models import load as models
from vidcomp.models.omni_prompt import by_chunks, chunks


@pytest.fixture(scope="module")
def folder(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make("qwen2_5_omni", tmp_path_factory.mktemp("omni") / "tiny")
    return made


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def llm(folder: Path) -> tuple[Any, Any]:
    return models.load_llm(str(folder))


def test_the_sound_after_chunk_length_is_left_out(encoder: Any) -> None:
    """As the processor does: of 13 s, 10 s are heard (300 s in the released checkpoints)."""
    clip = sound(13 * RATE)
    assert encoder.audio_count(len(clip)) == encoder.audio_count(10 * RATE) == 250
    assert torch.equal(listen(encoder, clip)[0], listen(encoder, clip[: 10 * RATE])[0])


def test_when_tokens_start(encoder: Any) -> None:
    assert encoder.audio_pts_s(4).tolist() == pytest.approx([0, 0.04, 0.08, 0.12])


def test_the_prompt(encoder: Any, clip: Any, llm: tuple[Any, Any], record_of: Any) -> None:
    """Two seconds of video, two of sound; marks in pairs at one position; the rest of what was dropped is not seen."""
    grid = encoder.encode(clip(4, 72, 104), torch.arange(4).double())
    tokens = grid.shape[1] * grid.shape[2]
    audio = audio_tokens(encoder, sound(3 * RATE), torch.tensor([0, 49, 50, 74]))
    held = record_of(grid, torch.tensor([0, tokens - 1, tokens]), fps=1.0, family="qwen2_5_omni", audio=audio)
    inputs = models.prepare(*llm, held, "Ω?")
    video, sounds = "<|VIDEO|>", "<|AUDIO|>"
    assert llm[1].decode(inputs["input_ids"][0]) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_bos|><|audio_bos|>"
        f"{video * 2}{sounds * 2}{video}{sounds * 2}<|audio_eos|><|vision_eos|>Ω?<|im_end|>\n<|im_start|>assistant\n"
    )
    start = inputs["input_ids"][0].tolist().index(llm[0].config.vision_start_token_id)
    h, w = grid.shape[1:]
    places = inputs["position_ids"][:, 0, start : start + 12] - start
    assert places.T.tolist() == [
        *[[0] * 3] * 2,
        [1, 1, 1],
        [1, h, w],
        *[[1 + n] * 3 for n in (0, 49)],
        [51, 1, 1],
        *[[1 + n] * 3 for n in (50, 74)],
        *[[76] * 3] * 2,
        [77] * 3,
    ]


@pytest.mark.parametrize("seconds", [0.04, 0.7, 2.0, 3.3, 9.0])  # of a step: 9.0 leaves chunks without a step
def test_chunks_are_the_processors(seconds: float) -> None:
    times = (torch.arange(40).double() * seconds * 25).repeat_interleave(3)
    of_each = chunks(times, 50)
    spans = Qwen2_5OmniProcessor.get_chunked_index(None, times.numpy(), 50)
    assert [int((of_each == i).sum()) for i in range(len(spans))] == [b - a for a, b in spans]


def test_the_last_run_decides_where_text_goes_on() -> None:
    """As the original: one after the largest position of the last chunk, not of all."""
    config = SimpleNamespace(position_id_per_seconds=25, seconds_per_chunk=2)
    assert by_chunks(config, torch.tensor([0.0, 50.0]), torch.arange(60)).last == 10  # of sound
    assert by_chunks(config, torch.tensor([0.0, 50.0]), torch.arange(50)).last == 1  # of video
