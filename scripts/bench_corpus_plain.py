"""What one would write without vidcomp: PyAV decodes every frame, the sampled ones go to the model, all is kept.

    bench_corpus_plain.py FPS FILE...      prints {"rate": files a second, "peak_mib": ...}

One decoding and one torch thread, as a worker has; nothing is reduced, checked or written.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator

import av
import numpy as np
import torch

import vidcomp


def sampled(path: str, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds, picture) of the first frame at or after each multiple of 1 / fps."""
    due = 0.0
    with av.open(path) as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= due:
                yield frame.time, frame.to_ndarray(format="rgb24")
                due += 1 / fps


def main() -> None:
    torch.set_num_threads(1)
    model, kept = vidcomp.load_model("dct"), []
    fps, paths = float(sys.argv[1]), sys.argv[2:]
    for number, path in enumerate(paths):
        times, pictures = zip(*sampled(path, fps), strict=True)
        frames = torch.from_numpy(np.stack(pictures))
        kept.append(model.encode(frames, torch.tensor(times, dtype=torch.float64)))
        if not number:
            first_s = time.monotonic()
    spent_s = time.monotonic() - first_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rate": (len(paths) - 1) / spent_s, "peak_mib": peak}))


if __name__ == "__main__":
    main()
