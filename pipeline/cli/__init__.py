"""The command line. `main` imports the rest only when it is called, so that `--help` answers at once."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run `vidcomp ARGUMENTS` (default: the process's own) and exit with its code."""
    try:
        from .ending import TERMINATED, Terminated, finish, listen

        listen()  # before the imports, which take a third of a second
        try:
            from .app import run

            code = run(sys.argv[1:] if arguments is None else arguments)
        except Terminated:
            code = TERMINATED
            print("vidcomp: terminated", file=sys.stderr)
        finish()
    except KeyboardInterrupt:
        code = 130
        print("vidcomp: interrupted", file=sys.stderr)
    sys.exit(code)
