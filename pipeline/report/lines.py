"""Lines on stdout, whatever a name in them holds and whatever stdout is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
    with written():
        if line is None:
            sys.stdout.flush()
        else:
            print(shown(line))


def put_part(text: str) -> None:
    """Print a piece of text on stdout at once, its own line breaks and no other; errors as `put`."""
    with written():
        print("\n".join(shown(line) for line in text.split("\n")), end="", flush=True)


@contextmanager
def written() -> Iterator[None]:
    """What stdout may raise, as errors of ours."""
    try:
        yield
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as e:
        raise OutputError.of("stdout", e) from None
