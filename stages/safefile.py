"""Our own corner of the safetensors format: a streaming writer, and checks that need no torch and little memory.

The format is safetensors' own (8 bytes little-endian header length, JSON header, tensors back to back) and any
safetensors reader reads our files. What the library's writer cannot do is stream: it wants all tensors in memory, and
it writes metadata keys in random order. We keep one metadata key, `vidcomp`, that holds sorted JSON, so equal content
is equal bytes. That JSON carries a blake2b digest of every tensor, and one of the header itself.

This file imports the standard library only: a cache hit, `inspect` and `verify` read headers without torch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

META_KEY = "vidcomp"
MAX_HEADER = 64 << 20
BLOCK = 4 << 20
ITEM_BYTES = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "BF16": 2,
    "F16": 2,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
NO_DIGEST = "0" * 32


class DamagedFileError(ValueError):
    """A file that is not what it says it is; the message names the file, what is wrong and what to do."""


class OutputError(Exception):
    """A place that cannot be written to, or read back: the whole run's trouble, no input's; `str()` is one line."""

    def __init__(self, where: str, why: str, fix: str) -> None:
        super().__init__(where, why, fix)

    def __str__(self) -> str:
        return ": ".join(self.args)

    @classmethod
    def of(cls, where: str, error: OSError, done: str = "written") -> OutputError:
        """What to do about it goes by the error's number."""
        fix = REMEDIES.get(error.errno or 0, "check the path, its permissions and the disk")
        return cls(str(error.filename or where), f"cannot be {done} ({error.strerror or error})", fix)


REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space or write elsewhere, then run the same command again",
    errno.EDQUOT: "your share of the disk is full: free some space or write elsewhere, then run the same command again",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f) or write elsewhere, then run the same command again",
    errno.EACCES: "check the permissions or write elsewhere",
    errno.EPERM: "check the permissions or write elsewhere",
    errno.EROFS: "the disk is read-only: write elsewhere",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An `OSError` inside becomes an `OutputError` about `path`, or about the file that it names itself."""
    try:
        yield
    except OSError as e:
        raise OutputError.of(str(path), e) from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """As `writing`, for what is read back."""
    try:
        yield
    except OSError as e:
        raise OutputError.of(str(path), e, "read") from None


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file: safetensors dtype name, shape, and its half-open byte range in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself: our metadata and where each tensor lies."""

    path: Path
    meta: Mapping[str, Any]
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor to be written: `blocks()` yields its bytes in order, and may be called twice (digest, then write)."""

    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[bytes | memoryview]]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def canonical(value: Any) -> str:
    """Sorted, compact JSON; NaN and infinity are errors."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(blocks: Iterable[bytes | memoryview]) -> str:
    """blake2b-128 of the bytes, as 32 hex digits."""
    h = hashlib.blake2b(digest_size=16)
    for block in blocks:
        h.update(block)
    return h.hexdigest()


# -- writing -----------------------------------------------------------------------------------------


def write(out: BinaryIO, tensors: Mapping[str, Source], meta: Mapping[str, Any]) -> None:
    """Stream a file: header, then each tensor block by block. Equal input gives equal bytes."""
    order = sorted(tensors, key=lambda n: (-ITEM_BYTES[tensors[n].dtype], n))  # wide types first: all stay aligned
    digests = {name: digest_of(tensors[name].blocks()) for name in order}
    out.write(_header_bytes({n: tensors[n] for n in order}, {**meta, "tensors": digests}))
    for name in order:
        written = sum(out.write(block) for block in tensors[name].blocks())
        if written != tensors[name].nbytes:
            raise DamagedFileError(f"tensor {name!r} gave {written} bytes, its shape says {tensors[name].nbytes}")


def _header_bytes(tensors: Mapping[str, Source], meta: Mapping[str, Any]) -> bytes:
    table: dict[str, Any] = {"__metadata__": {META_KEY: canonical({**meta, "header_digest": NO_DIGEST})}}
    at = 0
    for name, t in tensors.items():
        table[name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    blank = json.dumps(table, separators=(",", ":")).encode()
    blank += b" " * (-len(blank) % 8)
    return len(blank).to_bytes(8, "little") + _seal(blank)


def _digest_field(value: str) -> bytes:
    """How the header's own digest stands in the header: JSON inside a JSON string."""
    return f'\\"header_digest\\":\\"{value}\\"'.encode()


def _seal(blank: bytes) -> bytes:
    return blank.replace(_digest_field(NO_DIGEST), _digest_field(digest_of([blank])), 1)


def write_atomically(path: Path, fill: Callable[[BinaryIO], object], scratch: Path | None = None) -> None:
    """Write through a temporary name, fsync, rename, fsync the folder: whole or not at all.

    `scratch` is a folder on the same file system for the temporary name; None: `path`'s own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (scratch or path.parent) / f".{path.name}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as out:
            fill(out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- reading -----------------------------------------------------------------------------------------


def read_header(path: Path) -> Header:
    """Parse and check a file's header: sizes, offsets without holes, its own digest. Reads no tensor.

    Raises:
        FileNotFoundError: no such file.
        DamagedFileError: not a vidcomp file, or torn, or altered.
    """
    if path.exists() and not path.is_file():
        raise DamagedFileError(f"{path}: not a regular file: give a record")
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        length = int.from_bytes(f.read(8), "little")
        if size < 8 or not 0 < length <= min(MAX_HEADER, size - 8):
            raise DamagedFileError(f"{path}: not a record, or torn: encode the video again")
        raw = f.read(length)
    try:
        table = json.loads(raw)
        meta = json.loads(table.pop("__metadata__")[META_KEY])
        stated, digests = meta["header_digest"], dict(meta["tensors"])
        entries = {name: _entry(spec, 8 + length) for name, spec in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as e:
        raise DamagedFileError(f"{path}: not a vidcomp record ({type(e).__name__}): encode the video again") from None
    blank = raw.replace(_digest_field(str(stated)), _digest_field(NO_DIGEST), 1)
    if digest_of([blank]) != stated:
        raise DamagedFileError(f"{path}: its header was altered after it was written: encode the video again")
    if digests.keys() != entries.keys():
        raise DamagedFileError(f"{path}: its tensors are not those that its header lists: encode the video again")
    at = 8 + length
    for name, entry in entries.items():
        if entry.start != at or entry.end - at != math.prod(entry.shape) * ITEM_BYTES[entry.dtype]:
            raise DamagedFileError(f"{path}: tensor {name!r} does not lie where it should: encode the video again")
        at = entry.end
    if at != size:
        raise DamagedFileError(f"{path}: {size} bytes, its header says {at}: encode the video again")
    return Header(path, meta, entries)


def _entry(spec: Mapping[str, Any], base: int) -> Entry:
    first, end = spec["data_offsets"]
    shape = tuple(int(n) for n in spec["shape"])
    if spec["dtype"] not in ITEM_BYTES or min((*shape, first, end), default=0) < 0:
        raise ValueError("unknown dtype or negative size")
    return Entry(spec["dtype"], shape, base + int(first), base + int(end))


def blocks_of(path: Path, entry: Entry) -> Iterable[bytes]:
    """A tensor's bytes from a file, block by block."""
    with open(path, "rb") as f:
        f.seek(entry.start)
        left = entry.end - entry.start
        while left and (block := f.read(min(BLOCK, left))):
            left -= len(block)
            yield block


def check_tensors(header: Header) -> None:
    """Re-hash every tensor; `DamagedFileError` names the first that differs."""
    for name, entry in header.entries.items():
        if digest_of(blocks_of(header.path, entry)) != header.meta["tensors"][name]:
            raise DamagedFileError(f"{header.path}: tensor {name!r} is damaged: encode the video again with --force")
