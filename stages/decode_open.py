"""In the child: open one file and nothing else, or say in one line why not.

A name proves nothing (an ffconcat text called .mp4 would read other files), so only demuxers that read one file are
allowed, the only protocol is `file`, and the path given to FFmpeg is an open descriptor: no name is parsed, followed
or guessed from, and what was checked is what is read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from .decode_info import DecodeError
from .decode_limits import MAX_DURATION_S, MAX_FRAMES, frame_too_large, pixels_allowed

# One name of each demuxer suffices, as "mov" for "mov,mp4,m4a,3gp,3g2,mj2".
FORMATS: Final = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,wtv,mxf,dv,gif,ivf,obu,av1,h264,hevc,m4v,mpegvideo"
MAGIC: Final[tuple[tuple[int, bytes], ...]] = (
    *((4, box) for box in (b"ftyp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip")),
    (0, b"\x1a\x45\xdf\xa3"),  # matroska, webm
    (8, b"AVI "),
    (0, b"FLV"),
    (0, b"OggS"),
    (0, b"\x30\x26\xb2\x75"),  # asf
    (0, b"GIF8"),
    (0, b"DKIF"),  # ivf
)
READ_BYTES: Final = 8 << 20
AGAIN: Final = "copy or download it again"


@dataclass(frozen=True, slots=True)
class File:
    """A checked, open file; a frame of over `max_pixels` is refused before memory is taken for it. For the other two
    see `decode_probe`."""

    fd: int
    max_pixels: int
    max_frames: int = MAX_FRAMES
    max_duration_s: float = MAX_DURATION_S

    @contextmanager
    def container(self) -> Iterator[InputContainer]:
        """The container, read from its first byte on; `DecodeError` where no allowed demuxer knows it."""
        rules = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        name, limit = f"file:/proc/self/fd/{self.fd}", {"max_pixels": str(self.max_pixels)}
        try:
            container = av.open(name, container_options=rules, options=limit, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise self._refusal(error) from None
        with container:
            yield container

    def _refusal(self, error: av.error.FFmpegError) -> DecodeError:
        if error.errno == errno.ENOMEM:
            raise MemoryError
        if error.errno == errno.EIO and not self._can_be_read():  # libav says so of a file that ends too early, too
            return DecodeError("unreadable", "reading it fails (input/output error)", "check the disk or network")
        head = os.pread(self.fd, 16, 0)
        if any(head[at : at + len(word)] == word for at, word in MAGIC):
            return index_lost()
        return DecodeError("not_video", "its content is no video format that is read here", "give a video file")

    def _can_be_read(self) -> bool:
        """Whether the system has its bytes; of a large file, those that an index may lie in."""
        size = os.fstat(self.fd).st_size
        try:
            for at in (0, max(size - READ_BYTES, 0)):
                os.pread(self.fd, READ_BYTES, at)
        except OSError:
            return False
        return True

    def video(self, container: InputContainer) -> VideoStream:
        """The stream to be read, see `best_video`; all others are left unread."""
        if not any(stream.type in ("video", "audio", "subtitle") for stream in container.streams):
            raise index_lost()  # what is left of a header that was cut counts as data
        stream = best_video(container, self.max_pixels)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        return stream


def best_video(container: InputContainer, max_pixels: int) -> VideoStream:
    """The stream FFmpeg itself would play, its decoder not yet open.

    Cover art (an attached picture) is no video. `DecodeError`: there is none, no decoder for it, it is too large.
    """
    videos = [v for v in container.streams.video if not v.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    stream = next((v for v in videos if v is best), videos[0] if videos else None)
    if stream is None:
        raise DecodeError("no_video", "the file holds no video stream", "leave it out")
    if stream.codec_context is None:
        raise DecodeError("unsupported", "there is no decoder for its video codec", "convert it to H.264")
    if stream.width * stream.height > max_pixels:
        raise frame_too_large(f"{stream.width}x{stream.height}", max_pixels)
    stream.codec_context.options = {"max_pixels": str(max_pixels)}  # the header's size is a claim
    return stream


def index_lost() -> DecodeError:
    return DecodeError("corrupt", "it begins as a video does, but its index is lost or damaged", AGAIN)


@contextmanager
def open_file(
    path: bytes,
    max_pixels: int | None = None,
    max_frames: int = MAX_FRAMES,
    max_duration_s: float = MAX_DURATION_S,
) -> Iterator[File]:
    """A readable, regular, non-empty file; `DecodeError` otherwise. Opening a pipe does not wait for its writer.

    `max_pixels` of one frame; None: by the file's size.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with a NUL
        raise DecodeError("missing", "no such file", "check the path") from None
    except OSError as error:
        raise DecodeError("unreadable", f"cannot be opened ({error.strerror})", "check its permissions") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise DecodeError("unreadable", "not a regular file", "give a video file")
        if not found.st_size:
            raise DecodeError("empty", "the file has no bytes", AGAIN)
        yield File(fd, pixels_allowed(max_pixels, found.st_size), max_frames, max_duration_s)
    finally:
        os.close(fd)
