"""Servers of live streams on loopback, and what they send: each test says how its source behaves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
from media import make_clip, pictures
from numpy.typing import NDArray

TS = {"g": "12", "bf": "2", "b-adapt": "0", "sc_threshold": "0", "preset": "ultrafast"}


class Answer:
    """To one GET. `number`: how many of its path came before; `closing` is set when the server closes."""

    def __init__(self, handler: Any, number: int, closing: threading.Event) -> None:
        self._handler = handler
        self.number = number
        self.closing = closing

    def head(self, length: int | None = None, kind: str = "video/mp2t", status: int = 200) -> None:
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", kind)
        if length is not None:
            self._handler.send_header("Content-Length", str(length))
        self._handler.send_header("Connection", "close")
        self._handler.end_headers()

    def send(self, data: bytes) -> None:
        self._handler.wfile.write(data)

    def whole(self, data: bytes, kind: str = "video/mp2t") -> None:
        """A body whose length is told."""
        self.head(len(data), kind)
        self.send(data)

    def live(self, data: bytes) -> None:
        """A body without a length, sent at once; it then ends."""
        self.head()
        self.send(data)

    def freeze(self) -> None:
        """Send nothing more, and keep the connection until the server closes."""
        self.closing.wait(60)


Script = Callable[[Answer], None]


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        server: Any = self.server
        path = self.path.partition("?")[0]
        with server.lock:
            number = server.counts[path] = server.counts.get(path, -1) + 1
            server.seen.append((self.path, dict(self.headers)))
        script = server.scripts.get(path)
        if script is None:
            self.send_error(404)
            return
        try:
            script(Answer(self, number, server.closing))
        except OSError:  # the client has gone
            return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def serving(scripts: Mapping[str, Script]) -> Iterator[Any]:
    """A server, as soon as it listens; `scripts` by path. `.url(path)`, `.seen` (path, headers) of each request."""
    server: Any = _Server(("127.0.0.1", 0), _Handler)
    server.scripts, server.counts, server.seen = dict(scripts), dict[str, int](), []
    server.lock, server.closing = threading.Lock(), threading.Event()
    server.url = lambda path, user="": f"http://{user}127.0.0.1:{server.server_port}{path}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def stream(
    path: Path, count: int = 50, start_s: float = 10.0, size: tuple[int, int] = (64, 48), seed: int = 0
) -> bytes:
    """A live source's MPEG-TS: 25 frames a second from `start_s` on its own clock, key frames each half second."""
    pts_s = [start_s + n / 25 for n in range(count)]
    return make_clip(path, pts_s=pts_s, count=count, size=size, seed=seed, options=TS, container="mpegts").read_bytes()


def with_tone(path: Path, seconds: float = 3.0, sound_s: float = 0.5, rate: int = 16000, start_s: int = 0) -> Path:
    """A clip of 25 frames a second, the first at `start_s`, with a tone in stereo from `sound_s` to 2 s after that."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=25, options=TS)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound: Any = out.add_stream("mp2" if path.suffix == ".ts" else "aac", rate=rate, layout="stereo")
        for n, picture in enumerate(pictures(round(seconds * 25))):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = n + 25 * start_s, Fraction(1, 25)
            out.mux(video.encode(frame))
            for at in range(round(rate * n / 25), round(rate * (n + 1) / 25), rate // 50):
                if sound_s <= at / rate < 2.0:
                    out.mux(sound.encode(_tone(at + rate * start_s, rate)))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def _tone(at: int, rate: int) -> av.AudioFrame:
    n = np.arange(at, at + rate // 50) / rate
    wave: NDArray[np.float32] = (0.4 * np.sin(2 * np.pi * np.array([[440.0], [660.0]]) * n)).astype(np.float32)
    data = (wave.T.reshape(1, -1) * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(data, format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame
