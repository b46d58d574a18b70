"""One remote file or folder through fsspec, and what its servers' errors mean.

A file system is made from the URL's own protocol alone, so no URL opens a chain of them. Its settings (regions,
endpoints, credentials) are fsspec's and the package's own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from ..stages.failure import SourceError
from ..stages.safefile import BLOCK
from .urls import HTTP, protocol, refusal

CONNECT_S, STALL_S = 30, 60  # seconds an http server may take to answer, and to send the next bytes
PACKAGES = frozenset(("aiohttp", "s3fs", "gcsfs", "adlfs", "ossfs", "paramiko", "requests"))  # called as their modules
NO_LOGIN = re.compile("Credential|Profile|Token|Auth|Refresh")  # in the names of errors of boto, Google and Azure
LATER = "check the address and the network, then run the same command again"

Info = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Remote:
    """What a URL names: a path of a file system."""

    url: str
    fs: Any  # fsspec.AbstractFileSystem
    path: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Without asking the server.

        Raises:
            SourceError: a protocol that is not opened, not known, or whose package is not here.
        """
        if error := refusal(url):
            raise error
        from fsspec import available_protocols, filesystem, get_filesystem_class, registry

        name = protocol(url)
        if name not in (*available_protocols(), *registry):
            raise SourceError("unreadable", f"{name}:// is no protocol that is known here", "check the address")
        with told():
            kind = get_filesystem_class(name)
            _unheard(kind)
            plain = name + url[len(name) :]  # a package knows its protocol in lower case alone
            options = _http() if name in HTTP else kind._get_kwargs_from_urls(plain)
            return cls(url, filesystem(name, **options), kind._strip_protocol(plain))

    def info(self) -> Info:
        """What the server tells of it: `type`, `size` where it knows it, and more by its own names."""
        with told():
            return dict(self.fs.info(self.path))

    def modified(self) -> str | None:
        """When it was last written, where the file system can tell."""
        try:
            return str(self.fs.modified(self.path))
        except Exception:  # most cannot, and each says so in its own way
            return None

    def blocks(self) -> Generator[bytes, None, None]:
        """Its bytes in order."""
        whole = {"block_size": 0} if protocol(self.url) in HTTP else {}  # one answer: ranges could be of two versions
        with told(), self.fs.open(self.path, "rb", **whole) as file:
            while block := file.read(BLOCK):
                yield block

    def files(self, pattern: str | None = None) -> dict[str, Info]:
        """Path below this folder and `info` of every file there, or of those that match `pattern`, sorted."""
        root = self.path.rstrip("/")
        with told():
            if pattern is None:
                found = self.fs.find(self.path, detail=True)
            else:
                found = self.fs.glob(f"{root}/{pattern}", detail=True)
        files = {path: info for path, info in found.items() if path.startswith(root) and info["type"] == "file"}
        below = {path.removeprefix(root).removeprefix("/"): info for path, info in files.items()}  # a//b is no a/b
        return {path: info for path, info in sorted(below.items()) if _inside(path)}

    def child(self, path: str) -> str:
        """The URL of a path below this folder."""
        scheme, _, rest = self.url.partition("://")
        rest = rest.rstrip("/")
        return f"{scheme}://{rest}{'/' if rest else ''}{path}"


def _inside(path: str) -> bool:
    """A server may list what it likes."""
    return bool(path) and ".." not in path.split("/")


def _unheard(kind: type) -> None:
    """What a package logs goes where the caller's logging leads, and nowhere without any: not, as Python's own fallback
    has it, to stderr, where gcsfs puts tracebacks of what we tell in a line."""
    logger = logging.getLogger(kind.__module__.partition(".")[0])
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _http() -> dict[str, Any]:
    """No limit on a download's time as long as bytes come; and the bytes as they are, not packed for the way."""
    from aiohttp import ClientTimeout

    patience = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=STALL_S)
    return {"client_kwargs": {"timeout": patience}, "headers": {"Accept-Encoding": "identity"}}


@contextmanager
def told() -> Iterator[None]:
    """Whatever a file system raises inside, as a `SourceError`. Its own words may hold credentials: none is kept."""
    try:
        yield
    except SourceError:
        raise
    except Exception as e:
        raise meaning(e) from None


def meaning(error: BaseException) -> SourceError:
    """What an error comes to, by its innermost cause that tells: fsspec calls all that http refuses a missing file."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    known = (_meaning(e) for e in reversed(causes))
    unknown = SourceError("unreadable", f"cannot be read ({type(error).__name__})", LATER)
    return next((e for e in known if e is not None), unknown)


def _meaning(error: BaseException) -> SourceError | None:
    match error:
        case ImportError():
            name = error.name or "a module that is not here"
            fix = f"pip install {name}" if name in PACKAGES else "install the package that brings it"
            return SourceError("unreadable", f"this protocol needs {name}", fix)
        case FileNotFoundError() | NotADirectoryError():
            return SourceError("missing", "no such file on the server", "check the address")
        case PermissionError():
            return SourceError("unreadable", "the server refuses it", "check your credentials for it")
        case TimeoutError():
            return SourceError("unreadable", "the server does not answer in time", LATER)
        case OSError(strerror=str(why)):
            return SourceError("unreadable", f"cannot be reached ({why[:200]})", LATER)
    status = getattr(error, "status", None)  # of an answer over http
    if isinstance(status, int):
        return _by_status(status)
    name = type(error).__name__
    return _no_login(name) if NO_LOGIN.search(name) else None


def _no_login(name: str) -> SourceError:
    fix = "set them in the environment or its tools' own configuration"
    return SourceError("unreadable", f"no credentials for it that can be used ({name})", fix)


def _by_status(status: int) -> SourceError:
    if status in (404, 410):
        return SourceError("missing", f"no such file on the server ({status})", "check the address")
    if status in (401, 403):
        return SourceError("unreadable", f"the server refuses it ({status})", "check your credentials for it")
    return SourceError("unreadable", f"the server answers {status}", LATER)
