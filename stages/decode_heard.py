"""What a decode child said on stderr (a memfd): one record in the debug log for each video, or a failure's last words.

A file decides what is in it (tags, names): it is cut, and nothing that a terminal would obey is left in.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Final

SAID_BYTES: Final = 64 << 10  # that are read of it
TOLD: Final = 4096  # characters
WORDS: Final = 200
ADDRESS: Final = re.compile(r" @ 0x[0-9a-f]+")
URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://\S+")  # passwords stand in some

log = logging.getLogger(__name__)


def tell(fd: int, name: str) -> None:
    """The debug record, if there is anything to say; `fd` is then empty. `name`: the file's bytes as latin-1."""
    size = os.fstat(fd).st_size
    if not size:
        return
    if log.isEnabledFor(logging.DEBUG):
        said = "; ".join(dict.fromkeys(_lines(os.pread(fd, SAID_BYTES, 0))))  # much is said more than once
        log.debug("%s: %s%s", plain(name.encode("latin-1")), said[:TOLD], " ..." if len(said) > TOLD else "")
    os.ftruncate(fd, 0)


def last_words(fd: int) -> str:
    """The last line, "" for none."""
    lines = _lines(os.pread(fd, SAID_BYTES, max(os.fstat(fd).st_size - SAID_BYTES, 0)))
    return lines[-1][:WORDS] if lines else ""


def plain(text: bytes) -> str:
    """Printable characters as they are, all others as escapes."""
    shown = text.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def _lines(text: bytes) -> list[str]:
    """Lines that are not empty, without the addresses that differ from run to run, and of URLs the scheme only."""
    lines = (URL.sub(r"\1://...", ADDRESS.sub("", plain(line.strip()))) for line in text.splitlines())
    return [line for line in lines if line]
