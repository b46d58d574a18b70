"""`vidcomp inspect`: what a record says of itself. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...stages.record_check import check_record
from ...stages.safefile import Header, read_header
from ..corpus import SourceListError
from ..report import timeline
from ..report.blocks import picture
from ..report.facts import facts
from ..report.summary import print_table
from .screen import print_json


def command(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="A .safetensors file made by encode.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Show what a record holds: source, model, method, budget, tensors."""
    header = open_header(record)
    if json:
        print_json({"record": str(record), "tensors": tensors(header), "meta": dict(header.meta), **windows(header)})
    else:
        print_table([*rows(header), *heard(header)])
    return 0


def open_header(path: Path) -> Header:
    """The header; a file that is not there or cannot be read is a usage error, one that is damaged has failed."""
    try:
        header = read_header(path)
    except OSError as e:
        what = "no such record" if isinstance(e, FileNotFoundError) else f"cannot be read ({e.strerror})"
        raise SourceListError(f"{path}: {what}: give the .safetensors file that encode named") from None
    check_record(header)
    return header


def tensors(header: Header) -> dict[str, Any]:
    """dtype and shape of every tensor."""
    return {name: {"dtype": e.dtype, "shape": list(e.shape)} for name, e in header.entries.items()}


def windows(header: Header) -> dict[str, Any]:
    """`windows`: what was heard and kept in each, where sound guided."""
    return {"windows": [part.to_json() for part in timeline.windows(header)]} if "saliency" in header.entries else {}


def heard(header: Header) -> list[tuple[str, str]]:
    """The same as a picture."""
    return picture(timeline.windows(header)) if "saliency" in header.entries else []


def rows(header: Header) -> list[tuple[str, str]]:
    """(what, value) for a person."""
    held = [(name, f"{e.dtype} {list(e.shape)}") for name, e in header.entries.items()]
    return [*facts(header.meta), *held]
