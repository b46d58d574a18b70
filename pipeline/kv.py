"""A video's prefix as a file: the KV cache of everything before the question, so that later runs need not prefill it.

One safetensors file a prefix, written and checked like a record (`stages/safefile.py`), named by all that decides its
values. A file that is damaged counts as absent.

Legend: B = 1, H heads, N ids of the prefix, D channels of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import safe_open

from .. import __version__
from ..models.asking import Asker, keeps_all, new_cache, rewind
from ..stages.record import source
from ..stages.safefile import (
    DamagedFileError,
    canonical,
    check_tensors,
    digest_of,
    read_header,
    write,
    write_atomically,
)
from ..stages.safefile import writing as guarded
from .errors import ConfigError

SUFFIX = ".kv.safetensors"


@dataclass(frozen=True)
class PrefixFile:
    """Where the prefix of one `Asker` lies, or will lie. `about`: what decides its values besides the prompt: the
    records' keys, the model's identity."""

    folder: Path
    about: Mapping[str, Any]

    def path(self, asker: Asker) -> Path:
        """Named by a digest: records, model, prompt, positions, dtype, device and versions."""
        prefix, model = asker.prefix, asker.model
        what = {
            **self.about,
            "ids": prefix.ids.tolist(),
            "places": prefix.places.tolist(),
            "count_sizes": asker.count_sizes,
            "dtype": str(model.dtype),
            "device": model.device.type,
            "versions": [__version__, *(version(name) for name in ("torch", "transformers"))],
        }
        return self.folder / f"{digest_of([canonical(what).encode()])}{SUFFIX}"

    def restore(self, asker: Asker) -> bool:
        """Give the asker its prefix from the file; False where there is none that is whole. ConfigError for a model
        whose cache no file can hold."""
        path, cache = self.path(asker), new_cache(asker.model)
        if not keeps_all(cache):
            raise ConfigError("the model's attention has a sliding window, its cache forgets: leave --save-kv out")
        try:
            header = read_header(path)
            check_tensors(header)
        except (FileNotFoundError, DamagedFileError):
            return False
        with safe_open(path, framework="pt") as file:
            for layer in range(len(header.entries) // 2):
                kv = [file.get_tensor(f"{name}.{layer}").to(asker.model.device) for name in ("keys", "values")]
                cache.update(*kv, layer)
        asker.cache = cache
        return True

    def keep(self, asker: Asker) -> Path:
        """Write the asker's prefix; an `OutputError` where that cannot be done."""
        path, cache = self.path(asker), asker.prefill()
        rewind(cache, len(asker.prefix.ids))
        pairs = [(layer.keys, layer.values) for layer in cache.layers]
        named = [(f"keys.{i}", keys) for i, (keys, _) in enumerate(pairs)]
        named += [(f"values.{i}", values) for i, (_, values) in enumerate(pairs)]
        tensors = {name: source(tensor) for name, tensor in named}
        with guarded(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda out: write(out, tensors, {"prefix": dict(self.about)}))
        return path
