"""`vidcomp verify`: re-hash records, put damaged ones aside, rebuild the manifest. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ...stages.record_check import check_record
from ...stages.safefile import DamagedFileError, check_tensors, read_header
from ...stages.store import Store
from ..corpus import SourceListError
from ..manifest import NAME
from ..verify import QUARANTINE, Verified, verify_folder
from .screen import PLAIN_EVERY_S, complain, print_json, put

SHOWN = 10  # lines of each kind besides damage


def command(
    target: Annotated[Path, typer.Argument(metavar="RECORD-or-OUT", help="A record, or a folder of them.")],
    keep: Annotated[bool, typer.Option("--keep", help="Leave damaged records where they are.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Re-hash a record, or all of a folder; exit 2 where one is damaged.

    Of a folder, damaged records move to OUT/quarantine and the manifest keeps only rows that hold: the next encode
    makes again what is missing. Nothing else is removed.
    """
    if not target.is_dir():
        return one(target, json)
    if not (target / NAME).exists():
        records_of(target)
    found = verify_folder(target, keep=keep, tell=complain, watch=unwatched if json else progress())
    if json:
        print_json(as_json(found))
    else:
        tell_all(target, found)
    return 2 if found.damaged else 0


def one(record: Path, json: bool) -> int:
    """A single record is only looked at."""
    damaged = [(path, why) for path in records_of(record) if (why := damage(path))]
    for _, why in damaged:
        complain(why)
    if json:
        rows = [{"record": str(path), "why": why} for path, why in damaged]
        print_json({"checked": 1, "damaged": rows, "ok": not damaged})
    else:
        put(f"1 checked, {len(damaged)} damaged")
    return 2 if damaged else 0


def records_of(target: Path) -> list[Path]:
    """The record itself, or the folder's records; none is a usage error."""
    if target.is_file():
        return [target]
    if not target.exists():
        raise SourceListError(f"{target}: no such file or folder: check the path")
    return Store(target).records() or _none(target)


def _none(target: Path) -> list[Path]:
    raise SourceListError(f"{target}: no records in this folder")


def damage(path: Path) -> str | None:
    """What is wrong with a record, in one line; None: nothing."""
    try:
        header = read_header(path)
        check_record(header)
        check_tensors(header)
    except DamagedFileError as e:
        return str(e)
    except OSError as e:
        return f"{path}: cannot be read ({e.strerror})"
    return None


def unwatched(done: int, total: int) -> None:
    """Hears of each record and says nothing."""


def progress() -> Callable[[int, int], None]:
    """A line on stderr now and then."""
    said = time.monotonic()

    def watch(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PLAIN_EVERY_S:
            said = time.monotonic()
            complain(f"verify: {done} of {total} records")

    return watch


def as_json(found: Verified) -> dict[str, Any]:
    """All that was found; `manifest` is null where it was left as it is."""
    damaged = [
        {"record": str(d.path), "why": d.why, "moved": None if d.moved is None else str(d.moved)} for d in found.damaged
    ]
    named = {name: [str(path) for path in getattr(found, name)] for name in ("old", "unlisted", "leftovers")}
    return {
        "checked": found.checked,
        "damaged": damaged,
        "ok": not damaged,
        **named,
        "unfinished": list(found.unfinished),
        "manifest": None if found.rebuilt is None else asdict(found.rebuilt),
    }


def tell_all(out: Path, found: Verified) -> None:
    """What a person reads; damage was told as it was found."""
    tell_some(found.old, "of another schema: encode makes it anew")
    tell_some(found.unlisted, "no row of the manifest speaks of it")
    tell_some(found.leftovers, "left over by a process that has died: it can be removed")
    moved = sum(d.moved is not None for d in found.damaged)
    aside = f", {moved} moved to {out / QUARANTINE}: the same encode makes them again" if moved else ""
    put(f"{found.checked} checked, {len(found.damaged)} damaged{aside}")
    if found.unfinished:
        put(f"{len(found.unfinished)} begun: encode goes on with them")
    if (r := found.rebuilt) is not None and (out / NAME).exists():
        lost = {"torn": r.torn, "superseded": r.superseded, "without a whole record": r.gone}
        dropped = ", ".join(f"{n} {why}" for why, n in lost.items() if n)
        put(f"{out / NAME}: {r.rows} rows stay, dropped {dropped or 'none'}")


def tell_some(paths: Sequence[Path], what: str) -> None:
    """A line for each of the first."""
    for path in paths[:SHOWN]:
        complain(f"{path}: {what}")
    if len(paths) > SHOWN:
        complain(f"and {len(paths) - SHOWN} more: --json lists all")
