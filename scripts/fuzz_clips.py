"""For fuzz_decode: small whole clips in many containers and codecs, and ways to damage them. Seeded."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

COUNT, SIZE, FPS = 36, (96, 64), 25
QUICK = {"preset": "ultrafast", "g": "12"}
FAST_VP = {"deadline": "realtime", "cpu-used": "8", "g": "12"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12"}
GROUPS = {"g": "12", "bf": "2"}
# name: (muxer, codec, pixel format, encoder options, muxer options)
CLIPS: dict[str, tuple[str, str, str, dict[str, str], dict[str, str]]] = {
    "h264.mp4": ("mp4", "libx264", "yuv420p", QUICK | {"bf": "2"}, {}),
    "h264-fast.mp4": ("mp4", "libx264", "yuv420p", {"g": "12", "bf": "3"}, {"movflags": "faststart"}),
    "h264-parts.mp4": ("mp4", "libx264", "yuv420p", QUICK, {"movflags": "frag_keyframe+empty_moov"}),
    "h264.mov": ("mov", "libx264", "yuv420p", {"g": "12", "bf": "2"}, {}),
    "h264.mkv": ("matroska", "libx264", "yuv420p", {"g": "12", "bf": "2", "slices": "4"}, {}),
    "hevc.mkv": ("matroska", "libx265", "yuv420p", X265, {}),
    "hevc.ts": ("mpegts", "libx265", "yuv420p", X265, {}),
    "h264.ts": ("mpegts", "libx264", "yuv420p", {"g": "12", "bf": "2"}, {}),
    "vp9.webm": ("webm", "libvpx-vp9", "yuv420p", FAST_VP, {}),
    "vp8-live.webm": ("webm", "libvpx", "yuv420p", FAST_VP, {"live": "1"}),
    "av1.mp4": ("mp4", "libsvtav1", "yuv420p", {"preset": "12", "g": "12"}, {}),
    "mpeg4.avi": ("avi", "mpeg4", "yuv420p", GROUPS, {}),
    "h264.flv": ("flv", "libx264", "yuv420p", {"g": "12", "bf": "2"}, {}),
    "gif.gif": ("gif", "gif", "rgb8", {}, {}),
    "theora.ogg": ("ogg", "libtheora", "yuv420p", {"g": "12"}, {}),
    "vp8.ogg": ("ogg", "libvpx", "yuv420p", FAST_VP, {}),
    "mpeg2.mpg": ("mpeg", "mpeg2video", "yuv420p", GROUPS, {}),
    "mjpeg.mov": ("mov", "mjpeg", "yuvj420p", {}, {}),
    "ffv1.mkv": ("matroska", "ffv1", "yuv420p", {}, {}),
    "h264.h264": ("h264", "libx264", "yuv420p", QUICK, {}),
    "wmv2.asf": ("asf", "wmv2", "yuv420p", {"g": "12"}, {}),
}


def make(name: str) -> bytes | None:
    """The bytes of one clip; None where this PyAV has no such encoder."""
    muxer, codec, pix_fmt, options, muxing = CLIPS[name]
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 -- by name: a muxer may read again what it wrote
    try:
        with av.open(file.name, "w", format=muxer, options=muxing | {"fflags": "+bitexact"}) as out:
            stream = out.add_stream(codec, rate=FPS, options=options)
            stream.width, stream.height, stream.pix_fmt = *SIZE, pix_fmt
            for n in range(COUNT):
                out.mux(stream.encode(picture(n)))
            out.mux(stream.encode(None))
    except (av.codec.codec.UnknownCodecError, av.error.EncoderNotFoundError):
        return None
    return Path(file.name).read_bytes()


def picture(n: int) -> av.VideoFrame:
    """A drifting texture."""
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    noise = np.random.default_rng(0).integers(0, 48, (SIZE[1], SIZE[0]))
    planes = [(x * 3 + n * 2) % 208 + noise, y * 5 % 208 + noise, (x + 2 * y + 9 * n) % 208 + noise]
    frame = av.VideoFrame.from_ndarray(np.stack(planes, axis=-1).astype(np.uint8), format="rgb24")
    frame.pts, frame.time_base = n, Fraction(1, FPS)
    return frame


Data, Rng = bytearray, np.random.Generator


def _span(data: Data, rng: Rng, most: int = 600) -> slice:
    at = int(rng.integers(len(data)))
    return slice(at, at + int(rng.integers(1, most)))


def flip(data: Data, rng: Rng) -> None:
    """Some bits, anywhere."""
    for at in rng.integers(len(data), size=int(rng.integers(1, 60))).tolist():
        data[at] ^= 1 << int(rng.integers(8))


def cut(data: Data, rng: Rng) -> None:
    """The end is missing, or the beginning."""
    at = int(rng.integers(1, len(data)))
    del data[slice(at, None) if rng.random() < 0.8 else slice(0, at)]


def swap(data: Data, rng: Rng) -> None:
    """Two blocks change places."""
    one, other = sorted((_span(data, rng), _span(data, rng)), key=lambda span: span.start)
    data[:] = data[: one.start] + data[other] + data[one.start : other.start] + data[one] + data[other.stop :]


def header(data: Data, rng: Rng) -> None:
    """Some bytes near the start or the end, where containers keep what they know."""
    for _ in range(int(rng.integers(1, 8))):
        at = int(rng.integers(min(len(data), 900)))
        data[at if rng.random() < 0.6 else -1 - at] = int(rng.integers(256))


def lengths(data: Data, rng: Rng) -> None:
    """Numbers that could be lengths or counts are made extreme, or a little wrong."""
    for _ in range(int(rng.integers(1, 4))):
        places = [at for at in rng.integers(max(len(data) - 4, 1), size=400).tolist() if small(data, at)]
        at = places[0] if places else 0
        value = int.from_bytes(data[at : at + 4], "big")
        wrong = (0, 1, value + 1, max(value - 1, 0), 2 * value, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000)
        data[at : at + 4] = struct.pack(">I", wrong[int(rng.integers(len(wrong)))] & 0xFFFFFFFF)


def small(data: Data, at: int) -> bool:
    """Whether a length fit for this file stands at a place."""
    return 0 < int.from_bytes(data[at : at + 4], "big") <= len(data)


def insert(data: Data, rng: Rng) -> None:
    """Noise, zeros, or a copy of a part of the file."""
    at, span = int(rng.integers(len(data))), _span(data, rng)
    size = span.stop - span.start
    data[at:at] = (rng.bytes(size), bytes(size), data[span])[int(rng.integers(3))]


def drop(data: Data, rng: Rng) -> None:
    """A block is missing."""
    del data[_span(data, rng)]


def blank(data: Data, rng: Rng) -> None:
    """A block is zeros, as a disk or a torrent leaves it."""
    span = _span(data, rng, 3000)
    data[span] = bytes(len(data[span]))


MUTATIONS: dict[str, Callable[[Data, Rng], None]] = {
    f.__name__: f for f in (flip, cut, swap, header, lengths, insert, drop, blank)
}
