"""Sound on the video's clock: against what was written, wherever it begins, stops, overlaps or changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.resampler import AudioResampler
from media import make_clip, pictures
from numpy.typing import NDArray

from vidcomp.stages.decode import DecodeError, Decoder

RATE = 8000
Wave = NDArray[np.float32]


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as made:
        yield made


def tone(seconds: float, rate: int = RATE, hz: float = 440.0) -> Wave:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def with_sound(
    path: Path, stretches: Sequence[tuple[float, Wave]], *, rate: int = RATE, layout: str = "mono", seconds: float = 4.0
) -> Path:
    """A clip of 25 frames a second with PCM sound: each wave (S,) on all channels, from its second on."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=rate, layout=layout)
        for n, picture in enumerate(pictures(round(seconds * 25))):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for begins_s, wave in stretches:
            for at in range(0, len(wave), 400):
                out.mux(sound.encode(sound_frame(wave[at : at + 400], round(begins_s * rate) + at, rate, layout)))
        out.mux(sound.encode(None))
    return path


def sound_frame(wave: Wave, pts: int, rate: int, layout: str) -> av.AudioFrame:
    channels = av.AudioLayout(layout).nb_channels
    data = np.repeat((wave * 32767).astype(np.int16), channels)[None]
    frame = av.AudioFrame.from_ndarray(data, format="s16", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, pts, Fraction(1, rate)
    return frame


def heard(decoder: Decoder, path: Path, borders_s: Sequence[float], rate: int = RATE) -> list[Wave]:
    tracks = list(decoder.open(path).audio(rate, borders_s))
    assert [track.rate for track in tracks] == [rate] * (len(borders_s) - 1)
    assert [track.start_s for track in tracks] == pytest.approx(list(borders_s[:-1]), abs=1 / rate)
    return [track.samples.numpy() for track in tracks]


def laid(stretches: Sequence[tuple[float, Wave]], seconds: float = 4.0, start_s: float = 0.0) -> Wave:
    """What ought to be heard: later stretches go where nothing is yet."""
    out = np.zeros(round(seconds * RATE), np.float32)
    at = 0
    for begins_s, wave in stretches:
        place = round((begins_s - start_s) * RATE)
        new = wave[max(at - place, 0) :]
        begin = max(at, place)
        out[begin : begin + len(new)] = new[: len(out) - begin]
        at = begin + len(new)
    return out


@pytest.mark.parametrize(
    "stretches",
    [
        [(0.0, tone(4))],
        [(0.0, tone(2))],  # shorter than the video
        [(0.0, tone(9))],  # longer
        [(1.25, tone(1))],  # later
        [(0.0, tone(1)), (2.0, tone(1, hz=300))],  # a gap
        [(0.0, tone(2)), (1.96, tone(1, hz=300))],  # an overlap of more than a packet is refused by muxers
    ],
    ids=["whole", "short", "long", "late", "gap", "overlap"],
)
def test_sound_lies_where_its_clock_says(decoder: Decoder, tmp_path: Path, stretches: list[tuple[float, Wave]]) -> None:
    path = with_sound(tmp_path / "a.mkv", stretches)
    (whole,) = heard(decoder, path, [0.0, 4.0])
    assert np.abs(whole - laid(stretches)).max() < 2e-3  # of 16 bits; milliseconds of mkv would be 0.2


def test_chunks_together_are_the_whole(decoder: Decoder, tmp_path: Path) -> None:
    path = with_sound(tmp_path / "a.mkv", [(0.3, tone(3))])
    (whole,) = heard(decoder, path, [0.0, 4.0])
    borders_s = [0.0, 1.0, 1.00013, 2.5, 2.51, 4.0]
    parts = heard(decoder, path, borders_s)
    assert np.array_equal(np.concatenate(parts), whole)
    assert [len(part) for part in parts] == [8000, 1, 11999, 80, 11920]


def test_a_start_in_the_middle_and_an_end_behind_it(decoder: Decoder, tmp_path: Path) -> None:
    path = with_sound(tmp_path / "a.mkv", [(0.0, tone(4))])
    late, beyond = heard(decoder, path, [2.0, 4.0, 6.0])
    assert np.abs(late - tone(4)[2 * RATE :]).max() < 2e-3
    assert not beyond.any()
    assert len(beyond) == 2 * RATE


def test_an_offset_between_sound_and_video_is_kept(decoder: Decoder, tmp_path: Path) -> None:
    """Both begin late, on one clock."""
    path = with_sound(tmp_path / "a.mkv", [(0.5, tone(2))])
    remuxed = tmp_path / "b.ts"
    with av.open(str(path)) as source, av.open(str(remuxed), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        sound = out.add_stream("mp2", rate=16000, layout="mono")
        resampler = AudioResampler("s16", "mono", 16000)
        for packet in source.demux():
            if packet.stream.type == "video" and packet.size:
                packet.stream, packet.pts, packet.dts = video, packet.pts + 3000, packet.dts + 3000
                out.mux(packet)
            elif packet.stream.type == "audio":
                for frame in packet.decode():
                    for made in resampler.resample(frame):
                        made.pts += 3 * 16000
                        out.mux(sound.encode(made))
        out.mux(sound.encode(None))
    opened = decoder.open(remuxed)
    assert opened.pts_s[0] == pytest.approx(3)
    (track,) = opened.audio(RATE, [float(opened.pts_s[0]), float(opened.pts_s[0]) + 4])
    loud = np.flatnonzero(np.abs(track.samples.numpy()) > 0.2) / RATE
    assert loud[0] == pytest.approx(0.5, abs=0.06)
    assert loud[-1] == pytest.approx(2.5, abs=0.06)


@pytest.mark.parametrize(("rate", "layout"), [(8000, "mono"), (44100, "stereo"), (48000, "5.1"), (48000, "7.1")])
def test_rates_and_channels_come_out_as_one(decoder: Decoder, tmp_path: Path, rate: int, layout: str) -> None:
    path = with_sound(tmp_path / "a.mkv", [(0.0, tone(2, rate))], rate=rate, layout=layout, seconds=2.0)
    (got,) = heard(decoder, path, [0.0, 2.0], rate=16000)
    spectrum = np.abs(np.fft.rfft(got))
    assert np.argmax(spectrum) / 2.0 == pytest.approx(440, abs=1)
    assert np.abs(got).max() == pytest.approx(0.5, abs=0.05)
    with av.open(str(path)) as container:
        resampler = AudioResampler("flt", layout, 16000)
        frames = [made for frame in container.decode(audio=0) for made in resampler.resample(frame)]
        packed = np.concatenate([made.to_ndarray()[0] for made in [*frames, *resampler.resample(None)]])
    wanted = packed.reshape(-1, av.AudioLayout(layout).nb_channels).mean(axis=1)
    size = min(len(wanted), len(got))
    assert size > 31900
    assert np.abs(got[:size] - wanted[:size]).max() < 1e-6


def test_sound_and_pictures_are_read_side_by_side(decoder: Decoder, tmp_path: Path) -> None:
    source = decoder.open(with_sound(tmp_path / "a.mkv", [(0.0, tone(4))]))
    tracks = source.audio(RATE, [0.0, 1.0, 2.0])
    assert len(next(tracks).samples) == RATE
    assert sum(len(batch) for batch in source.frames(np.arange(50))) == 50
    assert len(next(tracks).samples) == RATE
    assert list(tracks) == []


def test_many_hours_of_a_gap_take_no_memory_at_once(decoder: Decoder, tmp_path: Path) -> None:
    path = with_sound(tmp_path / "a.mkv", [(0.0, tone(0.5)), (90000.0, tone(0.5))])
    (got,) = heard(decoder, path, [0.0, 2.0])
    assert np.abs(got[: RATE // 2] - tone(0.5)).max() < 2e-3
    assert not got[RATE // 2 :].any()


def test_no_sound_is_told(decoder: Decoder, tmp_path: Path) -> None:
    source = decoder.open(make_clip(tmp_path / "a.mp4"))
    with pytest.raises(DecodeError, match="no sound") as caught:
        list(source.audio(RATE, [0.0, 1.0]))
    assert caught.value.reason == "no_audio"


@pytest.mark.parametrize("borders_s", [[], [0.0], [1.0, 0.0], [0.0, 0.0]])
def test_borders_must_ascend(decoder: Decoder, tmp_path: Path, borders_s: list[float]) -> None:
    source = decoder.open(make_clip(tmp_path / "a.mp4"))
    with pytest.raises(ValueError, match="borders"):
        source.audio(RATE, borders_s)


def test_damaged_sound_leaves_silence(decoder: Decoder, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", audio_s=4, count=100)
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(audio=0) if p.size and p.pos]
    data = bytearray(path.read_bytes())
    for at, size in places[5:9]:
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)
    source = decoder.open(path)
    with pytest.raises(RuntimeError, match="read to its end"):
        _ = source.sound_errors
    (track,) = source.audio(RATE, [0.0, 4.0])
    assert len(track.samples) == 4 * RATE
    assert np.isfinite(track.samples.numpy()).all()
    assert source.sound_errors >= 1
