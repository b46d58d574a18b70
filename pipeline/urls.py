"""What a URL's text alone tells: is it one, may it be opened, how is it called, does it hold a pattern."""

from __future__ import annotations

import re

from ..stages.failure import SourceError
from ..stages.safefile import digest_of

URL = re.compile(r"[a-z][a-z0-9+.-]*(::.*)?://", re.IGNORECASE | re.DOTALL)
HTTP = frozenset(("http", "https"))
STORES = frozenset(("s3", "s3a", "gs", "gcs", "oss"))  # whose addresses begin with a bucket
LOCAL = frozenset(("file", "local", "asynclocal", "git"))
PACKERS = ("generic", "libarchive", "reference", "tar", "zip")  # of fsspec: a file system inside another
CACHES = ("async_wrapper", "asyncwrapper", "blockcache", "cached", "dask", "dir", "filecache", "simplecache")


def is_url(text: str) -> bool:
    """`scheme://...`; a file whose relative path looks like this can be written `./scheme://...`."""
    return URL.match(text) is not None


def protocol(url: str) -> str:
    """The scheme, in lower case."""
    return url.partition("://")[0].lower()


def refusal(url: str) -> SourceError | None:
    """Why a URL is never opened: it would read this machine's disk, or a file system through another one; or its
    credentials would be read by nobody."""
    name = protocol(url)
    if name in LOCAL:
        return SourceError("unreadable", f"{name}:// is this machine's disk", "give the path itself")
    if "::" in name or name in (*PACKERS, *CACHES):
        return SourceError("unreadable", "one file system inside another is not read", "give the inner file itself")
    if has_login(name, url.partition("://")[2]):
        fix = "leave them out, and set them in the environment or its tools' own configuration"
        if name not in STORES:
            fix = "write a / in them as %2F"
        return SourceError("unreadable", "credentials in such an address are not read", fix)
    return None


def has_login(protocol: str, rest: str) -> bool:
    """Whether an address, behind `://`, begins with a name and a secret that nobody would read: any of an object
    store's, and one that holds a `/`, so that what stands before it is neither a host nor a host and its port."""
    place = rest.partition("/")[0]
    if protocol in STORES and "@" in place:
        return True
    port = place.rpartition(":")[2]
    plain = ":" not in place or port.isdigit() or place.endswith("]") or place.startswith("arn:")
    return "@" in rest and "@" not in place and not plain


def shown(url: str) -> str:
    """A URL as it may be printed and stored: without user, password and query, any of which may be a secret.

    What is left out is replaced by `#` and 12 digits of the whole URL's digest, so two inputs never share a name, and
    the same URL has the same name in every run.
    """
    scheme, _, rest = url.partition("://")
    hidden = has_login(scheme.lower(), rest)
    plain, question, _ = _without_query(scheme, rest.rpartition("@")[2] if hidden else rest)
    authority, slash, path = plain.partition("/")
    user, at, host = authority.rpartition("@")
    if at and (":" in user or scheme.lower() in HTTP):  # elsewhere a lone name is a place, as in abfs://container@...
        authority = host
    elif not question and not hidden:
        return url
    return f"{scheme}://{authority}{slash}{path}#{digest_of([url.encode(errors='surrogateescape')])[:12]}"


def pattern_at(url: str) -> int | None:
    """Where the first path segment with a wildcard begins; None: there is none. For http `?` begins the query."""
    scheme, _, rest = url.partition("://")
    plain, _, _ = _without_query(scheme, rest)
    http = scheme.lower() in HTTP
    path = len(plain.partition("/")[0]) if http else 0  # brackets around a host are an address
    wild = re.compile(r"[*[]" if http else r"[*?[]").search(plain, path)
    return None if wild is None else len(scheme) + len("://") + plain.rfind("/", 0, wild.start()) + 1


def _without_query(scheme: str, rest: str) -> tuple[str, str, str]:
    """Split at the `?` that begins a query: any one in http, elsewhere one before a `=`."""
    begins = re.search(r"\?" if scheme.lower() in HTTP else r"\?(?=.*=)", rest, re.DOTALL)
    at = begins.start() if begins else len(rest)
    return rest[:at], rest[at : at + 1], rest[at + 1 :]
