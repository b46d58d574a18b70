"""`vidcomp verify`: re-hash records. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...stages.record_check import check_record
from ...stages.safefile import DamagedFileError, check_tensors, read_header
from ...stages.store import Store
from ..corpus import SourceListError
from .screen import complain, print_json, put


def command(
    target: Annotated[Path, typer.Argument(metavar="RECORD-or-OUT", help="A record, or a folder of them.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Re-hash a record, or every record of a folder; exit 2 where one is damaged."""
    paths = records_of(target)
    damaged = [(path, why) for path in paths if (why := damage(path))]
    for _, why in damaged:
        complain(why)
    if json:
        rows = [{"record": str(path), "why": why} for path, why in damaged]
        print_json({"checked": len(paths), "damaged": rows, "ok": not damaged})
    else:
        put(f"{len(paths)} checked, {len(damaged)} damaged")
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
