"""Those who are slow: a sender is waited for, a consumer holds the source up; a cancel ends any wait."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from live_feeds import ALL, QUICK, kinds, of, told
from live_servers import Answer, serving, stream

from vidcomp.stages import ingest_talk
from vidcomp.stages.ingest import Ended, Lost, Picture, UrlFeed


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return stream(tmp_path / "data.ts")


def test_a_slow_sender_is_no_hang(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_talk, "MARGIN_S", 0.3)

    def slow(answer: Answer) -> None:
        answer.head(len(data))
        for at in range(0, len(data), len(data) // 5):
            answer.send(data[at : at + len(data) // 5])
            time.sleep(0.7)

    with serving({"/a": slow}) as server:
        events = told(UrlFeed(server.url("/a"), ALL, **QUICK))
    assert kinds(events) == ["Opened", "Ended"]


@pytest.mark.parametrize("state", ["before", "opening", "frozen", "between"])
def test_cancel_ends_any_wait(data: bytes, state: str) -> None:
    """The waits would each take ten minutes."""
    arrived = threading.Event()

    def script(answer: Answer) -> None:
        arrived.set()
        if state == "frozen":
            answer.live(data)
        if state != "between":
            answer.freeze()

    with serving({"/a": script}) as server:
        feed = UrlFeed(server.url("/a"), ALL, open_timeout_s=600, read_timeout_s=600, backoff=(600, 600))
        if state == "before":
            feed.cancel()
            arrived.set()
        thread = threading.Thread(target=lambda: (arrived.wait(), time.sleep(0.5), feed.cancel()))
        thread.start()
        events = told(feed)
        thread.join()
    assert isinstance(events[-1], Ended)
    assert events[-1].why == "cancelled"
    assert ("Retry" in kinds(events)) == (state == "between")
    assert ("Opened" in kinds(events)) == (state == "frozen")


def test_a_slow_consumer_holds_the_source_up_and_nothing_grows(tmp_path: Path) -> None:
    """The server has written more than the connection holds only once the consumer has read it."""
    body = stream(tmp_path / "a.ts", count=600, size=(320, 240), seed=1)
    sent = list[int]()

    def script(answer: Answer) -> None:
        answer.head()
        for _ in range(40):
            answer.send(body)
            sent.append(len(body))

    with serving({"/a": script}) as server:
        feed = UrlFeed(server.url("/a"), ALL, **QUICK)
        reading = feed.events()
        shots = sum(isinstance(next(reading), Picture) for _ in range(30))
        time.sleep(2.0)  # longer than the read timeout
        assert feed._process is not None
        status = Path(f"/proc/{feed._process._popen.pid}/status").read_text()
        held = len(sent)
        more = [next(reading) for _ in range(300)]
        reading.close()
    assert held < 40
    assert shots + len(of(more, Picture)) > 300
    assert not of(more, Lost)
    peak_kb = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak_kb < 150 << 10
