"""What the clips of `bench_decode` show: textured objects over a panning background, cuts, a camera's noise.

Everything is drawn as YUV 4:2:0, from textures made once for each scene; a frame costs a few milliseconds. Its number
stands in its upper left corner as a row of dark and bright blocks, so that it is known by its picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CUT_S: Final = 7.0
RATE: Final = 30
PAN: Final = 512  # pixels that a background is larger than the picture: a scene's longest way
PHASES: Final = 4  # of a pixel: nothing real moves by whole pixels
SIGMA: Final = 2.0  # of the noise
SLACK: Final = 512  # pixels that its pool is larger than the picture
NOISE_MOST: Final = 12  # levels; textures keep so far from the ends of the range
OBJECTS: Final = 6
BITS: Final = 16  # of a frame's number
BLOCK: Final = 16  # pixels of one bit
DARK, BRIGHT = 40, 215
Bytes = NDArray[np.uint8]


def texture(rng: np.random.Generator, shape: tuple[int, int], mean: float, spread: float) -> Bytes:
    """Noise with nature's spectrum, 1/f: large forms and small ones."""
    y = np.fft.fftfreq(shape[0])[:, None]
    x = np.fft.rfftfreq(shape[1])[None, :]
    weight = np.float32(1) / np.maximum(np.hypot(y, x), 1 / shape[1]).astype(np.float32) ** np.float32(1.45)
    waves = rng.standard_normal((2, *weight.shape), np.float32)
    found = np.fft.irfft2((waves[0] + 1j * waves[1]) * weight, shape)
    levels = mean + spread * found / found.std()
    return np.asarray(np.clip(levels, 16 + NOISE_MOST, 235 - NOISE_MOST), np.uint8)


@dataclass(frozen=True, slots=True)
class Background:
    """One plane at each phase of a pixel to the left."""

    phases: list[Bytes]

    @classmethod
    def of(cls, plane: Bytes) -> Background:
        """The phases lie on the line between a pixel and the next."""
        wide, following = plane.astype(np.uint16), np.roll(plane, -1, 1).astype(np.uint16)
        return cls([((wide * (PHASES - p) + following * p) // PHASES).astype(np.uint8) for p in range(PHASES)])

    def crop(self, x: float, y: float, shape: tuple[int, int]) -> Bytes:
        """What is seen from (x, y) on."""
        left, phase = divmod(int(x * PHASES), PHASES)
        top = int(y)
        return self.phases[phase][top : top + shape[0], left : left + shape[1]]


@dataclass(frozen=True, slots=True)
class Thing:
    """A soft-edged ellipse that bounces within the picture. `planes` and `covers` uint16: luma, chroma, chroma."""

    planes: list[NDArray[np.uint16]]
    covers: list[NDArray[np.uint16]]  # 0 to 256
    place: NDArray[np.float64]  # (y, x) at frame 0
    speed: NDArray[np.float64]

    @classmethod
    def of(cls, rng: np.random.Generator, height: int) -> Thing:
        """A random one, of 6 to 16 % of the height."""
        ry, rx = (int(r) // 2 * 2 for r in rng.uniform(0.06, 0.16, 2) * height)
        y, x = np.ogrid[-1 : 1 : 2j * ry, -1 : 1 : 2j * rx]
        cover = np.clip((1 - np.hypot(y, x)) * 12, 0, 1) * 256
        shapes = [(2 * ry, 2 * rx), (ry, rx), (ry, rx)]
        means = [rng.uniform(60, 190), rng.uniform(90, 166), rng.uniform(90, 166)]
        planes = [texture(rng, s, m, 18).astype(np.uint16) for s, m in zip(shapes, means, strict=True)]
        covers = [cover.astype(np.uint16), *[cover[::2, ::2].astype(np.uint16)] * 2]
        return cls(planes, covers, rng.uniform(0, 4 * height, 2), rng.uniform(-5, 5, 2) * height / 1080)

    def draw(self, planes: list[Bytes], n: int) -> None:
        """Over the planes of frame n, at an even place."""
        room = np.array(planes[0].shape) - self.planes[0].shape
        way = np.mod(self.place + n * self.speed, 2 * room)
        top, left = (np.minimum(way, 2 * room - way) // 2).astype(int).tolist()  # of chroma
        for own, cover, plane, step in zip(self.planes, self.covers, planes, (2, 1, 1), strict=True):
            at = plane[step * top :, step * left :][: own.shape[0], : own.shape[1]]
            at[:] = (own * cover + at * (256 - cover)) >> 8


class Scene:
    """A background that pans, with things over it."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        width, height = size
        large = (height + PAN, width + PAN)
        small = (large[0] // 2, large[1] // 2)
        parts = [(large, rng.uniform(90, 140), 34), (small, rng.uniform(108, 148), 12), (small, 128, 12)]
        self._backgrounds = [Background.of(texture(rng, *part)) for part in parts]
        self._things = [Thing.of(rng, height) for _ in range(OBJECTS)]
        self._place = rng.uniform(0, 1, 2) * PAN
        self._speed = rng.uniform(-2.2, 2.2, 2) * height / 1080

    def draw(self, planes: list[Bytes], n: int) -> None:
        """Frame n of the scene into the planes."""
        way = np.mod(self._place + n * self._speed, 2 * (PAN - 1))
        y, x = np.minimum(way, 2 * (PAN - 1) - way).tolist()
        for background, plane, step in zip(self._backgrounds, planes, (1, 2, 2), strict=True):
            plane[:] = background.crop(x / step, y / step, (plane.shape[0], plane.shape[1]))
        for thing in self._things:
            thing.draw(planes, n)


class Noise:
    """A camera's noise, cut anew from a pool for each plane. It has grains as large as a lens and its own filters
    leave them: that of single pixels, no encoder would keep."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        pool = rng.standard_normal((size[1] + SLACK, size[0] + SLACK), np.float32)
        pool += np.roll(pool, 1, 0) + np.roll(pool, 2, 0)
        pool += np.roll(pool, 1, 1) + np.roll(pool, 2, 1)
        levels = np.clip(np.rint(pool / pool.std() * SIGMA), -NOISE_MOST, NOISE_MOST)
        self._pool = levels.astype(np.int8).view(np.uint8)
        self._rng = rng

    def add(self, plane: Bytes) -> None:
        """In place; bytes wrap round as signed ones add."""
        height, width = plane.shape
        top, left = self._rng.integers(SLACK, size=2).tolist()
        plane += self._pool[top : top + height, left : left + width]


def frames(size: tuple[int, int], count: int, seed: int) -> Iterator[Bytes]:
    """`count` pictures (height * 3 / 2, width) as PyAV takes yuv420p; width a multiple of 4. Each is overwritten by
    the next."""
    rng = np.random.default_rng(seed)
    noise = Noise(rng, size)
    sheet, planes = canvas(size)
    scene_frames = round(CUT_S * RATE)
    for n in range(count):
        if n % scene_frames == 0:
            scene = Scene(rng, size)
        scene.draw(planes, n % scene_frames)
        for plane in planes:
            noise.add(plane)
        stamp(planes[0], n)
        yield sheet


def canvas(size: tuple[int, int]) -> tuple[Bytes, list[Bytes]]:
    """A sheet, and its three planes as views."""
    width, height = size
    sheet = np.zeros((height * 3 // 2, width), np.uint8)
    chroma = sheet[height:].reshape(2, height // 2, width // 2)
    return sheet, [sheet[:height], chroma[0], chroma[1]]


def stamp(luma: Bytes, n: int) -> None:
    """Write a number into a picture."""
    bits = np.array([n >> bit & 1 for bit in range(BITS)], bool)
    luma[:BLOCK, : BITS * BLOCK] = np.repeat(np.where(bits, BRIGHT, DARK), BLOCK).astype(np.uint8)


def number(picture: Any) -> int:
    """The number that a picture (H,W,3) shows."""
    blocks = np.asarray(picture[4 : BLOCK - 4, : BITS * BLOCK]).reshape(BLOCK - 8, BITS, BLOCK, 3)
    bright = blocks[:, :, 4:-4].mean((0, 2, 3)) > (DARK + BRIGHT) / 2
    return int((bright << np.arange(BITS)).sum())
