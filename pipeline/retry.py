"""What it takes to encode again what failed: recipes and inputs, out of the manifest's rows. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from ..stages.failure import Reason, SourceError
from .config import Recipe
from .errors import ConfigError
from .failures import reason_of
from .item import Item
from .job import Job
from .manifest import NAME, Row, placed_rows
from .manifests import is_list
from .recipes import kept_recipes
from .remote import asked
from .urls import is_url


def is_whole(row: Row) -> bool:
    """Whether the row says where its input is: of a URL with a password or a query the manifest keeps a part."""
    return "url" in row or not is_url(row["path"])


def base_of(row: Row) -> str:
    """The digest of the recipe that the whole run had, whatever window of time its list gave this input."""
    return str(row.get("recipe_base", row.get("recipe")))


def jobs(out: Path, rows: Sequence[Row]) -> Iterator[tuple[Job | None, list[Row]]]:
    """Each recipe's job and its rows; None where the recipe is not known any more.

    Raises:
        ConfigError: a recipe that cannot be used.
    """
    kept = kept_recipes(out)
    for digest in dict.fromkeys(map(base_of, rows)):
        yield job_of(out, digest, kept.get(digest)), [row for row in rows if base_of(row) == digest]


def job_of(out: Path, digest: str, recipe: Recipe | None) -> Job | None:
    """The job, unless another version of vidcomp or of the checkpoint would do something else than the digest says."""
    job = None if recipe is None else Job(recipe, out)
    return job if job is not None and job.recipe.digest(job.identity) == digest else None


def check_place(out: Path) -> None:
    """`ConfigError` where no relative path leads to anything: they are another folder's, and nothing is known here."""
    lost = ""
    for _, row in placed_rows(out / NAME):
        path = row["path"]
        if is_url(path) or reason_of(row) == "missing" or os.path.isabs(path) or is_row_of_list(path):
            continue
        if os.path.lexists(path):
            return
        lost = lost or path
    if lost:
        why = "no relative path of the manifest is in this folder"
        raise ConfigError(f"{lost}: {why}: run it where encode was run")


def items_of(rows: Sequence[Row]) -> list[Item]:
    """The inputs that rows speak of, as they are now; a URL's state is what the next encode knows it by."""
    items = [item_of(row) for row in rows]
    now = asked(item for item in items if item.url is not None)
    return [item if item.url is None else next(now) for item in items]


def item_of(row: Row) -> Item:
    """The input that a row speaks of, as it is now: its error where it is gone. Of a URL nobody is asked yet.

    What cannot be tried by itself, a row of a list or a folder that could not be listed, keeps the error it had.
    """
    path, url = str(row["path"]), row.get("url")
    if url is not None:
        item = Item(path, url=str(url))
    elif is_row_of_list(path) or os.path.isdir(path):
        item = Item(path, error=SourceError(cast(Reason, reason_of(row)), str(row.get("message"))))
    else:
        item = Item.local(path)
    return replace(item, start_s=row.get("start_s"), end_s=row.get("end_s"), id=row.get("id"))


def is_row_of_list(name: str) -> bool:
    """Whether it is what a list's row is called that names nothing: the list and a number."""
    path, colon, number = name.rpartition(":")
    return bool(colon) and number.isdigit() and is_list(path) and not os.path.lexists(name)
