"""What `vidcomp.reduce` is given: arrays, shapes, values, budgets; one line for whatever it does not take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vidcomp
from vidcomp.models.types import ShapeError

DRAW = torch.Generator().manual_seed(0)
FEATURES = torch.randn(8, 4, 6, 16, generator=DRAW)
ATTENTION = torch.rand(8, 24, generator=DRAW)
VECTORS = torch.randn(8, 5, generator=DRAW)
PIXELS = torch.randint(0, 256, (16, 64, 96, 3), generator=DRAW).to(torch.uint8)
SOUND = {"audio": torch.randn(200, 16, generator=DRAW), "audio_attention": torch.rand(200, generator=DRAW)}
FLOATING = ("features", "attention", "frame_vectors", "audio", "audio_attention")


def given(method: str) -> dict[str, Any]:
    """What the method can be given, whether it needs it or not."""
    senses = {"attention": ATTENTION, "frame_vectors": VECTORS}
    more = {"rlt": {"pixels": PIXELS, "patch": 16}, "omnizip": SOUND}
    return {"features": FEATURES, "method": method, **senses, **more.get(method, {})}


def video(found: Any) -> vidcomp.Reduction:
    reduction = found[0] if isinstance(found, tuple) else found
    assert isinstance(reduction, vidcomp.Reduction)
    return reduction


def refused(says: str, kind: type[Exception] | tuple[type[Exception], ...] = ValueError, **call: Any) -> None:
    with pytest.raises(kind, match=says) as e:
        vidcomp.reduce(**call)
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 500


@pytest.mark.parametrize("shape", [(8, 24), (8, 4, 6)])
def test_attention_by_token_or_by_place(shape: tuple[int, ...]) -> None:
    found = video(vidcomp.reduce(FEATURES, "holitom", attention=ATTENTION.reshape(shape)))
    assert torch.equal(found.anchor, video(vidcomp.reduce(FEATURES, "holitom", attention=ATTENTION)).anchor)


@pytest.mark.parametrize("shape", [(24, 8), (8, 6, 4), (192,), (1, 192), (8, 4, 6, 1)])
def test_attention_of_any_other_shape_is_refused(shape: tuple[int, ...]) -> None:
    says = f"attention must be .8, 24. or .8, 4, 6. .*8, 4, 6, 16.*got float32.{', '.join(map(str, shape))}"
    refused(says, ShapeError, features=FEATURES, method="holitom", attention=torch.rand(shape))


@pytest.mark.parametrize("grid", [(6, 4), (1, 24), (4, 5)])
def test_a_grid_that_disagrees_is_refused(grid: tuple[int, int]) -> None:
    refused("grid .* features float32", features=FEATURES, method="evs", grid=grid)
    refused("grid .* pixels uint8", method="rlt", pixels=PIXELS, grid=grid)


def test_a_grid_that_agrees_is_taken() -> None:
    assert video(vidcomp.reduce(FEATURES, "evs", grid=(4, 6))).grid == (8, 4, 6)
    assert video(vidcomp.reduce(method="rlt", pixels=PIXELS, grid=(4, 6))).grid == (8, 4, 6)
    assert video(vidcomp.reduce(FEATURES.flatten(1, 2), "pool", grid=(np.int64(4), 6))).grid == (8, 4, 6)


@pytest.mark.parametrize("grid", [(-4, -6), (0, 24), (4.0, 6), "46", (1, 4, 6), 24, (True, 24), [None, 24]])
def test_a_grid_is_two_positive_whole_numbers(grid: Any) -> None:
    refused(r"grid must be \(H,W\)", features=FEATURES.flatten(1, 2), method="evs", grid=grid)


# -- budgets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", vidcomp.methods())
@pytest.mark.parametrize("tokens", [1, 50, 191])
def test_an_exact_number_of_tokens(method: str, tokens: int) -> None:
    assert len(video(vidcomp.reduce(**given(method), tokens=tokens))) == tokens


def test_more_tokens_than_there_are() -> None:
    assert len(video(vidcomp.reduce(FEATURES, "evs", tokens=10**6))) == 192


def test_tokens_for_a_time() -> None:
    assert len(video(vidcomp.reduce(FEATURES, "evs", tokens_per_second=2.5, seconds=8))) == 20
    assert len(video(vidcomp.reduce(FEATURES, "evs", tokens_per_second=0.1, seconds=30))) == 3  # not 2.9999
    assert len(video(vidcomp.reduce(FEATURES, "evs", tokens_per_second=0.1, seconds=1))) == 1  # one at least


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ({"tokens": 0}, "tokens must be a positive whole number, got 0"),
        ({"tokens": 2.5}, "tokens must be a positive whole number, got 2.5"),
        ({"tokens": True}, "tokens must be a positive whole number, got True"),
        ({"tokens": 3, "retain": 0.5}, "one budget at a time, got retain and tokens"),
        ({"tokens": 3, "tokens_per_second": 1, "seconds": 3}, "one budget at a time, got tokens and tokens_per_second"),
        ({"tokens_per_second": 1}, r"tokens_per_second needs seconds="),
        ({"tokens_per_second": -1, "seconds": 8}, "tokens_per_second must be a positive number, got -1"),
        ({"tokens_per_second": "a", "seconds": 8}, "tokens_per_second must be a positive number, got 'a'"),
        ({"tokens_per_second": 1, "seconds": float("nan")}, "seconds must be a positive number, got nan"),
        ({"seconds": 8}, "seconds goes with tokens_per_second"),
        ({"seed": 1 << 70}, "seed: .* does not fit in 64 bits"),
    ],
)
def test_a_budget_that_cannot_be_used(budget: dict[str, Any], says: str) -> None:
    refused(says, features=FEATURES, method="random", **budget)


@pytest.mark.parametrize("method", ["fastvid", "divprune"])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_small_clip_keeps_a_token(method: str, steps: int) -> None:
    assert len(video(vidcomp.reduce(FEATURES[:steps, :2, :3], method, retain=0.01))) == 1


# -- arrays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", vidcomp.methods())
def test_numpy_arrays_are_taken(method: str) -> None:
    tensors = given(method)
    arrays = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in tensors.items()}
    assert torch.equal(video(vidcomp.reduce(**arrays)).anchor, video(vidcomp.reduce(**tensors)).anchor)


def test_arrays_that_torch_cannot_share() -> None:
    backwards = FEATURES.numpy()[::-1]
    sealed = backwards.copy()
    sealed.flags.writeable = False
    for array in (backwards, sealed, sealed.astype(">f4")):
        assert len(video(vidcomp.reduce(array, "evs", tokens=9))) == 9


@pytest.mark.parametrize("name", [*FLOATING, "pixels"])
@pytest.mark.parametrize("make", [Tensor.tolist, lambda t: "text", lambda t: t.numpy().astype(object)])
def test_what_is_no_array_is_refused(name: str, make: Callable[[Tensor], Any]) -> None:
    call = given("rlt" if name == "pixels" else "omnizip")
    refused(f"{name} must be a torch tensor or a numpy array", TypeError, **{**call, name: make(call[name])})


@pytest.mark.parametrize("method", vidcomp.methods())
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_features_are_floating_point(method: str, dtype: torch.dtype) -> None:
    refused("features must be float", **{**given(method), "features": FEATURES.to(dtype)})


@pytest.mark.parametrize("name", FLOATING)
def test_companions_are_floating_point_and_finite(name: str) -> None:
    call = given("omnizip")
    for dtype in (torch.int64, torch.complex64):
        refused(f"{name} must be float", **{**call, name: call[name].to(dtype)})
    for bad in ("nan", "inf", "-inf"):
        spoilt = call[name].clone()
        spoilt.view(-1)[-1] = float(bad)
        refused(f"{name} .*NaN or infinity", **{**call, name: spoilt})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_is_taken(dtype: torch.dtype) -> None:
    assert len(video(vidcomp.reduce(FEATURES.to(dtype), "evs", tokens=9))) == 9
    largest = torch.full((2, 1, 3, 4), torch.finfo(dtype).max, dtype=dtype)
    assert len(video(vidcomp.reduce(largest, "uniform", tokens=2))) == 2


@pytest.mark.parametrize("method", vidcomp.methods())
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_features_that_hold_nothing(method: str, axis: int) -> None:
    shape = list(FEATURES.shape)
    shape[axis] = 0
    says = "features .* every dimension must be at least 1"
    refused(says, ShapeError, **{**given(method), "features": torch.zeros(shape)})


@pytest.mark.parametrize("shape", [(0, 64, 96, 3), (16, 0, 96, 3), (64, 96, 3), (16, 3, 64, 96)])
def test_pixels_that_are_no_frames(shape: tuple[int, ...]) -> None:
    refused("pixels", ShapeError, method="rlt", pixels=torch.zeros(shape, dtype=torch.uint8))
    refused("pixels", ShapeError, features=FEATURES, method="rlt", pixels=torch.zeros(shape, dtype=torch.uint8))


def test_fewer_frames_than_steps() -> None:
    refused("pixels .*fewer frames than .* 8 steps", ShapeError, features=FEATURES, method="rlt", pixels=PIXELS[:7])


def test_tensors_without_values_are_refused() -> None:
    refused("features .*meta", features=FEATURES.to("meta"), method="evs")
    refused("features .*sparse", features=FEATURES.to_sparse(), method="evs")


# -- stand-ins ---------------------------------------------------------------------------------------


def test_missing_attention_says_what_to_give() -> None:
    says = r"needs attention: give attention=\(T,N\), or stand_ins=\{'attention': NAME\}.*distinctness.*norm"
    refused(says, features=FEATURES, method="holitom")
    says = r"needs frame_vectors: give frame_vectors=\(T,G\), or stand_ins=\{'frame_vectors': NAME\}.*token_mean"
    refused(says, features=FEATURES, method="dyseg+evs")


def test_a_named_stand_in_is_used() -> None:
    norms = FEATURES.double().norm(dim=-1).flatten(1)
    found = video(vidcomp.reduce(FEATURES, "holitom", stand_ins={"attention": "norm"}))
    assert torch.equal(found.anchor, video(vidcomp.reduce(FEATURES, "holitom", attention=norms)).anchor)


@pytest.mark.parametrize(
    ("stand_ins", "says"),
    [
        ({"attention": "nope"}, "no stand-in 'nope' for attention; there are: distinctness, norm"),
        ({"audio": "norm"}, "no stand-in 'norm' for audio; there are: none"),
        ("norm", "stand_ins must be a mapping"),
        ({"attention": ["norm"]}, "no stand-in"),
    ],
)
def test_a_stand_in_that_is_not_there(stand_ins: Any, says: str) -> None:
    refused(says, (ValueError, TypeError), features=FEATURES, method="holitom", stand_ins=stand_ins)
