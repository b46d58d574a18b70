"""What need not be decoded is not, and the frames are the same: against PyAV's full decode, by codec and structure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from media import full_decode, make_clip
from numpy.typing import NDArray
from streams import COUNT, STREAMS, clip, samplings

from vidcomp.stages import decode_routed
from vidcomp.stages.decode import Decoder, Source
from vidcomp.stages.decode_entry import coded_units, sized_units
from vidcomp.stages.decode_feed import Feed
from vidcomp.stages.decode_open import open_file
from vidcomp.stages.decode_route import DISPOSABLE, OPEN, PLAIN, RESET, Packets, route
from vidcomp.stages.decode_routed import RoutedPass
from vidcomp.stages.decode_timeline import NO_TIME

UNGROUPED = ("x264 open", "x264 open ts", "x264 refresh", "x264 one group")
GROUPED = {name for name in STREAMS if name not in UNGROUPED}


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as made:
        yield made


@pytest.fixture(params=[0, 10**9], ids=["seeks", "reads on"])
def far(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """From how many packets on a gap is crossed by a seek, in this process."""
    monkeypatch.setattr(decode_routed, "SEEK_PACKETS", request.param)
    return int(request.param)


def routed(path: Path, source: Source, wanted: NDArray[np.int64], threads: int) -> tuple[list[int], int]:
    """(pts of the frames that the route alone gives, how many packets it decodes), in this process."""
    ticks = source._ticks[wanted]
    plan = route(Packets(source._packets, source._kinds), ticks)
    with open_file(bytes(path), 1 << 20) as file, Feed.of(file, threads) as feed:
        places = {tick: place for place, tick in enumerate(ticks.tolist())}
        given = [frame.pts for _, frame in RoutedPass(feed, plan, source._packets, places).frames()]
    return given, int(plan.need.sum())


@pytest.mark.parametrize("kind", STREAMS)
def test_the_same_frames_whatever_is_left_out(decoder: Decoder, tmp_path: Path, kind: str) -> None:
    path = clip(tmp_path, kind)
    source = decoder.open(path)
    _, pictures = full_decode(path)
    assert source.info.frames == len(pictures) >= COUNT - 1
    for wanted in samplings():
        wanted = wanted[wanted < len(pictures)]
        got = np.concatenate([batch.data.numpy() for batch in source.frames(wanted)])
        assert np.array_equal(got, np.stack([pictures[i] for i in wanted.tolist()])), wanted
        assert source.outcome.status == "ok"


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.usefixtures("far")
def test_the_route_alone_gives_every_wanted_frame(decoder: Decoder, tmp_path: Path, kind: str) -> None:
    """Else the test above could pass by decoding everything once more."""
    path = clip(tmp_path, kind)
    source = decoder.open(path)
    for wanted in samplings():
        wanted = wanted[wanted < source.info.frames]
        for threads in (1, 3):
            assert routed(path, source, wanted, threads)[0] == source._ticks[wanted].tolist()


@pytest.mark.parametrize("kind", STREAMS)
def test_little_is_decoded_for_a_frame_behind_an_entry(decoder: Decoder, tmp_path: Path, kind: str) -> None:
    path = clip(tmp_path, kind)
    source = decoder.open(path)
    entries = np.flatnonzero(np.isin(source._kinds, (RESET, OPEN)))
    wanted = np.searchsorted(source._ticks, source._packets[entries[-1]])
    packets = routed(path, source, np.array([wanted]), 1)[1]
    assert (packets == 1 and entries[-1] > 0) == (kind in GROUPED)


def test_frames_that_no_other_refers_to_are_left_out(decoder: Decoder, tmp_path: Path) -> None:
    path = clip(tmp_path, "x264 closed")
    source = decoder.open(path)
    assert (source._kinds == DISPOSABLE).mean() > 0.5
    given, packets = routed(path, source, np.array([23]), 1)
    assert len(given) == 1
    assert packets <= 8
    assert not (decoder.open(clip(tmp_path, "x265 layers"))._kinds == DISPOSABLE).any()


# -- the plan itself ---------------------------------------------------------------------------------

P, R, C, D = PLAIN, RESET, OPEN, DISPOSABLE


def planned(pts: list[int], kind: list[int], wanted: list[int]) -> tuple[list[int], list[int]]:
    """Numbers of the packets to decode, and of those before which to flush."""
    plan = route(Packets(np.array(pts), np.array(kind, np.uint8)), np.array(wanted))
    return np.flatnonzero(plan.need).tolist(), np.flatnonzero(plan.flush).tolist()


def test_a_group_is_decoded_up_to_its_last_wanted_frame() -> None:
    assert planned([0, 1, 2, 3, 4, 5], [R, P, P, R, P, P], [1, 4]) == ([0, 1, 3, 4], [])


def test_a_frame_without_references_to_it_is_decoded_only_if_wanted() -> None:
    assert planned([0, 3, 1, 2, 6, 4, 5], [R, P, D, D, P, D, D], [2, 6]) == ([0, 1, 3, 4], [])


def test_without_entries_everything_up_to_the_last_is_decoded() -> None:
    assert planned([0, 1, 2, 3], [P, P, P, P], [2]) == ([0, 1, 2], [])


def test_a_leading_picture_needs_the_group_before() -> None:
    pts = [0, 1, 2, 5, 3, 4, 6]
    assert planned(pts, [C, P, P, C, P, P, P], [3]) == ([0, 1, 2, 3, 4], [])
    assert planned(pts, [C, P, P, C, P, P, P], [6]) == ([3, 6], [])


def test_a_long_gap_before_an_open_entry_is_flushed_and_a_short_one_decoded() -> None:
    pts, kind = list(range(60)), [C if n % 30 == 0 else P for n in range(60)]
    assert planned(pts, kind, [2, 31]) == ([0, 1, 2, 30, 31], [30])
    assert planned(pts, kind, [20, 31]) == (list(range(32)), [])


def test_packets_that_show_nothing_are_decoded_too() -> None:
    assert planned([NO_TIME, 0, NO_TIME, 1], [P, C, P, P], [1]) == ([1, 2, 3], [])


def test_units_are_found_in_both_formats() -> None:
    units = [b"\x06\x05\xff", b"\x65\x88\x84\x00\x10"]
    coded = b"".join(b"\0\0\1" + unit for unit in units)
    sized = b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
    assert [coded[begin:end] for begin, end in coded_units(coded)] == units
    assert [sized[begin:end] for begin, end in sized_units(memoryview(sized), 4)] == units


@pytest.mark.parametrize("cut", range(14))
def test_a_packet_cut_anywhere_has_no_unit(cut: int) -> None:
    assert list(coded_units((b"\xff" * 14)[:cut])) == []
    assert len(list(sized_units(memoryview((b"\xff" * 14)[:cut]), 4))) == (cut > 5)


# -- headers that change -----------------------------------------------------------------------------


def spliced(tmp_path: Path, codec: str, name: str, first: dict[str, str], second: dict[str, str]) -> Path:
    """Two encoders' packets in one stream: the second one's headers come with its first packet only."""
    base = {"g": "999", "bf": "2", "sc_threshold": "0"}
    parts = [
        make_clip(tmp_path / f"{n}.ts", codec=codec, count=30, options={**base, **more}, seed=n)
        for n, more in enumerate((first, second))
    ]
    path = tmp_path / name
    with av.open(str(path), "w") as out, av.open(str(parts[0])) as a, av.open(str(parts[1])) as b:
        stream = out.add_stream_from_template(a.streams.video[0])
        for source, shift in ((a, 0), (b, 30 * 3600)):
            for packet in (p for p in source.demux(video=0) if p.size):
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                out.mux(packet)
    return path


X265 = "log-level=none"
CHANGES = {
    "H.264 quantisers": ("libx264", {}, {"x264-params": "chroma-qp-offset=9"}),
    "H.264 colours": ("libx264", {}, {"x264-params": "fullrange=on:colormatrix=bt709"}),
    "HEVC quantisers": ("libx265", {"x265-params": X265}, {"x265-params": X265 + ":cbqpoffs=9:crqpoffs=9"}),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["a.ts", "a.mkv"])
def test_headers_that_change_are_never_passed_over(tmp_path: Path, change: str, name: str) -> None:
    path = spliced(tmp_path, CHANGES[change][0], name, CHANGES[change][1], CHANGES[change][2])
    _, pictures = full_decode(path)
    for processes in (1, 2):
        with Decoder(processes=processes) as decoder:
            source = decoder.open(path)
            assert not source._steady
            for wanted in ([1, 41], [27, 28, 29, 45], list(range(60))):
                got = np.concatenate([batch.data.numpy() for batch in source.frames(np.array(wanted))])
                assert np.array_equal(got, np.stack([list(pictures.values())[i] for i in wanted])), wanted
                assert source.outcome.status == "ok"


@pytest.mark.parametrize("kind", STREAMS)
def test_headers_of_one_encoder_are_steady(decoder: Decoder, tmp_path: Path, kind: str) -> None:
    assert decoder.open(clip(tmp_path, kind))._steady


def test_pictures_without_tables_of_their_own_are_no_entries(decoder: Decoder, tmp_path: Path) -> None:
    """Abbreviated JPEG: only the first picture brings its Huffman tables."""
    whole = clip(tmp_path, "MJPEG")
    path = tmp_path / "b.mkv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for n, packet in enumerate(p for p in source.demux(video=0) if p.size):
            data = bytes(packet)
            at = data.find(b"\xff\xc4")
            size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            cut = av.Packet(data if n == 0 else data[:at] + data[at + size :])
            cut.pts, cut.dts, cut.time_base, cut.stream = packet.pts, packet.dts, packet.time_base, stream
            cut.is_keyframe = True
            out.mux(cut)
    source = decoder.open(path)
    assert np.flatnonzero(source._kinds == RESET).tolist() == [0]
