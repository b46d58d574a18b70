"""What Qwen3-Omni alone does. With sound: test_omni_sound.py; its towers: test_omni_audio.py, test_qwen_vision.py."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from omni_case import RATE, audio_tokens, listen, sound

from vidcomp.models import load as models


@pytest.fixture(scope="module")
def folder(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make("qwen3_omni_moe", tmp_path_factory.mktemp("omni") / "tiny")
    return made


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def llm(folder: Path) -> tuple[Any, Any]:
    return models.load_llm(str(folder))


def test_no_sound_is_left_out(encoder: Any) -> None:
    assert encoder.audio_count(60 * RATE) == 60 * 13
    assert len(listen(encoder, sound(13 * RATE))[0]) == 13 * 13


def test_when_tokens_start(encoder: Any) -> None:
    """13 a second, 80 ms apart, the last of each second only 40 ms long."""
    starts = encoder.audio_pts_s(15).tolist()
    assert starts == pytest.approx([*(0.08 * i for i in range(13)), 1.0, 1.08])


def test_the_prompt(encoder: Any, clip: Any, llm: tuple[Any, Any], record_of: Any) -> None:
    """By time, video first on a tie; four marks with positions of their own; float32 throughout."""
    grid = encoder.encode(clip(4, 72, 104), torch.arange(4).double() / 2)
    tokens = grid.shape[1] * grid.shape[2]
    audio = audio_tokens(encoder, sound(2 * RATE), torch.tensor([0, 12, 13, 25]))
    held = record_of(grid, torch.tensor([0, tokens - 1, tokens]), fps=2.0, family="qwen3_omni_moe", audio=audio)
    inputs = models.prepare(*llm, held, "Ω?")
    video, sounds = "<|video_pad|>", "<|audio_pad|>"
    assert llm[1].decode(inputs["input_ids"][0]) == (
        f"<|im_start|>user\n<|vision_start|><|audio_start|>{video * 2}{sounds * 2}{video}{sounds * 2}"
        "<|audio_end|><|vision_end|>Ω?<|im_end|>\n<|im_start|>assistant\n"
    )
    start = inputs["input_ids"][0].tolist().index(llm[0].config.vision_start_token_id)
    h, w = grid.shape[1:]
    places = inputs["position_ids"]
    assert places.dtype == torch.float32
    assert (places[:, 0, start : start + 12] - start).T.tolist() == [
        [0] * 3,
        [1] * 3,
        [2, 2, 2],
        [2, h + 1, w + 1],
        *[[2 + n] * 3 for n in (0, 12)],
        [15, 2, 2],
        *[[2 + n] * 3 for n in (13, 25)],
        *[[28 + n] * 3 for n in range(3)],
    ]


def test_text_goes_on_at_a_fraction(encoder: Any, clip: Any, llm: tuple[Any, Any], record_of: Any) -> None:
    """A step of 0.7 s lasts 9.1 positions, and what follows the video is moved by it."""
    grid = encoder.encode(clip(20, 72, 104), torch.arange(20).double() * 0.35)
    held = record_of(grid, torch.tensor([0]), fps=2 / 0.7, family="qwen3_omni_moe")
    inputs = models.prepare(*llm, held, "Ω?")
    start = inputs["input_ids"][0].tolist().index(llm[0].config.vision_start_token_id)
    after = inputs["position_ids"][:, 0, start + 2 :] - start
    assert after[0].tolist() == pytest.approx([1 + 9 * 9.1 + 1 + i for i in range(after.shape[1])], abs=1e-4)


@pytest.mark.parametrize("fps", [7.0, 15.0, 30.0])
def test_each_has_its_own_position(fps: float, encoder: Any, clip: Any, llm: tuple[Any, Any], record_of: Any) -> None:
    """Where the original's rounding moves a tie, and hands a token its neighbour's position, here it does not."""
    grid = encoder.encode(clip(64, 72, 104), torch.arange(64).double() / fps)
    held = record_of(grid, fps=fps, family="qwen3_omni_moe", audio=audio_tokens(encoder, sound(9 * RATE)))
    inputs = models.prepare(*llm, held, "Ω?")
    heard = inputs["input_ids"][0] == llm[0].config.audio_token_id
    start = inputs["input_ids"][0].tolist().index(llm[0].config.vision_start_token_id)
    assert (inputs["position_ids"][:, 0, heard] - start - 2).T.tolist() == [[n] * 3 for n in range(9 * 13)]


def test_a_record_without_deepstack_rows_is_refused(
    encoder: Any, clip: Any, llm: tuple[Any, Any], record_of: Any
) -> None:
    grid = encoder.encode(clip(2, 72, 104), torch.zeros(2).double())
    assert sorted(grid.extra) == ["deepstack_0", "deepstack_1"]
    with pytest.raises(ValueError, match="holds no deepstack_0"):
        models.prepare(*llm, record_of(grid.data, family="qwen3_omni_moe"), "Ω?")
