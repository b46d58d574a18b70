"""The Python surface: `encode` and `methods`; `reduce` has a room of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..stages.methods import assemble
from ..stages.record import VideoRecord, load
from .item import Item
from .job import Job, out_folder
from .overrides import overrides
from .presets import build_recipe, method_names, method_tree
from .reduce import split


def encode(
    source: str | Path,
    *,
    model: str | None = None,
    method: str | None = None,
    retain: float | None = None,
    tokens: int | None = None,
    tokens_per_second: float | None = None,
    fps: float | None = None,
    gate: str | None = None,
    audio_guide: str | None = None,
    config: str | Mapping[str, Any] | None = None,
    settings: Iterable[str | Mapping[str, Any]] = (),
    out: str | Path = "vidcomp-out",
    force: bool = False,
) -> VideoRecord:
    """The record of one video file, encoded or taken from the cache `out`.

    `model`: a hub id, a checkpoint's folder or `dct`; `method`: a name of `methods()`; at most one of `retain` (the
    paper's own parameter), `tokens` and `tokens_per_second` (exact); `gate`: a method that looks at pixels alone,
    `rlt`, which decides what the model need not encode at all; `audio_guide`: `omnizip` or `proportional`, how what is
    heard shares the tokens out over time (`off`: not at all); `config`: a preset's name, a YAML file or a tree;
    `settings`: as `--set`, e.g. `["merger.beta=0.5"]`.

    Raises:
        ConfigError, UnknownMethodError: a setting that cannot be used.
        SourceError: the video cannot be encoded; `.reason` is its class.
        OutputError: `out` cannot be written to.
    """
    recipe = build_recipe(
        config,
        method=method,
        settings=settings,
        over=overrides(model, retain, tokens, tokens_per_second, fps, gate, audio_guide),
    )
    job = Job(recipe, out_folder(out))
    try:
        result = job.run(Item.local(str(source)), force=force)
    finally:
        job.close()
    if result.error is not None:
        raise result.error
    return load(result.facts["record"])


@dataclass(frozen=True)
class MethodInfo:
    """One row of `methods()`: what it needs besides features, whether its defaults are causal, and where it is from."""

    name: str
    kind: str
    needs: tuple[str, ...]
    causal: bool
    paper: str
    summary: str


def methods() -> dict[str, MethodInfo]:
    """Every method by name."""
    return {name: method_info(name) for name in method_names()}


def method_info(name: str) -> MethodInfo:
    """What one preset is made of."""
    tree = method_tree(name)
    built = assemble(name, segmenter=split(tree["segmenter"]), merger=split(tree["merger"]), stand_ins={}, hyper={})
    summary = (type(built.merger).__doc__ or "").strip().splitlines()[0]
    return MethodInfo(name, built.kind, tuple(sorted(built.needs)), built.causal, built.paper, summary)
