"""A run's tasks as they cross a pipe or a cluster, and the work that a worker does on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..stages.heap import give_back, keep_freed
from .clock import Watch
from .config import Recipe
from .errors import RUN_ERRORS
from .item import Item
from .job import Build, Job
from .result import Result
from .runners.worker import Say, Work

FIELDS = ("name", "url", "start_s", "end_s", "id", "stamp")


def task_of(number: int, item: Item) -> dict[str, Any]:
    """An item (one without an error) as JSON; names keep bytes that are no UTF-8."""
    said = {name: getattr(item, name) for name in FIELDS} | {"stamp": item.stamp_text}
    return {"number": number, **said, "path": None if item.path is None else str(item.path)}


def item_of(task: Mapping[str, Any]) -> Item:
    """The reverse of `task_of`."""
    path = None if task["path"] is None else Path(task["path"])
    return Item(path=path, **{name: task[name] for name in FIELDS})


def hello(recipe: Recipe, out: Path, force: bool) -> dict[str, Any]:
    """What a worker needs to know before its first task."""
    return {"recipe": recipe.model_dump(mode="json"), "out": str(out.resolve()), "force": force}


def prepare(told: Mapping[str, Any], build: Build | None = None) -> Work:
    """What does one task after the other, with one encoder for all of them."""
    keep_freed()
    recipe, force = Recipe.model_validate(told["recipe"]), told["force"]
    job = Job(recipe, Path(told["out"]), build)

    def work(task: Mapping[str, Any], say: Say) -> Mapping[str, Any]:
        result = attempt(job, item_of(task), force, watch_of(say))
        give_back()
        return {"facts": result.to_json(), "about": dict(result.about)}

    return work


def attempt(job: Job, item: Item, force: bool, watch: Watch) -> Result:
    """`Job.run`; what it raises and should not is our bug or the machine's trouble, and this input's failure."""
    try:
        return job.run(item, force=force, watch=watch)
    except RUN_ERRORS:
        raise
    except Exception as error:
        return broken(job, item, error)


def broken(job: Job, item: Item, error: Exception) -> Result:
    """A failure that is not the input's."""
    from ..stages.failure import SourceError
    from .job import about_of

    what = f"{type(error).__name__}: {error}"
    return Result.failed_with(item.name, SourceError("internal", what, "please report this"), about_of(job, item))


def watch_of(say: Say) -> Watch:
    """A `Watch` that tells of frames that are through in a message."""

    def watch(stage: str, done: int, total: int) -> None:
        say({"stage": stage, "done": done, "total": total})

    return watch


def result_of(reply: Mapping[str, Any]) -> Result:
    """A worker's reply as a result."""
    return Result(reply["facts"], reply["about"])


def fatal(error: BaseException) -> tuple[str, str] | None:
    """(kind, message) of an error that ends the whole run."""
    return (type(error).__name__, str(error)) if isinstance(error, RUN_ERRORS) else None
