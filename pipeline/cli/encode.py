"""`vidcomp encode`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..manifest import NAME
from ..report.summary import print_result, print_totals
from .options import AudioGuide, Config, Gate, Method, Model, Retain, Settings, TokensPerSecond
from .screen import complain, print_json
from .watch import watching

if TYPE_CHECKING:
    from ..item import Item
    from ..job import Job
    from ..result import Result
    from ..run import How

SHOWN_FAILURES = 10

Engine = Literal["local", "ray"]


def command(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files, folders, globs, lists or URLs.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of records.")] = "vidcomp-out",
    config: Config = None,
    settings: Settings = None,
    model: Model = None,
    method: Method = None,
    retain: Retain = None,
    tokens: Annotated[int | None, typer.Option(help="Exactly this many tokens for each video.")] = None,
    tokens_per_second: TokensPerSecond = None,
    fps: Annotated[float | None, typer.Option(help="Frames sampled a second.")] = None,
    gate: Gate = None,
    audio_guide: AudioGuide = None,
    column: Annotated[str | None, typer.Option(help="Where a list's paths stand.")] = None,
    engine: Annotated[Engine, typer.Option(help="Where the work is done.")] = "local",
    workers: Annotated[int | None, typer.Option(min=0, help="Processes; 0: this one; by inputs and cores.")] = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster to join.")] = None,
    deadline: Annotated[float | None, typer.Option(min=1, metavar="S", help="Longest a video may take.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Prometheus metrics on this port.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Encode again what is in the cache.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Count `partial` as failed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Encode videos into records; what is there already is not done again."""
    from ..corpus import items
    from ..job import Job, out_folder
    from ..overrides import overrides
    from ..presets import build_recipe
    from ..run import How

    over = overrides(model, retain, tokens, tokens_per_second, fps, gate, audio_guide)
    recipe = build_recipe(config, method=method, settings=settings or (), over=over)
    inputs = items(sources, column)
    how = How(engine=engine, workers=workers, address=address, force=force, deadline_s=deadline)
    job = Job(recipe, out_folder(out))
    return carry_out(job, inputs, how, strict=strict, quiet=json, metrics_port=metrics_port)


def carry_out(
    job: Job, inputs: Sequence[Item], how: How, *, strict: bool, quiet: bool, metrics_port: int | None = None
) -> int:
    """Run, tell of each input and of the whole; the exit code."""
    from ...stages.heap import give_back, keep_freed

    keep_freed()
    told = Told(alone=len(inputs) == 1, strict=strict, quiet=quiet)
    for result in results(job, inputs, how, quiet, metrics_port):
        told.hear(result)
        give_back()
    if quiet:
        print_json(told.first.to_json() if told.alone and told.first else told.totals(job))
    elif not told.alone:
        print_totals(told.totals(job))
    return 2 if told.bad else 0


def results(job: Job, inputs: Sequence[Item], how: How, quiet: bool, metrics_port: int | None) -> Iterator[Result]:
    """As `Run.results`, watched; of a single input the record is looked at, not only its name."""
    from ..run import Run

    run = Run(job, how)
    try:
        if len(inputs) == 1 and how.engine == "local" and how.workers is None:
            run.look_closely()
        with watching(run, len(inputs), quiet=quiet, metrics_port=metrics_port):
            yield from run.results(inputs)
    finally:
        job.close()


class Told:
    """What a person, or a program, hears of a run; failures and counts are kept, not results."""

    def __init__(self, *, alone: bool, strict: bool, quiet: bool) -> None:
        self.alone, self.strict, self.quiet = alone, strict, quiet
        self.first: Result | None = None
        self.inputs = self.cached = self.bad = 0
        self.statuses: Counter[str] = Counter()
        self.failures: list[dict[str, Any]] = []

    def hear(self, result: Result) -> None:
        """One more input."""
        self.first = self.first or result
        self.inputs += 1
        self.cached += result.cached
        self.statuses[result.status] += 1
        bad = result.failed or (self.strict and result.status == "partial")
        self.bad += bad
        if bad and len(self.failures) < SHOWN_FAILURES:
            row = {name: result.about[name] for name in ("id", "start_s", "end_s") if name in result.about}
            self.failures.append({"path": result.path, **row, "status": result.status, "message": result.why})
        self.tell(result)

    def tell(self, result: Result) -> None:
        """A line for what went wrong, and for what was made; what was known before is only counted."""
        if result.failed or (result.status == "partial" and (self.alone or not result.cached)):
            complain(f"{result.called}: {result.status}: {result.why}")
        if not self.quiet and not result.failed and (self.alone or not result.cached):
            print_result(result, whole=self.alone)

    def totals(self, job: Job) -> dict[str, Any]:
        """Counts by status, the first that count as failed, and where the manifest lies."""
        return {
            "inputs": self.inputs,
            "cached": self.cached,
            "counts": dict(self.statuses),
            "failures": self.failures,
            "manifest": str(job.store.out / NAME),
        }
