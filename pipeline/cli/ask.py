"""`vidcomp ask`: a real video LLM answers from records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigError
from ..heavy import signals_held
from ..stream_folder import StreamFolder
from .inspect import open_header
from .screen import print_json, put, put_part


def command(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="A file made by encode, or a stream's folder.")],
    questions: Annotated[list[str], typer.Argument(metavar="QUESTION...", help="One question or several.")],
    model: Annotated[str, typer.Option(help="Hub id or folder of the checkpoint that encoded the record.")],
    also: Annotated[list[Path] | None, typer.Option(metavar="RECORD", help="A further video; repeatable.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 128,
    memory_tokens: Annotated[
        int | None,
        typer.Option(min=1, metavar="M", help="Of a stream's folder so many tokens, of what is older the fewer."),
    ] = None,
    save_kv: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the prefilled videos here.")] = None,
    count_sizes: Annotated[bool, typer.Option("--count-sizes", help="Merged tokens weigh by their sizes.")] = False,
    position_rule: Annotated[str | None, typer.Option(help="Qwen2: max+1, or hw as transformers 5.23.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="model.settings.A=B", help="As at encode; repeatable."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Of the hub id.")] = None,
    dtype: Annotated[str | None, typer.Option(help="bfloat16, float16 or float32; the checkpoint's own.")] = None,
    device: Annotated[str, typer.Option(help="Where the LLM runs; auto: a GPU where there is one.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Answer questions about videos from their records alone; the videos are read once."""
    records = [record, *(also or [])]
    for path in records:
        look_at(path, memory_tokens)
    with signals_held():
        from ..answer import Answerer, Asked
    asked = Asked(
        model=model,
        revision=revision,
        settings=processor_settings(settings or []),
        dtype=dtype,
        device=device,
        position_rule=position_rule,
        count_sizes=count_sizes,
        max_new_tokens=max_new_tokens,
        save_kv=save_kv,
        memory_tokens=memory_tokens,
    )
    told = tell(Answerer(records, asked), questions, quiet=json)
    if json:
        shown = told[0] if len(told) == 1 else {"answers": told}
        print_json({"record": str(record), **({"also": [str(p) for p in also]} if also else {}), **shown})
    return 0


def look_at(path: Path, memory_tokens: int | None) -> None:
    """Refuse a missing or torn record, or a folder that holds no stream, before anything heavy is imported."""
    if not path.is_dir():
        open_header(path)
        if memory_tokens is not None:
            raise ConfigError(f"{path}: --memory-tokens is for a stream's folder: leave it out")
    elif not StreamFolder(path).chunks():
        raise ConfigError(f"{path}: holds no stream of which a chunk is committed: give a folder that stream writes")


def tell(answerer: Any, questions: list[str], *, quiet: bool) -> list[dict[str, Any]]:
    """Every question's answer, shown as it comes; several are told apart by their questions."""
    answerer.check(questions)
    answerer.prefill()
    told = []
    for question in questions:
        if not quiet and len(questions) > 1:
            put(f"> {question}")
        told.append(answerer.answer(question, None if quiet else put_part))
        if not quiet:
            put("")
    return told


def processor_settings(given: list[str]) -> dict[str, Any]:
    """`model.settings.A=B` as they were given to encode; nothing else can be set here."""
    from ..presets import merge, parse_setting

    tree: dict[str, Any] = {}
    for text in given:
        if not text.startswith("model.settings."):
            raise ConfigError(f"--set {text!r}: only model.settings.A=B can be set here")
        tree = merge(tree, parse_setting(text))
    return dict(tree.get("model", {}).get("settings", {}))
