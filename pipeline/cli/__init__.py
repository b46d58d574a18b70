"""The command line. `main` imports the rest only when it is called, so that `--help` answers at once."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run `vidcomp ARGUMENTS` (default: the process's own) and exit with its code."""
    from .app import run

    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
