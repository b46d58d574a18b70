"""In the child: open one network source and nothing else, or say why not, in words that hold no secret.

Each scheme has its own demuxers and protocols: whatever a playlist, a redirect or a session description names, libav
opens nothing else, no file and no device. What PyAV's build cannot do (srt) is not listed.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import av
from av.container import InputContainer

from .ingest_events import LossError

# One name of each demuxer suffices, as "mov" for "mov,mp4,m4a,3gp,3g2,mj2".
BYTES: Final = "mpegts,matroska,flv,ogg"  # formats that can be read from any point, or need no seeking
WEB: Final = f"hls,mov,{BYTES},aac,mp3,ac3,eac3"  # the last four: sound of a playlist whose pictures are elsewhere
ANALYZE_US: Final = "2000000"  # of the stream, at most, before its first packet is handed on; none are lost
SEGMENT_S: Final = 30.0  # that a playlist may take for its next segment


@dataclass(frozen=True, slots=True)
class Kind:
    """What libav may use for a scheme."""

    formats: str
    protocols: str
    options: Mapping[str, str] = field(default_factory=dict)


RTSP: Final = {"rtsp_transport": "tcp"}
KINDS: Final[Mapping[str, Kind]] = {
    "rtsp": Kind("rtsp", "rtsp,tcp", RTSP),
    "rtsps": Kind("rtsp", "rtsps,tls,tcp", RTSP),
    "http": Kind(WEB, "http,https,httpproxy,tls,tcp,crypto"),
    "https": Kind(WEB, "http,https,httpproxy,tls,tcp,crypto"),
    "tcp": Kind(BYTES, "tcp"),
    "udp": Kind("mpegts", "udp", {"overrun_nonfatal": "1"}),
}


def scheme_of(url: str) -> str:
    """In lower case."""
    return url.partition("://")[0].lower()


def patience_s(url: str, read_timeout_s: float) -> float:
    """How long a packet is waited for: of a playlist, as long as one segment may take to appear."""
    playlist = url.partition("?")[0].lower().endswith((".m3u8", ".m3u"))
    return max(read_timeout_s, SEGMENT_S) if playlist else read_timeout_s


def connect(url: str, timeouts_s: tuple[float, float], max_pixels: int, *, sound: bool) -> InputContainer:
    """The container; `timeouts_s` to open it and to wait for a packet. `LossError`: there is none."""
    scheme = scheme_of(url)
    kind = KINDS[scheme]
    rules = {
        "format_whitelist": kind.formats,
        "protocol_whitelist": kind.protocols,
        "analyzeduration": ANALYZE_US,
        **kind.options,
    }
    if scheme in ("rtsp", "rtsps"):
        rules["allowed_media_types"] = "video+audio" if sound else "video"
    limit = {"max_pixels": str(max_pixels)}
    try:
        return av.open(url, container_options=rules, options=limit, metadata_errors="replace", timeout=timeouts_s)
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from None
        raise refusal(error, timeouts_s[0]) from None


def finite(container: InputContainer, url: str) -> bool:
    """Whether the source has said where it ends: a body's length, a playlist's end mark."""
    if scheme_of(url) not in ("http", "https"):
        return False
    return container.duration is not None if container.format.name == "hls" else container.size > 0


def refusal(error: av.error.FFmpegError, timeout_s: float) -> LossError:
    """Why a source could not be opened. Of libav's error only the words are used: the rest of it is the whole URL."""
    if isinstance(error, (av.error.ExitError, TimeoutError)):
        return LossError("timeout", f"no answer within {timeout_s:g} s")
    if isinstance(error, (av.error.HTTPClientError, av.error.HTTPServerError)):
        return LossError("denied", f"the server refuses ({error.strerror})")
    if isinstance(error, (av.error.InvalidDataError, av.error.EOFError)):
        return LossError("garbage", "what comes is no video format that is read here")
    return LossError("refused", f"no connection ({error.strerror})")


def cut(error: av.error.FFmpegError, timeout_s: float) -> LossError:
    """Why a source could not be read on."""
    if isinstance(error, (av.error.ExitError, TimeoutError)):
        return LossError("timeout", f"nothing came for {timeout_s:g} s")
    if isinstance(error, av.error.InvalidDataError):
        return LossError("garbage", "what comes is not readable any more")
    return LossError("closed", f"the connection was cut ({error.strerror})")
