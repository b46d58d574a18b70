"""How a stream goes, as numbers."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .stream_told import Ready


@dataclass
class LiveStats:
    """`frames` that the source has shown, `sampled` of them that were taken, `dropped` of these for want of time;
    `lag_s`: from the arrival of the last chunk's last frame to its commit; `losses` of the connection."""

    begun_s: float = field(default_factory=time.monotonic)
    frames: int = 0
    sampled: int = 0
    dropped: int = 0
    chunks: int = 0
    tokens_in: int = 0
    tokens: int = 0
    lag_s: float = 0.0
    losses: int = 0

    def count(self, ready: Ready) -> None:
        """One more chunk, committed just now."""
        tensors, (t, h, w) = ready.part
        new = ready.dropped - self.dropped
        self.sampled += tensors["frame_index"].shape[0] + new
        self.frames = max(self.frames, self.sampled)  # a file's other frames are not decoded at all
        self.dropped = ready.dropped
        self.chunks += 1
        self.tokens_in += t * h * w
        self.tokens += tensors["tokens"].shape[0]
        self.lag_s = max(time.time() - ready.came_s, 0.0)

    def to_json(self) -> dict[str, Any]:
        """The counts, and rates over the whole time."""
        since_s = max(time.monotonic() - self.begun_s, 1e-9)
        return {
            "elapsed_s": round(since_s, 3),
            "fps": round(self.frames / since_s, 3),
            "frames": self.frames,
            "sampled": self.sampled,
            "dropped": self.dropped,
            "chunks": self.chunks,
            "tokens_in": self.tokens_in,
            "tokens": self.tokens,
            "tokens_in_per_s": round(self.tokens_in / since_s, 3),
            "tokens_per_s": round(self.tokens / since_s, 3),
            "lag_s": round(self.lag_s, 3),
            "losses": self.losses,
            "memory_mib": round(memory_mib(), 1),
        }


def memory_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
