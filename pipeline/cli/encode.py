"""`vidcomp encode`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import RUN_ERRORS
from ..manifest import NAME, Manifest
from ..report.summary import print_result, print_totals
from ..runners import inline
from .screen import complain, print_json, progress

if TYPE_CHECKING:
    from ..job import Job, Result

SHOWN_FAILURES = 10


def command(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files, folders or globs.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of records.")] = "vidcomp-out",
    config: Annotated[str | None, typer.Option(help="A shipped preset's name, or a YAML file.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Any setting of the recipe; repeatable."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Hub id or folder of a checkpoint, or dct.")] = None,
    method: Annotated[str | None, typer.Option(help="A name of `vidcomp methods`.")] = None,
    retain: Annotated[float | None, typer.Option(help="Share to keep, in (0, 1]: the paper's own.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Exactly this many tokens for each video.")] = None,
    tokens_per_second: Annotated[float | None, typer.Option(help="Exactly this many a second.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames sampled a second.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Encode again what is in the cache.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Count `partial` as failed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Encode videos into records; what is there already is not done again."""
    from ..corpus import expand
    from ..job import Job, out_folder
    from ..overrides import overrides
    from ..presets import build_recipe

    over = overrides(model, retain, tokens, tokens_per_second, fps)
    recipe = build_recipe(config, method=method, settings=settings or (), over=over)
    paths = expand(sources)
    job = Job(recipe, out_folder(out))
    results = []
    try:
        for result in encode_all(job, paths, force=force, quiet=json):
            results.append(result)
            tell(result, alone=len(paths) == 1, quiet=json)
    finally:
        job.close()
    bad = [r for r in results if r.failed or (strict and r.status == "partial")]
    if json:
        print_json(results[0].to_json() if len(paths) == 1 else totals(results, bad, job))
    elif len(paths) > 1:
        print_totals(totals(results, bad, job))
    return 2 if bad else 0


def encode_all(job: Job, paths: list[Path], *, force: bool, quiet: bool) -> Any:
    """Each path's result, noted in the manifest as it comes."""
    from ..job import Result

    manifest = Manifest(job.store.out)

    def work(path: Path) -> Result:
        with progress(path.name, quiet) as watch:
            return job.run(path, force=force, watch=watch)

    for result in inline.run(paths, work, Result.broken, fatal=RUN_ERRORS):
        manifest.note(row(job, result))
        yield result


def row(job: Job, result: Result) -> dict[str, Any]:
    """A manifest row: the result, and what the record itself does not say."""
    keep = ("path", "status", "key", "reason", "message", "cached", "seconds")
    found = {k: v for k, v in result.to_json().items() if k in keep}
    return {
        **found,
        "recipe": job.recipe_digest,
        "threads": job.recipe.compute.threads,
        "device": job.recipe.compute.device,
    }


def tell(result: Result, *, alone: bool, quiet: bool) -> None:
    """What a person hears of one input."""
    if result.failed or result.status == "partial":
        complain(f"{result.path}: {result.status}: {why(result)}")
    if not quiet and not result.failed:
        print_result(result.to_json(), whole=alone)


def why(result: Result) -> str:
    """Why it failed, or why no more than a part could be read."""
    return partly(result.to_json()["decoded"]) if result.error is None else str(result.error)


def partly(decoded: dict[str, Any]) -> str:
    """What of a partial video could be read, and why no more."""
    declared = "" if decoded["declared"] is None else f" of {decoded['declared']}"
    return f"{decoded['decoded']}{declared} frames could be read ({decoded['why'] or 'a sampled frame is missing'})"


def totals(results: list[Result], bad: list[Result], job: Job) -> dict[str, Any]:
    """Counts by status, the first that count as failed, and where the manifest lies."""
    return {
        "inputs": len(results),
        "cached": sum(r.cached for r in results),
        "counts": dict(Counter(r.status for r in results)),
        "failures": [{"path": r.path, "status": r.status, "message": why(r)} for r in bad[:SHOWN_FAILURES]],
        "manifest": str(job.store.out / NAME),
    }
