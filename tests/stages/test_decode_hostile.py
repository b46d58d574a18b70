"""Every kind of file that a corpus holds, whole or not, and the one status that each ends in."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import B_FRAMES, cut, full_decode, make_audio, make_clip, packet_place, patch, pictures

from vidcomp.stages.decode import DecodeError, Decoder

FAST = {"movflags": "faststart"}
VP = {"deadline": "realtime", "cpu-used": "8"}
Make = Callable[[Path], object]


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as made:
        yield made


def seen(decoder: Decoder, path: Path) -> tuple[str, int]:
    """(status, how many frames came)."""
    try:
        source = decoder.open(path)
        got = sum(len(batch) for batch in source.frames(np.arange(len(source.pts_s))))
    except DecodeError as error:
        return error.status if error.message and error.fix and str(error).isprintable() else repr(error), 0
    return source.outcome.status, got


def part(share: float, name: str, **how: object) -> Make:
    """The first `share` of a clip of 100 frames."""
    return lambda path: cut(make_clip(path.with_name(f"whole-{name}"), count=100, **how), share, path)


def until(word: bytes, name: str, more: int = 0, **how: object) -> Make:
    """A clip up to the place where its frames begin."""

    def make(path: Path) -> None:
        data = make_clip(path.with_name(f"whole-{name}"), **how).read_bytes()
        path.write_bytes(data[: data.index(word) + more])

    return make


def claims(word: bytes, after: int, claim: bytes, **how: object) -> Make:
    """A clip of ten frames with bytes of a header overwritten, `after` the end of a word."""

    def make(path: Path) -> None:
        data = make_clip(path, count=10, **how).read_bytes()
        patch(path, data.index(word) + len(word) + after, claim)

    return make


def joined(**second: object) -> Make:
    """Two recordings, one behind the other."""

    def make(path: Path) -> None:
        first = make_clip(path.with_name("1.ts"), count=20, pts_s=[5 + n / 25 for n in range(20)])
        other = make_clip(path.with_name("2.ts"), count=20, seed=1, **second)
        path.write_bytes(first.read_bytes() + other.read_bytes())

    return make


def two_streams(path: Path) -> None:
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, size in zip(streams, ((64, 48), (96, 64)), strict=True):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for both in zip(pictures(10), pictures(10, (96, 64)), strict=True):
            for stream, picture in zip(streams, both, strict=True):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            out.mux(stream.encode(None))


def damaged_middle(path: Path) -> None:
    make_clip(path, count=60, options={"bf": "0", "g": "15", "sc_threshold": "0"})
    at, size = packet_place(path, 20)
    patch(path, at, b"\xff" * size)


def named(other: str) -> Make:
    return lambda path: make_clip(path.with_name(other)).rename(path)


def gap(jump_s: float) -> Make:
    return lambda p: make_clip(p, pts_s=[n / 25 + (n >= 15) * jump_s for n in range(30)], time_base=Fraction(1, 1000))


def behind(tail: bytes) -> Make:
    return lambda path: path.write_bytes(make_clip(path.with_name("w.mp4")).read_bytes() + tail)


H8K = struct.pack(">HH", 16384, 16384)
# kind: (file name, how it is made, status, frames that come; None where that is the codec's affair)
KINDS: dict[str, tuple[str, Make, str, int | None]] = {
    **{
        f"index first, {s:.0%}": ("a.mp4", part(s, "a.mp4", container_options=FAST), "partial", None)
        for s in (0.5, 0.9)
    },
    "index first, 10%": ("a.mp4", part(0.1, "a.mp4", container_options=FAST), "failed:corrupt", 0),
    **{f"index last, {s:.0%}": ("a.mp4", part(s, "a.mp4"), "failed:corrupt", 0) for s in (0.1, 0.5, 0.9)},
    **{f"mkv, {s:.0%}": ("a.mkv", part(s, "a.mkv", options=B_FRAMES), "partial", None) for s in (0.1, 0.5, 0.9)},
    **{
        f"webm, {s:.0%}": ("a.webm", part(s, "a.webm", codec="libvpx", options=VP), "partial", None) for s in (0.5, 0.9)
    },
    "avi, 90%": ("a.avi", part(0.9, "a.avi"), "partial", None),
    "ts, 50%: it says nowhere how long it is": ("a.ts", part(0.5, "a.ts", options={"bf": "0"}), "ok", None),
    "damaged in the middle": ("a.mp4", damaged_middle, "partial", 59),
    "header only, mp4": ("a.mp4", until(b"mdat", "a.mp4", 4, container_options=FAST), "failed:corrupt", 0),
    "header only, mp4 with its index last": ("a.mp4", until(b"mdat", "a.mp4", 4), "failed:corrupt", 0),
    "header only, mkv": ("a.mkv", until(b"\x1f\x43\xb6\x75", "a.mkv"), "failed:corrupt", 0),
    "header only, 100 bytes of mkv": ("a.mkv", until(b"", "a.mkv", 100), "failed:corrupt", 0),
    "header only, avi": ("a.avi", until(b"movi", "a.avi", 4), "failed:corrupt", 0),
    "header only, flv": ("a.flv", until(b"FLV", "a.flv", 13), "failed:corrupt", 0),
    "header only, gif": ("a.gif", until(b"GIF8", "a.gif", 9, codec="gif", pix_fmt="rgb8"), "failed:corrupt", 0),
    "zero byte": ("a.mp4", lambda p: p.touch(), "failed:empty", 0),
    "audio only": ("a.mp4", make_audio, "failed:no_video", 0),
    "cover art only": ("a.mp4", lambda p: make_audio(p, cover=True), "failed:no_video", 0),
    "two video streams": ("a.mp4", two_streams, "ok", 10),
    "one frame": ("a.mp4", lambda p: make_clip(p, count=1), "ok", 1),
    "index last": ("a.mp4", make_clip, "ok", 30),
    "no duration, mkv": ("a.mkv", lambda p: make_clip(p, container_options={"live": "1"}), "ok", 30),
    "no duration, webm": (
        "a.webm",
        lambda p: make_clip(p, codec="libvpx-vp9", options=VP, container_options={"live": "1"}),
        "ok",
        30,
    ),
    "an mkv called txt": ("a.txt", named("w.mkv"), "ok", 30),
    "an mp4 called avi": ("a.avi", named("w.mp4"), "ok", 30),
    "turned and mirrored": ("a.mp4", lambda p: make_clip(p, rotation=(90, True, False)), "ok", 30),
    "interlaced": (
        "a.mkv",
        lambda p: make_clip(p, codec="mpeg2video", size=(64, 64), options={"flags": "+ilme+ildct"}),
        "ok",
        30,
    ),
    "10 bits, 4:2:2": ("a.mkv", lambda p: make_clip(p, pix_fmt="yuv422p10le"), "ok", 30),
    "4:4:4, odd size": ("a.mp4", lambda p: make_clip(p, pix_fmt="yuv444p", size=(65, 49)), "ok", 30),
    "full range": ("a.mp4", lambda p: make_clip(p, pix_fmt="yuvj420p"), "ok", 30),
    "alpha": ("a.webm", lambda p: make_clip(p, codec="libvpx-vp9", pix_fmt="yuva420p", options=VP), "ok", 30),
    "16K in the sample entry only": ("a.mp4", claims(b"avc1", 24, H8K), "ok", 10),
    "16K in the track header only": ("a.mp4", claims(b"tkhd", 76, b"\x40\0\0\0" * 2), "ok", 10),
    "16K in the container's header only": (
        "a.ivf",
        claims(b"DKIF", 8, struct.pack("<HH", 16383, 16383), codec="libvpx", options=VP),
        "ok",
        10,
    ),
    "16K in the bitstream": (
        "a.ivf",
        claims(b"\x9d\x01\x2a", 0, struct.pack("<HH", 16383, 16383), codec="libvpx", options=VP),
        "failed:too_large",
        0,
    ),
    "64K in a gif": ("a.gif", claims(b"GIF89a", 0, b"\xff" * 4, codec="gif", pix_fmt="rgb8"), "failed:too_large", 0),
    "another size in mid-stream": (
        "a.ts",
        joined(size=(96, 64), pts_s=[5.8 + n / 25 for n in range(20)]),
        "partial",
        40,
    ),
    "a clock set back": ("a.ts", joined(), "partial", 40),
    "sound that begins in mid-file": (
        "a.ts",
        joined(audio_s=1, pts_s=[5.8 + n / 25 for n in range(20)]),
        "partial",
        40,
    ),
    "a gap of ten minutes": ("a.mp4", gap(600), "ok", 30),
    "a gap of fifty years": ("a.mkv", gap(1.6e9), "failed:too_large", 0),
    "junk behind it": ("a.mp4", behind(b"junk" * 5000), "ok", 30),
    "zeros behind it": ("a.mp4", behind(bytes(5000)), "ok", 30),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_status_for_each_kind(decoder: Decoder, tmp_path: Path, kind: str) -> None:
    name, make, status, frames = KINDS[kind]
    make(tmp_path / name)
    found, got = seen(decoder, tmp_path / name)
    assert found == status
    assert got == (frames if frames is not None else len(full_decode(tmp_path / name)[0]))


def grey(path: Path, value: int, pix_fmt: str) -> Path:
    """A clip of one shade, its luma as given."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        frame = av.VideoFrame(64, 48, pix_fmt)
        for plane, shade in zip(frame.planes, (value, 128, 128), strict=True):
            plane.update(bytes([shade]) * plane.buffer_size)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("pix_fmt", "white", "black"), [("yuvj420p", 255, 0), ("yuv420p", 235, 16)])
def test_white_is_white_and_black_is_black_in_either_range(
    decoder: Decoder, tmp_path: Path, pix_fmt: str, white: int, black: int
) -> None:
    for luma, shade in ((white, 255), (black, 0)):
        source = decoder.open(grey(tmp_path / "a.mp4", luma, pix_fmt))
        (batch,) = source.frames(np.arange(1))
        assert abs(batch.data.float().mean() - shade) < 2


def test_the_gap_is_no_damage_and_a_deadline_may_be_any_number(tmp_path: Path) -> None:
    gap(1.6e9)(tmp_path / "a.mkv")
    with Decoder(max_duration_s=1e10, deadline_s=1e10) as decoder:
        assert seen(decoder, tmp_path / "a.mkv") == ("ok", 30)
