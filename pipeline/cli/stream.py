"""`vidcomp stream`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ...stages.failure import SourceError
from ..heavy import signals_held
from .options import AudioGuide, Config, Gate, Method, Model, Retain, Settings, TokensPerSecond
from .screen import complain, print_json, put


def command(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file, rtsp:// or http:// and so on, or - .")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="The stream's folder.")],
    config: Config = None,
    settings: Settings = None,
    model: Model = None,
    method: Method = None,
    retain: Retain = None,
    tokens_per_second: TokensPerSecond = None,
    fps: Annotated[float | None, typer.Option(help="Frames sampled a second; of raw frames: their own rate.")] = None,
    gate: Gate = None,
    audio_guide: AudioGuide = None,
    pace: Annotated[Literal["real", "max"], typer.Option(help="Its own, or as fast as the model is.")] = "real",
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Of raw rgb24 frames on stdin.")] = None,
    open_timeout: Annotated[float, typer.Option(min=0.1, metavar="S", help="Longest wait for a connection.")] = 10.0,
    read_timeout: Annotated[float, typer.Option(min=0.1, metavar="S", help="Longest wait for a packet.")] = 5.0,
    give_up: Annotated[float | None, typer.Option(min=0, metavar="S", help="End so long after the last frame.")] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> int:
    """Follow a live source: each chunk is compressed, and can be asked about, as soon as it closes."""
    from ..job import out_folder
    from ..live_source import STDIN, Live, size_of
    from ..overrides import overrides
    from ..presets import build_recipe
    from .live_line import line, watching

    raw = source == STDIN
    over = overrides(model, retain, None, tokens_per_second, None if raw else fps, gate, audio_guide)
    recipe = build_recipe(config, method=method, settings=settings or (), over=over)
    live = Live(pace, size_of(size), fps if raw else None, open_timeout, read_timeout, give_up)
    with signals_held():
        from ..stream import Stream
    stream = Stream(source, recipe, out_folder(out), live)
    try:
        with watching(stream, json=json) as told:
            for _ in stream.chunks():
                told()
    except SourceError as e:
        complain(f"{stream.name}: {e}")
        return 2
    stats = stream.stats.to_json()
    if json:
        print_json({"event": "end", **stats})
    else:
        put(f"{out}: {line(stats)}")
    return 0
