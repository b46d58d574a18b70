"""soak_slow SOURCE DIR FPS FACTOR: follow a source, each chunk of which the consumer holds FACTOR times its length."""

from __future__ import annotations

import signal
import sys
import time

import vidcomp

CHUNK = 30


def main() -> None:
    source, folder, fps, factor = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    settings = [f"chunk_frames={CHUNK}", "sample.every=1", "sample.fps=null"]
    begun_s = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    for n, _ in enumerate(vidcomp.stream(source, out=folder, method="dtd", settings=settings), 1):
        time.sleep(max(begun_s + n * factor * CHUNK / fps - time.monotonic(), 0.0))


if __name__ == "__main__":
    main()
