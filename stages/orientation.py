"""How stored pictures are turned upright: the container's display matrix as a quarter turn and a mirror."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray


class Orientation(NamedTuple):
    """First mirror left-right if `mirrored`, then turn clockwise by `rotation` in {0, 90, 180, 270} degrees."""

    rotation: int = 0
    mirrored: bool = False


def orientation(frame: Any) -> Orientation:
    """What a decoded `av.VideoFrame`'s display matrix asks for; upright as it is where there is none."""
    data = cast(Mapping[str, Any], frame.side_data).get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    return from_matrix(struct.unpack("=9i", bytes(memoryview(data))))


def from_matrix(matrix: tuple[int, ...]) -> Orientation:
    """FFmpeg's 9 integers -> the nearest quarter turn and mirror (a matrix of zeros asks for nothing).

    A pixel at (x right, y down) is shown at (a*x + c*y, b*x + d*y), the matrix's rows being a b _, c d _, _ _ _;
    a clockwise turn by t is a = d = cos t, b = -c = sin t, and a mirror left-right before it negates a and b.
    Angles between quarter turns are rounded: pictures keep their pixels, none is resampled.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    mirrored = a * d - b * c < 0
    angle = math.degrees(math.atan2(-b, -a) if mirrored else math.atan2(b, a))
    return Orientation(round(angle / 90) % 4 * 90, mirrored)


def upright(picture_HWC: NDArray[np.uint8], turn: Orientation) -> NDArray[np.uint8]:
    """A view of (H,W,C), turned: (W,H,C) for 90 and 270 degrees."""
    seen = picture_HWC[:, ::-1] if turn.mirrored else picture_HWC
    return np.rot90(seen, k=-(turn.rotation // 90))


def upright_size(width: int, height: int, turn: Orientation) -> tuple[int, int]:
    """(width, height) once turned."""
    return (height, width) if turn.rotation % 180 else (width, height)
