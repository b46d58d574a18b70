"""models/scores.py against the eager attention weights of the real transformers classes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from vidcomp.models import scores

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
PATCHES = {"image_size": 56, "patch_size": 14}
PAIRS = {"image_size": (56, 56), "patch_size": (14, 14)}
DEPTH = {"depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4}
WINDOWS = {"out_hidden_size": 48, "window_size": 112, "fullatt_block_indexes": [0, 2]}


def last(model: Any) -> Any:
    """The attention module of a vision tower's last layer."""
    layers = getattr(model, "blocks", None) or getattr(model, "encoder", model)
    layers = next((getattr(layers, name) for name in ("layers", "layer") if hasattr(layers, name)), layers)
    return next(m for name, m in layers[-1].named_children() if "attn" in name or name == "attention")


def siglip() -> Any:
    return hf.SiglipVisionModel, hf.SiglipVisionConfig(**SIZES, **PATCHES)


def clip_vit() -> Any:
    return hf.CLIPVisionModel, hf.CLIPVisionConfig(**SIZES, **PATCHES)


def dinov2() -> Any:
    return hf.Dinov2Model, hf.Dinov2Config(**SIZES, **PATCHES)


def internvit() -> Any:
    return hf.InternVLVisionModel, hf.InternVLVisionConfig(**SIZES, **PAIRS, use_qk_norm=True)


def smolvlm() -> Any:
    return hf.SmolVLMVisionTransformer, hf.SmolVLMConfig(vision_config={**SIZES, **PATCHES}).vision_config


def qwen2() -> Any:
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel as Real

    return Real, hf.Qwen2VLConfig(vision_config={"depth": 3, "embed_dim": 32, "num_heads": 4}).vision_config


def qwen2_5() -> Any:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel as Real

    return Real, hf.Qwen2_5_VLConfig(vision_config={**DEPTH, **WINDOWS}).vision_config


def qwen2_5_omni() -> Any:
    from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as omni

    config = omni.Qwen2_5OmniVisionEncoder.config_class(**DEPTH, **WINDOWS)
    return omni.Qwen2_5OmniVisionEncoder, config


def qwen3() -> Any:
    vision = {**DEPTH, "out_hidden_size": 48, "deepstack_visual_indexes": [0], "num_position_embeddings": 64}
    return hf.Qwen3VLVisionModel, hf.Qwen3VLConfig(vision_config=vision).vision_config


def video_llama_3() -> Any:
    return hf.VideoLlama3VisionModel, hf.VideoLlama3VisionConfig(**SIZES, patch_size=14)


def twins(kind: Callable[[], Any]) -> tuple[Any, Any]:
    """The same lively random weights under eager and under sdpa attention."""
    real, config = kind()
    torch.manual_seed(0)
    made = [real._from_config(deepcopy(config), attn_implementation=how).eval() for how in ("eager", "sdpa")]
    for weight in made[0].parameters():
        if weight.ndim >= 2:
            torch.nn.init.normal_(weight, std=0.2)
    made[1].load_state_dict(made[0].state_dict())
    return made[0], made[1]


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Tensor]]:
    """`weights(model)` -> a list that every eager attention of the model's file adds its weights (1,A,n,n) to."""

    def spy_on(model: Any) -> list[Tensor]:
        module, caught = sys.modules[type(model).__module__], list[Tensor]()
        original = module.eager_attention_forward  # type: ignore[attr-defined]

        def spy(*args: Any, **how: Any) -> Any:
            out = original(*args, **how)
            caught.append(out[1])
            return out

        monkeypatch.setattr(module, "eager_attention_forward", spy)
        return caught

    return spy_on


@pytest.mark.parametrize("kind", [siglip, clip_vit, dinov2, internvit, smolvlm])
@torch.no_grad()
def test_frames_in_a_batch(kind: Callable[[], Any], weights: Any) -> None:
    eager, sdpa = twins(kind)
    pixels = torch.randn(3, 3, 56, 56)
    extra = {"patch_attention_mask": torch.ones(3, 4, 4, dtype=torch.bool)} if kind is smolvlm else {}
    caught = weights(eager)
    eager(pixels, **extra)
    with scores.watching(last(sdpa)) as seen:
        out = sdpa(pixels, **extra)
    assert len(caught) == 3
    assert caught[-1].std() > 0.01
    torch.testing.assert_close(torch.cat(seen), caught[-1].mean(1).mean(1), atol=1e-6, rtol=0)
    assert torch.equal(out.last_hidden_state, sdpa(pixels, **extra).last_hidden_state)


@pytest.mark.parametrize("kind", [qwen2, qwen2_5, qwen2_5_omni, qwen3, video_llama_3])
@torch.no_grad()
def test_packed_segments(kind: Callable[[], Any], weights: Any) -> None:
    eager, sdpa = twins(kind)
    grid = torch.tensor([[3, 12, 20]])
    if kind is video_llama_3:
        inputs = {"pixel_values": torch.randn(720, 588), "grid_thw": grid, "merge_sizes": torch.tensor([2])}
    else:
        config = sdpa.config
        channels = 3 * config.temporal_patch_size * config.patch_size**2
        inputs = {"hidden_states": torch.randn(720, channels), "grid_thw": grid}
    caught = weights(eager)
    eager(**inputs)
    with scores.watching(last(sdpa)) as seen:
        out = sdpa(**inputs)
    assert [part.shape for part in seen] == [(1, 240)] * 3
    wanted = torch.cat([part.mean(1).mean(1)[0] for part in caught[-3:]])
    torch.testing.assert_close(scores.packed(seen), wanted, atol=1e-6, rtol=0)
    assert torch.equal(out.last_hidden_state, sdpa(**inputs).last_hidden_state)


def test_per_token_undoes_windows() -> None:
    from transformers.vision_utils import get_vision_window_index

    index, _ = get_vision_window_index(
        torch.tensor([[2, 12, 20]]), spatial_merge_size=2, window_size=112, patch_size=14
    )
    raster = torch.arange(120.0)  # of merged tokens
    noise = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    assert index.tolist() != sorted(index.tolist())
    assert torch.equal(scores.per_token((raster[index, None] + noise).flatten(), 4, index), raster)
    assert torch.equal(scores.per_token((raster[:, None] + noise).flatten(), 4), raster)


def attended(frames: int = 5, heads: int = 3, count: int = 30) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, frames, heads, count, 8, generator=generator)
    return q * 3, k


def full(q: Tensor, k: Tensor) -> Tensor:
    return torch.softmax(q.double() @ k.double().mT * 0.5, -1).mean(1).mean(1).float()


@pytest.mark.parametrize("block", [1, 7 * 30, 30 * 30, 4 * 30 * 30, scores.BLOCK])
def test_blocks_bound_memory_and_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = torch.softmax, list[int]()

    def counting(x: Tensor, *args: Any, **how: Any) -> Tensor:
        sizes.append(x.numel())
        return real(x, *args, **how)

    q, k = attended()
    wanted = full(q, k)
    monkeypatch.setattr(torch, "softmax", counting)
    torch.testing.assert_close(scores.received(q, k, 0.5, block=block), wanted, atol=1e-7, rtol=1e-5)
    assert max(sizes) <= max(block, 30)
    assert sum(sizes) == q.shape[0] * q.shape[1] * 30 * 30
    if block >= 30 * 30:
        assert min(sizes) >= 30 * 30  # a head's queries are not split where one head fits


def test_scores_are_shares_of_attention() -> None:
    q, k = attended()
    out = scores.received(q.bfloat16(), k.bfloat16(), 0.5)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.sum(1), torch.ones(5))
    torch.testing.assert_close(out, full(q.bfloat16(), k.bfloat16()), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("block", [64, scores.BLOCK])
def test_padding_neither_looks_nor_is_looked_at(block: int) -> None:
    q, k = attended()
    counts = [30, 11, 1, 0, 29]
    valid = torch.arange(30) < torch.tensor(counts)[:, None]
    q = q.masked_fill(~valid[:, None, :, None], 50.0)  # whatever stands in padding
    k = k.masked_fill(~valid[:, None, :, None], -50.0)
    out = scores.received(q, k, 0.5, valid, block=block)
    for i, count in enumerate(counts):
        if count:
            alone = full(q[i : i + 1, :, :count], k[i : i + 1, :, :count])[0]
            torch.testing.assert_close(out[i, :count], alone, atol=1e-6, rtol=0)
        assert not out[i, count:].any()


def fail(*_: Any) -> None:
    raise RuntimeError("broken")


@torch.no_grad()
def test_nothing_stays_after_an_exception() -> None:
    _, model = twins(siglip)
    pixels, before = torch.randn(1, 3, 56, 56), dict(vars(last(model)))
    breaks = model.post_layernorm.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="broken"), scores.watching(last(model)) as seen:
        model(pixels)
    breaks.remove()
    assert len(seen) == 1
    assert model.config._attn_implementation == "sdpa"
    assert vars(last(model)) == before
    model(pixels)
    assert len(seen) == 1


def test_another_attention_is_refused() -> None:
    eager, _ = twins(siglip)
    with pytest.raises(ValueError, match="under sdpa only, the tower runs 'eager'"), scores.watching(last(eager)):
        pass
    assert eager.config._attn_implementation == "eager"


def test_sinks_stand_far_above_their_frame() -> None:
    found = torch.ones(2, 3, 4) * torch.tensor([1.0, 1000.0])[:, None, None]
    found[0, 1, 2], found[0, 2, 2], found[1, 0, 0] = 10.5, 9.5, 10500.0
    assert scores.sinks(found).nonzero().tolist() == [[0, 1, 2], [1, 0, 0]]
    assert scores.sinks(found, times=5).sum() == 3


def test_padding_has_no_part_in_the_median() -> None:
    found = torch.tensor([[1.0, 1.0, 2.0, 12.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    valid = found > 0
    assert scores.sinks(found, valid).tolist() == [[False] * 3 + [True] + [False] * 5]
    assert scores.masked(found, valid=valid, sink_times=10).tolist() == [[1.0, 1.0, 2.0] + [0.0] * 6]
    none = torch.zeros(1, 9, dtype=torch.bool)
    assert not scores.masked(found, valid=none, sink_times=10).any()


def test_masked_only_on_request() -> None:
    found = torch.tensor([[1.0, 1.0, 30.0]])
    assert torch.equal(scores.masked(found), found)
    assert scores.masked(found, valid=torch.tensor([[True, False, True]])).tolist() == [[1.0, 0.0, 30.0]]
