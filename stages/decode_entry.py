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

HEAD: Final = 2048  # bytes of a packet in which headers of formats other than NAL units are looked for
ALL_KEYS: Final = ("prores", "dnxhd", "ffv1")  # a key packet of theirs is a whole picture
Is = Callable[[int], bool]  # of a unit's first byte


class Kinds:
    """The kind of each packet of one stream. Show it every packet, in decode order.

    `layered`: the stream has HEVC's temporal layers, within one of which alone "no other refers to it" holds.
    `steady`: the codec's headers (parameter sets, colour, quantisers) never change: an entry needs nothing that was
    passed over, and frames still in the decoder are not shown by another group's colours.
    `hides`: some frames are never shown: leading pictures of an HEVC BLA.
    """

    def __init__(self, stream: VideoStream) -> None:
        codec = stream.codec_context.codec.canonical_name
        self._known = stream.codec_context.extradata or b""
        self._length = nal_length(codec, self._known)
        self._tell = self._teller(codec)
        self._begun = False
        self.layered = self.hides = False
        self.steady = True

    def of(self, packet: Packet[VideoStream]) -> int:
        """PLAIN, RESET, OPEN or DISPOSABLE."""
        data = memoryview(packet)
        if not self._begun:
            self._begun, self._known = True, self._known + bytes(data)
        self.steady = self.steady and not packet.has_sidedata("new_extradata")
        kind = self._tell(data)
        return kind if packet.is_keyframe or kind == DISPOSABLE else PLAIN

    def _teller(self, codec: str) -> Callable[[memoryview], int]:
        nal = {"h264": self._h264, "hevc": self._hevc}
        mpeg = {"mpeg1video": self._mpeg2, "mpeg2video": self._mpeg2, "mpeg4": self._mpeg4}
        others = {"vp8": _vp8, "vp9": _vp9, "av1": _av1, "mjpeg": _jpeg}
        return {**nal, **mpeg, **others}.get(codec, lambda data: RESET if codec in ALL_KEYS else PLAIN)

    def _h264(self, data: memoryview) -> int:
        """Only an IDR (type 5) is an entry; nal_ref_idc 0 is disposable. Headers: types 7, 8, 13 and 15."""
        at = self._slice(data, lambda first: 1 <= first & 31 <= 5, lambda first: first & 31 in (7, 8, 13, 15))
        if at is None:
            return PLAIN
        return RESET if data[at] & 31 == 5 else PLAIN if data[at] & 0x60 else DISPOSABLE

    def _hevc(self, data: memoryview) -> int:
        """IDR: types 19 and 20; BLA and CRA: 16 to 18 and 21; types of the form xxx_N: even ones below 16. Headers: 32
        to 34."""
        at = self._slice(data, lambda first: first >> 1 & 63 < 32, lambda first: 32 <= first >> 1 & 63 <= 34)
        if at is None:
            return PLAIN
        kind = data[at] >> 1 & 63
        self.layered = self.layered or data[at + 1] & 7 != 1
        self.hides = self.hides or 16 <= kind <= 18
        if kind < 16:
            return PLAIN if kind % 2 else DISPOSABLE
        return RESET if kind in (19, 20) else OPEN if kind <= 21 else PLAIN

    def _slice(self, data: memoryview, is_slice: Is, is_header: Is) -> int | None:
        """Where the first unit with picture data begins; headers may lie before it or behind."""
        first = None
        for at, end in sized_units(data, self._length) if self._length else coded_units(bytes(data)):
            if first is None and is_slice(data[at]):
                first = at
            elif is_header(data[at]):
                self._header(bytes(data[at:end]))
        return first

    def _header(self, unit: bytes) -> None:
        """Headers are repeated at entries; one that neither the container nor the first packet has is a change."""
        self.steady = self.steady and unit.rstrip(b"\0") in self._known

    def _mpeg2(self, data: memoryview) -> int:
        """Picture type 3 is B. Quantiser matrices last until the next sequence header: only with one is it an entry."""
        head = bytes(data[:HEAD])
        at = head.find(b"\0\0\1\0")
        if at < 0 or at + 5 >= len(head):
            return PLAIN
        if head[:4] == b"\0\0\1\xb3":
            group = head.find(b"\0\0\1\xb8", 0, at)
            self._header(head[: at if group < 0 else group])
        if head[at + 5] >> 3 & 7 == 3:
            return DISPOSABLE
        return OPEN if head[:4] == b"\0\0\1\xb3" else PLAIN

    def _mpeg4(self, data: memoryview) -> int:
        """VOP coding type 0 is I; of streams with B-frames this is not used, see `decode_probe`. Headers: video object
        layers, start codes 20 to 2f."""
        head = bytes(data[:HEAD])
        at = head.find(b"\0\0\1\xb6")
        for begin, end in coded_units(head[: max(at, 0)]):
            if 0x20 <= head[begin] <= 0x2F:
                self._header(head[begin:end])
        return RESET if 0 <= at < len(head) - 4 and head[at + 4] >> 6 == 0 else PLAIN


def nal_length(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each NAL unit (avcC, hvcC), or 0 for start codes (Annex B)."""
    at = {"h264": 4, "hevc": 21}.get(codec)
    if at is None or len(extradata) <= at or extradata[0] != 1:
        return 0
    return (extradata[at] & 3) + 1


def sized_units(data: memoryview, length: int) -> Iterator[tuple[int, int]]:
    """[begin, end) of each unit with a length before it, and one byte at least behind its first."""
    at = 0
    while at + length + 1 < len(data):
        size = int.from_bytes(data[at : at + length], "big")
        yield at + length, at + length + size
        at += length + size


def coded_units(data: bytes) -> Iterator[tuple[int, int]]:
    """The same of units behind start codes."""
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 4:
        after = data.find(b"\0\0\1", at + 3)
        yield at + 3, len(data) if after < 0 else after
        at = after


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


def _jpeg(data: memoryview) -> int:
    """An entry if it brings its own quantiser and Huffman tables (DQT, DHT)."""
    head = bytes(data[:HEAD])
    return RESET if b"\xff\xdb" in head and b"\xff\xc4" in head else PLAIN
