"""A network source as a feed: one child for each connection, and a new connection after each loss."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Generator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from .decode_info import DecodeError
from .decode_process import Process
from .ingest_clock import Shown
from .ingest_events import Ended, Event, LossError, Lost, Opened, Picture, Retry
from .ingest_talk import Connection
from .sample import Sampling
from .sample_live import check

SCHEMES: Final = ("rtsp", "rtsps", "http", "https", "tcp", "udp")
MAX_PIXELS: Final = 1 << 25  # of one frame, 8192 x 4096
MAX_MEMORY_BYTES: Final = 4 << 30


class UrlFeed:
    """`url`: rtsp (over TCP), rtsps, http and https (a body in MPEG-TS, MP4, Matroska, FLV or Ogg, or an HLS playlist),
    tcp, udp. Of the frames those that `sampling` takes (by `fps` or `every`) cross; with `audio_rate` also sound, mono
    at that rate.

    `open_timeout_s`: for a connection and its container; `read_timeout_s`: the longest wait for a packet (of a URL that
    ends in .m3u8 at least 30 s: segments come so). What hangs in C is killed 3 s later. Data that gives no picture for
    four read timeouts is lost as garbage. After a loss the next attempt is made in `backoff[0]` seconds, then twice as
    many each time up to `backoff[1]`; a picture begins the count anew. `max_retries` of these without a picture, or
    `give_up_s` seconds since the last picture (looked at after each loss), end the feed; None: never.

    The end of an HTTP body counts as the source's end only if its length was told (a playlist: its end mark); such a
    source may have gaps of any length, a cut sends it back to its beginning, damage to its container ends it.
    Over TLS the server's certificate is not checked (libav's default: cameras sign their own).
    A slow consumer holds the child up, and with it the sender (see `ingest_child`).
    The child dies with the thread that reads `events`. ValueError: a URL or a sampling that cannot be followed.
    """

    def __init__(
        self,
        url: str,
        sampling: Sampling,
        *,
        audio_rate: int | None = None,
        open_timeout_s: float = 10.0,
        read_timeout_s: float = 5.0,
        backoff: tuple[float, float] = (0.25, 5.0),
        give_up_s: float | None = None,
        max_retries: int | None = None,
        max_pixels: int = MAX_PIXELS,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        check(sampling)
        self._place = place(url)
        self._asked: Mapping[str, Any] = {
            "url": url,
            "fps": sampling.fps,
            "every": sampling.every,
            "audio_rate": audio_rate,
            "timeouts_s": (open_timeout_s, read_timeout_s),
            "max_pixels": max_pixels,
            "max_memory_bytes": max_memory_bytes,
        }
        self._backoff = backoff
        self._give_up_s = give_up_s
        self._max_retries = max_retries
        self._argv = [sys.executable, "-P", "-m", "vidcomp.stages.ingest_child"]  # -P: as in `decode`
        self._cancelled = threading.Event()
        self._process: Process | None = None
        self._shown: Mapping[str, Any] = Shown().to_json()
        self._size: tuple[int, int] | None = None
        self._failures = 0  # attempts since the last picture
        self._good_s = 0.0  # when the last picture came

    def events(self) -> Generator[Event]:
        """See `Feed`."""
        self._good_s = time.monotonic()
        try:
            while not self._cancelled.is_set():
                try:
                    yield from self._connection()
                except LossError as loss:
                    if self._cancelled.is_set():
                        break
                    yield Lost(loss.reason, f"{self._place}: {loss.message}", self._end_s, time.time())
                    after_s = self._retry_after(final=loss.final)
                    if after_s is None:
                        yield Ended("gave_up", self._end_s)
                        return
                    yield Retry(after_s)
                    self._cancelled.wait(after_s)
                else:
                    yield Ended("end", self._end_s)
                    return
            yield Ended("cancelled", self._end_s)
        finally:
            self.close()

    def cancel(self) -> None:
        """See `Feed`."""
        self._cancelled.set()
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """See `Feed`."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    @property
    def _end_s(self) -> float | None:
        end_s: float | None = self._shown["end_s"]
        return end_s

    def _connection(self) -> Generator[Event]:
        """One child, from its start to its end."""
        connection = self._connect()
        try:
            for event in connection.events():
                self._shown = connection.shown
                if isinstance(event, Opened):
                    self._size = (event.width, event.height)
                elif isinstance(event, Picture):
                    self._failures, self._good_s = 0, time.monotonic()
                yield event
        finally:
            self._shown = connection.shown
            self.close()

    def _connect(self) -> Connection:
        try:
            self._process = Process(self._argv)
        except DecodeError as error:
            raise LossError("crashed", error.message) from None
        if self._cancelled.is_set():  # meanwhile: `cancel` may not have seen it
            self._process.kill()
        return Connection(self._process, {**self._asked, "size": self._size, "shown": self._shown})

    def _retry_after(self, *, final: bool) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        first_s, most_s = self._backoff
        after_s = min(first_s * 2.0 ** min(self._failures, 64), most_s)
        self._failures += 1
        many = self._max_retries is not None and self._failures > self._max_retries
        long = self._give_up_s is not None and time.monotonic() - self._good_s >= self._give_up_s
        return None if final or many or long else after_s


def place(url: str) -> str:
    """Scheme and host of a URL, all that may be printed of it. ValueError: no URL that a feed can be opened from."""
    scheme, mark, _ = url.partition("://")
    if not mark or scheme.lower() not in SCHEMES:
        raise ValueError(f"a live source is a URL by {', '.join(SCHEMES)}")
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("a URL has no spaces or control characters: write them as %20 and the like")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("the URL's host or port cannot be read") from None
    return f"{scheme.lower()}://{host}" + (f":{port}" if port else "")
