"""One reader of one file, for `bench_decode`, in a process of its own: `bench_decode_peer.py PEER PATH`.

On stdin first the job, {"index", "pts", "bytes"}; it answers {"ready": true} once all is imported. Then on each line
"run" {"wall_s", "cpu_s", "others": their share of the machine, "numbers": as the pictures show them}, and on each line
"hash" {"numbers", "hashes"}. Any answer may be {"failed": why} instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench_decode_scene import number

BATCH_BYTES: Final = 32 << 20  # of pictures asked for at once, where a peer takes many
TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Job:
    """Which frames: their indices in the order of showing, their pts in ticks, and the bytes of a picture."""

    path: str
    index: list[int]
    pts: list[int]
    bytes: int

    @property
    def batches(self) -> Iterator[list[int]]:
        """The indices, for those who want many at once."""
        step = max(BATCH_BYTES // self.bytes, 1)
        return (self.index[at : at + step] for at in range(0, len(self.index), step))


Read = Callable[[Job], Iterator[Any]]  # pictures (H,W,3), one after the other


# -- the peers: each gives what reads, once all that takes time only once is done ---------------------------


def vidcomp() -> Read:
    """Its child runs, and has been heard of."""
    import numpy as np

    from vidcomp.stages.decode import DecodeError, Decoder

    decoder = Decoder()
    with contextlib.suppress(DecodeError):
        decoder.open(os.devnull)

    def read(job: Job) -> Iterator[Any]:
        for batch in decoder.open(job.path).frames(np.array(job.index)):
            yield from batch.data.numpy()

    return read


def plain() -> Read:
    """PyAV: decode all, convert what is wanted."""
    import av

    def read(job: Job) -> Iterator[Any]:
        wanted = set(job.pts)
        with av.open(job.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    yield frame.to_ndarray(format="rgb24")
                if frame.pts == job.pts[-1]:
                    return

    return read


def seek() -> Read:
    """PyAV: for each frame go to the key frame before it, and decode from there."""
    import av

    def read(job: Job) -> Iterator[Any]:
        with av.open(job.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for pts in job.pts:
                container.seek(pts, stream=stream)
                yield next(f for f in container.decode(stream) if f.pts is not None and f.pts >= pts).to_ndarray(
                    format="rgb24"
                )

    return read


def decord() -> Read:
    """decord's reader, batch by batch."""
    import decord as library

    def read(job: Job) -> Iterator[Any]:
        reader = library.VideoReader(job.path, ctx=library.cpu(0))
        for batch in job.batches:
            yield from reader.get_batch(batch).asnumpy()

    return read


def torchcodec() -> Read:
    """torchcodec's decoder, batch by batch, on as many threads as FFmpeg likes."""
    from torchcodec.decoders import VideoDecoder

    def read(job: Job) -> Iterator[Any]:
        decoder = VideoDecoder(job.path, dimension_order="NHWC", num_ffmpeg_threads=0)
        for batch in job.batches:
            yield from decoder.get_frames_at(batch).data.numpy()

    return read


def ffmpeg() -> Read:
    """The command line tool: decode all, and forget it."""

    def read(job: Job) -> Iterator[Any]:
        words = ["ffmpeg", "-nostdin", "-v", "error", "-i", job.path, "-map", "0:v:0", "-f", "null", "-"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode or done.stderr:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        yield from ()

    return read


PEERS: Final[dict[str, Callable[[], Read]]] = {
    made.__name__: made for made in (vidcomp, plain, seek, decord, torchcodec, ffmpeg)
}


# -- measuring ---------------------------------------------------------------------------------------------


def measure(read: Read, job: Job) -> dict[str, Any]:
    """One reading. The numbers are read off while the clock runs: it takes a tenth of a millisecond each."""
    busy_s, cpu_s, start = busy_seconds(), cpu_seconds(), time.perf_counter()
    numbers = [number(picture) for picture in read(job)]
    wall_s, cpu_s = time.perf_counter() - start, cpu_seconds() - cpu_s
    others = max(busy_seconds() - busy_s - cpu_s, 0.0) / (wall_s * (os.cpu_count() or 1))
    return {"wall_s": wall_s, "cpu_s": cpu_s, "others": others, "numbers": numbers}


def hashed(read: Read, job: Job) -> dict[str, Any]:
    """A hash of each picture, and its number."""
    found = [(number(picture), digest(picture)) for picture in read(job)]
    return {"numbers": [each for each, _ in found], "hashes": [each for _, each in found]}


def digest(picture: Any) -> str:
    """Of all its bits."""
    import numpy as np

    return hashlib.sha256(np.ascontiguousarray(picture).data).hexdigest()[:16]


def cpu_seconds() -> float:
    """Of this process, its ended children and its running ones."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in used) + sum(map(ticks, children())) * TICK_S


def busy_seconds() -> float:
    """Of all cores, whoever used them; also what a host took for others."""
    words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    user, nice, system, _, _, irq, soft, steal = map(int, words[1:9])
    return (user + nice + system + irq + soft + steal) * TICK_S


def children() -> Iterator[str]:
    """The running ones, and theirs."""
    todo = [str(os.getpid())]
    while todo:
        for task in Path("/proc", todo.pop(), "task").glob("*/children"):
            found = task.read_text(encoding="ascii").split()
            todo += found
            yield from found


def ticks(pid: str) -> int:
    """User and system time of one process."""
    words = Path("/proc", pid, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


# -- the conversation --------------------------------------------------------------------------------------


def main() -> int:
    peer, path = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # libraries print
    for answer in answers(peer, path):
        print(json.dumps(answer), file=replies, flush=True)
    return 0


def answers(peer: str, path: str) -> Iterator[dict[str, Any]]:
    """One for each line on stdin, the first of which is the job."""
    job = Job(path, **json.loads(sys.stdin.readline()))
    try:
        read = PEERS[peer]()
    except Exception as error:
        yield {"failed": f"cannot be used: {reason(error)}"}
        return
    yield {"ready": True}
    for line in sys.stdin:
        try:
            yield measure(read, job) if line.strip() == "run" else hashed(read, job)
        except Exception as error:
            yield {"failed": reason(error)}


def reason(error: Exception) -> str:
    """An error as one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1][:120]}" if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
