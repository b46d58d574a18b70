"""What a file may ask for: pixels, frames, time, memory, words; more is refused, in the child, before it is given."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import InputContainer
from av.video.stream import VideoStream
from media import B_FRAMES, cut, make_clip, packet_place, patch

from vidcomp.stages import decode_probe, decode_talk
from vidcomp.stages.decode import DecodeError, Decoder
from vidcomp.stages.decode_ends import segment_end
from vidcomp.stages.decode_feed import Feed
from vidcomp.stages.decode_guard import Overheard
from vidcomp.stages.decode_limits import MAX_PIXELS, SMALL_PIXELS, pixels_allowed
from vidcomp.stages.decode_open import File, open_file

CHILD = "import os, vidcomp.stages.decode_child as c\ndef probe(file):\n {}\nc.probe, ours = probe, c.probe\nc.main()"
HOARDS = "kept = []\n while True: kept.append(bytearray(16 << 20))"
HOARDS_IN_C = (
    "import ctypes; m = ctypes.CDLL(None); m.malloc.restype = ctypes.c_void_p\n"
    " while True: m.memset(ctypes.c_void_p(m.malloc(1 << 24)), 1, 1 << 24)"
)


def odd_child(does: str) -> list[str]:
    """Words for a child that does something else than to probe."""
    return [sys.executable, "-c", CHILD.format(does)]


def refusal(decoder: Decoder, path: Path) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        for _ in decoder.open(path).frames(np.arange(1)):
            pass
    assert str(caught.value).isprintable()
    return caught.value


def flat(path: Path, size: tuple[int, int], count: int) -> Path:
    """A few bytes for many pixels."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "x264-params": "cabac=1"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        frame = av.VideoFrame(*size, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        for n in range(count):
            frame.pts = n
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


# -- pixels ------------------------------------------------------------------------------------------


def test_a_small_file_may_ask_for_few_pixels_and_a_number_is_a_number() -> None:
    assert pixels_allowed(None, 100) == SMALL_PIXELS
    assert 8192 * 8192 > 7680 * 4320 > pixels_allowed(None, 1 << 20) > 3840 * 2160
    assert pixels_allowed(None, 1 << 30) == MAX_PIXELS
    assert (pixels_allowed(1 << 40, 1), pixels_allowed(7, 1 << 30)) == (1 << 40, 7)


@pytest.mark.parametrize("name", ["a.webm", "a.ivf", "a.mp4", "a.ts", "a.h264", "a.mkv", "a.flv", "a.avi"])
def test_a_first_frame_that_libav_refuses_is_too_large_and_not_corrupt(tmp_path: Path, name: str) -> None:
    """It fails already in the probing of the container."""
    vp9 = {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}} if name in ("a.webm", "a.ivf") else {}
    make_clip(tmp_path / name, count=2, size=(256, 128), **vp9)
    with Decoder(max_pixels=256 * 128 - 1) as decoder:
        assert refusal(decoder, tmp_path / name).reason == "too_large"
    with Decoder() as decoder:
        assert decoder.open(tmp_path / name).info.width == 256


def test_frames_that_grow_in_mid_stream_are_too_large_and_cost_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_talk, "SLOT_BYTES", 1)  # pictures are under way when the verdict comes
    first = make_clip(tmp_path / "1.ts", count=10)
    (tmp_path / "a.ts").write_bytes(first.read_bytes() + flat(tmp_path / "2.ts", (640, 480), 10).read_bytes())
    with Decoder(max_pixels=640 * 480 - 1) as decoder:
        source = decoder.open(tmp_path / "a.ts")
        pid = decoder._process._popen.pid
        with pytest.raises(DecodeError, match="640x480") as caught:
            list(source.frames(np.arange(len(source.pts_s))))
        assert caught.value.reason == "too_large"
        assert sum(len(b) for b in decoder.open(first).frames(np.arange(10))) == 10
        assert decoder._process._popen.pid == pid


# -- frames, time ------------------------------------------------------------------------------------


def test_frames_and_seconds_are_counted(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", count=50)
    for limits, word in (({"max_frames": 49}, "max_frames"), ({"max_duration_s": 1.99}, "max_duration_s")):
        with Decoder(**limits) as decoder:
            error = refusal(decoder, path)
        assert (error.reason, word in error.fix) == ("too_large", True)
    with Decoder(max_frames=50, max_duration_s=2.0) as decoder:
        assert decoder.open(path).info.frames == 50


def test_packets_that_give_nothing_are_read_only_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "a.mkv", count=60, options=B_FRAMES)
    for n in range(30):
        at, size = packet_place(path, n)
        patch(path, at + 4, b"\xff" * (size - 4))
    with open_file(bytes(path)) as file:
        assert decode_probe.probe(file).info.frames
        monkeypatch.setattr(decode_probe, "MUTE_PACKETS", 20)
        with pytest.raises(DecodeError) as caught:
            decode_probe.probe(file)
    assert caught.value.reason == "corrupt"


def test_a_stream_that_begins_in_mid_file_ends_nothing(tmp_path: Path) -> None:
    """PyAV raises at a packet of a stream that it did not know when the file was opened."""
    path = make_clip(tmp_path / "a.ts", count=40)

    class Surprised:
        """A container in which that happens twice."""

        def __init__(self, container: InputContainer) -> None:
            self.container, self.left = container, 2

        def demux(self, stream: VideoStream) -> Iterator[object]:
            for n, packet in enumerate(self.container.demux(stream)):
                yield packet
                if n == 9 and self.left:
                    self.left -= 1
                    raise IndexError("list index out of range")

    with open_file(bytes(path)) as file, Feed.of(file, threads=1) as feed:
        feed.container = Surprised(feed.container)
        assert len(list(feed.frames())) == 40
        assert (feed.errors, feed.broken, feed.container.left) == (0, False, 0)


# -- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "reason", "says"), [(HOARDS, "too_large", "300 MiB"), (HOARDS_IN_C, "crashed", "SIGSEGV")]
)
def test_a_decoder_that_allocates_without_end_loses_its_child_only(
    tmp_path: Path, does: str, reason: str, says: str
) -> None:
    clip = make_clip(tmp_path / "a.mp4")
    with Decoder(max_memory_bytes=300 << 20) as decoder:
        ours, decoder._argv = decoder._argv, odd_child(does)
        error = refusal(decoder, clip)
        assert (error.reason, says in error.message) == (reason, True)
        decoder._argv = ours
        assert decoder.open(clip).info.frames == 30


def test_frames_that_need_more_than_their_share_are_too_large(tmp_path: Path) -> None:
    path = flat(tmp_path / "a.mp4", (4096, 2304), 30)
    with Decoder(threads=1, max_pixels=MAX_PIXELS, max_memory_bytes=80 << 20) as decoder:
        error = refusal(decoder, path)
        assert (error.reason, "max_memory_bytes" in error.fix) == ("too_large", True)
        assert decoder.open(make_clip(tmp_path / "b.mp4")).info.frames == 30
    with Decoder(threads=1, max_pixels=MAX_PIXELS) as decoder:
        assert decoder.open(path).info.frames == 30


def test_the_child_is_the_first_to_go_when_the_machine_runs_out(tmp_path: Path) -> None:
    with Decoder(max_memory_bytes=123 << 20) as decoder:
        decoder.open(make_clip(tmp_path / "a.mp4"))
        proc = Path(f"/proc/{decoder._process._popen.pid}")
        limits = {line[:25].strip(): line[25:].split()[0] for line in (proc / "limits").read_text().splitlines()}
        assert (proc / "oom_score_adj").read_text().strip() == "1000"
        assert (int(limits["Max data size"]), int(limits["Max file size"])) == (123 << 20, 64 << 10)


MEASURED = """
import json, sys
import numpy as np
from pathlib import Path
from vidcomp.stages.decode import DecodeError, Decoder
def peaks(decoder):
    pids = ("self", decoder._process._popen.pid)
    lines = [line.split() for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(words[1]) >> 10 for words in lines if words and words[0] == "VmHWM:")
def read(decoder, path):
    try:
        source = decoder.open(path)
        return sum(batch.data.nbytes for batch in source.frames(np.arange(len(source.pts_s))))
    except DecodeError as error:
        return error.reason
with Decoder(threads=2) as decoder:
    read(decoder, sys.argv[1])
    idle = peaks(decoder)
    print(json.dumps([(read(decoder, path), peaks(decoder) - idle) for path in sys.argv[2:]]))
"""


def test_a_small_file_that_expands_to_600_mb_takes_less_than_300(tmp_path: Path) -> None:
    idle = make_clip(tmp_path / "a.mp4")
    bombs = [
        flat(tmp_path / "many.mp4", (320, 320), 2000),
        flat(tmp_path / "large.mp4", (1920, 1080), 100),
        flat(tmp_path / "huge.ts", (9000, 9000), 3),
    ]
    assert all(bomb.stat().st_size < 200_000 for bomb in bombs)
    words = [sys.executable, "-c", MEASURED, *map(str, (idle, *bombs))]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    many, large, huge = json.loads(done.stdout)
    assert (many[0], large[0], huge[0]) == (2000 * 320 * 320 * 3, 100 * 1920 * 1080 * 3, "too_large")
    assert 30 < many[1] <= large[1] <= huge[1] < 300  # MiB above idle; two slots alone are 64


# -- words -------------------------------------------------------------------------------------------


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """The debug records of the decode rooms; nothing may reach the terminal."""
    caplog.set_level(logging.DEBUG, "vidcomp.stages.decode_heard")
    capfd.readouterr()
    records: list[str] = []
    yield records
    assert capfd.readouterr() == ("", "")


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "vidcomp.stages.decode_heard"]


@pytest.mark.usefixtures("told")
def test_what_libav_says_is_one_debug_record_for_each_video(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = make_clip(tmp_path / "whole.mp4", count=40)
    bad = make_clip(tmp_path / "bad\x1b[2J.mp4", count=40, options={"bf": "0"})
    patch(bad, packet_place(bad, 9)[0] + 4, b"\xff" * (packet_place(bad, 9)[1] - 4))
    with Decoder() as decoder:
        for path in (bad, whole, cut(whole, 0.3, tmp_path / "cut.mp4"), whole):
            try:
                list(decoder.open(path).frames(np.arange(40)))
            except DecodeError:
                continue
    found = messages(caplog)
    assert ["bad" in text or "cut" in text for text in found] == [True, True]
    assert "[h264] " in found[0]
    assert "moov atom not found" in found[1]
    assert all(text.isprintable() and " @ 0x" not in text for text in found)


@pytest.mark.usefixtures("told")
def test_a_flood_of_words_is_cut_and_the_last_ones_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = make_clip(tmp_path / "a.mp4")
    flood = "for n in range(9999):\n  try: os.write(2, b'word %d ' % n * 50 + b'\\n')\n  except OSError: break\n {}"
    with Decoder() as decoder:
        decoder._argv = odd_child(flood.format("return ours(file)"))
        assert len(list(decoder.open(clip).frames(np.arange(3)))) == 1
        assert os.fstat(decoder._process._stderr).st_size == 0
    (text,) = messages(caplog)
    assert 4000 < len(text) < 4400
    with Decoder() as decoder:
        decoder._argv = odd_child(flood.format("raise RuntimeError('at last')"))
        assert "RuntimeError: at last" in str(refusal(decoder, clip))


def test_an_error_of_the_disk_is_told_from_a_file_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cut(make_clip(tmp_path / "w.mkv"), 0.01, tmp_path / "a.mkv")
    failed = av.error.OSError(errno.EIO, "input/output error")
    with open_file(bytes(path)) as file:
        assert file._refusal(failed).reason == "corrupt"

        def fail(*_: object) -> bytes:
            raise OSError(errno.EIO, "broken disk")

        monkeypatch.setattr(File, "_can_be_read", lambda _: False)
        assert file._refusal(failed).reason == "unreadable"


@pytest.mark.parametrize("size", [b"\x01" + (99).to_bytes(7, "big"), b"\xe3", b"\x40\x63"])
def test_where_a_matroska_file_ends(size: bytes) -> None:
    head = b"\x1a\x45\xdf\xa3\x83abc\x18\x53\x80\x67" + size
    assert segment_end(head + b"...") == len(head) + 99
    assert segment_end(head[: -len(size)] + b"\xff...") is None  # a live recording
    assert segment_end(b"\x00" + head) is None
    for cut_at in range(len(head)):
        assert segment_end(head[:cut_at]) is None


def test_complaints_of_a_decoder_are_told_from_other_words(capfd: pytest.CaptureFixture[str]) -> None:
    heard = Overheard("h264")
    for words, complained in (
        (b"", False),
        (b"[h264 @ 0x1] SEI type 5 size 9 truncated at 8\n[mov @ 0x2] moov\n[vp9 @ 0x3] Invalid\n", False),
        (b"[h264 @ 0x1] error while decoding MB 3 4\n", True),
        (b"[mov @ 0x2] moov\n", True),
    ):
        os.write(2, words)
        assert heard.complained() is complained
    assert not Overheard("h264").complained()  # what was said before counts for nothing
    assert "MB 3 4" in capfd.readouterr().err
