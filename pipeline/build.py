"""From a recipe to working parts: the model and the method. Imported on a cache miss only, as it is heavy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch

from ..models.base import VideoModel
from ..models.load import build_model, check_device
from ..stages.methods import Method, assemble
from ..stages.standins import STAND_INS
from .config import Recipe
from .errors import ConfigError


def build_encoder(recipe: Recipe) -> VideoModel:
    """The encoder, its weights not yet read (`setup` does)."""
    m = recipe.model
    model = build_model(m.id, revision=m.revision, dtype=m.dtype, settings=m.settings)
    if m.settings:
        try_settings(model)
    return model


def try_settings(model: VideoModel) -> None:
    """Two black frames through the model's processor: settings that fail on any frame are a `ConfigError`."""
    side = 16 * (model.token_pixels or 28)
    black = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    try:
        model.frame_size(*black.shape[:3])
        model.preprocess(black, (side // 16, side // 16))
    except Exception as e:  # whatever a wrong setting makes torch raise
        what = " ".join(f"{type(e).__name__}: {e}".split())
        raise ConfigError(f"model.settings cannot be used on any frame ({what}): check their values") from None


def device(asked: str) -> str:
    """`auto` is a GPU where there is one; a named device that is not there is an error."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        check_device(asked)
    except ValueError as e:
        raise ConfigError(str(e)) from None
    return asked


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """`count` torch threads inside, as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def build_method(recipe: Recipe) -> Method:
    """Segmenter + merger with every hyper-parameter resolved; a bad one is a `ConfigError`."""
    hyper = {} if recipe.budget.retain is None else {"retain": recipe.budget.retain}
    try:
        return assemble(
            recipe.method,
            segmenter=(recipe.segmenter.name, recipe.segmenter.hyper),
            merger=(recipe.merger.name, recipe.merger.hyper),
            stand_ins=recipe.stand_ins,
            hyper=hyper,
        )
    except (TypeError, ValueError) as e:
        raise ConfigError(str(e)) from None


def fit_to_model(method: Method, model: VideoModel) -> Method:
    """The method as this model needs it: one that looks at pixels takes patch and tubelet from the model's geometry.

    Refuses, before anything is decoded, a method that needs what neither the model nor a stand-in gives.
    """
    given = model.provides | set(method.stand_ins) | {"grid"} | ({"pixels"} if model.token_pixels else set())
    for need in sorted(method.needs - given):
        raise ConfigError(
            f"method {method.name!r} needs {need}, which model {model.family!r} does not give: "
            f"take another method or model, or name a stand-in (--set stand_ins.{need}=NAME; there are: "
            f"{', '.join(STAND_INS.get(need, ())) or 'none'})"
        )
    if "pixels" not in method.needs:
        return method
    geometry = {"patch": model.token_pixels, "tubelet": model.temporal_patch}
    known = {f.name for f in fields(method.merger)}
    return replace(method, merger=replace(method.merger, **{k: v for k, v in geometry.items() if k in known}))


def describe(method: Method) -> dict[str, Any]:
    """The method with all its hyper-parameters, for the record."""

    def part(p: Any) -> dict[str, Any]:
        return {"name": p.name(), **{f.name: getattr(p, f.name) for f in fields(p) if f.init}}

    return {
        "name": method.name,
        "segmenter": part(method.segmenter),
        "merger": part(method.merger),
        "stand_ins": dict(method.stand_ins),
        "causal": method.causal,
    }
