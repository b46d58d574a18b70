"""The recipes that a folder of records was made by, each under its digest: what `failures --retry` does again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..stages.safefile import write_atomically, writing
from .config import Recipe
from .errors import ConfigError
from .job import Job

FOLDER = ".recipes"


def keep_recipe(job: Job) -> None:
    """Write the job's recipe as it was given, unless it is there."""
    path = job.store.out / FOLDER / f"{job.recipe.digest(job.identity)}.json"
    if not path.exists():
        data = json.dumps(job.recipe.model_dump(mode="json", exclude_unset=True), sort_keys=True).encode()
        with writing(path):
            write_atomically(path, lambda out: out.write(data))


def kept_recipes(out: Path) -> dict[str, Recipe]:
    """{digest: recipe}; ConfigError for one that is damaged."""
    found: dict[str, Recipe] = {}
    for path in sorted((out / FOLDER).glob("*.json")):
        try:
            tree: Any = json.loads(path.read_bytes())
            found[path.stem] = Recipe.model_validate(tree)
        except (ValueError, ValidationError, OSError) as e:
            raise ConfigError(f"{path}: not a recipe ({type(e).__name__}): remove it, run encode again") from None
    return found
