"""What one file may ask for, in numbers; anything over is refused as `too_large` before memory is spent on it."""

from __future__ import annotations

from typing import Final

from .decode_info import DecodeError

MAX_PIXELS: Final = 1 << 26  # of one frame, 8192 x 8192
SMALL_PIXELS: Final = 2560 * 1440  # what any file may hold, however few its bytes
PIXELS_PER_BYTE: Final = 24  # of one frame, in a whole file: a third of a bit for each, as if all others were free
MAX_FRAMES: Final = 10_000_000
MAX_DURATION_S: Final = 7 * 86400.0
MAX_MEMORY_BYTES: Final = 8 << 30
MUTE_PACKETS: Final = 5000  # that give no frame, from the start: three minutes before the first key frame


def pixels_allowed(asked: int | None, file_bytes: int) -> int:
    """Pixels of one frame: as asked, or by the file's size. A decoder keeps up to sixteen frames and one for each
    thread, so that 50 KB of constant pictures of 8192 x 8192 would take 2 GB."""
    return min(max(SMALL_PIXELS, PIXELS_PER_BYTE * file_bytes), MAX_PIXELS) if asked is None else asked


def frame_too_large(size: str, allowed: int) -> DecodeError:
    """`size`: as "9000x9000"."""
    message = f"frames of {size} are over {allowed} pixels, the most that is allowed in this file"
    return DecodeError("too_large", message, "scale it down, or raise max_pixels")


def too_many_frames(allowed: int) -> DecodeError:
    return DecodeError("too_large", f"it has over {allowed} frames", "cut it into parts, or raise max_frames")


def too_long(duration_s: float, allowed_s: float) -> DecodeError:
    """A clock that jumps makes a file as long as one that really is."""
    message = f"it lasts {duration_s:.0f} s by its own clock, over {allowed_s:.0f} s"
    return DecodeError("too_large", message, "cut it into parts, or raise max_duration_s")


def too_much_memory(allowed: int) -> DecodeError:
    message = f"decoding it takes more memory than is allowed ({allowed >> 20} MiB)"
    return DecodeError("too_large", message, "give it fewer threads, or raise max_memory_bytes")
