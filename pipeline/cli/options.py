"""Options that several commands have: what a recipe is made of."""

from __future__ import annotations

from typing import Annotated

import typer

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Any setting of the recipe; repeatable."),
]
Config = Annotated[str | None, typer.Option(help="A shipped preset's name, or a YAML file.")]
Model = Annotated[str | None, typer.Option(help="Hub id or folder of a checkpoint, or dct.")]
Method = Annotated[str | None, typer.Option(help="A name of `vidcomp methods`.")]
Retain = Annotated[float | None, typer.Option(help="Share to keep, in (0, 1]: the paper's own.")]
TokensPerSecond = Annotated[float | None, typer.Option(help="Exactly this many a second.")]
Gate = Annotated[str | None, typer.Option(help="rlt: what hardly changes is not even encoded.")]
AudioGuide = Annotated[str | None, typer.Option(help="off, omnizip or proportional: more tokens for what is heard.")]
