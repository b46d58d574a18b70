"""The files that `bench_decode` reads, made with PyAV alone: `bench_decode_clips.py FOLDER SECONDS [NAME...]`.

SECONDS is the length of the 1080p ones; the others have their share of it. A file is made once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from bench_decode_scene import RATE, Bytes, frames

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder speaks up otherwise
MADE: Final = 1  # of what the files hold: a change makes them anew
HD: Final = (1920, 1080)
SMALL: Final = (1280, 720)
COPIES: Final = 8
FULL_S: Final = 120.0  # the length of the figures that are kept


@dataclass(frozen=True, slots=True)
class Clip:
    """How a file is made. `share` of the seconds asked for; `copies`: the same packets again and again."""

    about: str
    codec: str
    options: Mapping[str, str]
    size: tuple[int, int] = SMALL
    share: float = 0.5
    copies: int = 1
    suffix: str = "mp4"
    samples: tuple[str, ...] = field(default=("1 fps",))


CLIPS: Final[Mapping[str, Clip]] = {
    "default": Clip("x264's defaults", "libx264", {}, HD, 1),
    "upload": Clip(
        "three frames in four non-reference",
        "libx264",
        {"x264-params": "keyint=150:bframes=3:b-adapt=0:b-pyramid=none"},
        HD,
        1,
    ),
    "lowdelay": Clip("x264's zerolatency, no B-frames", "libx264", {"tune": "zerolatency"}, HD, 1),
    "hevc": Clip(
        "HEVC, x265's superfast", "libx265", {"preset": "superfast", "crf": "25", "x265-params": "log-level=none"}
    ),
    "vp9": Clip(
        "VP9, realtime, cpu-used 8",
        "libvpx-vp9",
        {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "tile-columns": "2", "g": "240", "b": "3M"},
        suffix="webm",
    ),
    "av1": Clip("AV1, SVT's preset 12", "libsvtav1", {"preset": "12", "crf": "35", "g": "240"}),
    "onegop": Clip("a single key frame", "libx264", {"x264-params": "keyint=infinite:scenecut=0"}),
    "long": Clip(
        "x264's defaults", "libx264", {}, share=5, copies=COPIES, samples=("0.1 fps", "1 fps", "5 fps", "keyframes")
    ),
}


def clip_path(folder: Path, name: str, seconds: float) -> Path:
    """Where a clip lies, made or not."""
    return folder / f"{name}-{seconds:g}s-{MADE}.{CLIPS[name].suffix}"


def ensure(folder: Path, name: str, seconds: float) -> Path:
    """The clip, made if need be: never half of one under its name."""
    path = clip_path(folder, name, seconds)
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            make(part, CLIPS[name], seconds)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return path


def make(path: Path, clip: Clip, seconds: float) -> None:
    """Encode one clip."""
    count = max(round(clip.share * seconds * RATE / clip.copies), 1)
    kind = "webm" if clip.suffix == "webm" else "mp4"
    with av.open(str(path), "w", format=kind) as container:
        stream = add_stream(container, clip)
        packets = encoded(stream, frames(clip.size, count, seed=len(clip.about)))
        for packet in packets if clip.copies == 1 else repeated(list(packets), clip.copies, count):
            container.mux(packet)


def add_stream(container: Any, clip: Clip) -> Any:
    """A video stream with the encoder's own defaults: PyAV's threads by slices would put several into each frame."""
    stream = container.add_stream(clip.codec, rate=RATE, options=dict(clip.options))
    stream.width, stream.height = clip.size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, RATE)
    stream.codec_context.thread_type = "SLICE" if clip.options.get("tune") == "zerolatency" else "AUTO"
    return stream


def encoded(stream: Any, pictures: Iterable[Bytes]) -> Iterator[Any]:
    """The packets."""
    for n, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = n, Fraction(1, RATE)
        yield from stream.encode(frame)
    yield from stream.encode()


def repeated(packets: list[Any], copies: int, count: int) -> Iterator[Any]:
    """The packets of `count` frames one copy after the other, later by its length each time."""
    for copy in range(copies):
        for packet in packets:
            again = av.Packet(bytes(packet))
            again.stream, again.time_base, again.is_keyframe = packet.stream, Fraction(1, RATE), packet.is_keyframe
            again.pts, again.dts, again.duration = packet.pts + copy * count, packet.dts + copy * count, 1
            yield again


def main() -> int:
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    for name in sys.argv[3:] or CLIPS:
        path = ensure(folder, name, seconds)
        print(f"{name}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
