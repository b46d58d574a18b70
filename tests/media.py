"""Clips for tests, made here with PyAV, and what PyAV itself decodes from them: no downloads, no ffmpeg binary."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

B_FRAMES = {"bf": "2", "g": "12", "b-adapt": "0", "sc_threshold": "0"}
"""x264 options: groups of 12 with two B-frames between others."""


def pictures(count: int, size: tuple[int, int] = (64, 48), seed: int = 0) -> Iterator[Picture]:
    """`count` different pictures uint8 (H,W,3), `size` (width, height): a drifting texture without any symmetry."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).integers(0, 48, (height, width))
    for n in range(count):
        planes = [(x * 3 + n * 2) % 208 + noise, y * 5 % 208 + noise, (x + 2 * y + 9 * n) % 208 + noise]
        yield np.stack(planes, axis=-1).astype(np.uint8)


def make_clip(
    path: Path,
    *,
    codec: str = "libx264",
    count: int = 30,
    fps: int = 25,
    size: tuple[int, int] = (64, 48),
    pts_s: Sequence[float] | None = None,
    time_base: Fraction | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    audio_s: float = 0.0,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    container: str | None = None,
    pix_fmt: str = "yuv420p",
    seed: int = 0,
) -> Path:
    """Write `pictures(count, size, seed)` and return `path`.

    `pts_s`: seconds of each frame, on `time_base` (default 1/90000); None: regular at `fps`. `rotation`: PyAV's
    (degrees counter-clockwise, then hflip, then vflip) for players to apply; pixels are stored as they are. `audio_s`:
    seconds of silence beside it. `options`: the encoder's; `container_options`: the muxer's; `container`: its name,
    where the suffix does not say.
    """
    with av.open(str(path), "w", format=container, options=dict(container_options or {})) as out:
        stream = out.add_stream(codec, rate=fps, options=dict(options or {}))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        base = time_base or (Fraction(1, 90000) if pts_s is not None else Fraction(1, fps))
        stream.codec_context.time_base = base
        if rotation is not None:
            stream.set_display_rotation(*rotation)
        silence = out.add_stream("aac", rate=8000, layout="mono") if audio_s else None
        for n, picture in enumerate(pictures(count, size, seed)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = (
                n if pts_s is None and time_base is None else round((n / fps if pts_s is None else pts_s[n]) / base)
            )
            frame.time_base = base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if silence is not None:
            _write_silence(out, silence, audio_s)
    return path


def make_audio(path: Path, seconds: float = 1.0, cover: bool = False) -> Path:
    """A file with sound only; `cover` adds a picture as music files have them."""
    with av.open(str(path), "w") as out:
        silence = out.add_stream("aac", rate=8000, layout="mono")
        if cover:
            stream = out.add_stream("mjpeg", rate=1)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            stream.disposition = Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(next(pictures(1)), format="rgb24")
            packets = [*stream.encode(frame), *stream.encode(None)]
            out.mux(packets)
        _write_silence(out, silence, seconds)
    return path


def _write_silence(out: OutputContainer, stream: Any, seconds: float) -> None:
    for n in range(round(seconds * 8000 / 1024)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, n * 1024, Fraction(1, 8000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def cut(path: Path, share: float, to: Path, start: float = 0.0) -> Path:
    """The bytes of `path` from `start` to `share` of its length, as a broken download or recording leaves them."""
    data = path.read_bytes()
    to.write_bytes(data[round(start * len(data)) : round(share * len(data))])
    return to


def patch(path: Path, at: int, data: bytes) -> Path:
    """Overwrite bytes in place."""
    whole = bytearray(path.read_bytes())
    whole[at : at + len(data)] = data
    path.write_bytes(whole)
    return path


def packet_place(path: Path, number: int) -> tuple[int, int]:
    """(position, size) in the file of a video packet, counted in decode order."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(_best(container)) if p.size]
        pos = packets[number].pos
        assert pos is not None
        return pos, packets[number].size


def full_decode(
    path: Path, *, only: Collection[int] | None = None, size: tuple[int, int] | None = None
) -> tuple[list[float], dict[int, Picture]]:
    """(pts in seconds of every frame, pictures as stored by number) as PyAV decodes the whole file with one thread.

    What other decoding is held to. Packets that do not decode are passed over; `only`: the numbers of the pictures to
    make; `size` (width, height) to scale them to.
    """
    times, decoded = list[float](), dict[int, Picture]()
    width, height = size or (None, None)
    for frame in _frames(path):
        if only is None or len(times) in only:
            decoded[len(times)] = frame.to_ndarray(format="rgb24", width=width, height=height)
        times.append(float("nan") if frame.time is None else frame.time)
    return times, decoded


def _frames(path: Path) -> Iterator[Any]:
    with av.open(str(path)) as container:
        stream = _best(container)
        stream.thread_count = 1  # threads conceal damage differently
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                continue


def _best(container: Any) -> Any:
    return container.streams.best("video")
