"""A video's timeline as inline SVG: saliency above, tokens kept below, over the same seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from .timeline import Stretch, gathered

WIDE, LEFT, RIGHT, GAP = 920, 52, 24, 26  # pixels of the drawing
HEARD_HIGH, KEPT_HIGH, FOOT = 90, 130, 24
STEPS, WINDOWS = 400, 120  # columns at most
TICKS: Final = 8
NICE_S: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


def chart(steps: Sequence[Stretch], windows: Sequence[Stretch]) -> str:
    """The `<svg>`: `windows` as bars of kept tokens, `steps` as saliency where sound guided; "" of nothing."""
    if not steps:
        return ""
    heard = steps[0].saliency is not None
    top = 14 + (HEARD_HIGH + GAP if heard else 0)
    base = top + KEPT_HIGH
    over = Scale(steps[0].start_s, steps[-1].end_s)
    parts = [
        *(panel(14, HEARD_HIGH, "heard", "1") if heard else ()),
        *(saliency(gathered(list(steps), STEPS), over) if heard else ()),
        *kept(gathered(list(windows), WINDOWS), over, top),
        *axis(over, base),
    ]
    size = f'viewBox="0 0 {WIDE} {base + FOOT}" role="img" aria-label="what was heard and kept over time"'
    return f"<svg {size}>{''.join(parts)}</svg>"


class Scale:
    """From seconds to pixels."""

    def __init__(self, start_s: float, end_s: float) -> None:
        self.start_s, self.length_s = start_s, max(end_s - start_s, 1e-9)

    def x(self, at_s: float) -> float:
        return LEFT + (at_s - self.start_s) / self.length_s * (WIDE - LEFT - RIGHT)


def panel(top: float, high: float, what: str, most: str) -> Iterator[str]:
    """A frame for bars, its name, and what its full height is."""
    yield f'<line class="rule" x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{top + high}" y2="{top + high}"/>'
    yield f'<text x="{LEFT - 8}" y="{top + high / 2 + 4}" class="name">{escape(what)}</text>'
    yield f'<text x="{LEFT - 8}" y="{top + 8}" class="most">{escape(most)}</text>'


def saliency(steps: Sequence[Stretch], over: Scale) -> Iterator[str]:
    for step in steps:
        value = step.saliency or 0.0
        yield bar(step, over, 14 + HEARD_HIGH, value * HEARD_HIGH, "heard", f"saliency {value:.3f}")


def kept(windows: Sequence[Stretch], over: Scale, top: float) -> Iterator[str]:
    """Bars of kept tokens a second, so that a shorter last window is not taken for a poorer one."""
    rates = [window.tokens / max(window.end_s - window.start_s, 1e-9) for window in windows]
    most = max(rates)
    yield from panel(top, KEPT_HIGH, "kept", f"{most:.3g}/s")
    for window, rate in zip(windows, rates, strict=True):
        weight = "" if window.weight is None else f", {window.weight:.2f} x its even share"
        told = f"{window.tokens} of {window.source} tokens{weight}"
        yield bar(window, over, top + KEPT_HIGH, rate / most * KEPT_HIGH if most else 0, "kept", told)
    total_s = windows[-1].end_s - windows[0].start_s
    mean = sum(window.tokens for window in windows) / max(total_s, 1e-9)
    if most:
        y = top + KEPT_HIGH * (1 - mean / most)
        yield f'<line class="even" x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def bar(part: Stretch, over: Scale, base: float, high: float, kind: str, told: str) -> str:
    """One column with what it says when pointed at."""
    x, end = over.x(part.start_s), over.x(part.end_s)
    gap = min(1.5, (end - x) / 5)
    place = f'x="{x:.2f}" y="{base - high:.2f}" width="{end - x - gap:.2f}" height="{high:.2f}"'
    when = f"{part.start_s:.2f} to {part.end_s:.2f} s"
    return f'<rect class="{kind}" {place}><title>{escape(f"{when}: {told}")}</title></rect>'


def axis(over: Scale, base: float) -> Iterator[str]:
    """Times under the bars, at most TICKS or so of them."""
    step_s = next((s for s in NICE_S if over.length_s / s <= TICKS), over.length_s / TICKS)
    start, end = over.start_s / step_s, (over.start_s + over.length_s) / step_s
    for n in range(math.ceil(start - 1e-9), math.floor(end + 1e-9) + 1):
        x = over.x(n * step_s)
        yield f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>'
        yield f'<text x="{x:.1f}" y="{base + 18}" class="tick">{escape(clock(n * step_s))}</text>'


def clock(at_s: float) -> str:
    """`4 s`, `1:30`, `2:05:00`."""
    if abs(at_s) < 60:
        return f"{at_s:g} s"
    sign, whole = "-" if at_s < 0 else "", round(abs(at_s))
    hours, minutes, seconds = whole // 3600, whole // 60 % 60, whole % 60
    return f"{sign}{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{sign}{minutes}:{seconds:02d}"
