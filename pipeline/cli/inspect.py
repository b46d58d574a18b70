"""`vidcomp inspect`: what a record says of itself. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...stages.record_check import check_record
from ...stages.safefile import Header, read_header
from ..corpus import SourceListError
from ..report.summary import describe_source, print_table
from .screen import print_json


def command(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="A .safetensors file made by encode.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Show what a record holds: source, model, method, budget, tensors."""
    header = open_header(record)
    if json:
        print_json({"record": str(record), "tensors": tensors(header), "meta": dict(header.meta)})
    else:
        print_table(rows(header))
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


def rows(header: Header) -> list[tuple[str, str]]:
    """(what, value) for a person."""
    meta = header.meta
    t, h, w = meta["grid"]
    kept, nominal = meta["budget"]["kept"], meta["budget"]["nominal"]
    asked = ", ".join(f"{k} {v}" for k, v in meta["budget"]["asked"].items()) or "the method's default"
    named = {k: v for k, v in meta["method"].items() if k in ("segmenter", "merger")}
    parts = [(kind, ", ".join(f"{k} {v}" for k, v in part.items())) for kind, part in named.items()]
    stand_ins = [(f"{k} from", v) for k, v in meta["method"]["stand_ins"].items()]
    held = [(name, f"{e.dtype} {list(e.shape)}") for name, e in header.entries.items()]
    return [
        ("source", describe_source(meta["source"])),
        ("status", meta["status"]),
        ("model", meta["model"]["family"]),
        ("method", meta["method"]["name"]),
        *parts,
        *stand_ins,
        (
            "frames",
            f"{meta['frames']} at {meta['fps']} fps, model size {meta['frame_size'][1]}x{meta['frame_size'][0]}",
        ),
        ("grid", f"{t} x {h} x {w} = {t * h * w} tokens"),
        (
            "budget",
            f"asked {asked}; nominal {nominal if nominal is None else round(nominal, 1)}; kept {kept}",
        ),
        ("key", meta["key"]),
        *held,
    ]
