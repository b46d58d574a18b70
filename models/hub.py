"""A checkpoint's files from the Hugging Face hub, or from its cache. Imports no torch."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from .jsonfile import CheckpointError

# weights, settings, tokenizer: files at the repository's root, never pickles
WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def snapshot(model_id: str, revision: str | None) -> Path:
    """The folder of one commit, named after it; without network, or behind a proxy that refuses, the cached one.

    Raises `CheckpointError`, one line: what was asked, the hub's reason, what to do.
    """
    if model_id.startswith((".", "/", "~")) or model_id.count("/") > 1 or "\\" in model_id:
        raise CheckpointError(f"{model_id}: no such folder")
    try:
        return _fetch(model_id, revision, local_only=False)
    except Exception as error:  # the hub's client raises a dozen unrelated types; each means the same here
        with suppress(Exception):
            return _fetch(model_id, revision, local_only=True)
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        raise CheckpointError(
            f"cannot get model {model_id!r} (revision {revision or 'main'}): {reason}; "
            "check the id, log in (hf auth login), or give a checkpoint's folder"
        ) from error


def _fetch(model_id: str, revision: str | None, *, local_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        model_id, revision=revision, local_files_only=local_only, allow_patterns=WANTED, ignore_patterns=["*/*"]
    )
    return Path(folder)
