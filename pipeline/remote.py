"""Remote inputs: what a URL lists, what state a file is in, and the file itself, on this machine's disk for a while."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from ..stages.failure import SourceError
from ..stages.safefile import canonical, digest_of, writing
from .filesystem import Info, Remote
from .item import VIDEO_SUFFIXES, Item, SourceListError
from .manifests import is_list
from .spool import room
from .urls import pattern_at, shown

MAX_SPOOL_BYTES = 16 << 30
ASKED = 16  # questions to servers under way at a time
DIGESTS = ("etag", "md5hash", "contentmd5", "generation", "oid", "blobid")
TIMES = ("lastmodified", "mtime", "modified", "modify", "updated")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A remote file's copy: where, its content digest (as `content_digest` of it), its bytes' number, and its stamp
    (`stamp_of`) before it was fetched."""

    path: Path
    content: str
    size: int
    stamp: str | None


def listed(url: str) -> list[Item]:
    """The file that a URL names; or the videos below a folder, or the files that match a pattern, in sorted order.

    What is there and cannot be read now carries its error.

    Raises:
        SourceListError: nothing is there, or such a URL is not opened here.
    """
    name = shown(url)
    if is_list(url):
        raise SourceListError(f"{name}: a list is read from this machine's disk: copy it there first")
    try:
        remote = Remote.of(url)
    except SourceError as e:
        raise SourceListError(f"{name}: {e}") from None
    try:
        found = _listed(remote)
    except SourceError as e:
        if e.reason == "missing":
            raise SourceListError(f"{name}: {e}") from None
        return [Item(name, url=url, error=e)]
    if not found:
        raise SourceListError(f"{name}: no video is there: check the address")
    return found


def _listed(remote: Remote) -> list[Item]:
    if remote.url.endswith("/"):
        return _videos(remote)
    try:
        info = remote.info()
    except SourceError as e:
        at = pattern_at(remote.url)
        if e.reason != "missing" or at is None:
            raise
        root = Remote.of(remote.url[:at])
        return [_item(root.child(path), info) for path, info in root.files(remote.url[at:]).items()]
    return _videos(remote) if info.get("type") == "directory" else [_item(remote.url, info)]


def _videos(folder: Remote) -> list[Item]:
    """As below a folder on the disk: by suffix, and nothing in hidden folders."""
    return [_item(folder.child(path), info) for path, info in folder.files().items() if _is_video(path)]


def _is_video(path: str) -> bool:
    *folders, name = path.split("/")
    return posixpath.splitext(name)[1].lower() in VIDEO_SUFFIXES and not any(f.startswith(".") for f in folders)


def _item(url: str, info: Info) -> Item:
    return Item(shown(url), url=url, size=info.get("size") or 0, stamp=_stamp(info))


def stamp_of(url: str) -> str | None:
    """A digest of the file's size and of what its server tells versions apart by (an ETag, a time); None: it does not.

    While it stays the same, what was fetched before is what is there. Take it before fetching.

    Raises:
        SourceError: the file is not there, or cannot be asked about.
    """
    remote = Remote.of(url)
    return _stamp_now(remote, remote.info())


def asked(items: Iterable[Item]) -> Iterator[Item]:
    """Each URL's item `as_now`, many at a time."""
    from multiprocessing.pool import ThreadPool  # its threads are daemons: no server keeps us from ending

    with ThreadPool(ASKED) as pool:
        yield from pool.imap(as_now, items)


def as_now(item: Item) -> Item:
    """A URL's item with its state on the server, or with its error where the server cannot be asked about it."""
    assert item.url is not None
    try:
        return replace(item, stamp=stamp_of(item.url))
    except SourceError as error:
        return replace(item, error=error)


def _stamp_now(remote: Remote, info: Info) -> str | None:
    return _stamp(info) or _stamp({**info, "modified": remote.modified()})


def _stamp(info: Info) -> str | None:
    told = {key.lower().replace("-", "").replace("_", ""): value for key, value in info.items() if value}
    best = next(
        (key for key in (*DIGESTS, *TIMES) if key in told), None
    )  # one: a listing tells less than the file itself
    return best and digest_of([canonical([info.get("size"), best, str(told[best])]).encode()])


@contextmanager
def fetched(url: str, out: Path, limit_bytes: int = MAX_SPOOL_BYTES) -> Iterator[Fetched]:
    """The file of a URL in OUT's spool, removed behind the block.

    All processes that fetch into one OUT hold `limit_bytes` together at most; who comes later waits. A file whose size
    the server does not tell takes all of it.

    Raises:
        SourceError: it is not there, cannot be read, is empty or larger than the limit.
        OutputError: the spool cannot be written.
    """
    remote = Remote.of(url)
    info = remote.info()
    size, stamp = info.get("size") or None, _stamp_now(remote, info)
    if info.get("type") == "directory":
        raise SourceError("unreadable", "a folder, where one file is asked for", "name its files, or it as a source")
    if size is not None and size > limit_bytes:
        raise _too_large(f"it has {size} bytes,", limit_bytes)
    with room(out, digest_of([url.encode(errors="surrogateescape")]), size or limit_bytes, limit_bytes) as path:
        content, came = _copied(remote, path, size or limit_bytes)
        if size is None and came > limit_bytes:
            raise _too_large("it has", limit_bytes)
        if size is not None and came != size:
            raise SourceError("unreadable", f"{came} of {size} bytes came", "run the same command again")
        if not came:
            raise SourceError("empty", "the file has no bytes", "copy or download it again")
        yield Fetched(path, content, came, stamp)


def _copied(remote: Remote, path: Path, most: int) -> tuple[str, int]:
    """Write a file block by block, to its end or until more than `most` bytes came: their digest and number."""
    digest, came = blake2b(digest_size=16), 0
    blocks = remote.blocks()
    with closing(blocks), writing(path), open(path, "wb") as file:
        for block in blocks:
            came += len(block)
            if came > most:
                break
            digest.update(block)
            file.write(block)
    return digest.hexdigest(), came


def _too_large(has: str, limit: int) -> SourceError:
    what = f"{has} more than the {limit} bytes that the spool may hold"
    return SourceError("too_large", what, "copy it to this machine and give its path")
