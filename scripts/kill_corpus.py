"""A folder of 60 short inputs, made here in two seconds, each with the status that a run over it must end in.

46 whole videos (one of them under two names), 4 of which a part cannot be read, and 10 that are broken, each in another
way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

WHOLE = 46
SIZES = ((64, 48), (96, 64), (128, 96), (160, 120))
FPS = 24


def make(folder: Path, whole: int = WHOLE) -> dict[str, str]:
    """Fill an empty folder; {file's name: status}. Equal calls make equal bytes."""
    folder.mkdir(parents=True)
    names = [f"whole {n:02}{'.mkv' if n % 3 == 1 else '.mp4'}" for n in range(whole - 1)]
    for n, name in enumerate(names):
        clip(folder / name, frames=FPS // 2 + 5 * (n % 9), size=SIZES[n % len(SIZES)], seed=n)
    shutil.copy(folder / names[0], folder / "whole, a copy.mp4")
    statuses = dict.fromkeys([*names, "whole, a copy.mp4"], "ok")
    for kinds, word in ((PARTIAL, "partial"), (BROKEN, "failed")):
        for name, (spoil, reason) in kinds.items():
            spoil(folder / name)
            statuses[name] = f"{word}:{reason}" if reason else word
    return statuses


def clip(path: Path, frames: int, size: tuple[int, int], seed: int, **muxer: str) -> None:
    """H.264: a texture that moves, stands still for a while and is cut once."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).integers(0, 64, (height, width, 1))
    with av.open(str(path), "w", options=muxer) as out:
        stream: Any = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "8", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for n in range(frames):
            at = min(n, frames // 3) * 4 if n < frames // 2 else 255 - 2 * n
            planes = np.stack([(x * 2 + at) % 192, (y * 3 + seed) % 192, (x + y + at) % 192], axis=-1)
            picture = av.VideoFrame.from_ndarray((planes + noise).astype(np.uint8), format="rgb24")
            out.mux(stream.encode(picture))
        out.mux(stream.encode())


# -- what is damaged ---------------------------------------------------------------------------------------


def shortened(share: float, **muxer: str) -> Callable[[Path], None]:
    """Makes a clip of which only the first `share` has arrived."""

    def spoil(path: Path) -> None:
        clip(path, 80, SIZES[1], seed=len(path.name), **muxer)
        os.truncate(path, int(path.stat().st_size * share))

    return spoil


def scratched(path: Path) -> None:
    """A clip with two packets of zeros, far from its end."""
    clip(path, 80, SIZES[1], seed=11)
    with open(path, "r+b") as file:
        file.seek(188 * (path.stat().st_size // 188 // 3))
        file.write(bytes(2 * 188))


def zeroed(path: Path) -> None:
    """The index is there, the pictures are a hole, as a torrent leaves them."""
    clip(path, 40, SIZES[0], seed=7, movflags="faststart")
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))


def sound(path: Path) -> None:
    """A second of silence, and no picture."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux([*stream.encode(frame), *stream.encode()])


def holding(data: bytes) -> Callable[[Path], None]:
    """Makes a file of these bytes."""

    def spoil(path: Path) -> None:
        path.write_bytes(data)

    return spoil


PARTIAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "ends early.mp4": (shortened(0.6, movflags="faststart"), ""),
    "ends early in fragments.mp4": (shortened(0.7, movflags="frag_keyframe+empty_moov"), ""),
    "ends early.mkv": (shortened(0.5), ""),
    "a scratch.ts": (scratched, ""),
}
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty.mp4": (Path.touch, "empty"),
    "text.mp4": (holding(b"this is no video\n" * 40), "not_video"),
    "noise.mkv": (holding(np.random.default_rng(1).bytes(20_000)), "not_video"),
    "other files.mp4": (holding(b"ffconcat version 1.0\nfile 'whole 00.mp4'\n"), "not_video"),
    "index lost.mp4": (shortened(0.5), "corrupt"),
    "head only.mkv": (shortened(0.02), "corrupt"),
    "a hole.mp4": (zeroed, "corrupt"),
    "sound.mp4": (sound, "no_video"),
    "gone.mp4": (lambda path: path.symlink_to("nowhere.mp4"), "missing"),
    "pipe.mp4": (os.mkfifo, "unreadable"),
}
