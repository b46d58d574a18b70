"""`vidcomp methods`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ..heavy import signals_held
from .screen import print_json, put


def command(json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False) -> int:
    """List the methods: what each needs, whether it is causal, and the paper it follows."""
    with signals_held():
        from ..api import methods
    found = methods()
    if json:
        print_json({"methods": [asdict(m) for m in found.values()]})
        return 0
    width = max(len(name) for name in found)
    for m in found.values():
        facts = [*([f"needs {', '.join(m.needs)}"] if m.needs else []), *(["causal"] if m.causal else [])]
        told = f" [{'; '.join(facts)}]" if facts else ""
        put(f"{m.name:<{width}}  {m.summary}{told} ({m.paper})")
    return 0
