"""What a feed is given: URLs with secrets, URLs of other kinds, other transports."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from live_feeds import of, read
from live_servers import Answer, serving, stream

from vidcomp.stages.decode_heard import last_words, tell
from vidcomp.stages.ingest import Event, Lost, Picture, UrlFeed
from vidcomp.stages.ingest_source import KINDS
from vidcomp.stages.ingest_url import SCHEMES
from vidcomp.stages.sample import Sampling


def test_user_and_password_are_used_and_never_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    data = stream(tmp_path / "a.ts")
    keys = list[str]()

    def guarded(answer: Answer) -> None:
        key = answer._handler.headers.get("Authorization")
        if key is None:
            answer._handler.send_response(401)
            answer._handler.send_header("WWW-Authenticate", 'Basic realm="a"')
            answer._handler.end_headers()
        else:
            keys.append(key)
            answer.live(data)

    with serving({"/a": guarded, "/b": lambda a: a.live(b"garbage" * 99)}) as server:
        for path in ("/a", "/b", "/gone"):
            events = read(server.url(path + "?token=s3cret", user="me:hush@"), Sampling())
            (lost,) = of(events, Lost)
            assert lost.message.startswith(f"http://127.0.0.1:{server.server_port}: ")
            assert not any(word in repr(events) for word in ("hush", "s3cret", "me:", path))
    assert not any(word in caplog.text for word in ("hush", "s3cret"))
    assert server.seen[0][0] == "/a?token=s3cret"
    assert set(keys) == {"Basic bWU6aHVzaA=="}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "live source is a URL"),
        ("concat:http://a/b", "live source is a URL"),
        ("/dev/video0", "live source is a URL"),
        ("srt://127.0.0.1:1", "live source is a URL"),
        ("rtsp://host:port/a", "port"),
        ("rtsp://ho st/a", "%20"),
        ("rtsp://host/a\n", "%20"),
    ],
)
def test_urls_that_are_refused(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        UrlFeed(url, Sampling())


def test_a_url_in_what_the_child_says_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """libav names the URL in some of its complaints."""
    caplog.set_level("DEBUG")
    said = os.memfd_create("said")
    os.write(said, b"[rtsp @ 0x55] rtsp://me:hu'sh@host/a?token=s3cret is gone\n")
    assert last_words(said) == "[rtsp] rtsp://... is gone"
    tell(said, "")
    os.close(said)
    assert "rtsp://... is gone" in caplog.text


def test_a_stream_by_tcp(tmp_path: Path) -> None:
    data = stream(tmp_path / "a.ts")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def send() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(data)

        thread = threading.Thread(target=send)
        thread.start()
        events = read(f"tcp://127.0.0.1:{listener.getsockname()[1]}", Sampling(every=1))
        thread.join()
    assert [picture.number for picture in of(events, Picture)] == list(range(50))
    assert of(events, Lost)[0].reason == "closed"  # nobody said that it would end


def test_a_stream_by_udp(tmp_path: Path) -> None:
    data = stream(tmp_path / "a.ts", count=500)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for at in range(0, len(data), 7 * 188):
                out.sendto(data[at : at + 7 * 188], ("127.0.0.1", port))
                if done.wait(0.01):
                    return

    thread = threading.Thread(target=send)
    thread.start()
    events = list[Event]()
    feed = UrlFeed(f"udp://127.0.0.1:{port}", Sampling(every=1), max_retries=0)
    for event in feed.events():
        events.append(event)
        if len(of(events, Picture)) == 30:
            feed.cancel()
    done.set()
    thread.join()
    assert np.diff([shot.pts_s for shot in of(events, Picture)]) == pytest.approx(0.04)


def test_every_scheme_has_its_rules() -> None:
    assert set(SCHEMES) == set(KINDS)
    assert not any("file" in kind.protocols or "concat" in kind.formats for kind in KINDS.values())
