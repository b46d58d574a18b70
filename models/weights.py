"""A checkpoint's safetensors files: which there are, what they hold, their digest. Only `read` needs torch.

The format: 8 bytes little-endian length of a JSON header, the header ({name: {dtype, shape, data_offsets}}),
the data. Pickled weights are never opened.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .jsonfile import CheckpointError, read_json

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_BYTES = 4096  # of each tensor, hashed
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def weight_files(folder: Path) -> list[Path]:
    """The files transformers would read: model.safetensors, else the shards of its index."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise CheckpointError(_no_weights(folder))
    named = read_json(index).get("weight_map")
    shards = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    if not shards or any(Path(name).name != name for name in shards):
        raise CheckpointError(f"{index}: its weight_map must name files that lie beside it; fetch it again")
    absent = [name for name in shards if not (folder / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{folder}: {len(absent)} of {len(shards)} weight files missing, the first is {absent[0]}"
        )
    return [folder / name for name in shards]


def header(path: Path) -> tuple[bytes, dict[str, Any]]:
    """(raw header, {tensor: its entry}) of one file; a file that is cut short or no safetensors raises."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        raw = file.read(length) if 8 + length <= size else b""
    try:
        entries = {name: entry for name, entry in json.loads(raw).items() if name != "__metadata__"}
        spans = [(int(a), int(b)) for a, b in (entry["data_offsets"] for entry in entries.values())]
        end = max((b for _, b in spans), default=0)
        if any(not 0 <= a <= b for a, b in spans):
            raise ValueError("offsets run backwards")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{path}: not a safetensors file (cut short, or a git-lfs pointer?); fetch it again"
        ) from None
    if 8 + length + end != size:
        raise CheckpointError(f"{path}: {size} bytes where its header says {8 + length + end}; fetch it again")
    return raw, entries


def digest(folder: Path) -> str:
    """32 hex digits over the weight files: name, size, header, first 4 KiB of each tensor.

    Sees: another architecture, dtype, tensor or name, a training step, a merged LoRA or any other dense
    update of a tensor. Does not see: an edit that leaves the first 4 KiB of every tensor as they were.
    """
    total = blake2b(digest_size=16)
    for path in weight_files(folder):
        raw, entries = header(path)
        total.update(f"{path.name}:{path.stat().st_size}:{len(raw)}:".encode() + raw)
        with path.open("rb") as file:
            for begin, end in sorted(tuple(entry["data_offsets"]) for entry in entries.values()):
                file.seek(8 + len(raw) + begin)
                total.update(file.read(min(end - begin, SAMPLE_BYTES)))
    return total.hexdigest()


def first_dtype(folder: Path) -> str:
    """The dtype of the first floating tensor (transformers' own guess where the config names none)."""
    for path in weight_files(folder):
        for name in sorted(entries := header(path)[1]):
            if entries[name]["dtype"] in FLOATS:
                return FLOATS[entries[name]["dtype"]]
    raise CheckpointError(f"{folder}: no floating-point weights; name a dtype")


def read(folder: Path, prefixes: Sequence[str]) -> dict[str, Tensor]:
    """{name without its prefix: tensor} of what stands under `prefixes`, in the file's dtype, on the CPU."""
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (a safe_open handle is no mapping)
                prefix = next((p for p in prefixes if name.startswith(p)), None)
                if prefix is not None:
                    found[name.removeprefix(prefix)] = file.get_tensor(name)
    return found


def _no_weights(folder: Path) -> str:
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    why = f"only pickled weights ({pickled[0]}), which are never opened" if pickled else "no model.safetensors"
    return f"{folder}: {why}; save it again as safetensors (transformers: model.save_pretrained(folder))"
