"""Remote inputs: fsspec's memory file system, one that fails and lies, and the standard library's http server."""

from __future__ import annotations

import errno
import functools
import http.server
import io
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from vidcomp.pipeline import remote, spool, urls
from vidcomp.pipeline.corpus import SourceListError, items
from vidcomp.pipeline.remote import fetched, stamp_of
from vidcomp.pipeline.spool import remove_leftovers, room
from vidcomp.stages.failure import SourceError
from vidcomp.stages.safefile import OutputError
from vidcomp.stages.store import content_digest

FILES = {
    "a/b.mp4": b"b" * 9_000_000,  # more than two blocks
    "a/c/d e.WEBM": b"d",
    "a/c/n.dat": b"n",
    "a/.hidden/e.mp4": b"e",
    "a/.f.mp4": b"f",
    "g.mp4": b"",
}
SECRET = "wordofmine"


class Odd(MemoryFileSystem):
    """Lists what is not there, and fails in the middle of a file, with a secret in its words."""

    protocol = "odd"
    error: Exception = OSError(errno.EIO, "Input/output error")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("odd://", "memory://"))

    def find(self, path: str, **more: Any) -> Any:
        path = self._strip_protocol(path)
        told = {f"{path}/{n}": {"type": "file", "size": 1} for n in ("../x.mp4", "y/../../x.mp4", "z.mp4")}
        return told | {"/etc/x.mp4": {"type": "file"}, f"{path}/d.mp4": {"type": "directory"}}

    def open(self, path: str, *rest: Any, **more: Any) -> Any:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell():
                    raise Odd.error
                return super().read(10)

        return Broken(b"x" * 20)

    def info(self, path: str, **more: Any) -> Any:
        if "*" in path:
            raise FileNotFoundError(path)
        return {"name": path, "type": "file", "size": 20}

    def modified(self, path: str) -> Any:
        raise NotImplementedError


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    fs = fsspec.filesystem("memory")
    for name, content in FILES.items():
        fs.pipe(f"/{name}", content)
    fsspec.register_implementation("odd", Odd, clobber=True)
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def failure(url: str, out: Path, *limit: int) -> SourceError:
    """The error of a fetch that yields nothing and leaves nothing."""
    with pytest.raises(SourceError) as told, fetched(url, out, *limit):
        pytest.fail("it was fetched")
    assert not (out / ".spool").exists()
    return told.value


# -- lists -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("memory://a", ["a/.f.mp4", "a/b.mp4", "a/c/d e.WEBM"]),
        ("memory://a/", ["a/.f.mp4", "a/b.mp4", "a/c/d e.WEBM"]),
        ("memory://", ["a/.f.mp4", "a/b.mp4", "a/c/d e.WEBM", "g.mp4"]),
        ("memory://a/c/n.dat", ["a/c/n.dat"]),
        ("memory://a/*.mp4", ["a/.f.mp4", "a/b.mp4"]),
        ("memory://a/**/[dn]*", ["a/c/d e.WEBM", "a/c/n.dat"]),
        ("memory://?.mp4", ["g.mp4"]),
        ("odd://a/", ["a/z.mp4"]),
        ("odd://a/**/*.mp4", ["a/z.mp4"]),
    ],
)
def test_what_a_url_lists(memory: MemoryFileSystem, url: str, found: list[str]) -> None:
    scheme = urls.protocol(url)
    listed = items([url, url])
    assert [i.name for i in listed] == [i.url for i in listed] == [f"{scheme}://{name}" for name in found]
    if scheme == "memory":
        assert [i.size for i in listed] == [len(FILES[name]) for name in found]


def test_a_url_leads_to_what_it_says(memory: MemoryFileSystem, out: Path) -> None:
    """Whatever the case of its protocol, and however many slashes end it."""
    assert [i.url for i in items(["MEMORY://a/c//"])] == ["MEMORY://a/c/d e.WEBM"]
    with fetched("MEMORY://a/c/d e.WEBM", out) as copy:
        assert copy.path.read_bytes() == b"d"
    memory.store["/a//b.mp4"] = memory.store["/a/b.mp4"]  # another object, where a store has no folders
    assert "memory://a//b.mp4" in [i.url for i in items(["memory://a"])]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("memory://gone.mp4", "no such file on the server: check the address"),
        ("memory://gone/", "no video is there"),
        ("memory://a/*.flv", "no video is there"),
        ("memory://a/list.csv", "a list is read from this machine's disk: copy it there first"),
        ("nope://a.mp4", "nope:// is no protocol that is known here"),
        ("s3fs-no-such-package://a", "is no protocol that is known here"),
    ],
)
def test_what_lists_nothing_is_one_line(memory: MemoryFileSystem, url: str, says: str) -> None:
    with pytest.raises(SourceListError, match=says):
        items([url])


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("http", "aiohttp"), ("gs", "gcsfs"), ("az", "adlfs")])
def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str, package: str
) -> None:
    monkeypatch.delitem(import_module("fsspec.registry")._registry, scheme, raising=False)
    for name in (package, f"fsspec.implementations.{scheme}"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SourceListError, match=f"this protocol needs {package}: pip install {package}"):
        items([f"{scheme}://bucket/a.mp4"])
    assert failure(f"{scheme}://bucket/a.mp4", tmp_path).status == "failed:unreadable"


@pytest.mark.parametrize("scheme", ["s3", "S3", "gs", "gcs"])
def test_credentials_that_nobody_would_read_are_refused(out: Path, scheme: str) -> None:
    for login in (f"key:{SECRET}", f"key:a/{SECRET}", f"{SECRET}"):  # these secrets may hold any letter
        told = failure(f"{scheme}://{login}@bucket/a.mp4", out)
        assert ("credentials in such an address are not read" in str(told), SECRET in str(told)) == (True, False)
        assert urls.shown(f"{scheme}://{login}@bucket/a.mp4").startswith(f"{scheme}://bucket/a.mp4#")
        with pytest.raises(SourceListError) as said:
            items([f"{scheme}://{login}@bucket/"])
        assert SECRET not in str(said.value)


@pytest.mark.parametrize("scheme", ["https", "az", "rtsp", "simplecache::s3", "ftp"])
@pytest.mark.parametrize("behind", ["@h/x.mp4", "/w#d?x@h/x.mp4"])
def test_a_secret_with_a_slash_is_told_nowhere(out: Path, scheme: str, behind: str) -> None:
    """Such an address has no host: what stands before its first slash is a name and a piece of the secret."""
    url = f"{scheme}://user:a{SECRET}/{SECRET}{behind}"
    assert SECRET not in str(failure(url, out))
    assert SECRET not in urls.shown(url)
    with pytest.raises(SourceListError) as told:
        items([url])
    assert SECRET not in str(told.value)


def test_what_a_package_logs_is_not_told(memory: MemoryFileSystem, capfd: pytest.CaptureFixture[str]) -> None:
    """Python prints what no handler takes."""
    code = (
        "import logging; from vidcomp.pipeline.filesystem import Remote; Remote.of('memory://a')\n"
        "logging.getLogger('fsspec.asyn').error('a traceback')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdin=subprocess.DEVNULL)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("wrapper", ["zip", "simplecache", "filecache", "reference", "generic", "file", "local", "dir"])
def test_no_file_system_inside_another(memory: MemoryFileSystem, out: Path, wrapper: str) -> None:
    for url in (f"{wrapper}://memory://a/b.mp4", f"{wrapper}::memory://a/b.mp4", f"{wrapper.upper()}://a/b.mp4"):
        assert failure(url, out).status == "failed:unreadable"


def test_a_chain_is_never_followed(memory: MemoryFileSystem, out: Path, tmp_path: Path) -> None:
    (tmp_path / "local.mp4").write_bytes(b"local")
    assert failure(f"memory://a::file://{tmp_path}/local.mp4", out).reason == "missing"


# -- names -------------------------------------------------------------------------------------------

WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789-._~%", min_size=1, max_size=12)


@given(scheme=st.sampled_from(["http", "https", "ftp", "s3", "HTTP"]), user=WORD, host=WORD, path=WORD, key=WORD)
def test_a_name_holds_no_secret(scheme: str, user: str, host: str, path: str, key: str) -> None:
    for url in (
        f"{scheme}://{user}:{SECRET}@{host}/{path}.mp4",
        f"{scheme}://{user}:{SECRET}@{host}/{path}.mp4?{key}={SECRET}",
        f"{scheme}://{host}/{path}.mp4?{key}={SECRET}/x@y",
        f"{scheme}://{host}?{key}={SECRET}",
    ):
        name = urls.shown(url)
        assert SECRET not in name
        assert name.startswith(f"{scheme}://{host}")
        assert (urls.shown(url), urls.shown(f"{url}2") == name) == (name, False)


@pytest.mark.parametrize(
    "url",
    [
        "s3://b/a b.mp4",
        "http://h/a@2x.mp4",
        "abfs://container@account/x.mp4",
        "memory://a/?.mp4",
        "http://[::1]/a",
        "s3://arn:aws:s3:eu:1:accesspoint/p/a@2x.mp4",
    ],
)
def test_a_name_without_secrets_is_the_url(url: str) -> None:
    assert urls.shown(url) == url


def test_a_token_that_stands_alone_is_a_secret() -> None:
    assert SECRET not in urls.shown(f"https://{SECRET}@example.org/a.mp4")


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://[::1]:80/a/b*.mp4?x=*", "http://[::1]:80/a/"),
        ("http://[::1]/a?b=*", None),
        ("s3://b*/c", "s3://"),
        ("s3://b/c?.mp4", "s3://b/"),
        ("http://h/a?.mp4", None),
        ("s3://b/c.mp4?versionId=*", None),
    ],
)
def test_where_a_pattern_begins(url: str, root: str | None) -> None:
    at = urls.pattern_at(url)
    assert (None if at is None else url[:at]) == root


# -- fetching ----------------------------------------------------------------------------------------


def test_a_file_is_there_for_a_while(memory: MemoryFileSystem, out: Path) -> None:
    with fetched("memory://a/b.mp4", out) as copy:
        assert copy.path.parent == out / ".spool"
        assert copy.path.read_bytes() == FILES["a/b.mp4"]
        assert (copy.content, copy.size) == (content_digest(copy.path), len(FILES["a/b.mp4"]))
    assert list(out.iterdir()) == []


def test_a_stream_without_end_is_cut(memory: MemoryFileSystem, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks(self: object) -> Iterator[bytes]:
        yield from [b"x" * 10] * 4
        pytest.fail("nobody needs more")

    monkeypatch.setattr(remote.Remote, "blocks", blocks)
    monkeypatch.setattr(remote.Remote, "info", lambda self: {"type": "file", "size": None})
    assert failure("memory://a", out, 35).reason == "too_large"


def test_a_file_is_gone_after_an_error(memory: MemoryFileSystem, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt), fetched("memory://a/b.mp4", out):
        raise KeyboardInterrupt
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "limit", "reason", "says"),
    [
        ("memory://a/b.mp4", 8_999_999, "too_large", "more than the 8999999 bytes that the spool may hold"),
        ("memory://gone.mp4", 9, "missing", "no such file on the server"),
        ("memory://a", 9, "unreadable", "a folder, where one file is asked for"),
        ("memory://g.mp4", 9, "empty", "the file has no bytes"),
    ],
)
def test_what_cannot_be_fetched(
    memory: MemoryFileSystem, out: Path, url: str, limit: int, reason: str, says: str
) -> None:
    told = failure(url, out, limit)
    assert (told.reason, says in str(told)) == (reason, True)


@pytest.mark.parametrize("told", [None, 3, 5, 0])
def test_a_server_that_is_wrong_about_a_size(
    memory: MemoryFileSystem, out: Path, monkeypatch: pytest.MonkeyPatch, told: int | None
) -> None:
    memory.pipe("/four.mp4", b"four")
    info = MemoryFileSystem.info
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *a, **k: {**info(*a, **k), "size": told})
    if not told:
        with fetched("memory://four.mp4", out, 4) as copy:
            assert copy.size == 4
        assert failure("memory://four.mp4", out, 3).reason == "too_large"
    else:
        error = failure("memory://four.mp4", out, 9)
        assert (error.reason, str(error)) == ("unreadable", f"4 of {told} bytes came: run the same command again")


@pytest.mark.parametrize(
    ("error", "reason", "says"),
    [
        (OSError(errno.EIO, "Input/output error"), "unreadable", "cannot be reached (Input/output error)"),
        (PermissionError(SECRET), "unreadable", "the server refuses it"),
        (FileNotFoundError(SECRET), "missing", "no such file"),
        (TimeoutError(SECRET), "unreadable", "does not answer in time"),
        (RuntimeError(SECRET), "unreadable", "cannot be read (RuntimeError)"),
        (OSError(f"https://me:{SECRET}@host"), "unreadable", "cannot be read (OSError)"),
        (type("NoCredentialsError", (Exception,), {})(SECRET), "unreadable", "no credentials for it that can be used"),
    ],
)
def test_a_server_that_fails_in_the_middle(
    memory: MemoryFileSystem, out: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, says: str
) -> None:
    monkeypatch.setattr(Odd, "error", error)
    told = failure("odd://a.mp4", out)
    assert (told.reason, says in str(told), SECRET in str(told)) == (reason, True, False)


def test_a_full_disk_is_the_runs_trouble(memory: MemoryFileSystem, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, block: Any, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(remote, "open", lambda *rest: Full(), raising=False)
    with pytest.raises(OutputError, match="the disk is full"), fetched("memory://a/b.mp4", out):
        pytest.fail("it was fetched")
    assert list(out.iterdir()) == []
    (out.parent / "file").touch()
    with pytest.raises(OutputError, match="file"), fetched("memory://a/b.mp4", out.parent / "file"):
        pytest.fail("it was fetched")


def test_a_stamp_changes_with_the_file(memory: MemoryFileSystem) -> None:
    before = stamp_of("memory://a/b.mp4")
    assert before is not None
    assert stamp_of("memory://a/b.mp4") == before
    memory.pipe("/a/b.mp4", b"c" * len(FILES["a/b.mp4"]))
    assert stamp_of("memory://a/b.mp4") != before
    assert stamp_of("odd://a") is None  # a size alone proves nothing
    with pytest.raises(SourceError, match="no such file"):
        stamp_of("memory://gone")


# -- the spool ---------------------------------------------------------------------------------------


class Waits(Exception):
    pass


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(seconds: float) -> None:
        raise Waits

    monkeypatch.setattr(spool.time, "sleep", wait)


def test_who_finds_no_room_waits(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited, got = threading.Event(), threading.Event()
    monkeypatch.setattr(spool.time, "sleep", lambda seconds: waited.set())

    def second() -> None:
        with room(out, "1" * 32, 6, 10):
            got.set()

    with room(out, "0" * 32, 6, 10), room(out, "0" * 32, 4, 10):
        other = threading.Thread(target=second)
        other.start()
        assert waited.wait(30)
        assert not got.is_set()
    other.join(30)
    assert got.is_set()
    assert list(out.iterdir()) == []


def test_all_together_hold_no_more_than_the_limit(memory: MemoryFileSystem, out: Path) -> None:
    sizes = [(n * 7919) % 900 + 1 for n in range(40)]
    for n, size in enumerate(sizes):
        memory.pipe(f"/m/{n}.mp4", bytes(size))
    seen: list[int] = []

    def work(mine: range) -> None:
        for n in mine:
            with fetched(f"memory://m/{n}.mp4", out, 1000) as copy:
                assert copy.size == copy.path.stat().st_size == sizes[n]
                seen.append(sum(int(p.name.split(".")[-2]) for p in (out / ".spool").glob("*.part")))

    threads = [threading.Thread(target=work, args=(range(k, 40, 4),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 40
    assert max(seen) <= 1000
    assert list(out.iterdir()) == []


def test_what_a_killed_process_left_is_removed(out: Path, impatient: None) -> None:
    code = (
        "import sys; from pathlib import Path; from vidcomp.pipeline.spool import room\n"
        "with room(Path(sys.argv[1]), '0' * 32, 6, 10) as path:\n"
        "    path.write_bytes(b'x' * 6); print(path, flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        path = Path(child.stdout.readline().strip())
        with pytest.raises(Waits), room(out, "1" * 32, 5, 10):
            pytest.fail("there was no room")
        remove_leftovers(out)
        assert path.read_bytes() == b"x" * 6  # its process lives
        child.send_signal(signal.SIGKILL)
    assert path.exists()
    with room(out, "1" * 32, 10, 10):
        assert not path.exists()
    assert list(out.iterdir()) == []


def test_only_files_of_ours_are_removed(out: Path) -> None:
    (out / ".spool").mkdir(parents=True)
    left, mine = out / ".spool" / f"{'0' * 32}.abc.7.part", out / ".spool" / "mine.part"
    for path in (left, mine):
        path.write_bytes(b"x")
    remove_leftovers(out)
    assert list((out / ".spool").iterdir()) == [mine]
    remove_leftovers(out / "nowhere")
    assert not (out / "nowhere").exists()


# -- http --------------------------------------------------------------------------------------------

Answer = tuple[int, dict[str, str], bytes]
ANSWERS: dict[str, tuple[Answer, Answer]] = {  # to HEAD and to GET
    "/refused": ((403, {}, b""), (403, {}, b"")),
    "/broken": ((500, {}, b""), (500, {}, b"")),
    "/no-head": ((405, {}, b""), (200, {"Content-Length": "4", "ETag": '"v1"'}, b"four")),
    "/no-size": ((200, {}, b""), (200, {}, b"four")),
    "/short": ((200, {"Content-Length": "9"}, b""), (200, {"Content-Length": "9"}, b"four")),
    "/swapped": ((200, {"Content-Length": "9"}, b""), (200, {"Content-Length": "4"}, b"four")),
}


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.answer(0, super().do_HEAD)

    def do_GET(self) -> None:
        self.answer(1, super().do_GET)

    def answer(self, which: int, otherwise: Callable[[], None]) -> None:
        if (known := ANSWERS.get(self.path.partition("?")[0])) is None:
            return otherwise()
        status, headers, body = known[which]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server's address; its `in/` holds `FILES`."""
    pytest.importorskip("aiohttp")
    for name, content in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_http_lists_and_fetches(server: str, out: Path) -> None:
    folder = [f"{server}/in/a/.f.mp4", f"{server}/in/a/b.mp4", f"{server}/in/a/c/d%20e.WEBM"]
    assert [i.url for i in items([f"{server}/in/a/"])] == folder
    assert [i.url for i in items([f"{server}/in/a/**/*.WEBM"])] == folder[2:]
    (item,) = items([folder[1]])
    assert (item.size, item.stamp) == (9_000_000, stamp_of(folder[1]))
    assert item.stamp is not None
    with fetched(folder[1], out) as copy:
        assert copy.path.read_bytes() == FILES["a/b.mp4"]
    with fetched(folder[2], out) as copy:
        assert copy.path.read_bytes() == b"d"


def test_http_stamps(server: str, tmp_path: Path) -> None:
    url, path = f"{server}/in/a/c/n.dat", tmp_path / "in/a/c/n.dat"
    before = stamp_of(url)
    assert before is not None
    assert stamp_of(url) == before
    os.utime(path, (0, 0))  # the server tells this time, and no ETag
    assert stamp_of(url) != before
    assert stamp_of(f"{server}/no-head") is not None
    assert stamp_of(f"{server}/no-size") is None


@pytest.mark.parametrize(
    ("path", "reason", "says"),
    [
        ("/gone.mp4", "missing", "no such file on the server (404)"),
        ("/refused", "unreadable", "the server refuses it (403): check your credentials"),
        ("/broken", "unreadable", "the server answers 500"),
        ("/short", "unreadable", "ClientPayloadError"),
        ("/swapped", "unreadable", "4 of 9 bytes came"),
    ],
)
def test_http_answers_that_are_none(server: str, out: Path, path: str, reason: str, says: str) -> None:
    told = failure(f"{server}{path}?key={SECRET}", out)
    assert (told.reason, says in str(told), SECRET in str(told)) == (reason, True, False)


def test_http_without_head_or_size(server: str, out: Path) -> None:
    for path in ("/no-head", "/no-size"):
        with fetched(f"{server}{path}", out) as copy:
            assert copy.path.read_bytes() == b"four"


def test_http_that_nobody_answers(out: Path) -> None:
    pytest.importorskip("aiohttp")
    with socket.create_server(("127.0.0.1", 0)) as closing:
        url = f"http://me:{SECRET}@127.0.0.1:{closing.getsockname()[1]}/a.mp4"
    told = failure(url, out)
    assert (told.reason, "cannot be reached" in str(told), SECRET in str(told)) == ("unreadable", True, False)
    (item,) = items([url])
    assert item.error is not None
    assert SECRET not in f"{item.name}{item.error}"
    with pytest.raises(SourceListError, match="no such file"):
        items([str(out / "http:" / "x.mp4")])
