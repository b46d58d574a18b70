"""The ring that pictures come through: one mapping for many videos, and never another video's pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media import make_clip

from vidcomp.stages.decode import Decoder
from vidcomp.stages.decode_ring import ORDINARY, pictures_of, room

FRAMES, SIZE = 60, (320, 240)
PAGES = FRAMES * SIZE[0] * SIZE[1] * 3 // 4096  # that a video's pictures fill


def pictures(decoder: Decoder, clip: Path) -> np.ndarray:
    source = decoder.open(clip)
    return np.concatenate([batch.data.numpy() for batch in source.frames(np.arange(len(source.pts_s)))])


def faults(decoder: Decoder) -> int:
    """How often the child had to ask the kernel for a page."""
    assert decoder._process is not None
    stat = Path(f"/proc/{decoder._process._popen.pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[7])


def test_one_mapping_serves_every_ordinary_video(tmp_path: Path) -> None:
    clips = [make_clip(tmp_path / f"{n}.mp4", count=FRAMES, size=SIZE, seed=n) for n in range(3)]
    with Decoder() as decoder:
        for clip in clips[:2]:
            pictures(decoder, clip)
        before = faults(decoder)
        pictures(decoder, clips[2])
        assert faults(decoder) - before < PAGES / 4


def test_no_picture_is_another_videos(tmp_path: Path) -> None:
    """Sizes in turn, each over what the one before has left in memory."""
    sizes = [(320, 240), (5120, 2880), (64, 48), (320, 240)]  # of the second one picture is all that a slot holds
    quick = {"preset": "ultrafast"}
    clips = [
        make_clip(tmp_path / f"{n}.mp4", count=1, size=size, seed=n, options=quick) for n, size in enumerate(sizes)
    ]
    with Decoder() as decoder:
        together = [pictures(decoder, clip) for clip in clips]
    for clip, found in zip(clips, together, strict=True):
        with Decoder() as decoder:
            assert np.array_equal(pictures(decoder, clip), found)


@pytest.mark.parametrize(
    ("shape", "size"), [((2, 5, 48, 64, 3), ORDINARY), ((2, 1, 6000, 8000, 3), 2 * 6000 * 8000 * 3)]
)
def test_a_ring_has_room_for_its_pictures(shape: tuple[int, ...], size: int) -> None:
    assert room(shape) == size


def test_pictures_lie_at_the_start_of_the_memory() -> None:
    memory = bytearray(room((1, 2, 2, 2, 3)))
    memory[:24] = range(24)
    assert np.array_equal(pictures_of(memory, (1, 2, 2, 2, 3)).ravel(), range(24))  # type: ignore[arg-type]
