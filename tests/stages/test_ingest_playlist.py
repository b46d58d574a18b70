"""HLS: a playlist names other files, and only what comes by HTTP is read of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from live_feeds import ALL, lost, of, told
from live_servers import Answer, serving, stream

from vidcomp.stages.ingest import Ended, Lost, Opened, Picture, UrlFeed


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return stream(tmp_path / "data.ts")


TARGETS = ["file:///etc/passwd", "/etc/passwd", "concat:/etc/passwd", "data:text/plain,x", "FILE", "CONCAT", "BARE"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_playlist_opens_nothing_but_http(tmp_path: Path, data: bytes, target: str) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(data)
    secrets = {"FILE": f"file://{secret}", "CONCAT": f"concat:{secret}", "BARE": str(secret)}  # of videos
    target = secrets.get(target, target)
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:2,", target, "#EXT-X-ENDLIST", ""]
    playlist = "\n".join(lines).encode()
    with serving({"/a.m3u8": lambda a: a.whole(playlist, "application/vnd.apple.mpegurl")}) as server:
        events = told(UrlFeed(server.url("/a.m3u8"), ALL, max_retries=0))
    assert not of(events, Picture)
    assert not of(events, Opened)


@pytest.mark.parametrize("ends", [True, False])
def test_a_playlist_is_read_and_its_end_mark_believed(tmp_path: Path, ends: bool) -> None:
    parts = [stream(tmp_path / f"{n}.ts", start_s=10.0 + 2 * n) for n in range(3)]
    names = [line for n in range(3) for line in ("#EXTINF:2,", f"{n}.ts")]
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXT-X-VERSION:3", *names, *["#EXT-X-ENDLIST"] * ends, ""]
    playlist = "\n".join(lines).encode()

    def index(answer: Answer) -> None:
        if ends or answer.number < 2:
            answer.whole(playlist, "application/vnd.apple.mpegurl")

    def segment(n: int) -> Callable[[Answer], None]:
        return lambda answer: answer.whole(parts[n])

    scripts = {"/a.m3u8": index, **{f"/{n}.ts": segment(n) for n in range(3)}}
    with serving(scripts) as server:
        feed = UrlFeed(server.url("/a.m3u8"), ALL, max_retries=0)
        events = told(feed, lost())
    assert [shot.pts_s for shot in of(events, Picture)] == pytest.approx([10 + n / 25 for n in range(150)])
    assert events[-1] == (Ended("end", 16.0) if ends else of(events, Lost)[0])
