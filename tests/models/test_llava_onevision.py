"""models/llava_onevision.py: the newline row behind each video, and which patches a token reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from vidcomp.models import llava_onevision as onevision
from vidcomp.models import load as models
from vidcomp.models.jsonfile import CheckpointError

QUESTION = "Why?"


@pytest.fixture(scope="module")
def folder(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_maker.make("llava_onevision", tmp_path_factory.mktemp("onevision") / "tiny")
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return models.load_model(str(folder))


@pytest.fixture(scope="module")
def answerer(folder: Path) -> tuple[Any, Any]:
    return models.load_llm(str(folder))


def records(model: Any, clip: Any, record_of: Any) -> list[Any]:
    grid = model.encode(clip(2, 72, 104), torch.arange(2).double())
    return [record_of(grid, keep, family="llava_onevision") for keep in (torch.tensor([0, 4, 17]), torch.tensor([8]))]


def test_the_prompt(model: Any, answerer: Any, clip: Any, record_of: Any) -> None:
    record = records(model, clip, record_of)[0]
    inputs = models.prepare(*answerer, record, QUESTION)
    text = answerer[1].decode(inputs["input_ids"][0])
    assert text == "<|im_start|>user <video><video><video><video>\nWhy?<|im_end|><|im_start|>assistant\n"
    start = len("<|user ") - 1  # ids before the video: one for the special token, one for each byte
    places = inputs["position_ids"][0] - start
    assert places[start : start + 5].tolist() == [0, 4, 17, 18, 19]  # rows, newline, text
    assert places[:start].tolist() == list(range(-start, 0))


def test_each_video_ends_with_the_models_newline(model: Any, answerer: Any, clip: Any, record_of: Any) -> None:
    held = records(model, clip, record_of)
    given = models.prepare(*answerer, held, QUESTION)["mm_encoder_outputs"]["video"].pooler_output[:, 0]
    newline = answerer[0].model.image_newline
    wanted = torch.cat([held[0].tokens, newline[None], held[1].tokens, newline[None]])
    assert torch.equal(given, wanted)
    assert not given.requires_grad


def test_a_newline_counts_once(answerer: Any, model: Any, clip: Any, record_of: Any) -> None:
    from vidcomp.models.sizes import log_sizes

    held = records(model, clip, record_of)
    held[0].sizes[:] = torch.tensor([2, 3, 4])
    held[1].sizes[:] = 5
    ids = models.prepare(*answerer, held, QUESTION)["input_ids"]
    bias = log_sizes(ids, answerer[0].config.video_token_id, held, specials=1)
    rows = bias[0, ids[0] == answerer[0].config.video_token_id]
    assert rows.exp().round().tolist() == [2, 3, 4, 1, 5, 1]


def test_a_token_reads_up_to_four_patches(model: Any) -> None:
    weights = model._parts.weights
    assert weights.shape == (9, 25)
    torch.testing.assert_close(weights.sum(1), torch.ones(9))
    assert ((weights > 0).sum(1) <= 4).all()
    assert (weights > 0).any(0).all()


def test_keep_passes_patches_of_kept_tokens_alone(model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []
    whole = onevision.LlavaOnevision.call_layer

    def watched(self: Any, layer: Any, states: Any, mask: Any) -> Any:
        entered.append(states.shape[1])
        return whole(self, layer, states, mask)

    monkeypatch.setattr(onevision.LlavaOnevision, "call_layer", watched)
    keep = torch.zeros(1, 3, 3, dtype=torch.bool)
    keep[0, 1, 1] = True
    model.encode(clip(1, 72, 104), torch.zeros(1).double(), keep=keep)
    assert entered == [1, 1, 1]  # the middle token of 5 x 5 patches lies on the middle patch alone


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('"vision_feature_select_strategy": "default"', "'default' does not leave one state for each patch"),
        ('"vision_feature_select_strategy": "full", "vision_feature_layer": 7', "is 7, of a tower of 3 layers"),
    ],
)
def test_other_features_are_refused(folder: Path, tmp_path: Path, change: str, message: str) -> None:
    shutil.copytree(folder, tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    text = config.read_text().replace('"vision_feature_layer": -1,', "")
    config.write_text(text.replace('"vision_feature_select_strategy": "full"', change))
    with pytest.raises(CheckpointError, match=message):
        models.load_model(str(tmp_path / "other"))
