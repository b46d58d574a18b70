"""decord as the second backend: the same statuses and times, and where its pixels are not PyAV's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from media import make_audio, make_clip
from numpy.typing import NDArray
from streams import clip

from vidcomp.stages.decode import DecodeError, Decoder, Outcome

pytest.importorskip("decord")


@pytest.fixture(scope="module")
def decoders() -> Iterator[tuple[Decoder, Decoder]]:
    with Decoder() as av, Decoder(backend="decord") as decord:
        yield av, decord


def read(decoder: Decoder, path: Path, index: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[float], Outcome]:
    source = decoder.open(path)
    batches = list(source.frames(index))
    times = [t for batch in batches for t in batch.pts_s.tolist()]
    return np.concatenate([batch.data.numpy() for batch in batches]), times, source.outcome


@pytest.mark.parametrize("kind", ["x264 closed", "x264 open", "x265 closed", "VP9", "MPEG-4"])
@pytest.mark.parametrize("index", [np.arange(0, 90, 7), np.array([88])], ids=["some", "one"])
def test_8_bit_4_2_0_has_the_same_pixels(
    decoders: tuple[Decoder, Decoder], tmp_path: Path, kind: str, index: NDArray[np.int64]
) -> None:
    path = clip(tmp_path, kind)
    ours, theirs = (read(decoder, path, index) for decoder in decoders)
    assert np.array_equal(theirs[0], ours[0])
    assert theirs[1:] == ours[1:]


def test_a_turn_by_half_is_the_same_and_a_quarter_turn_nearly(
    decoders: tuple[Decoder, Decoder], tmp_path: Path
) -> None:
    for degrees, mean in ((0, 0), (180, 0), (90, 12), (270, 12)):
        path = make_clip(tmp_path / "a.mp4", count=5, size=(64, 64), rotation=(degrees, False, False))
        ours, theirs = (read(decoder, path, np.arange(5)) for decoder in decoders)
        assert np.abs(theirs[0].astype(int) - ours[0]).mean() <= mean  # it turns the colour planes, then converts


def test_a_quarter_turn_that_decord_pads_is_refused(decoders: tuple[Decoder, Decoder], tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", count=5, rotation=(90, False, False))
    with pytest.raises(DecodeError, match="shape") as caught:
        read(decoders[1], path, np.arange(5))
    assert caught.value.reason == "unsupported"


def test_other_formats_differ_a_little(decoders: tuple[Decoder, Decoder], tmp_path: Path) -> None:
    for pix_fmt in ("yuv444p", "yuv420p10le"):
        path = make_clip(tmp_path / "a.mp4", count=5, pix_fmt=pix_fmt)
        ours, theirs = (read(decoder, path, np.arange(5)) for decoder in decoders)
        assert np.abs(theirs[0].astype(int) - ours[0]).mean() < 4


def test_a_mirror_is_refused(decoders: tuple[Decoder, Decoder], tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", count=5, rotation=(0, True, False))
    with pytest.raises(DecodeError, match="mirrored") as caught:
        read(decoders[1], path, np.arange(5))
    assert caught.value.reason == "unsupported"


def test_failures_are_the_same(decoders: tuple[Decoder, Decoder], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("text")
    make_audio(tmp_path / "sound.mp4")
    for name in ("gone.mp4", "text.mp4", "sound.mp4"):
        reasons = []
        for decoder in decoders:
            with pytest.raises(DecodeError) as caught:
                decoder.open(tmp_path / name)
            reasons.append(caught.value.reason)
        assert reasons[0] == reasons[1]
