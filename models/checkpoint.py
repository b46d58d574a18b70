"""A model's checkpoint, found and identified without torch or transformers: all that a cache key needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from . import settings as processor_settings
from . import weights
from .families import BUILT_IN, UnknownModelError, families, family_of
from .hub import snapshot
from .jsonfile import CheckpointError, read_json

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder of config.json, safetensors and processor settings.

    `model_id`: the hub id as given, or the folder's own name (for messages; of a folder nothing but its
    contents identifies it). `commit`: the hub's revision, None for a folder. `settings`: the video
    processor's, resolved.
    """

    folder: Path
    model_id: str
    config: Mapping[str, Any] = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    commit: str | None = None

    @property
    def family(self) -> str:
        """The name of a file of this folder, by config.json's `model_type`."""
        return str(family_of(self.config["model_type"]))

    @property
    def dtype(self) -> str:
        """The dtype it runs in unless told otherwise: config.json's, else that of its first float weights."""
        return str(self.config.get("dtype") or self.config.get("torch_dtype") or weights.first_dtype(self.folder))

    def identity(self, dtype: str | None = None) -> dict[str, Any]:
        """What decides the tokens, JSON-able, without any path: equal identities encode alike.

        The same weights have one identity, whether they came by a hub id or lie in a folder: `weights.digest` (see
        there what it detects). `dtype` None means the checkpoint's own.
        """
        return {
            "family": self.family,
            "weights": weights.digest(self.folder),
            "config": config_digest(self.config),
            "settings": dict(self.settings),
            "dtype": dtype_name(dtype or self.dtype),
        }


def resolve(model_id: str, revision: str | None = None, *, settings: Mapping[str, Any] | None = None) -> Checkpoint:
    """The checkpoint in a local folder, or of a hub id (from the cache where there is no network).

    `settings` stand over the checkpoint's own video processor settings.

    Raises:
        CheckpointError: nothing there, or not usable (pickled weights, an unmerged adapter, ...); one line.
        UnknownModelError: a family that has no file in models/.
    """
    if model_id in BUILT_IN:
        raise CheckpointError(f"{model_id} is built in: it has no checkpoint")
    folder = Path(model_id).expanduser()
    local = folder.is_dir()
    if not local:
        folder = snapshot(model_id, revision)
    elif revision is not None:
        raise CheckpointError(f"{model_id} is a folder: it has no revision {revision!r}; leave the revision out")
    config = _config(folder)
    family = str(family_of(config["model_type"]))
    processor_settings.refuse_unknown(family, settings or {})
    own = processor_settings.from_folder(folder, family)
    weights.weight_files(folder)
    name = folder.resolve().name if local else model_id
    resolved = processor_settings.resolve(family, own, settings)
    return Checkpoint(folder, name, config, resolved, None if local else folder.name)


def identify(
    model_id: str,
    revision: str | None = None,
    *,
    dtype: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The identity in a recipe's digest, of a checkpoint or of a built-in family. Imports no torch."""
    if model_id not in BUILT_IN:
        return resolve(model_id, revision, settings=settings).identity(dtype)
    refuse_options(model_id, revision=revision, dtype=dtype, settings=settings or None)
    return {"family": model_id}


def refuse_options(model_id: str, **given: object) -> None:
    """A built-in family has nothing to choose: raise `ValueError` if anything was."""
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise ValueError(f"{model_id} is built in and has no {', '.join(named)}; leave that out")


def dtype_name(dtype: object) -> str:
    """`"bfloat16"` from itself or from `torch.bfloat16`; anything but the three that models run in raises."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {name!r}")
    return name


def config_digest(config: Mapping[str, Any]) -> str:
    """32 hex digits over config.json, whatever the order of its keys and the path it was once saved under."""
    text = json.dumps(_without_path(config), sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _without_path(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without_path(inner) for key, inner in value.items() if key != "_name_or_path"}


def _config(folder: Path) -> dict[str, Any]:
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(f"{folder}: an adapter beside the weights; merge it first (peft: merge_and_unload)")
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if family_of(kind) in (None, *BUILT_IN):
        known = [name for name in families() if name not in BUILT_IN]
        raise UnknownModelError(f"{folder.name}: no model family {kind!r} here; there are: {', '.join(known)}")
    return config
