"""A network source whose connection fails, or brings no video: each fault is told, and pictures come again."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import numpy as np
import pytest
from live_feeds import ALL, QUICK, kinds, lost, of, told
from live_servers import Answer, serving, stream, with_tone
from media import make_audio, make_clip

from vidcomp.stages.ingest import Ended, Jumped, Lost, Opened, Picture, Retry, UrlFeed


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return stream(tmp_path / "data.ts")


def test_a_connection_that_is_cut_is_made_again_as_often_as_need_be(tmp_path: Path) -> None:
    """A live clock goes on while nobody listens."""
    bodies = [stream(tmp_path / f"{n}.ts", count=25, start_s=10.0 + 2 * n) for n in range(5)]
    with serving({"/a": lambda answer: answer.live(bodies[answer.number])}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, max_retries=1, **QUICK), lost(5))
    assert kinds(events) == ["Opened", "Lost", "Retry"] * 4 + ["Opened", "Lost"]
    assert {retry.after_s for retry in of(events, Retry)} == {0.01}  # pictures came: the count begins anew
    assert {lost.reason for lost in of(events, Lost)} == {"closed"}
    shots = of(events, Picture)
    assert [shot.number for shot in shots] == list(range(125))
    assert np.allclose([shot.pts_s for shot in shots], [10 + 2 * n + k / 25 for n in range(5) for k in range(25)])
    assert np.allclose([lost.end_s for lost in of(events, Lost)], [10 + 2 * n + 1 for n in range(5)])


def test_a_source_that_begins_again_has_set_its_clock(data: bytes) -> None:
    with serving({"/a": lambda answer: answer.live(data)}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, **QUICK), lost(3))
    again = ["Lost", "Retry", "Opened", "Jumped"]
    assert kinds(events) == ["Opened", *again, *again, "Lost"]
    assert [(jump.from_s, jump.to_s) for jump in of(events, Jumped)] == [(12.0, 10.0)] * 2
    assert [shot.number for shot in of(events, Picture)] == list(range(150))


def test_a_body_that_is_shorter_than_was_told_is_no_end(data: bytes) -> None:
    def cut(answer: Answer) -> None:
        answer.head(len(data))
        answer.send(data if answer.number else data[: len(data) // 2])

    with serving({"/a": cut}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, **QUICK))
    assert kinds(events) == ["Opened", "Lost", "Retry", "Opened", "Jumped", "Ended"]
    assert events[-1] == Ended("end", 12.0)


def test_a_source_that_freezes_is_left_at_the_read_timeout(data: bytes) -> None:
    def frozen(answer: Answer) -> None:
        answer.live(data)
        answer.freeze()

    with serving({"/a": frozen}) as server:
        begun_s = time.monotonic()
        events = told(UrlFeed(server.url("/a"), ALL, **QUICK), lost())
        assert time.monotonic() - begun_s >= 1.0
    assert of(events, Lost)[0].reason == "timeout"
    assert len(of(events, Picture)) == 50  # what had come was shown


@pytest.mark.parametrize("length", [True, False])
def test_a_whole_file_without_video_is_asked_for_once(tmp_path: Path, length: bool) -> None:
    """What has no known end may have video the next time."""
    sound = make_audio(tmp_path / "a.mkv", 2.0).read_bytes()
    with serving({"/a": lambda answer: answer.whole(sound) if length else answer.live(sound)}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, **QUICK), lost(2))
    assert {lost.reason for lost in of(events, Lost)} == {"no_video"}
    assert kinds(events) == (["Lost", "Ended"] if length else ["Lost", "Retry", "Lost"])


def test_a_server_that_never_answers_is_left_at_the_open_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        feed = UrlFeed(f"http://127.0.0.1:{mute.getsockname()[1]}/a", ALL, max_retries=0, open_timeout_s=0.5)
        events = told(feed)
    assert [of(events, Lost)[0].reason, events[-1]] == ["timeout", Ended("gave_up", None)]


def test_nobody_listens_and_nothing_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    events = told(UrlFeed(f"tcp://127.0.0.1:{port}", ALL, max_retries=3, backoff=(0.01, 0.03)))
    assert kinds(events) == ["Lost", "Retry"] * 3 + ["Lost", "Ended"]
    assert {lost.reason for lost in of(events, Lost)} == {"refused"}
    assert [retry.after_s for retry in of(events, Retry)] == [0.01, 0.02, 0.03]
    with serving({}) as server:
        (lost,) = of(told(UrlFeed(server.url("/a"), ALL, max_retries=0)), Lost)
    assert lost.reason == "denied"
    assert "404" in lost.message


def test_a_feed_gives_up_in_time() -> None:
    with serving({}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, backoff=(0.05, 0.05), give_up_s=0.6))
    assert events[-1] == Ended("gave_up", None)


def test_garbage_alone_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(6 << 20)
    with serving({"/a": lambda answer: answer.live(noise)}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, max_retries=0))
    assert of(events, Lost)[0].reason == "garbage"
    assert not of(events, Opened)


def test_garbage_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    before, after = stream(tmp_path / "a.ts"), stream(tmp_path / "b.ts", start_s=12.0)
    noise = np.random.default_rng(0).bytes(100_000)
    with serving({"/a": lambda answer: answer.live(before + noise + after)}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, **QUICK), lost())
    assert kinds(events) == ["Opened", "Lost"]
    times = [shot.pts_s for shot in of(events, Picture)]
    assert times[0] == 10.0
    assert times[-1] == pytest.approx(13.96)
    assert len(times) >= 90


def test_data_without_a_picture_is_garbage(tmp_path: Path) -> None:
    """Sound goes on, pictures stop."""
    loud = with_tone(tmp_path / "a.ts", seconds=0.2, sound_s=0.0).read_bytes()

    def script(answer: Answer) -> None:
        answer.head()
        answer.send(loud)
        packets = [loud[at : at + 188] for at in range(0, len(loud), 188)]
        sound = [packet for packet in packets if packet[1] & 0x1F == 1 and packet[2] == 1]
        while not answer.closing.wait(0.1):
            answer.send(b"".join(sound))

    with serving({"/a": script}) as server:
        settings = {**QUICK, "read_timeout_s": 0.5}
        events = told(UrlFeed(server.url("/a"), ALL, audio_rate=8000, **settings), lost())
    assert of(events, Lost)[0].reason == "garbage"
    assert "no picture" in of(events, Lost)[0].message


def test_no_frame_is_held_back(tmp_path: Path) -> None:
    """Only the last two of MPEG-TS, which says of a frame that it is whole by beginning the next."""
    options = {"tune": "zerolatency", "preset": "ultrafast"}
    path = make_clip(tmp_path / "a.ts", pts_s=[10 + n / 25 for n in range(60)], count=60, options=options)

    def frozen(answer: Answer) -> None:
        answer.live(path.read_bytes())
        answer.freeze()

    with serving({"/a": frozen}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, **QUICK), lost())
    flushed_s = of(events, Lost)[0].wall_s - 0.5
    assert [shot.number for shot in of(events, Picture) if shot.wall_s < flushed_s] == list(range(58))
    assert len(of(events, Picture)) == 60
