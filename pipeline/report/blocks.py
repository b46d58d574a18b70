"""A line of block characters: a chart for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .timeline import Stretch, gathered

BLOCKS: Final = "▁▂▃▄▅▆▇█"
COLUMNS: Final = 64


def picture(found: Sequence[Stretch]) -> list[tuple[str, str]]:
    """(what, line) of guided windows: saliency, and the tokens kept of each, one column each or a few together."""
    columns = gathered(list(found), COLUMNS)
    counts = [column.tokens for column in columns]
    low, high = min(part.tokens for part in found), max(part.tokens for part in found)
    from_to = f"{found[0].start_s:g} to {found[-1].end_s:g} s"
    return [
        ("heard", f"{line([column.saliency or 0.0 for column in columns], 1.0)}  {from_to}"),
        ("kept", f"{line(counts, max(counts))}  {low} to {high} tokens a window"),
    ]


def line(values: Sequence[float], full: float) -> str:
    """A character for each value, the tallest for `full`."""
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[min(max(round(value / full * top), 0), top)] if full > 0 else BLOCKS[0] for value in values)
