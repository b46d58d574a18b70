"""Object stores by their own protocols: moto's S3 server through s3fs, and an emulator of Google's through gcsfs.

Run where these are installed: `pip install s3fs "moto[s3]" flask flask-cors`, `pip install gcsfs gcp-storage-emulator`.
"""

from __future__ import annotations

import csv
import http.client
import json
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from media import make_clip

from .conftest import Cli, Said, tree_bytes

HERE = ("--workers", "0", "--method", "evs")
SECRET = "wordofmine"


@dataclass
class Bucket:
    """An empty bucket; `packages` that reach it."""

    url: str
    package: ModuleType
    cli: Cli
    port: int = 0
    seen: list[str] = field(default_factory=list)  # methods and paths that the server was asked for

    @property
    def fs(self) -> Any:
        """As a new process has it: nothing that was listed before is known."""
        fs = getattr(self.package, "S3FileSystem", None) or self.package.GCSFileSystem
        fs.clear_instance_cache()
        return fs()

    def put(self, **objects: bytes) -> None:
        for name, data in objects.items():
            self.pipe(f"{name}.mp4", data)

    def pipe(self, key: str, data: bytes) -> None:
        self.fs.pipe_file(f"{self.url}/{key}", data)

    def encode(self, *words: object) -> Said:
        self.fs  # noqa: B018 - forget
        del self.seen[:]
        return self.cli("encode", *words, "--json")

    @property
    def fetched(self) -> list[str]:
        """The keys whose bytes the last command asked for."""
        return [path.removeprefix("GET /bucket/") for path in self.seen if path.startswith("GET /bucket/")]


@pytest.fixture(scope="module")
def moto() -> Iterator[tuple[int, list[str]]]:
    """The port of an S3 server, and what it was asked for."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server")
    from werkzeug.serving import make_server

    app = server.DomainDispatcherApplication(server.create_backend_app)
    seen: list[str] = []

    def counted(environ: Any, start: Any) -> Any:
        seen.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        return app(environ, start)

    class Silent(server.MotoRequestHandler):
        def log(self, *words: object) -> None:
            pass

    listening = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield listening.server_port, seen
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def s3(moto: tuple[int, list[str]], cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    port, seen = moto
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": f"key{SECRET}",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(here / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(here / "none"),
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    bucket = Bucket("s3://bucket", sys.modules["s3fs"], cli, port, seen)
    bucket.fs.mkdir("bucket")
    yield bucket
    told(port, "reset")
    bucket.fs  # noqa: B018 - forget


def told(port: int, what: str, body: str = "") -> None:
    """Tell the S3 server itself something."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", f"/moto-api/{what}", body)
    assert connection.getresponse().read()
    connection.close()


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("object") / "a.mp4", count=25).read_bytes()


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("object") / "b.mp4", count=25, seed=1).read_bytes()


def records(out: str) -> dict[str, bytes]:
    return {name: data for name, data in tree_bytes(Path(out)).items() if name.endswith(".safetensors")}


def listed(*urls: str) -> str:
    """The name of a list of these URLs."""
    with open("list.csv", "w", newline="") as file:
        csv.writer(file).writerows([["url"], *([url] for url in urls)])
    return "list.csv"


def statuses(out: str = "vidcomp-out") -> dict[str, str]:
    rows = map(json.loads, (Path(out) / "manifest.jsonl").read_text().splitlines())
    return {row["path"]: row["status"] for row in rows}


# -- S3 ----------------------------------------------------------------------------------------------


def test_an_object_comes_to_what_the_same_file_comes_to(s3: Bucket, cli: Cli, video: bytes) -> None:
    s3.put(a=video)
    Path("local.mp4").write_bytes(video)
    assert s3.encode("s3://bucket/a.mp4", *HERE).code == 0
    assert s3.fetched == ["a.mp4"]
    assert cli("encode", "local.mp4", *HERE, "-o", "local").code == 0
    assert records("vidcomp-out") == records("local") != {}
    assert {path.name for path in Path("vidcomp-out").iterdir()} == {"manifest.jsonl", *records("local")}


@pytest.mark.parametrize(
    ("source", "words"), [("S3://bucket/a.mp4", HERE[2:]), ("s3://bucket", HERE), ("list", HERE[2:]), ("list", HERE)]
)
def test_what_has_not_changed_is_not_fetched_again(
    s3: Bucket, video: bytes, other: bytes, source: str, words: tuple[str, ...]
) -> None:
    """Also of a single input without --workers, which is looked at more closely."""
    s3.put(a=video)
    source = listed("s3://bucket/a.mp4") if source == "list" else source
    assert s3.encode(source, *words).json["cached"] is False
    before = tree_bytes(Path("vidcomp-out"))
    again = s3.encode(source, *words)
    assert (again.code, again.json["cached"], s3.fetched) == (0, True, [])
    assert tree_bytes(Path("vidcomp-out")) == before
    s3.put(a=other)
    changed = s3.encode(source, *words)
    assert (changed.code, changed.json["cached"], s3.fetched) == (0, False, ["a.mp4"])
    assert len(records("vidcomp-out")) == 2


def test_a_record_that_is_gone_is_made_anew(s3: Bucket, video: bytes) -> None:
    s3.put(a=video)
    record = Path(s3.encode("s3://bucket/a.mp4").json["record"])
    before = record.read_bytes()
    for damage in (b"", before[:99]):
        record.write_bytes(damage)
        assert (s3.encode("s3://bucket/a.mp4").json["cached"], record.read_bytes()) == (False, before)


def test_a_list_is_asked_about_and_not_fetched_again(s3: Bucket, video: bytes) -> None:
    s3.put(a=video, b=video, junk=b"no video")
    names = [f"s3://bucket/{name}.mp4" for name in ("a", "b", "junk", "gone")]
    assert SECRET not in s3.encode(listed(f"s3://key:{SECRET}@bucket/a.mp4"), *HERE, "-o", "other").err
    words = (listed(*names), *HERE)
    assert s3.encode(*words).code == 2
    assert sorted(s3.fetched) == ["a.mp4", "b.mp4", "junk.mp4"]
    before = Path("vidcomp-out/manifest.jsonl").read_bytes()
    again = s3.encode(*words)
    assert (again.code, again.json["cached"], again.err.count("\n"), s3.fetched) == (2, 3, 2, [])
    assert Path("vidcomp-out/manifest.jsonl").read_bytes() == before
    assert list(statuses().values()) == ["ok", "ok", "failed:not_video", "failed:missing"]
    s3.put(junk=video, gone=video)
    assert s3.encode(*words).json["counts"] == {"ok": 4}
    assert sorted(s3.fetched) == ["gone.mp4", "junk.mp4"]


def test_a_folder_a_pattern_and_a_list_name_the_same(s3: Bucket, video: bytes, other: bytes) -> None:
    for key in ("in/a.mp4", "in/sub/b.MOV", "in/.hidden/c.mp4", "in/d.txt", "in/", "inner.mp4"):
        s3.pipe(key, {"in/a.mp4": video, "in/": b""}.get(key, other))
    names = ["s3://bucket/in/a.mp4", "s3://bucket/in/sub/b.MOV"]
    assert s3.encode("s3://bucket/in", *HERE).json["inputs"] == 2
    assert sorted(statuses()) == names
    for source in ("s3://bucket/in/", "s3://bucket/in//", "s3://bucket/in/**/[ab].[mM]*", listed(*names)):
        said = s3.encode(source, *HERE)
        assert (said.json["inputs"], said.json["cached"], s3.fetched) == (2, 2, [])


def test_keys_are_taken_as_they_are(s3: Bucket, video: bytes, other: bytes) -> None:
    names = [
        "a b",
        "日本 é",
        "e\u0301",
        "a#b",
        "a?b",
        "a%20b",
        "100%",
        "a+b",
        "[x]",
        "s*r",
        "q'uo\"te",
        "/double",
        "x&y=z",
    ]
    for name in names:
        s3.pipe(f"odd/{name}.mp4", video)
    s3.pipe("odd/xab.mp4", other)  # what a pattern would match
    urls = [f"s3://bucket/odd/{name}.mp4" for name in names]
    assert s3.encode("s3://bucket/odd/", *HERE).json["counts"] == {"ok": len(names) + 1}
    assert set(statuses()) == {*urls, "s3://bucket/odd/xab.mp4"}
    for source in ([listed(*urls)], urls):
        said = s3.encode(*source, *HERE)
        assert (said.json["inputs"], said.json["cached"], s3.fetched) == (len(names), len(names), [])


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("s3://bucket/gone.mp4", 1, "no such file on the server: check the address"),
        ("s3://nobucket/a.mp4", 1, "no such file on the server: check the address"),
        ("s3://bucket/gone/", 1, "no video is there: check the address"),
        ("s3://bucket/*.mkv", 1, "no video is there: check the address"),
        (f"s3://key:{SECRET}@bucket/a.mp4", 1, "credentials in such an address are not read: leave them out"),
        ("s3://bucket/junk.mp4", 2, "failed:not_video: its content is no video format"),
        ("s3://bucket/empty.mp4", 2, "failed:empty: the file has no bytes"),
    ],
)
def test_what_is_no_video_is_one_line(s3: Bucket, url: str, code: int, says: str) -> None:
    s3.put(junk=b"no video", empty=b"")
    refused(s3.encode(url, *HERE), code, says)


def refused(said: Said, code: int, says: str) -> None:
    """One line, and no secret anywhere."""
    assert (said.code, says in said.err, said.err.count("\n")) == (code, True, 1), said.err
    assert SECRET not in said.out + said.err
    assert all(SECRET.encode() not in data for data in tree_bytes(Path.cwd()).values())


@pytest.mark.parametrize("source", ["s3://bucket/a.mp4", "s3://bucket/*.mp4", "list"])
def test_who_may_not_is_told_so_and_comes_again(
    s3: Bucket, video: bytes, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    s3.put(a=video)
    source = listed("s3://bucket/a.mp4") if source == "list" else source
    told(s3.port, "reset-auth", "0")
    try:
        refused(s3.encode(source, *HERE), 2, "the server refuses it: check your credentials for it")
    finally:
        told(s3.port, "reset-auth", "inf")
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        refused(s3.encode(source, *HERE), 2, "no credentials for it that can be used (NoCredentialsError): set them")
        patch.setenv("AWS_PROFILE", "nobody")
        refused(s3.encode(source, *HERE), 2, "no credentials for it that can be used (ProfileNotFound): set them")
    with monkeypatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as closing:
        patch.setattr(s3.package.S3FileSystem, "retries", 1)
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closing.getsockname()[1]}")
        closing.close()
        refused(s3.encode(source, *HERE), 2, "check the address and the network, then run the same command again")
    assert s3.encode(source, *HERE).code == 0


def test_what_failed_is_tried_again_by_itself(s3: Bucket, cli: Cli, video: bytes) -> None:
    s3.put(a=video, junk=b"no video", gone=b"no video")
    words = ("s3://bucket", *HERE)
    assert s3.encode(*words).code == 2
    s3.put(junk=video)
    s3.fs.rm("bucket/gone.mp4")
    s3.fs  # noqa: B018 - forget
    said = cli("failures", "vidcomp-out", "--retry", "--workers", "0", "--json")
    assert (said.code, said.json["counts"]) == (2, {"ok": 1, "failed:missing": 1})
    again = s3.encode(*words)
    assert (again.code, again.json["cached"], s3.fetched) == (0, 2, [])


def test_workers_come_to_the_same(s3: Bucket, cli: Cli, video: bytes, other: bytes) -> None:
    s3.put(a=video, b=other, junk=b"no video")
    assert s3.encode("s3://bucket", "--workers", "2", "--method", "evs").json["counts"] == {
        "ok": 2,
        "failed:not_video": 1,
    }
    assert sorted(s3.fetched) == ["a.mp4", "b.mp4", "junk.mp4"]
    assert not (Path("vidcomp-out") / ".spool").exists()
    assert s3.encode("s3://bucket", *HERE, "-o", "here").code == 2
    assert records("vidcomp-out") == records("here")


# -- Google ------------------------------------------------------------------------------------------


@pytest.fixture
def gs(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    package = pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    monkeypatch.setattr(emulator.server.HTTPServer, "handle_error", lambda *told: None)  # of clients that have gone
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    yield Bucket("gs://bucket", package, cli, port)
    server.stop()
    package.GCSFileSystem.clear_instance_cache()


def test_google_does_as_s3(gs: Bucket, cli: Cli, video: bytes, other: bytes) -> None:
    gs.put(a=video, junk=b"no video")
    gs.pipe("in/a b#?%é.mp4", other)
    Path("local.mp4").write_bytes(video)
    said = gs.encode("gs://bucket", *HERE)
    assert (said.code, said.json["counts"], said.err.count("\n")) == (2, {"ok": 2, "failed:not_video": 1}, 1)
    assert cli("encode", "local.mp4", *HERE, "-o", "local").code == 0
    assert records("local").items() < records("vidcomp-out").items()
    again = ["gs://bucket/a.mp4", "gs://bucket/in/", "gs://bucket/**/*.mp4", listed("gs://bucket/in/a b#?%é.mp4")]
    assert gs.encode(*again, *HERE).json["cached"] == 3
    gs.put(a=other)
    assert gs.encode("gs://bucket/a.mp4", *HERE).json["cached"] is True  # the other's record
    for url in ("gs://bucket/gone.mp4", "gs://nobucket/a.mp4", f"gs://key:{SECRET}@bucket/a.mp4"):
        refused(gs.encode(url, *HERE), 1, "check the address" if SECRET not in url else "leave them out")
