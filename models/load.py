"""Models by id: the encoder, the language model that answers, and a record as that model's inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from typing import Any

from . import consume
from .base import VideoModel
from .checkpoint import Checkpoint, dtype_name, refuse_options, resolve
from .consume import Videos
from .families import BUILT_IN, UnknownModelError, family_module
from .jsonfile import CheckpointError, read_json
from .quiet import quiet
from .reader import Reader


def load_model(
    model_id: str | PathLike[str],
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
    with told_of(model_id):
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


@contextmanager
def told_of(model_id: str | PathLike[str]) -> Iterator[None]:
    """What JSON of another shape raises deep inside is the checkpoint's fault: one line that names it."""
    try:
        yield
    except (ValueError, OSError, MemoryError, RuntimeError):
        raise  # says itself what it is about
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(
            f"{fspath(model_id)}: its configuration cannot be used ({what}); fetch it again"
        ) from error


def build_model(
    model_id: str | PathLike[str],
    *,
    revision: str | None = None,
    dtype: object = None,
    settings: Mapping[str, Any] | None = None,
) -> VideoModel:
    """The same without weights: may be pickled to a worker, which calls `setup(device)`."""
    model_id = fspath(model_id)
    if model_id in BUILT_IN:
        refuse_options(model_id, revision=revision, dtype=dtype, settings=settings or None)
        built_in: VideoModel = family_module(model_id).load()
        return built_in
    checkpoint = resolve(model_id, revision, settings=settings)
    name = None if dtype is None else dtype_name(dtype)
    with told_of(model_id):
        model: VideoModel = family_module(checkpoint.family).load(checkpoint, dtype=name)
    return model


def load_llm(
    model_id: str | PathLike[str], *, revision: str | None = None, dtype: object = None, device: str = "cpu"
) -> tuple[Any, Any]:
    """(model, tokenizer): the real transformers model that answers; no remote code is ever run."""
    model_id = fspath(model_id)
    if model_id in BUILT_IN:
        raise UnknownModelError(
            f"{model_id} has no language model; give the checkpoint that the record was encoded with"
        )
    checkpoint = resolve(model_id, revision)
    reader = reader_of(checkpoint.family)
    return llm(reader, checkpoint, dtype, device), tokenizer_of(checkpoint)


def llm(reader: Reader, checkpoint: Checkpoint, dtype: object, device: str) -> Any:
    """The real class in eval mode, from safetensors only, with sdpa attention."""
    import torch

    with quiet():
        model = reader.llm_class().from_pretrained(
            checkpoint.folder,
            dtype=getattr(torch, dtype_name(dtype or checkpoint.dtype)),
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
        )
    return model.to(device).eval()


def tokenizer_of(checkpoint: Checkpoint) -> Any:
    """The checkpoint's own tokenizer, with its processor's chat template, or its own where the processor has none.

    The processor's knows videos; beside it a released tokenizer may have that of the text model it was made of.
    """
    from transformers import AutoTokenizer

    with quiet():
        found = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
    places = (checkpoint.folder / name for name in ("processor_config.json", "chat_template.json"))
    told = (read_json(path).get("chat_template") for path in places if path.is_file())
    found.chat_template = next((template for template in told if template), found.chat_template)
    return found


def prepare(
    model: Any, tokenizer: Any, record: Videos | Sequence[Videos], question: str | Sequence[str], **rules: Any
) -> dict[str, Any]:
    """kwargs for `model.generate(**inputs)`, by the family of `model`: one prompt, or a batch (see `consume.prepare`).

    `rules`: `position_rule`, one of the family's `READER.rules`.
    """
    refuse_paths(record)
    family = getattr(getattr(model, "config", None), "model_type", None)
    return consume.prepare(reader_of(str(family)), model, tokenizer, record, question, **rules)


def refuse_paths(given: Any) -> None:
    """TypeError where a path stands for a record, or for one of several."""
    for held in (given, *given) if isinstance(given, list | tuple) else (given,):
        if isinstance(held, str | PathLike):
            raise TypeError(f"a record is needed, got the path {str(held)!r}: load it first, vidcomp.load(path)")


def reader_of(family: str) -> Reader:
    """How the family's language model reads kept tokens."""
    reader: Reader | None = getattr(family_module(family), "READER", None)
    if reader is None:
        raise UnknownModelError(f"family {family!r} has no language model that reads its tokens")
    return reader
