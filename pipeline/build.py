"""From a recipe to working parts: the model and the method. Imported on a cache miss only, as it is heavy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch

from ..models.base import VideoModel
from ..models.load import build_model, check_device
from ..stages.embed import Embedder
from ..stages.gate import Gate
from ..stages.guide import Guide
from ..stages.methods import Method, assemble
from ..stages.parts import Merger, make
from ..stages.standins import STAND_INS
from .config import Recipe
from .errors import ConfigError

log = logging.getLogger(__name__)


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
    given |= {"audio"} if hasattr(model, "encode_audio") else set()
    for need in sorted(method.needs - given):
        raise ConfigError(
            f"method {method.name!r} needs {need}, which model {model.family!r} does not give: "
            f"take another method or model, or name a stand-in (--set stand_ins.{need}=NAME; there are: "
            f"{', '.join(STAND_INS.get(need, ())) or 'none'})"
        )
    return replace(method, merger=sized(method.merger, model)) if "pixels" in method.needs else method


def fit_sinks(sink_times: float | None, method: Method, model: VideoModel) -> float | None:
    """`model.sink_times`; ConfigError where no attention of the model's decides anything."""
    if sink_times is not None and "attention" not in method.needs & model.provides:
        who = f"method {method.name!r}" if "attention" not in method.needs else f"model {model.family!r}"
        raise ConfigError(f"model.sink_times: {who} knows no received attention: take another, or leave it out")
    return sink_times


def sized(merger: Merger, model: VideoModel) -> Merger:
    """A merger that looks at pixels, cut as the model cuts them and normalised as the model normalises them."""
    geometry = {"patch": model.token_pixels, "tubelet": model.temporal_patch, **pixel_stats(model)}
    known = {f.name for f in fields(merger)}
    return replace(merger, **{k: v for k, v in geometry.items() if k in known})


def pixel_stats(model: VideoModel) -> dict[str, Any]:
    """`mean` and `std` of a model that normalises its pixels; a built-in one does not."""
    checkpoint = getattr(model, "checkpoint", None)
    settings = checkpoint.settings if checkpoint is not None else {}
    if not settings.get("do_normalize"):
        return {}
    return {"mean": tuple(settings["image_mean"]), "std": tuple(settings["image_std"])}


def build_gate(recipe: Recipe) -> Gate | None:
    """The part in front of the encoder, if the recipe has one; a wrong one is a `ConfigError`."""
    if recipe.gate is None:
        return None
    try:
        merger = make("merger", recipe.gate.name, recipe.gate.hyper)
        assert isinstance(merger, Merger)
        return Gate(merger)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"gate: {e}") from None


def fit_gate(gate: Gate, model: VideoModel) -> Gate:
    """The gate as this model needs it; refused where pixels do not tile the token grid, or nothing can be skipped."""
    if model.token_pixels is None or model.skips is None:
        why = "pixels do not tile its token grid" if model.token_pixels is None else "it needs every token"
        name = gate.merger.name()
        raise ConfigError(f"gate {name!r}: model {model.family!r} cannot skip ({why}): leave the gate out")
    if model.skips == "filled":
        log.warning(
            "model %s needs its whole grid: holes of the gate are filled from the last frame kept", model.family
        )
    return Gate(sized(gate.merger, model))


def build_guide(recipe: Recipe, method: Method) -> Guide | None:
    """How sound guides the method's budget, if it does; refused for a method that listens by itself."""
    block = recipe.audio_guide
    if block.mode == "off":
        return None
    if "audio" in method.needs:
        why = "shares its tokens out by what it hears itself"
        raise ConfigError(f"method {method.name!r} {why}: leave --audio-guide off, or take another method")
    return Guide(block.mode, block.window_s)


def describe(embedder: Embedder) -> dict[str, Any]:
    """The method with all its hyper-parameters, and the gate's, for the record."""
    method, gate = embedder.method, embedder.gate

    def part(p: Any) -> dict[str, Any]:
        return {"name": p.name(), **{f.name: getattr(p, f.name) for f in fields(p) if f.init}}

    return {
        "name": method.name,
        "segmenter": part(method.segmenter),
        "merger": part(method.merger),
        "stand_ins": {need: name for need, name in method.stand_ins.items() if need not in embedder.model.provides},
        "causal": method.causal and embedder.guide is None,  # windows are counted from a chunk's start
        **({} if gate is None else {"gate": {**part(gate.merger), "skips": embedder.model.skips}}),
    }
