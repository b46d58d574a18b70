"""`vidcomp report`: records as one HTML page. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..corpus import SourceListError
from ..report.page import write_page
from .inspect import open_header
from .screen import print_json, put


def command(
    records: Annotated[list[Path], typer.Argument(metavar="RECORD...", help=".safetensors files made by encode.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="PAGE", help="The HTML file to write.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Draw what was heard and kept over time, and each record's budget, as a page for a browser."""
    if any(out.resolve() == record.resolve() for record in records):
        raise SourceListError(f"{out}: it is one of the records: give the page another name")
    headers = [open_header(record) for record in records]
    write_page(out, headers)
    if json:
        print_json({"page": str(out), "records": len(headers)})
    else:
        put(f"{len(headers)} {'record' if len(headers) == 1 else 'records'}: {out}")
    return 0
