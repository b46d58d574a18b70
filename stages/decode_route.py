"""Which packets must be decoded to show the wanted frames, and how: pure functions over a packet table (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .decode_timeline import NO_TIME

PLAIN: Final = 0  # a packet of which nothing is known
RESET: Final = 1  # an entry, at which the decoder forgets by itself all that came before
OPEN: Final = 2  # one where it does so only when flushed; frames shown before it may refer to the group before it
DISPOSABLE: Final = 3  # its frame is one that no other refers to
SHORT_GAP: Final = 16  # packets; flushing the decoder costs more than to decode so few


@dataclass(frozen=True, slots=True)
class Packets:
    """A stream's packets in decode order: `pts` int64 (P,), NO_TIME where no frame is shown; `kind` uint8 (P,), see
    `decode_entry`."""

    pts: NDArray[np.int64]
    kind: NDArray[np.uint8]

    @property
    def entry(self) -> NDArray[np.bool_]:
        return np.isin(self.kind, (RESET, OPEN))


@dataclass(frozen=True, slots=True)
class Route:
    """`need` bool (P,): the packets to decode, others are left out; `begin` bool (P,): those where decoding begins
    anew; `flush` bool (P,): those before which all frames are drawn from the decoder, and it forgets them."""

    need: NDArray[np.bool_]
    begin: NDArray[np.bool_]
    flush: NDArray[np.bool_]


def route(packets: Packets, wanted: NDArray[np.int64]) -> Route:
    """The least that shows the frames at ticks `wanted` int64 (n,), n >= 1, each the pts of some packet.

    A frame needs its group from the entry on up to itself, but for frames that no other refers to; one that is shown
    before its entry (a leading picture) needs the group before as well. Behind the last wanted frame of a group nothing
    is decoded until the next entry.
    """
    last = _numbers(packets, wanted)
    span = _spans(_starts(packets, last), last, len(packets.pts))
    _bridge_short_gaps(packets, span)
    begin = span & ~np.append(False, span[:-1])
    need = span & (packets.kind != DISPOSABLE) & ~_undecodable(packets, begin)
    need[last] = True
    flush = begin & (packets.kind == OPEN)
    flush[np.argmax(span)] = False  # nothing has been decoded yet
    return Route(need, begin, flush)


def groups(packets: Packets, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 (n,), from 0 and never descending: which wanted frames share decoding, and had better stay together."""
    starts = np.maximum.accumulate(_starts(packets, _numbers(packets, wanted)))
    return np.cumsum(np.diff(starts, prepend=starts[0]) > 0)


def _numbers(packets: Packets, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The packet of each wanted frame."""
    order = np.argsort(packets.pts, kind="stable")
    return order[np.searchsorted(packets.pts, wanted, sorter=order)]


def _groups(packets: Packets) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(number of each packet's group (P,), where each group begins); what precedes the first entry is a group too."""
    at = np.flatnonzero(packets.entry)
    starts = at if len(at) and at[0] == 0 else np.append(0, at)
    return np.searchsorted(starts, np.arange(len(packets.pts)), side="right") - 1, starts


def _starts(packets: Packets, last: NDArray[np.int64]) -> NDArray[np.int64]:
    """The packet from which decoding must begin for each wanted one."""
    group, starts = _groups(packets)
    leading = packets.pts[last] < packets.pts[starts[group[last]]]
    return starts[np.maximum(group[last] - leading, 0)]


def _spans(first: NDArray[np.int64], last: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """bool (size,): inside any of the spans [first, last]."""
    steps = np.zeros(size + 1, np.int64)
    np.add.at(steps, first, 1)
    np.add.at(steps, last + 1, -1)
    return np.cumsum(steps[:-1]) > 0


def _bridge_short_gaps(packets: Packets, span: NDArray[np.bool_]) -> None:
    """In place: up to an entry that would cost a flush, a few packets are decoded rather than left out."""
    edges = np.diff(span.astype(np.int8), prepend=0)
    for end, begin in zip(np.flatnonzero(edges == -1), np.flatnonzero(edges == 1)[1:], strict=False):
        if packets.kind[begin] == OPEN and begin - end < SHORT_GAP:
            span[end:begin] = True


def _undecodable(packets: Packets, begins: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool (P,): leading pictures of an entry where decoding begins anew; they refer to what was not decoded."""
    group, starts = _groups(packets)
    anew = (begins & (packets.kind == OPEN))[starts][group]
    leading = (packets.pts != NO_TIME) & (packets.pts < packets.pts[starts][group])
    return np.asarray(anew & leading)
