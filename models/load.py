"""Models by id: the encoder, the language model that answers, and a record as that model's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from .base import VideoModel
from .checkpoint import dtype_name, refuse_options, resolve
from .families import BUILT_IN, UnknownModelError, family_module
from .quiet import quiet
from .types import KeptVideo


def load_model(
    model_id: str,
    *,
    revision: str | None = None,
    dtype: object = None,
    device: str = "cpu",
    settings: Mapping[str, Any] | None = None,
) -> VideoModel:
    """The encoder of a hub id, a checkpoint's folder or a built-in family, ready to encode on `device`.

    `dtype` (a name or a torch dtype) None: the checkpoint's own. `settings` stand over its video processor's.
    Raises `CheckpointError`, `UnknownModelError` or, for a device that is not there, ValueError: one line each.
    """
    check_device(device)
    model = build_model(model_id, revision=revision, dtype=dtype, settings=settings)
    model.setup(device)
    return model


def check_device(device: str) -> None:
    """ValueError where tensors cannot be put on it."""
    import torch

    try:
        torch.zeros(1, device=device).cpu()  # `meta` is a device that gives nothing back
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"device {device!r} cannot be used ({why}): take cpu, or another one") from None


def build_model(
    model_id: str,
    *,
    revision: str | None = None,
    dtype: object = None,
    settings: Mapping[str, Any] | None = None,
) -> VideoModel:
    """The same without weights: may be pickled to a worker, which calls `setup(device)`."""
    if model_id in BUILT_IN:
        refuse_options(model_id, revision=revision, dtype=dtype, settings=settings or None)
        built_in: VideoModel = family_module(model_id).load()
        return built_in
    checkpoint = resolve(model_id, revision, settings=settings)
    name = None if dtype is None else dtype_name(dtype)
    model: VideoModel = family_module(checkpoint.family).load(checkpoint, dtype=name)
    return model


def load_llm(
    model_id: str, *, revision: str | None = None, dtype: object = None, device: str = "cpu"
) -> tuple[Any, Any]:
    """(model, tokenizer): the real transformers model that answers; no remote code is ever run."""
    if model_id in BUILT_IN:
        raise UnknownModelError(
            f"{model_id} has no language model; give the checkpoint that the record was encoded with"
        )
    from transformers import AutoTokenizer

    checkpoint = resolve(model_id, revision)
    module = _reader(checkpoint.family)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
    name = None if dtype is None else dtype_name(dtype)
    return module.load_llm(checkpoint, dtype=name, device=device), tokenizer


def prepare(model: Any, tokenizer: Any, record: KeptVideo, question: str, **rules: Any) -> dict[str, Any]:
    """kwargs for `model.generate(**inputs)`, by the family of `model`; `rules`: see `prepare` in its file."""
    if isinstance(record, str | PathLike):
        raise TypeError(f"prepare takes a record, got the path {str(record)!r}: load it first, vidcomp.load(path)")
    family = getattr(getattr(model, "config", None), "model_type", None)
    inputs: dict[str, Any] = _reader(str(family)).prepare(model, tokenizer, record, question, **rules)
    return inputs


def _reader(family: str) -> Any:
    module = family_module(family)
    if not hasattr(module, "prepare"):
        raise UnknownModelError(f"family {family!r} has no language model that reads its tokens")
    return module
