"""The short table at the end of `encode`: what went in, what came out, where it lies, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..result import Result
from .lines import put


def print_result(result: Result, *, whole: bool) -> None:
    """One record: the whole table, or one line of a longer run."""
    facts = result.facts
    if whole:
        print_table(lines(facts))
        put("")
        put(f"import vidcomp; record = vidcomp.load({facts['record']!r})")
    else:
        state = f"{result.status}{' (cached)' if result.cached else ''}"
        put(f"{result.called}: {state}, {facts['tokens_in']} -> {facts['tokens_out']} tokens")


def print_totals(totals: Mapping[str, Any]) -> None:
    """A run over several inputs."""
    counts = ", ".join(f"{n} {status}" for status, n in sorted(totals["counts"].items()))
    put(f"{totals['inputs']} inputs: {counts} ({totals['cached']} from the cache); all in {totals['manifest']}")


def lines(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, value) rows of one record's table."""
    t, h, w = result["grid"]
    kept, total = result["tokens_out"], result["tokens_in"]
    return [
        ("source", describe_source(result["source"])),
        ("status", f"{result['status']}{', from the cache' if result['cached'] else ''}"),
        ("frames", f"{result['frames']} sampled of {result['decoded']['decoded']}"),
        ("tokens", f"{total} ({t} x {h} x {w}) -> {kept} ({100 * kept / total:.1f} %)"),
        ("made by", f"{result['model']} + {result['method']}, recipe {result['recipe'][:12]}"),
        ("seconds", "  ".join(f"{k} {v:.2f}" for k, v in result["seconds"].items())),
        ("record", str(result["record"])),
    ]


def describe_source(source: Mapping[str, Any]) -> str:
    """Codec, size, rotation, rate, sound, in words."""
    rate = f"{source['fps']:.2f} fps{' (variable)' if source['variable_rate'] else ''}"
    turned = f", rotated {source['rotation']}°" if source["rotation"] else ""
    sound = "with audio" if source["has_audio"] else "no audio"
    size = f"{source['width']}x{source['height']}{turned}"
    return f"{source['codec']} {size}, {source['duration_s']:.2f} s, {rate}, {sound}"


def print_table(rows: list[tuple[str, str]]) -> None:
    """Two columns on stdout: plain text, whatever reads it."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        put(f"{name:<{width}}  {value}")
