"""In the child: what decoding can do without a packet, told from the bitstream; a container's flags are only claims.

After a clean entry no frame shown later refers to anything before it, so that the rest of the group before it need not
be decoded. An H.264 I-frame that is no IDR is none (frames behind it may refer past it), a CRA of HEVC is one for the
frames shown after it. A disposable packet holds a frame that no other refers to. Nothing is known of codecs that are
not named here: all their packets are decoded, from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from av.packet import Packet
from av.video.stream import VideoStream

from .decode_route import DISPOSABLE, OPEN, PLAIN, RESET

HEAD: Final = 2048  # bytes of a packet in which its first slice is looked for at first
ALL_KEYS: Final = ("mjpeg", "prores", "dnxhd", "ffv1")  # a key packet of theirs is a whole picture
Is = Callable[[int], bool]


class Kinds:
    """The kind of each packet of one stream. Show it every packet, in decode order.

    `layered`: the stream has HEVC's temporal layers, within one of which alone "no other refers to it" holds.
    `steady`: no packet changes the codec's headers, so that an entry needs nothing that was passed over.
    """

    def __init__(self, stream: VideoStream) -> None:
        codec = stream.codec_context.codec.canonical_name
        self._length = nal_length(codec, stream.codec_context.extradata or b"")
        self._tell = self._teller(codec)
        self.layered = False
        self.steady = True

    def of(self, packet: Packet[VideoStream]) -> int:
        """PLAIN, RESET, OPEN or DISPOSABLE."""
        self.steady = self.steady and not packet.has_sidedata("new_extradata")
        kind = self._tell(memoryview(packet))
        return kind if packet.is_keyframe or kind == DISPOSABLE else PLAIN

    def _teller(self, codec: str) -> Callable[[memoryview], int]:
        tellers = {"h264": self._h264, "hevc": self._hevc, "vp8": _vp8, "vp9": _vp9, "av1": _av1}
        mpeg = {"mpeg1video": _mpeg2, "mpeg2video": _mpeg2, "mpeg4": _mpeg4}
        return {**tellers, **mpeg}.get(codec, lambda data: RESET if codec in ALL_KEYS else PLAIN)

    def _h264(self, data: memoryview) -> int:
        """Only an IDR (type 5) is an entry; nal_ref_idc 0 is disposable."""
        at = first_unit(data, self._length, lambda first: 1 <= first & 31 <= 5)
        if at is None:
            return PLAIN
        return RESET if data[at] & 31 == 5 else PLAIN if data[at] & 0x60 else DISPOSABLE

    def _hevc(self, data: memoryview) -> int:
        """IDR: types 19 and 20; BLA and CRA: 16 to 18 and 21; types of the form xxx_N: even ones below 16."""
        at = first_unit(data, self._length, lambda first: first >> 1 & 63 < 32)
        if at is None:
            return PLAIN
        kind = data[at] >> 1 & 63
        self.layered = self.layered or data[at + 1] & 7 != 1
        if kind < 16:
            return PLAIN if kind % 2 else DISPOSABLE
        return RESET if kind in (19, 20) else OPEN if kind <= 21 else PLAIN


def nal_length(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each NAL unit (avcC, hvcC), or 0 for start codes (Annex B)."""
    at = {"h264": 4, "hevc": 21}.get(codec)
    if at is None or len(extradata) <= at or extradata[0] != 1:
        return 0
    return (extradata[at] & 3) + 1


def first_unit(data: memoryview, length: int, wanted: Is) -> int | None:
    """Where the first NAL unit begins whose first byte is `wanted`, with one more byte behind it."""
    found = sized_units(data, length) if length else coded_units(data)
    return next((at for at in found if wanted(data[at])), None)


def sized_units(data: memoryview, length: int) -> Iterator[int]:
    """Where each unit with a length before it begins."""
    at = 0
    while at + length + 1 < len(data):
        yield at + length
        at += length + int.from_bytes(data[at : at + length], "big")


def coded_units(data: memoryview) -> Iterator[int]:
    """Where each unit behind a start code begins; seldom is more needed than the head of the packet."""
    at = 0
    for part in (bytes(data[:HEAD]), bytes(data)):
        while (found := part.find(b"\0\0\1", at)) >= 0 and found + 4 < len(part):
            at = found + 3
            yield at


def _vp8(data: memoryview) -> int:
    return PLAIN if data[0] & 1 else RESET


def _vp9(data: memoryview) -> int:
    """Uncompressed header: marker 10, profile (2 bits, a third one in profile 3), show_existing, not key, shown."""
    bits = data[0] << (data[0] & 0x30 == 0x30)
    return RESET if bits & 0b1110 == 0b0010 else PLAIN


def _av1(data: memoryview) -> int:
    """The first frame (OBU types 3 and 6) must be a key frame shown at once: show_existing 0, type 00, show 1."""
    at = 0
    while at < len(data):
        kind, extension, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + extension
        size, at = _leb128(data, at) if sized else (len(data) - at, at)
        if kind in (3, 6):
            return RESET if at < len(data) and data[at] >> 4 == 0b0001 else PLAIN
        at += size
    return PLAIN


def _leb128(data: memoryview, at: int) -> tuple[int, int]:
    """(value, where it ends) of AV1's variable-length integer."""
    value = 0
    for n, byte in enumerate(data[at : at + 8]):
        value |= (byte & 0x7F) << 7 * n
        if not byte & 0x80:
            return value, at + n + 1
    return value, len(data)


def _mpeg2(data: memoryview) -> int:
    """Picture type 3 is B. Quantiser matrices last until the next sequence header: only with one is it an entry."""
    head = bytes(data[:HEAD])
    at = head.find(b"\0\0\1\0")
    if at < 0 or at + 5 >= len(head):
        return PLAIN
    if head[at + 5] >> 3 & 7 == 3:
        return DISPOSABLE
    return OPEN if head[:4] == b"\0\0\1\xb3" else PLAIN


def _mpeg4(data: memoryview) -> int:
    """VOP coding types: 0 is I, 2 is B."""
    head = bytes(data[:HEAD])
    at = head.find(b"\0\0\1\xb6")
    kind = head[at + 4] >> 6 if 0 <= at < len(head) - 4 else 1
    return {0: RESET, 2: DISPOSABLE}.get(kind, PLAIN)
