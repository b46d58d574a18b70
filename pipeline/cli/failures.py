"""`vidcomp failures`: what failed, why, and once more. Lists without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..corpus import SourceListError
from ..errors import ConfigError
from ..failures import failed_rows, reason_of
from ..manifest import NAME, Row
from ..report.summary import print_totals
from .encode import Engine, Told, results
from .screen import complain, print_json, put

if TYPE_CHECKING:
    from ..run import How

SHOWN = ("path", "message", "recipe", "id", "start_s", "end_s")


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder of records.")],
    retry: Annotated[bool, typer.Option("--retry", help="Encode just these again, by their recipes.")] = False,
    engine: Annotated[Engine, typer.Option(help="Of --retry: where the work is done.")] = "local",
    workers: Annotated[int | None, typer.Option(min=0, help="Of --retry: processes; 0: this one.")] = None,
    address: Annotated[str | None, typer.Option(help="Of --retry: of a Ray cluster to join.")] = None,
    deadline: Annotated[float | None, typer.Option(min=1, metavar="S", help="Of --retry: longest a video.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """List the inputs that failed: how many for which reason, then each. To list them is exit 0.

    With --retry they are encoded again, and it ends as encode does: exit 2 where some still fail.
    """
    if not (out / NAME).exists():
        what = "nothing was encoded here yet" if out.is_dir() else "no such folder"
        raise SourceListError(f"{out}: {what}: give the folder that encode -o names")
    rows = failed_rows(out)
    if retry and rows:
        from ..run import How

        how = How(engine=engine, workers=workers, address=address, retry=True, deadline_s=deadline)
        return again(out, rows, how, quiet=json)
    if json:
        print_json(as_json(out, rows))
    else:
        tell(rows)
    return 0


def as_json(out: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Counts by reason, and each failed input."""
    failures = [{"reason": reason_of(row)} | {name: row[name] for name in SHOWN if name in row} for row in rows]
    return {"manifest": str(out / NAME), "failed": len(rows), "reasons": reasons(rows), "failures": failures}


def reasons(rows: Sequence[Row]) -> dict[str, int]:
    """{reason: how many}, the most frequent first."""
    return dict(Counter(map(reason_of, rows)).most_common())


def tell(rows: Sequence[Row]) -> None:
    """The classes, then a line for each input, class by class."""
    classes = reasons(rows)
    put(f"{len(rows)} failed{': ' if classes else ''}{', '.join(f'{n} {reason}' for reason, n in classes.items())}")
    for reason in classes:
        for row in rows:
            if reason_of(row) == reason:
                put(f"{row['path']}{window(row)}: {reason}: {row.get('message')}")


def window(row: Row) -> str:
    """Which part of the video, where a list asked for one."""
    start, end = row.get("start_s"), row.get("end_s")
    if start is None and end is None:
        return ""
    return f" (from {start or 0:g} s to {'its end' if end is None else f'{end:g} s'})"


def again(out: Path, rows: Sequence[Row], how: How, *, quiet: bool) -> int:
    """Try them once more, one recipe after the other; the exit code.

    Raises:
        ConfigError: none of them can be tried.
    """
    from ..retry import check_place, is_whole, items_of, jobs

    check_place(out)
    told = Told(alone=False, strict=False, quiet=quiet)
    pairs = list(jobs(out, [row for row in rows if is_whole(row)]))
    known = [(job, failed) for job, failed in pairs if job is not None]
    left = not_tried(out, sum(not is_whole(row) for row in rows), sum(len(f) for job, f in pairs if job is None))
    if not known:
        raise ConfigError("; ".join(left))
    for why in left:
        complain(why)
    for job, failed in known:
        for result in results(job, items_of(failed), how, quiet, None):
            told.hear(result)
    totals = told.totals(known[0][0])
    (print_json if quiet else print_totals)(totals)
    return 2 if told.bad or left else 0


def not_tried(out: Path, secret: int, unknown: int) -> list[str]:
    """A line for each reason why some cannot be tried."""
    urls = f"{out}: {secret} failed by a URL with a password or a query, which is not kept: run encode again with it"
    recipe = f"{out}: {unknown} failed by a recipe that is not kept here, or means another one now: run encode again"
    return [why for number, why in ((secret, urls), (unknown, recipe)) if number]
