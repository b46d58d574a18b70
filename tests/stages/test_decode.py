"""What comes out of a file: the right frames at the right times, and one verdict on all that is wrong with it."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media import B_FRAMES, cut, full_decode, make_audio, make_clip, packet_place, patch
from numpy.typing import NDArray

from vidcomp.models.types import Frames
from vidcomp.stages import decode_talk
from vidcomp.stages.decode import DecodeError, Decoder, Outcome, Source
from vidcomp.stages.decode_feed import Feed
from vidcomp.stages.sample_rate import plan_fps

OPEN_GOP = B_FRAMES | {"x264-params": "open-gop=1"}
VFR_S = [0, 0.2, 0.4, 0.6, 0.633, 0.666, 0.7, 1.9, 1.95, 2.0]


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as made:
        yield made


def read(source: Source, index: NDArray[np.int64] | None = None) -> tuple[NDArray[np.uint8], list[float], list[int]]:
    """Pictures, pts and indices of all batches; every frame unless `index` says which."""
    batches = list(source.frames(np.arange(len(source.pts_s)) if index is None else index))
    pictures = [picture for batch in batches for picture in batch.data.numpy()]
    times = [t for batch in batches for t in batch.pts_s.tolist()]
    return np.stack(pictures), times, [i for batch in batches for i in batch.index.tolist()]


def stacked(pictures: dict[int, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack(list(pictures.values()))


def expect_all(decoder: Decoder, path: Path) -> Source:
    """Every frame as PyAV itself decodes it, at its own pts, in a file without fault."""
    source = decoder.open(path)
    times, pictures = full_decode(path)
    got, got_times, index = read(source)
    assert got_times == times == source.pts_s.tolist()
    assert index == list(range(len(times)))
    assert np.array_equal(got, stacked(pictures))
    assert source.outcome == Outcome("ok", source.info.declared_frames, len(times), (), 0, "")
    return source


# -- frames and times --------------------------------------------------------------------------------

CLIPS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "B-frames": ("a.mp4", lambda p: make_clip(p, options=B_FRAMES)),
    "B-frames mkv": ("a.mkv", lambda p: make_clip(p, options=B_FRAMES)),
    "B-frames flv": ("a.flv", lambda p: make_clip(p, options=B_FRAMES)),
    "fragmented": ("a.mp4", lambda p: make_clip(p, container_options={"movflags": "frag_keyframe+empty_moov"})),
    "transport stream": ("a.ts", lambda p: make_clip(p, options=B_FRAMES)),
    "interlaced stream": ("a.ts", lambda p: make_clip(p, size=(64, 64), options={"x264-params": "interlaced=1"})),
    "variable rate": ("a.mp4", lambda p: make_clip(p, count=10, pts_s=VFR_S)),
    "variable rate mkv": ("a.mkv", lambda p: make_clip(p, count=10, pts_s=VFR_S, options=B_FRAMES)),
    "late start": ("a.mp4", lambda p: make_clip(p, pts_s=[7.5 + n / 25 for n in range(30)])),
    "early start": ("a.mkv", lambda p: make_clip(p, pts_s=[n / 25 - 0.2 for n in range(30)], options=B_FRAMES)),
    "odd size": ("a.mp4", lambda p: make_clip(p, size=(67, 53), pix_fmt="yuv444p")),
    "ten bits": ("a.mp4", lambda p: make_clip(p, pix_fmt="yuv420p10le")),
    "one frame": ("a.mp4", lambda p: make_clip(p, count=1)),
    "HEVC": ("a.mp4", lambda p: make_clip(p, codec="libx265", options={"x265-params": "log-level=none"})),
    "VP9": ("a.webm", lambda p: make_clip(p, codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})),
    "MPEG-4 part 2": ("a.mp4", lambda p: make_clip(p, codec="mpeg4", options={"bf": "2"})),
    "MPEG-2 program stream": ("a.mpg", lambda p: make_clip(p, codec="mpeg2video")),
    "GIF": ("a.gif", lambda p: make_clip(p, codec="gif", pix_fmt="rgb8")),
    "sound beside it": ("a.mp4", lambda p: make_clip(p, audio_s=2)),
}


@pytest.mark.parametrize("kind", CLIPS)
def test_every_frame_is_the_one_pyav_decodes(decoder: Decoder, tmp_path: Path, kind: str) -> None:
    name, make = CLIPS[kind]
    make(tmp_path / name)
    source = expect_all(decoder, tmp_path / name)
    assert source.info.has_audio == (kind == "sound beside it")
    assert source.info.variable_rate == kind.startswith("variable rate")
    assert source.end_s > source.pts_s[-1]


def test_only_what_is_wanted_comes_and_in_order(decoder: Decoder, tmp_path: Path) -> None:
    source = decoder.open(make_clip(tmp_path / "a.mp4", count=60, options=B_FRAMES))
    times, pictures = full_decode(tmp_path / "a.mp4")
    for wanted in ([0], [59], [3, 4, 5, 40], list(range(1, 60, 7))):
        got, got_times, index = read(source, np.array(wanted))
        assert index == wanted
        assert got_times == [times[i] for i in wanted]
        assert np.array_equal(got, np.stack([pictures[i] for i in wanted]))
        assert source.outcome.status == "ok"


def test_batches_are_bounded_and_stay_valid(decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = decoder.open(make_clip(tmp_path / "a.mp4", count=20))
    _, pictures = full_decode(tmp_path / "a.mp4")
    for room, most in ((3.5, 3), (0.1, 1), (100, 20)):
        monkeypatch.setattr(decode_talk, "SLOT_BYTES", round(64 * 48 * 3 * room))
        batches: list[Frames] = list(source.frames(np.arange(20)))
        assert max(len(b) for b in batches) == most
        assert np.array_equal(torch.cat([b.data for b in batches]).numpy(), stacked(pictures))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize(("hflip", "vflip"), [(False, False), (True, False), (False, True)])
def test_pictures_are_upright(decoder: Decoder, tmp_path: Path, degrees: int, hflip: bool, vflip: bool) -> None:
    path = make_clip(tmp_path / "a.mp4", count=3, rotation=(degrees, hflip, vflip))
    source = decoder.open(path)
    got, _, _ = read(source)
    for picture, stored in zip(got, full_decode(path)[1].values(), strict=True):
        turned = np.rot90(stored, k=degrees // 90)  # counter-clockwise, as `rotation` is here
        turned = turned[:, ::-1] if hflip else turned
        turned = turned[::-1] if vflip else turned
        assert np.array_equal(picture, turned)
    assert (source.info.height, source.info.width) == got.shape[1:3]
    assert source.info.mirrored == (hflip or vflip)
    if not source.info.mirrored:
        assert source.info.rotation == -degrees % 360


def test_frames_of_another_size_are_scaled_and_a_restarted_clock_goes_on(decoder: Decoder, tmp_path: Path) -> None:
    first, second = (
        make_clip(tmp_path / "a.ts", count=10),
        make_clip(tmp_path / "b.ts", count=10, size=(96, 64), seed=1),
    )
    (tmp_path / "c.ts").write_bytes(first.read_bytes() + second.read_bytes())
    source = decoder.open(tmp_path / "c.ts")
    got, times, _ = read(source)
    _, pictures = full_decode(tmp_path / "c.ts", size=(64, 48))
    assert np.array_equal(got, stacked(pictures))
    assert np.allclose(np.diff(times), 0.04)
    assert len(times) == 20


@pytest.mark.parametrize(
    ("name", "codec", "start_s"), [("a.h264", "libx264", 0), ("a.avi", "libx264", 0.04), ("a.mpg", "mpeg2video", 0.54)]
)
def test_containers_without_times_for_b_frames(
    decoder: Decoder, tmp_path: Path, name: str, codec: str, start_s: float
) -> None:
    """PyAV itself has no times for the first, unsorted ones for the second and two the same for the third."""
    options = B_FRAMES if codec == "libx264" else {"bf": "2"}
    source = decoder.open(make_clip(tmp_path / name, count=40, codec=codec, options=options))
    got, times, _ = read(source)
    assert np.allclose(times, start_s + np.arange(40) / 25)
    assert np.array_equal(got, stacked(full_decode(tmp_path / name)[1]))
    some, _, index = read(source, np.array([5, 30]))
    assert index == [5, 30]
    assert np.array_equal(some, got[[5, 30]])


@pytest.mark.parametrize("options", [B_FRAMES, OPEN_GOP], ids=["closed", "open"])
def test_a_recording_begun_in_the_middle_starts_at_its_first_whole_frame(
    decoder: Decoder, tmp_path: Path, options: dict[str, str]
) -> None:
    whole = make_clip(tmp_path / "whole.ts", count=60, options=options)
    size = whole.stat().st_size
    middle = cut(whole, 1.0, tmp_path / "middle.ts", start=(size // 188 // 3) * 188 / size)
    source = expect_all(decoder, middle)
    assert 20 < source.info.frames < 60
    with av.open(str(middle)) as container:
        assert sum(bool(p.size) for p in container.demux(video=0)) > source.info.frames


def test_what_cannot_decode_before_the_first_key_frame_is_no_error(tmp_path: Path) -> None:
    options = {"bf": "0", "g": "50", "keyint_min": "50", "sc_threshold": "0"}
    whole = make_clip(tmp_path / "whole.ts", count=60, options=options)
    middle = cut(whole, 1.0, tmp_path / "middle.ts", start=0.2)
    failed = 0
    with av.open(str(middle), options={"probesize": "5000"}) as container:  # the parameter sets come later
        for packet in container.demux(video=0):
            try:
                packet.decode()
            except av.error.FFmpegError:
                failed += 1
    with av.open(str(middle), options={"probesize": "5000"}) as container:
        feed = Feed(container, container.streams.video[0], threads=1)
        assert (len(list(feed.frames())), feed.errors) == (10, 0)
    assert failed > 10


def test_a_packet_for_reference_only_is_no_frame(decoder: Decoder, tmp_path: Path) -> None:
    make_clip(tmp_path / "a.webm", codec="libvpx", count=10, options={"deadline": "realtime", "cpu-used": "8"})
    with av.open(str(tmp_path / "a.webm")) as source, av.open(str(tmp_path / "b.webm"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for n, packet in enumerate(p for p in source.demux(video=0) if p.size):
            data = bytearray(bytes(packet))
            data[0] &= 0xFF if n % 4 else 0xEF if n else 0xFF  # packets 4 and 8: decoded, not shown
            hidden = av.Packet(bytes(data))
            hidden.pts, hidden.dts, hidden.time_base, hidden.stream = packet.pts, packet.dts, packet.time_base, stream
            hidden.is_keyframe = packet.is_keyframe
            out.mux(hidden)
    assert expect_all(decoder, tmp_path / "b.webm").info.frames == 8


def test_an_edit_list_that_ends_early_is_no_damage(decoder: Decoder, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", count=60, options=B_FRAMES)
    at = path.read_bytes().index(b"elst") + 12
    (length,) = struct.unpack_from(">I", path.read_bytes(), at)
    patch(path, at, struct.pack(">I", length // 2))
    source = expect_all(decoder, path)
    assert source.info.declared_frames == 60
    assert 28 <= source.info.frames <= 34


def test_sound_may_be_longer_than_the_picture(decoder: Decoder, tmp_path: Path) -> None:
    assert expect_all(decoder, make_clip(tmp_path / "a.mkv", audio_s=5)).info.duration_s == pytest.approx(1.2)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_rounded_ticks_are_no_variable_rate(decoder: Decoder, tmp_path: Path, name: str) -> None:
    pts_s = [n * 1001 / 30000 for n in range(60)]
    info = decoder.open(make_clip(tmp_path / name, count=60, pts_s=pts_s, time_base=Fraction(1, 1000))).info
    assert not info.variable_rate
    assert info.fps == pytest.approx(30000 / 1001, rel=1e-3)


def test_facts_are_plain_values(decoder: Decoder, tmp_path: Path) -> None:
    source = decoder.open(make_clip(tmp_path / "a.mp4", count=50, options=B_FRAMES, audio_s=2))
    facts = source.info.to_json()
    wanted = {"codec": "h264", "width": 64, "height": 48, "rotation": 0, "duration_s": 2.0, "fps": 25.0, "frames": 50}
    assert wanted.items() <= facts.items()
    assert type(source.info).from_json(facts) == source.info
    assert np.flatnonzero(source.key).tolist() == [0, 12, 24, 36, 48]


@pytest.mark.parametrize(
    ("index", "says"), [([[0]], "ascending"), ([3, 2], "ascending"), ([2, 2], "ascending"), ([-1], "in"), ([30], "in")]
)
def test_an_index_out_of_order_or_range_is_refused(
    decoder: Decoder, tmp_path: Path, index: list[int], says: str
) -> None:
    source = decoder.open(make_clip(tmp_path / "a.mp4"))
    with pytest.raises(ValueError, match=says):
        source.frames(np.array(index))


def test_no_frames_wanted(decoder: Decoder, tmp_path: Path) -> None:
    source = decoder.open(make_clip(tmp_path / "a.mp4"))
    with pytest.raises(RuntimeError, match="read to its end"):
        _ = source.outcome
    assert list(source.frames(np.array([], np.int64))) == []
    assert source.outcome.status == "ok"


# -- files that are not whole ------------------------------------------------------------------------

FAST = {"movflags": "faststart"}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.flv"])
def test_half_a_file_is_partial(decoder: Decoder, tmp_path: Path, name: str) -> None:
    options = FAST if name == "a.mp4" else {}
    whole = make_clip(tmp_path / name, count=100, options=B_FRAMES, audio_s=4, container_options=options)
    half = cut(whole, 0.5, tmp_path / f"half-{name}")
    source = decoder.open(half)
    got, _, index = read(source)
    outcome = source.outcome
    _, pictures = full_decode(half)
    assert (outcome.status, outcome.declared) == ("partial", {"a.mp4": 100, "a.avi": 102}.get(name))
    assert outcome.decoded == len(index) == len(pictures) < 70
    assert outcome.why
    assert np.array_equal(got, stacked(pictures))


def test_fragments_cut_in_the_middle_of_one_are_partial(decoder: Decoder, tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "a.mp4", count=60, container_options={"movflags": "frag_keyframe+empty_moov"})
    source = decoder.open(cut(whole, 0.5, tmp_path / "half.mp4"))
    assert read(source, np.array([0]))[2] == [0]
    assert source.outcome.status == "partial"


def damaged(path: Path) -> Path:
    """60 frames; a frame in the middle cannot be decoded, so that those after it are concealed or lost."""
    make_clip(path, count=60, options={"bf": "0", "g": "15", "sc_threshold": "0"})
    at, size = packet_place(path, 20)
    return patch(path, at, b"\xff" * size)


def test_a_damaged_middle_is_reported_and_the_rest_comes(decoder: Decoder, tmp_path: Path) -> None:
    path = damaged(tmp_path / "a.mp4")
    source = decoder.open(path)
    got, got_times, index = read(source)
    times, pictures = full_decode(path)
    assert got_times == times
    assert np.array_equal(got, stacked(pictures))
    outcome = source.outcome
    assert (outcome.status, outcome.missing, outcome.declared, outcome.decoded) == ("partial", (20,), 60, 59)
    assert outcome.errors >= 1
    assert sorted([*index, 20]) == list(range(60))
    assert read(source, np.arange(0, 20))[2] == list(range(20))  # nothing wrong as far as that
    assert source.outcome.status == "ok"
    assert read(source, np.array([0, 29]))[2] == [0, 29]  # the damage lies on the way
    assert (source.outcome.status, source.outcome.missing) == ("partial", ())
    assert read(source, np.array([0, 30]))[2] == [0, 30]  # another group of pictures begins at 30
    assert (source.outcome.status, source.outcome.missing) == ("partial", ())  # its parser has met the damage


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
def test_damaged_pictures_do_not_depend_on_threads(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(3)
    path = make_clip(tmp_path / name, count=60, size=(160, 128), options=B_FRAMES | {"slices": "4"})
    for at in rng.integers(path.stat().st_size // 4, path.stat().st_size - 40, 12).tolist():
        patch(path, at, rng.bytes(2))
    seen = []
    for threads in (1, 4):
        with Decoder(threads=threads) as decoder:
            source = decoder.open(path)
            seen.append((*read(source), source.outcome))
    assert seen[0][1:] == seen[1][1:]
    assert np.array_equal(seen[0][0], seen[1][0])
    assert seen[0][3].errors > 0


# -- files that give no frames -----------------------------------------------------------------------


def lost_index(path: Path) -> None:
    cut(make_clip(path.with_name("whole.mp4"), count=60), 0.5, path)


def all_damaged(path: Path) -> None:
    make_clip(path, count=5)
    for n in range(5):
        patch(path, packet_place(path, n)[0], b"\xff" * packet_place(path, n)[1])


def no_permission(path: Path) -> None:
    loop = path.with_name("loop")
    os.symlink(loop, path)
    os.symlink(path, loop)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


FAILURES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "nothing": ("missing", lambda p: None),
    "a folder": ("unreadable", lambda p: p.mkdir()),
    "a fifo": ("unreadable", lambda p: os.mkfifo(p)),
    "a socket": ("unreadable", unix_socket),
    "a loop": ("unreadable", no_permission),
    "empty": ("empty", lambda p: p.touch()),
    "text": ("not_video", lambda p: p.write_text("not a video\n" * 99)),
    "zeros": ("not_video", lambda p: p.write_bytes(bytes(99999))),
    "noise": ("not_video", lambda p: p.write_bytes(np.random.default_rng(0).bytes(99999))),
    "a list of other files": ("not_video", lambda p: p.write_text(f"ffconcat version 1.0\nfile {victim(p)}\n")),
    "a playlist": ("not_video", lambda p: p.write_text(f"#EXTM3U\n#EXTINF:9,\nfile://{victim(p)}\n#EXT-X-ENDLIST\n")),
    "subtitles": ("not_video", lambda p: p.write_text("1\n00:00:00,000 --> 00:00:01,000\nhi\n\n")),
    "an image": ("not_video", lambda p: make_clip(p, codec="png", count=1, container="image2pipe", pix_fmt="rgb24")),
    "sound": ("no_video", make_audio),
    "sound with a cover": ("no_video", lambda p: make_audio(p, cover=True)),
    "an index lost": ("corrupt", lost_index),
    "every packet damaged": ("corrupt", all_damaged),
}


def victim(path: Path) -> Path:
    return make_clip(path.with_name("victim.mp4"), count=2)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_has_a_reason_and_one_line(decoder: Decoder, tmp_path: Path, kind: str) -> None:
    reason, make = FAILURES[kind]
    make(tmp_path / "bad.mp4")
    with pytest.raises(DecodeError) as caught:
        decoder.open(tmp_path / "bad.mp4")
    error = caught.value
    assert error.reason == reason
    assert error.message
    assert error.fix
    assert "\n" not in str(error)


def test_lists_of_other_files_would_be_followed_without_the_allow_list(tmp_path: Path) -> None:
    listing = tmp_path / "list.mp4"
    listing.write_text(f"ffconcat version 1.0\nfile '{victim(listing)}'\n")
    with av.open(str(listing), options={"safe": "0"}) as container:  # else the test above proves nothing
        assert container.format.name == "concat"


def test_a_frame_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4")
    with Decoder(max_pixels=64 * 48 - 1) as decoder, pytest.raises(DecodeError, match="64x48") as caught:
        decoder.open(path)
    assert caught.value.reason == "too_large"
    with Decoder(max_pixels=64 * 48) as decoder:
        assert decoder.open(path).info.frames == 30


@pytest.mark.parametrize("name", [b"a\nb.mp4", b"\xff\xfe.mp4", b"concat:x|y.mp4", b"%03d.mp4", b"-i.mp4", b" .mp4"])
def test_names_are_only_names(decoder: Decoder, tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / os.fsdecode(name)
    make_clip(tmp_path / "a.mp4", count=3).rename(path)
    monkeypatch.chdir(tmp_path)
    assert decoder.open(path).info.frames == decoder.open(os.fsdecode(name)).info.frames == 3


# -- real clips --------------------------------------------------------------------------------------

REAL = [
    *("av1_video.mkv", "bigbuckbunny.mp4", "bikes.mp4", "bt709_full_range.mp4", "flipping_a_pancake.mkv"),
    *("h264_10bits.mp4", "h265_10bits.mp4", "h265_video.mp4", "nasa_13013.mp4", "test_clip_10s.mp4"),
    *("test_video_30s.mp4", "unordered.mov", "video_0.mov", "video_90.mov", "video_180.mov", "video_270.mov"),
]
TURNS = {"video_90.mov": 90, "video_180.mov": 180, "video_270.mov": 270}


@pytest.mark.parametrize("name", REAL)
def test_a_real_clip(decoder: Decoder, shared: Path, name: str) -> None:
    path = shared / "videos" / name
    source = decoder.open(path)
    wanted = plan_fps(source.pts_s, source.end_s, 2.0)
    got, got_times, index = read(source, wanted)
    times, pictures = full_decode(path, only=set(wanted.tolist()))
    assert index == wanted.tolist()
    assert got_times == [times[i] for i in index]
    assert source.pts_s.tolist() == times
    turn = TURNS.get(name, 0)
    assert source.info.rotation == turn
    for picture, i in zip(got, index, strict=True):
        assert np.array_equal(picture, np.rot90(pictures[i], k=-turn // 90))
    assert (source.outcome.status, source.info.variable_rate) == ("ok", False)


def test_the_stream_that_ffmpeg_would_play(decoder: Decoder, shared: Path) -> None:
    info = decoder.open(shared / "videos" / "nasa_13013.mp4").info
    assert (info.width, info.height, info.frames) == (480, 270, 390)
    assert info.fps == pytest.approx(30000 / 1001)
    assert info.has_audio


def test_the_corrupted_clip(decoder: Decoder, shared: Path) -> None:
    source = decoder.open(shared / "videos" / "corrupted.mp4")
    read(source)
    outcome = source.outcome
    assert (outcome.status, outcome.declared, outcome.decoded, len(outcome.missing)) == ("partial", 50, 49, 1)
