"""What towers of Qwen's make share: skipped tokens, received attention. Against the real model's whole tower."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from vidcomp.models import load as models
from vidcomp.models import qwen_vision
from vidcomp.models.types import ShapeError, TokenGrid

FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "video_llama_3", "qwen2_5_omni", "qwen3_omni_moe"]
ALL = frozenset({"attention", "frame_vectors"})
SHAPE = (7, 90, 400)  # several windows in a row; an odd tail where a step is two frames


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: Any, tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """(encoder, the real model) of one family."""
    folder: Path = tiny_maker.make(request.param, tmp_path_factory.mktemp("qwen") / request.param)
    return models.load_model(str(folder)), models.load_llm(str(folder))[0]


def encode(encoder: Any, frames: Tensor, keep: Tensor | None = None, **how: Any) -> TokenGrid:
    grid: TokenGrid = encoder.encode(frames, torch.arange(len(frames)).double(), keep=keep, **how)
    return grid


def some(shape: tuple[int, int, int], share: float) -> Tensor:
    """bool (T,H,W), the same for each share; nothing of step 1, and at least one of step 2."""
    keep = torch.rand(shape, generator=torch.Generator().manual_seed(5)) < share
    keep[1], keep[2, 1, 0] = False, True
    return keep


# -- the real tower, its dropped keys masked -----------------------------------------------------------


@dataclass
class Masked:
    """Eager attention of a packed tower that never looks at dropped patches, and what the last layer's receive."""

    kept: Tensor  # bool (N,) of the tower's rows, in its own order
    last: Any
    at: int = 0
    seen: list[Tensor] = field(default_factory=list)

    def __call__(self, module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **how: Any) -> Any:
        count = query.shape[2]
        kept, self.at = self.kept[self.at : self.at + count], (self.at + count) % len(self.kept)
        logits = query @ key.mT * how["scaling"]
        allowed = kept[None] | torch.eye(count, dtype=torch.bool)
        weights = logits.masked_fill(~allowed, -torch.inf).softmax(-1)
        if module is self.last:
            received = weights[0, :, kept].mean((0, 1)) if kept.any() else torch.zeros(count)
            self.seen.append(received.masked_fill(~kept, 0))
        return (weights @ value).transpose(1, 2).contiguous(), weights


@torch.no_grad()
def reference(encoder: Any, llm: Any, frames: Tensor, keep: Tensor, monkeypatch: Any) -> dict[str, Tensor]:
    """{name: (N,...)} of every token, of which those of `keep` are right, by `get_video_features` of the real model."""
    vision = llm.model.vision_model if hasattr(llm.model, "vision_model") else llm.model.visual
    pixels = {name: value for name, value in encoder.preprocess(frames).items() if "mask" not in name}
    order = window_order(vision, pixels["video_grid_thw"])
    layer = vision.encoder.layers[-1].self_attn if hasattr(vision, "encoder") else vision.blocks[-1].attn
    masked = Masked(keep.flatten()[order].repeat_interleave(4), layer)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[type(vision).__module__], "eager_attention_forward", masked)
        patch.setattr(vision.config, "_attn_implementation", "eager")
        out = llm.model.get_video_features(**pixels)
    received = torch.cat(masked.seen).view(-1, 4).mean(1)
    found = {"tokens": out.pooler_output[0], "attention": torch.empty_like(received)}
    found["attention"][order] = received
    return found | {f"deepstack_{i}": layer[0] for i, layer in enumerate(getattr(out, "deepstack_features", ()))}


def window_order(vision: Any, grid: Tensor) -> Tensor:
    from transformers.vision_utils import get_vision_window_index

    if not hasattr(vision, "window_size"):
        return torch.arange(int(grid.prod()) // 4)
    order: Tensor = get_vision_window_index(grid, 2, vision.window_size, vision.patch_size)[0]
    return order


@pytest.mark.parametrize("share", [0.02, 0.5, 1.1])  # a token or so; half of them; all but step 1
def test_skipped_tokens_equal_a_masked_whole(share: float, loaded: Any, clip: Any, monkeypatch: Any) -> None:
    encoder, llm = loaded
    frames = clip(*SHAPE)
    keep = some(encode(encoder, frames).shape, share)
    wanted = reference(encoder, llm, frames, keep, monkeypatch)
    grid = encode(encoder, frames, keep, wants=ALL)
    assert grid.valid is not None
    assert grid.attention is not None
    assert torch.equal(grid.valid, keep)
    found = {"tokens": grid.data, "attention": grid.attention, **grid.extra}
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value[keep], wanted[name][keep.flatten()], atol=2e-6, rtol=2e-6)
        assert value[~keep].count_nonzero() == 0
        assert value[keep].abs().max() > 1e-3


def test_attention_is_the_real_weights(loaded: Any, clip: Any, monkeypatch: Any) -> None:
    encoder, llm = loaded
    frames = clip(*SHAPE)
    grid = encode(encoder, frames, wants=frozenset({"attention"}))
    wanted = reference(encoder, llm, frames, torch.ones(grid.shape, dtype=torch.bool), monkeypatch)
    assert grid.attention is not None
    torch.testing.assert_close(grid.attention.flatten(), wanted["attention"], atol=1e-8, rtol=1e-5)
    torch.testing.assert_close(grid.attention.sum((1, 2)), torch.full((len(grid.data),), 0.25))
    each = grid.attention.flatten(1)
    assert (each.std(1) / each.mean(1)).min() > 0.01  # no two tokens are looked at alike
    assert grid.frame_vectors is None
    assert torch.equal(grid.data, encode(encoder, frames).data)  # watching changes no byte
    assert encode(encoder, frames).attention is None


# -- what keep promises --------------------------------------------------------------------------------


def rows_seen(encoder: Any, frames: Tensor, keep: Tensor | None) -> int:
    """Patches that entered the tower."""
    tower, seen = encoder._tower, list[int]()
    embed = tower.patch_embed if hasattr(tower, "patch_embed") else tower["vision"].embeddings
    handle = embed.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    encode(encoder, frames, keep, wants=ALL)
    handle.remove()
    return sum(seen)


def test_the_tower_sees_kept_patches_alone(loaded: Any, clip: Any) -> None:
    encoder, frames = loaded[0], clip(*SHAPE)
    shape = encode(encoder, frames).shape
    for share in (0.02, 0.5):
        assert rows_seen(encoder, frames, some(shape, share)) == 4 * int(some(shape, share).sum()) > 0
    assert rows_seen(encoder, frames, None) == 4 * shape[0] * shape[1] * shape[2]
    assert rows_seen(encoder, frames, torch.zeros(shape, dtype=torch.bool)) == 0


def test_where_rows_end_stays_on_the_host(loaded: Any, clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU every layer would wait for it."""
    encoder, given, moved = loaded[0], list[dict[str, Tensor]](), list[Tensor]()
    real = encoder.told
    monkeypatch.setattr(encoder, "told", lambda *at: given.append(real(*at)) or given[-1])
    monkeypatch.setattr(qwen_vision, "to_device", lambda value, device: moved.append(value) or value)
    encode(encoder, clip(*SHAPE))
    stayed = {name for told in given for name, value in told.items() if all(value is not one for one in moved)}
    windows = {"cu_window_seqlens"} if "window_index" in given[0] else set()
    assert stayed == {"cu_seqlens"} | windows


def test_to_keep_all_is_to_skip_nothing(loaded: Any, clip: Any) -> None:
    encoder, frames = loaded[0], clip(*SHAPE)
    plain = encode(encoder, frames, wants=ALL)
    kept = encode(encoder, frames, torch.ones(plain.shape, dtype=torch.bool), wants=ALL)
    for name in ("data", "attention", "frame_vectors"):
        assert torch.equal(getattr(kept, name), getattr(plain, name))
    assert all(torch.equal(kept.extra[name], value) for name, value in plain.extra.items())
    assert plain.valid is None


def test_a_chunk_of_which_nothing_is_kept(loaded: Any, clip: Any) -> None:
    encoder, frames = loaded[0], clip(*SHAPE)
    plain = encode(encoder, frames, wants=ALL)
    none = encode(encoder, frames, torch.zeros(plain.shape, dtype=torch.bool), wants=ALL)
    assert none.valid is not None
    assert not none.valid.any()
    for name in ("data", "attention", "frame_vectors"):
        ours, theirs = getattr(none, name), getattr(plain, name)
        assert (ours.shape, ours.dtype, ours.count_nonzero()) == (theirs.shape, theirs.dtype, 0)
    assert {name: value.shape for name, value in none.extra.items()} == {n: v.shape for n, v in plain.extra.items()}


def test_keep_goes_through_the_same_passes(loaded: Any, clip: Any) -> None:
    encoder, frames = loaded[0], clip(*SHAPE)
    shape = encode(encoder, frames).shape
    keep = some(shape, 0.5)
    whole = encode(encoder, frames, keep, wants=ALL)
    small = type(encoder)(encoder.checkpoint, encoder.dtype, 1)  # each step by itself, the empty one too
    small._tower = encoder._tower
    steps = encode(small, frames, keep, wants=ALL)
    for name in ("data", "attention", "frame_vectors"):
        torch.testing.assert_close(getattr(steps, name), getattr(whole, name), atol=1e-5, rtol=1e-5)
    assert torch.equal(encode(encoder, frames, keep).data, whole.data)


def test_keep_must_fit(loaded: Any, clip: Any) -> None:
    encoder, frames = loaded[0], clip(*SHAPE)
    t, h, w = encode(encoder, frames).shape
    for wrong in (
        torch.ones(t, h, w),
        torch.ones(t + 1, h, w, dtype=torch.bool),
        torch.ones(t, w, h, dtype=torch.bool),
    ):
        with pytest.raises(ShapeError, match=rf"keep must be bool \({t}, {h}, {w}\)"):
            encode(encoder, frames, wrong)


def test_frame_vectors_are_means_of_tokens(loaded: Any, clip: Any) -> None:
    encoder, frames = loaded[0], clip(*SHAPE)
    grid = encode(encoder, frames, wants=frozenset({"frame_vectors"}))
    assert grid.frame_vectors is not None
    assert grid.attention is None
    torch.testing.assert_close(grid.frame_vectors, grid.data.mean((1, 2)))
    keep = some(grid.shape, 0.5)
    part = encode(encoder, frames, keep, wants=frozenset({"frame_vectors"}))
    assert part.frame_vectors is not None
    for step, shown, vector in zip(part.data, keep, part.frame_vectors, strict=True):
        torch.testing.assert_close(vector, step[shown].mean(0) if shown.any() else torch.zeros(len(vector)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_scores_of_other_dtypes(dtype: str, loaded: Any, clip: Any) -> None:
    encoder, frames = loaded[0], clip(*SHAPE)
    small = models.load_model(str(encoder.checkpoint.folder), dtype=dtype)
    exact, grid = encode(encoder, frames, wants=ALL), encode(small, frames, wants=ALL)
    assert grid.attention is not None
    assert grid.frame_vectors is not None
    assert grid.data.dtype == getattr(torch, dtype)
    assert grid.attention.dtype == grid.frame_vectors.dtype == torch.float32
    torch.testing.assert_close(grid.attention, exact.attention, atol=1e-3, rtol=0.1)
    torch.testing.assert_close(grid.frame_vectors, exact.frame_vectors, atol=0.1, rtol=0.1)
    nothing = encode(small, frames, torch.zeros(grid.shape, dtype=torch.bool), wants=ALL)
    assert nothing.data.dtype == grid.data.dtype
