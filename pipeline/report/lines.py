"""Lines on stdout, whatever a name in them holds and whatever stdout is."""

from __future__ import annotations

import sys

from ...stages.safefile import OutputError


class ReaderGoneError(Exception):
    """Not an `OSError`: typer has its own way with those."""


def shown(text: str) -> str:
    """Text with control characters escaped: a name may hold a line break, or what moves a terminal's cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else escaped(c) for c in text)


def escaped(character: str) -> str:
    """`\\n`, `\\x1b`, `\\udcff`."""
    return character.encode("unicode_escape").decode("ascii")


def put(line: str | None) -> None:
    """Print a line on stdout; None: have all that was printed written.

    Raises:
        ReaderGoneError: nobody reads it any more (`| head`). OutputError: it takes no more.
    """
    try:
        if line is None:
            sys.stdout.flush()
        else:
            print(shown(line))
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as e:
        raise OutputError.of("stdout", e) from None
