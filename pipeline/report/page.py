"""Records as one HTML page that needs nothing else: no script, nothing from elsewhere, every value escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Final

from ...stages.safefile import Header, write_atomically, writing
from .chart import chart
from .facts import asked, facts, nominal
from .timeline import stretches, windows

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --line: #d9dee7; --back: #f6f7f9; --card: #fff;
  --kept: #3b6fd4; --heard: #e0873a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #343b49; --back: #12151b;
  --card: #1b2029; --kept: #6f9bf0; --heard: #eda05c; } }
body { margin: 0; padding: 2rem 1rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: auto; }
h1 { font-size: 1.3rem; } h2 { font: 600 1rem ui-monospace, monospace; margin: 0 0 1rem; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.25rem 1.5rem;
  margin: 1rem 0; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 0 0 1.25rem; padding: 0; }
.tiles div { flex: 1 1 9rem; border: 1px solid var(--line); border-radius: 8px; padding: .5rem .75rem; }
.tiles b { display: block; font-size: 1.05rem; font-variant-numeric: tabular-nums; }
.tiles span, dt { color: var(--soft); font-size: .85rem; }
svg { width: 100%; height: auto; display: block; margin-bottom: 1rem; font-size: 11px; }
svg text { fill: var(--soft); } .name, .most { text-anchor: end; } .tick { text-anchor: middle; }
.rule { stroke: var(--line); } .even { stroke: var(--soft); stroke-dasharray: 4 4; }
rect.kept { fill: var(--kept); } rect.heard { fill: var(--heard); } rect:hover { opacity: .7; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
"""


def write_page(path: Path, records: Iterable[Header]) -> None:
    """The page at `path`, whole or not at all. `OutputError`; `DamagedFileError` of a record."""
    with writing(path):
        write_atomically(path, lambda out: out.writelines(part.encode(errors="replace") for part in page(records)))


def page(records: Iterable[Header]) -> Iterator[str]:
    """The HTML, piece by piece."""
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>vidcomp report</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{STYLE}</style></head><body><main><h1>vidcomp report</h1>"
    for header in records:
        yield section(header)
    yield "</main></body></html>\n"


def section(header: Header) -> str:
    """One record: its name, its budget, its timeline, its facts."""
    rows = "".join(f"<dt>{escape(what)}</dt><dd>{escape(str(value))}</dd>" for what, value in facts(header.meta))
    drawn = chart(stretches(header), windows(header))
    return f"<section><h2>{escape(header.path.name)}</h2>{tiles(header)}{drawn}<dl>{rows}</dl></section>"


def tiles(header: Header) -> str:
    """Grid and budget in large figures."""
    meta = header.meta
    t, h, w = meta["grid"]
    kept, source = meta["budget"]["kept"], t * h * w
    shares = [
        (f"{t} × {h} × {w}", f"grid, {source} tokens"),
        (asked(meta), "asked"),
        (nominal(meta), "nominal"),
        (f"{kept} ({100 * kept / max(source, 1):.1f} %)", "kept"),
    ]
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in shares)
    return f'<div class="tiles">{cells}</div>'
