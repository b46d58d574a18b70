"""An open video: its facts, and the pictures asked for, from one decode child or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.types import AudioTrack, Frames
from .decode_info import Outcome, SourceInfo, outcome
from .decode_process import Process
from .decode_route import Packets, groups
from .decode_split import Batch, cut_at, in_turn, shares
from .decode_talk import Account, ask_frames, ask_sound
from .decode_timeline import seconds
from .wire import Patience

DECODE_S: Final = 30.0
DECODE_PER_S: Final = 4.0


class Children(Protocol):
    """What a source needs of its decoder."""

    @property
    def processes(self) -> int: ...
    @property
    def limits(self) -> Mapping[str, Any]: ...
    def ready(self, count: int) -> list[Process]: ...
    def listener(self) -> Process: ...
    def patience(self, default_s: float) -> Patience: ...


@dataclass(eq=False)
class Source:
    """A file whose facts are known: `info`; `pts_s` float64 (M,), true times in presentation order; the last frame ends
    at `end_s`; `key` bool (M,) marks key frames. `outcome`: how the latest `frames()` ended."""

    info: SourceInfo
    pts_s: NDArray[np.float64]
    end_s: float
    key: NDArray[np.bool_] = field(repr=False)
    _ticks: NDArray[np.int64] = field(repr=False)  # (M,): what the child knows frames by
    _packets: NDArray[np.int64] = field(repr=False)  # (P,): pts of each packet, in decode order
    _kinds: NDArray[np.uint8] = field(repr=False)  # (P,): see `decode_entry`
    _steady: bool = field(repr=False)
    _request: dict[str, Any] = field(repr=False)
    _decoder: Children = field(repr=False)
    _outcome: Outcome | None = field(default=None, repr=False)
    _sound_errors: int | None = field(default=None, repr=False)

    @property
    def outcome(self) -> Outcome:
        """How the latest `frames()` ended; RuntimeError before it was read to its end."""
        if self._outcome is None:
            raise RuntimeError("the outcome is known once frames() has been read to its end")
        return self._outcome

    @property
    def sound_errors(self) -> int:
        """Packets of sound that did not decode, and are silence; RuntimeError before `audio()` was read to its end."""
        if self._sound_errors is None:
            raise RuntimeError("errors are known once audio() has been read to its end")
        return self._sound_errors

    def frames(self, index: NDArray[np.int64]) -> Iterator[Frames]:
        """The frames at presentation indices `index` int64 (n,), strictly ascending: upright RGB in batches of up to
        32 MiB, or one frame.

        The tensors are the caller's own, valid as long as they are held. A frame that does not decode is absent, and
        stands in `outcome.missing`. A file changed since `open` gives what it now holds under the old times.
        Closing the iterator early ends the child. Errors: ValueError for `index`; `DecodeError`, as timeout or crashed.
        """
        wanted = np.asarray(index, np.int64)
        if wanted.ndim != 1 or (np.diff(wanted) <= 0).any():
            raise ValueError(f"index must be (n,) and strictly ascending, got {wanted.shape}")
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(self.pts_s):
            raise ValueError(f"index must be in [0, {len(self.pts_s)}), got {wanted[0]} to {wanted[-1]}")
        self._outcome = None
        return self._read(wanted)

    def audio(self, rate: int, borders_s: Sequence[float]) -> Iterator[AudioTrack]:
        """The sound between each two neighbours of `borders_s` (ascending true pts, C + 1 of them): C tracks, mono at
        `rate`, that together have every sample once; silence where the file has none. In a child of its own: it can be
        read side by side with `frames()`.

        Errors: ValueError for the arguments; `DecodeError`, as no_audio, timeout or crashed.
        """
        if rate < 1 or len(borders_s) < 2 or not (np.diff(np.asarray(borders_s, np.float64)) > 0).all():
            raise ValueError(f"a rate over 0 and ascending borders are needed, got {rate} and {len(borders_s)} borders")
        return self._listen(rate, borders_s)

    def _listen(self, rate: int, borders_s: Sequence[float]) -> Iterator[AudioTrack]:
        start_s = borders_s[0]
        ends = [round((border_s - start_s) * rate) for border_s in borders_s]
        request = {"do": "sound", "path": self._request["path"], "rate": rate, "start_s": start_s, "count": ends[-1]}
        process, account = self._decoder.listener(), Account()
        patience = self._decoder.patience(DECODE_S + DECODE_PER_S * self.info.duration_s)
        with process.exchange():
            pieces = ask_sound(process, {**self._decoder.limits, **request}, patience, account)
            for begin, samples in zip(ends, cut_at(pieces, ends), strict=False):
                yield AudioTrack(torch.from_numpy(samples), rate, start_s + begin / rate)
        self._sound_errors = account.errors

    def _read(self, wanted: NDArray[np.int64]) -> Iterator[Frames]:
        missing, account = np.ones(len(wanted), bool), Account()
        if len(wanted):
            length_s = min(self.info.duration_s, self.info.frames)  # a clock that jumps is not worth waiting for
            patience = self._decoder.patience(DECODE_S + DECODE_PER_S * length_s)
            for places, pictures in self._pictures(wanted, patience, account):
                at = wanted[places]
                missing[places] = False
                yield Frames(torch.from_numpy(pictures), torch.from_numpy(self.pts_s[at]), torch.from_numpy(at))
        self._outcome = outcome(self.info, wanted[missing], account.errors, account.lost)

    def _pictures(self, wanted: NDArray[np.int64], patience: Patience, account: Account) -> Iterator[Batch]:
        """(places, pictures) in order, from several children where that is asked for and there are groups for them. At
        the first sign of trouble one child decodes everything: no pixel depends on how many there are."""
        parts = self._parts(wanted)
        if len(parts) == 1:
            yield from self._alone(wanted, "both" if self._steady else "full", patience, account)
            return
        given = 0
        for batch in self._together(wanted, parts, patience):
            given += len(batch[0])
            yield batch
        if given < len(wanted):
            for places, pictures in self._alone(wanted, "full", patience, account):
                new = places >= given
                yield places[new], pictures[new]

    def _alone(self, wanted: NDArray[np.int64], passes: str, patience: Patience, account: Account) -> Iterator[Batch]:
        (process,) = self._decoder.ready(1)
        with process.exchange():
            yield from self._ask(process, wanted, passes, patience, account)

    def _together(
        self, wanted: NDArray[np.int64], parts: list[NDArray[np.int64]], patience: Patience
    ) -> Iterator[Batch]:
        given = 0
        children = self._decoder.ready(len(parts))
        with ExitStack() as exchanges:
            for child in children:
                exchanges.enter_context(child.exchange())
            try:
                asked = zip(children, parts, strict=True)
                streams = [self._ask(child, wanted[part], "route", patience, Account()) for child, part in asked]
                for batch in in_turn(streams, parts):
                    given += len(batch[0])
                    yield batch
            finally:
                if given < len(wanted):  # some are in the middle of something, whatever one of them has said
                    for child in children:
                        child.close()

    def _ask(
        self, process: Process, wanted: NDArray[np.int64], passes: str, patience: Patience, account: Account
    ) -> Iterator[Batch]:
        shown = self._ticks[: wanted[-1] + 1]
        counts = {"shown": len(shown), "wanted": len(wanted), "passes": passes}
        arrays = b"".join(array.tobytes() for array in (self._packets, shown, wanted, self._kinds))
        request = {**self._decoder.limits, **self._request, **counts}
        return ask_frames(process, request, arrays, (self.info.width, self.info.height), patience, account)

    def _parts(self, wanted: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The places that each child decodes."""
        if self._decoder.processes == 1 or not self._steady or not len(self._packets):
            return [np.arange(len(wanted))]
        table = Packets(self._packets, self._kinds)
        return shares(groups(table, self._ticks[wanted]), self._decoder.processes)


def described(decoder: Children, name: str, facts: Mapping[str, Any], blob: bytes) -> Source:
    """A source as the child describes it."""
    info = SourceInfo.from_json(facts["info"])
    packets = np.frombuffer(blob, np.int64, facts["packets"])
    ticks = np.frombuffer(blob, np.int64, info.frames, offset=packets.nbytes)
    flags = np.frombuffer(blob, np.uint8, offset=packets.nbytes + ticks.nbytes)
    request = {
        "do": "decode",
        "path": name,
        "stored": facts["stored"],
        "turn": [info.rotation, info.mirrored],
        "frames": info.frames,
        **{field: facts[field] for field in ("by_order", "packets")},
    }
    return Source(
        info=info,
        pts_s=seconds(ticks, info.time_base),
        end_s=float(seconds(np.array([facts["end"]]), info.time_base)[0]),
        key=flags[: info.frames].astype(bool),
        _ticks=np.arange(info.frames) if facts["by_order"] else ticks,
        _packets=packets,
        _kinds=flags[info.frames :],
        _steady=facts["steady"],
        _request=request,
        _decoder=decoder,
    )
