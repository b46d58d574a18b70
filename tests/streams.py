"""Streams of every codec and structure that decoding treats differently, and samplings of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from media import make_clip
from numpy.typing import NDArray

COUNT = 90
QUIET = {"preset": "ultrafast"}
X264 = {"g": "24", "sc_threshold": "0"}
X265 = "log-level=none:keyint=24:min-keyint=24:scenecut=0"
STREAMS: dict[str, tuple[str, str, dict[str, str]]] = {
    "x264 closed": ("a.mp4", "libx264", X264 | {"bf": "3", "b_strategy": "0", "x264-params": "b-pyramid=none"}),
    "x264 pyramid": ("a.mkv", "libx264", X264 | {"bf": "7", "b-pyramid": "normal", "b_strategy": "2"}),
    "x264 open": ("a.mp4", "libx264", X264 | {"bf": "3", "x264-params": "open-gop=1"}),
    "x264 open ts": ("a.ts", "libx264", X264 | {"bf": "3", "x264-params": "open-gop=1"}),
    "x264 refresh": ("a.mp4", "libx264", X264 | {"bf": "0", "x264-params": "intra-refresh=1"}),
    "x264 low latency": ("a.mp4", "libx264", X264 | {"tune": "zerolatency"}),
    "x264 fields": ("a.mkv", "libx264", X264 | {"bf": "3", "x264-params": "interlaced=1"}),
    "x264 one group": ("a.mp4", "libx264", {"g": "999", "bf": "3", "sc_threshold": "0"}),
    "x265 open": ("a.mp4", "libx265", QUIET | {"x265-params": X265 + ":bframes=4:open-gop=1"}),
    "x265 closed": ("a.mkv", "libx265", QUIET | {"x265-params": X265 + ":bframes=4:open-gop=0"}),
    "x265 radl": ("a.mp4", "libx265", QUIET | {"x265-params": X265 + ":bframes=4:open-gop=0:radl=2"}),
    "x265 layers": ("a.mp4", "libx265", QUIET | {"x265-params": X265 + ":bframes=4:temporal-layers=3"}),
    "VP8": ("a.webm", "libvpx", {"g": "24", "deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1"}),
    "VP9": ("a.webm", "libvpx-vp9", {"g": "24", "deadline": "good", "cpu-used": "8", "auto-alt-ref": "1"}),
    "AV1": ("a.mkv", "libsvtav1", {"g": "24", "preset": "12", "svtav1-params": "film-grain=8"}),
    "MPEG-2": ("a.mkv", "mpeg2video", {"g": "24", "bf": "2", "sc_threshold": "1000000000"}),
    "MPEG-4": ("a.mp4", "mpeg4", {"g": "24", "bf": "0", "sc_threshold": "1000000000"}),
    "MJPEG": ("a.mkv", "mjpeg", {}),
    "FFV1": ("a.mkv", "ffv1", {"g": "24"}),
}


def clip(tmp_path: Path, kind: str) -> Path:
    name, codec, options = STREAMS[kind]
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    try:
        return make_clip(tmp_path / name, codec=codec, count=COUNT, size=(96, 64), options=options, pix_fmt=pix_fmt)
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV has no {codec}")


def samplings() -> Iterator[NDArray[np.int64]]:
    """Sparse and dense, one frame alone, runs, and at random."""
    yield from (np.array([n]) for n in (0, 22, 23, 24, 25, 47, COUNT - 1))
    yield from (np.arange(start, COUNT, step) for start, step in ((0, 1), (3, 2), (0, 5), (7, 30), (20, 24), (26, 60)))
    rng = np.random.default_rng(0)
    yield from (np.sort(rng.choice(COUNT, n, replace=False)) for n in (2, 3, 5, 11, 30))
