"""The store: a folder of finished records, named by what they are made of, and spools of records being made.

`OUT/KEY.safetensors` is complete by being there. `OUT/.parts/KEY/` holds the chunks of an unfinished video, each a
whole checked file; an interrupted run goes on behind the last good one. The final file is streamed from the parts, so
memory stays bounded by one chunk. Imports no torch: a cache hit needs none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from .record_check import check_record
from .safefile import (
    BLOCK,
    DamagedFileError,
    Header,
    OutputError,
    Source,
    blocks_of,
    canonical,
    check_tensors,
    digest_of,
    read_header,
    write,
    write_atomically,
    writing,
)

SUFFIX = ".safetensors"
CARRIES = ("carry", "gate_carry")  # a part's tensors that the next chunk needs and the record does not


def content_digest(path: Path) -> str:
    """blake2b-128 of a file's bytes: what a video *is*, whatever it is called."""

    def blocks() -> Iterator[bytes]:
        with open(path, "rb") as f:
            while block := f.read(BLOCK):
                yield block

    return digest_of(blocks())


def record_key(content: str, recipe: str) -> str:
    """The name of a record: digest of content digest + recipe digest; no input text enters it."""
    return digest_of([canonical([content, recipe]).encode()])


@dataclass(frozen=True)
class Store:
    """A folder of records."""

    out: Path

    def path(self, key: str) -> Path:
        """Where the record of `key` lies, or will lie."""
        return self.out / f"{key}{SUFFIX}"

    def find(self, key: str) -> Header | None:
        """The header of a finished record, or None. One that is torn, altered in its header, of another schema or
        under another's name counts as absent and is made anew; tensors are re-hashed by `load` and `verify`."""
        try:
            header = read_header(self.path(key))
            check_record(header)
        except (FileNotFoundError, DamagedFileError):
            return None
        except OSError as e:
            raise OutputError.of(str(self.path(key)), e, "read") from None
        return header if header.meta["key"] == key else None

    def records(self) -> list[Path]:
        """Every finished record's path, sorted."""
        return sorted(p for p in self.out.glob(f"*{SUFFIX}") if not p.name.startswith("."))

    def forget_spool(self, key: str) -> None:
        """Remove what a crash behind the last rename left of a finished record's spool."""
        if (self.out / ".parts" / key).exists():
            with self.spool(key) as spool:
                spool.clear()

    def sweep(self) -> None:
        """Remove what killed processes have left of spools without a part: nobody might come by them again."""
        for lock in sorted((self.out / ".parts").glob("*.lock")):
            with writing(lock), suppress(FileNotFoundError, BlockingIOError):  # another was first, or holds it
                remove_unheld(lock)
        with suppress(OSError):
            (self.out / ".parts").rmdir()

    @contextmanager
    def spool(self, key: str) -> Iterator[Spool]:
        """The spool of one record, held by this process alone until the block ends.

        A second process that wants the same record waits here, and then finds it finished.
        """
        folder = self.out / ".parts" / key
        with writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            lock = lock_file(folder.with_suffix(".lock"))
        try:
            with writing(folder):
                folder.mkdir(exist_ok=True)
            yield Spool(folder, self.path(key))
        finally:
            with suppress(OSError):  # whichever is empty goes: a spool with parts stays for the next run
                folder.rmdir()
                folder.with_suffix(".lock").unlink()
                folder.parent.rmdir()
            os.close(lock)


def lock_file(path: Path) -> int:
    """An open file descriptor that holds the lock `path`, alone; blocks until it is free.

    The holder removes the file when it is done, so a waiter may find itself with the lock of a file that has gone:
    it then starts over with the one that stands there now.
    """
    while True:
        try:
            path.parent.mkdir(exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except (FileNotFoundError, FileExistsError):
            refuse_obstacle(path.parent)
            continue  # another holder just removed the folder, empty as it was, under our hands
        fcntl.flock(fd, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.fstat(fd).st_ino == os.stat(path).st_ino:
                return fd
        os.close(fd)


def remove_unheld(lock: Path) -> None:
    """Remove a spool's lock, and its folder, where that is empty. BlockingIOError: a living process holds it."""
    fd = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino != os.stat(lock).st_ino:
            return  # its holder removed it, and another file stands there now
        with suppress(FileNotFoundError):
            lock.with_suffix("").rmdir()
        lock.unlink()
    except OSError as e:
        if e.errno != errno.ENOTEMPTY:
            raise
    finally:
        os.close(fd)


def refuse_obstacle(folder: Path) -> None:
    """Raise unless `folder` is a folder, or is absent from one that is there."""
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(folder))
    os.stat(folder.parent)


@dataclass(frozen=True)
class Spool:
    """The closed chunks of one video, in order, and the file they will become."""

    folder: Path
    final: Path

    def part(self, number: int) -> Path:
        return self.folder / f"{number:06d}{SUFFIX}"

    def finished(self) -> list[Header]:
        """The leading run of whole parts; a damaged one and all behind it are removed and made anew."""
        good: list[Header] = []
        for number in range(len(list(self.folder.glob(f"*{SUFFIX}")))):
            try:
                header = read_header(self.part(number))
                check_tensors(header)
            except (FileNotFoundError, DamagedFileError):
                break
            except OSError as e:
                raise OutputError.of(str(self.part(number)), e, "read") from None
            good.append(header)
        self._remove_from(len(good))
        return good

    def add(self, number: int, tensors: Mapping[str, Source], meta: Mapping[str, Any]) -> Header:
        """Commit one closed chunk."""
        with writing(self.part(number)):
            write_atomically(self.part(number), lambda out: write(out, tensors, meta))
            return read_header(self.part(number))

    def finish(self, parts: list[Header], meta: Mapping[str, Any]) -> Header:
        """Stream the parts into the final file, then drop the spool."""
        tensors = {name: joined(parts, name) for name in parts[0].entries if name not in CARRIES}
        with writing(self.final):
            write_atomically(self.final, lambda out: write(out, tensors, meta), scratch=self.folder)
            self._remove_from(0)
            return read_header(self.final)

    def without_last(self, parts: list[Header]) -> list[Header]:
        """All parts but the last, which is removed: the run must see the video's end again to judge it."""
        self._remove_from(len(parts) - 1)
        return parts[:-1]

    def clear(self) -> None:
        """Forget all parts (`--force`)."""
        self._remove_from(0)

    def _remove_from(self, number: int) -> None:
        with writing(self.folder):
            for path in sorted(self.folder.iterdir()):
                if path.name >= self.part(number).name or path.name.startswith("."):
                    path.unlink()


def joined(parts: list[Header], name: str) -> Source:
    """One tensor of all parts, end to end along its first axis, read from the files block by block."""
    entries = [p.entries[name] for p in parts]
    head = entries[0]
    if any(e.dtype != head.dtype or e.shape[1:] != head.shape[1:] for e in entries):
        raise DamagedFileError(f"{parts[0].path.parent}: parts disagree on {name!r}: remove the folder, encode again")
    shape = (sum(e.shape[0] for e in entries), *head.shape[1:])

    def blocks() -> Iterable[bytes]:
        return chain.from_iterable(blocks_of(p.path, e) for p, e in zip(parts, entries, strict=True))

    return Source(head.dtype, shape, blocks)
