"""An input's bytes on this machine: a file that is there, or one that is fetched; its state and its digest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..stages.failure import SourceError
from ..stages.same_file import FileStamp
from ..stages.store import content_digest
from .item import Item
from .remote import fetched


@dataclass(frozen=True)
class Content:
    """A local file, as it was when its content was digested; of one that was fetched, what its server's state was."""

    path: Path
    stamp: FileStamp
    digest: str
    remote: str | None = None


@contextmanager
def local(item: Item, out: Path) -> Iterator[Content]:
    """The item's file on this machine, digested; one that is fetched is gone afterwards."""
    if item.url is None:
        assert item.path is not None
        yield digest_source(item.path)
        return
    with fetched(item.url, out) as copy:
        yield Content(copy.path, FileStamp.of(copy.path), copy.content, copy.stamp)


def digest_source(path: Path) -> Content:
    """State and content digest of a regular, readable, non-empty file; `SourceError` otherwise."""
    try:
        if not path.exists():
            what = f"a link to {path.readlink()}, which is not there" if path.is_symlink() else "no such file"
            raise SourceError("missing", what, "check the path")
        if not path.is_file():
            raise SourceError("unreadable", "not a regular file", "give a video file or a folder of them")
        if path.stat().st_size == 0:
            raise SourceError("empty", "the file has no bytes", "copy or download it again")
        stamp = FileStamp.of(path)
        return Content(path, stamp, content_digest(path))
    except OSError as e:
        raise SourceError("unreadable", f"cannot be read ({e.strerror})", "check its permissions") from None


def stamp(item: Item, content: Content) -> str | None:
    """What the item's unchanged state is known by in a later run: taken when its bytes were digested, or, of one that
    was fetched, when it was listed or, where nobody listed it, before it was fetched."""
    if item.url is not None:
        return item.stamp_text or content.remote
    return replace(item, stamp=content.stamp).stamp_text
