"""`vidcomp status`: how far the runs over a folder have come. Imports no torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..corpus import SourceListError
from ..manifest import NAME
from ..report.lines import shown
from ..report.status import Tally
from ..report.stream import StreamTally, rows_of_stream
from ..report.summary import print_table
from ..stats import read_stats
from ..stream_folder import INDEX
from .screen import PLAIN_EVERY_S, complain, print_json
from .watch import clock, line, under_way

LIVE_EVERY_S = 1.0

State = Mapping[str, Any]


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder of records, or a stream's.")],
    watch: Annotated[bool, typer.Option("--watch", help="Go on until the run ends, or Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Show what became of a folder's inputs, and how its last run, or its stream, goes or went."""
    state = watched(out, quiet=json) if watch else state_of(out, tally_of(out))
    if json:
        print_json(state)
    else:
        print_table(rows(state))
    return 0


def tally_of(out: Path) -> Tally | StreamTally:
    """What counts in a folder, by what it holds."""
    return StreamTally(out) if (out / INDEX).is_file() and not (out / NAME).exists() else Tally(out)


def state_of(out: Path, tally: Tally | StreamTally) -> State:
    """The manifest's counts, and `run`: the last run's numbers (None: only single inputs were encoded). Of a stream's
    folder: `stream`.

    Raises:
        SourceListError: no such folder, or nothing was encoded there.
    """
    where = "give the folder that encode -o names"
    if not out.is_dir():
        raise SourceListError(f"{out}: no such folder: {where}")
    if isinstance(tally, StreamTally):
        return {"out": str(out), "stream": tally.look()}
    state = {"out": str(out), **tally.look(), "run": read_stats(out)}
    if state["run"] is None and not state["inputs"]:
        raise SourceListError(f"{out}: nothing was encoded here yet: {where}")
    return state


def watched(out: Path, *, quiet: bool) -> State:
    """Shows the state until no run goes on any more; the last."""
    tally = tally_of(out)
    state = state_of(out, tally)
    with screen(quiet=quiet) as show:
        while going(state):
            show(state)
            time.sleep(LIVE_EVERY_S)
            state = state_of(out, tally)
    return state


def going(state: State) -> bool:
    """Whether its run, or its stream, is under way."""
    of = state.get("stream") or state["run"]
    return of is not None and of["state"] == "running"


@contextmanager
def screen(*, quiet: bool) -> Iterator[Callable[[State], None]]:
    """Shows states on stderr: a table that is written over on a terminal, elsewhere a line now and then."""
    if quiet or not sys.stderr.isatty():
        yield (lambda state: None) if quiet else plain()
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:
        yield lambda state: live.update(Text("\n".join(f"{a:<8}{shown(b)}" for a, b in rows(state))), refresh=True)


def plain() -> Callable[[State], None]:
    """A line on stderr, at most every `PLAIN_EVERY_S`."""
    said = float("-inf")

    def show(state: State) -> None:
        nonlocal said
        if time.monotonic() - said >= PLAIN_EVERY_S:
            said = time.monotonic()
            stream = state.get("stream")
            complain("; ".join(f"{a} {b}" for a, b in rows(state)) if stream else line(state["run"]))

    return show


def rows(state: State) -> list[tuple[str, str]]:
    """(what, value) for a person."""
    if "stream" in state:
        return [("out", state["out"]), *rows_of_stream(state["stream"], clock)]
    counts = ", ".join(f"{n} {status}" for status, n in sorted(state["counts"].items())) or "none yet"
    several = f", by {state['recipes']} recipes" if state["recipes"] > 1 else ""
    return [
        ("out", state["out"]),
        ("inputs", counts + several),
        *([] if state["run"] is None else of_run(state["run"])),
    ]


def of_run(run: State) -> list[tuple[str, str]]:
    """The last run's rows."""
    known = f", {run['cached']} of them known before" if run["cached"] else ""
    found = [("run", how(run)), ("done", f"{run['done']} of {run['inputs']}{known}, {run['failed']} failed")]
    if run["state"] == "running" and run["under_way"]:
        found.append(("now", under_way(run)))
    if run["done"] > run["cached"]:
        found.append(
            ("speed", f"{run['videos_per_s']:.2f} videos/s, {run['video_hours_per_hour']:.1f} h of video an hour")
        )
    if run["tokens_in"]:
        share = 100 * run["tokens_out"] / run["tokens_in"]
        found.append(("tokens", f"{run['tokens_out']} of {run['tokens_in']} kept ({share:.1f} %)"))
    if run["bottleneck"]:
        spent = ", ".join(f"{stage} {s:.1f} s" for stage, s in run["stage_seconds"].items())
        found.append(("stages", f"{spent}: mostly {run['bottleneck']}"))
    if run["state"] == "running" and run["eta_s"] is not None:
        found.append(("left", clock(run["eta_s"])))
    return found


def how(run: State) -> str:
    """Its state, engine and time."""
    size = f", {run['workers']} workers" if run["workers"] else ""
    whole = f"{run['engine']}{size}, process {run['pid']}"
    ago = clock(max(time.time() - run["started_s"] - run["seconds"], 0))
    if run["state"] == "running":
        since = run["result_s"]
        last = "no result yet" if since is None else f"last result {clock(max(time.time() - since, 0))} ago"
        return f"running ({whole}) for {clock(max(time.time() - run['started_s'], 0))}, {last}"
    left = {"stopped": ": its process is gone, the same command goes on", "interrupted": ": the same command goes on"}
    again = left.get(run["state"], "")
    return f"{run['state']} ({whole}) after {clock(run['seconds'])}, {ago} ago{again}"
