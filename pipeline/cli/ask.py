"""`vidcomp ask`: a real video LLM answers from a record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..heavy import signals_held
from .inspect import open_header
from .screen import print_json, put


def command(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="A .safetensors file made by encode.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    model: Annotated[str, typer.Option(help="Hub id or folder of the checkpoint that encoded the record.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 128,
    position_rule: Annotated[str, typer.Option(help="max+1, or hw: as transformers 5.23 itself.")] = "max+1",
    device: Annotated[str, typer.Option(help="Where the LLM runs; auto: a GPU where there is one.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Answer a question about a video from its record alone."""
    open_header(record)  # refuse a missing or torn record before anything heavy is imported
    with signals_held():
        from ..answer import answer
    told = answer(record, question, model, max_new_tokens=max_new_tokens, position_rule=position_rule, device=device)
    if json:
        print_json({"record": str(record), "question": question, **told})
    else:
        for line in told["answer"].splitlines():
            put(line)
    return 0
