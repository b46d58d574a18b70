"""A file or a live source as what a stream is made of: chunks that are through the model, gaps, and what happened."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ..stages.failure import SourceError
from ..stages.ingest import Event, Feed, Jumped, Lost, Opened
from ..stages.pack import Progress
from ..stages.read import Plan
from .clock import Clock, unwatched
from .encode import VideoEncoder
from .live_chunks import Assembly, Shot, model_size, shots, weigh
from .live_parts import LiveParts
from .live_source import Pace
from .runners.stream import Ring
from .stream_told import Begun, Gap, Ready, Source

RING_CHUNKS = 2  # chunks of frames that may wait for the model


Item = Begun | Ready | Gap | Event | Shot


def of_file(encoder: VideoEncoder, path: Path, pace: Pace) -> Generator[Item]:
    """A file's, as `encode` reads it; at its own pace a chunk is ready when its last frame has been shown."""
    reading = encoder.reader.open(path)
    plan, begun_s = reading.plan, time.monotonic()
    yield Begun(Source({**reading.info.to_json(), "start_s": plan.start_s}, plan.fps, plan.size))
    whole = 0
    with closing(encoder.chunks(reading, Progress(), Clock(), unwatched)) as parts:
        for tensors, meta in parts:
            whole += 1
            since_s = plan.chunk_ends_s[meta["chunk"]]
            if pace == "real":
                time.sleep(max(begun_s + since_s - time.monotonic(), 0.0))
            lacking = due(plan, meta["chunk"]) - tensors["frame_index"].shape[0]
            yield Ready((tensors, meta["grid"]), float(plan.pts_s[0]) + since_s, time.time(), lacking)
    if not whole:
        raise SourceError("corrupt", "none of its frames can be decoded", "repair or replace the file")


def due(plan: Plan, chunk: int) -> int:
    """Sampled frames of a chunk."""
    return min(plan.chunk_frames, len(plan.index) - chunk * plan.chunk_frames)


def of_feed(
    encoder: VideoEncoder, feed: Feed, rate: int | None, size: tuple[int, int] | None, *, wait: bool
) -> Generator[Item]:
    """A live source's. `rate`: of the sound that is wanted, None: none; `size`: of a stream that goes on; `wait`: the
    source waits for the model."""
    patch = encoder.model.temporal_patch
    frames = -(-encoder.recipe.chunk_frames // patch) * patch

    def told() -> Generator[Event | Shot]:
        with closing(shots(feed, encoder.model, frames, size)) as events:
            for event in events:
                ring.wait |= isinstance(event, Opened) and event.finite  # what is recorded can wait
                yield event

    ring = Ring(told(), weigh, RING_CHUNKS * frames, wait=wait, cancel=feed.cancel)
    assembly: Assembly | None = None
    with closing(feed), closing(ring.items()) as arriving:
        for event in arriving:
            if isinstance(event, Shot):
                event = replace(event, dropped=ring.dropped_before)
            yield event
            if assembly is None and isinstance(event, Opened):
                source = source_of(encoder, event, size or model_size(encoder.model, frames, event))
                assembly = Assembly(frames, source.fps, rate if event.audio_rate else None)
                parts = LiveParts(encoder, source.fps, source.size)
                yield Begun(source)
            if assembly is None:
                continue
            for closed in assembly.closed(event):
                yield Ready(parts.part(closed), closed.end_s, closed.wall_s, dropped=closed.dropped)
            if isinstance(event, Jumped | Lost):
                parts.forget()
                yield Gap("lost" if isinstance(event, Lost) else "jumped")


def source_of(encoder: VideoEncoder, opened: Opened, size: tuple[int, int]) -> Source:
    """What records say of a live source; sampled at its own rate where that is lower than what is asked for."""
    sample = encoder.recipe.sample
    if sample.every is not None:
        if opened.fps is None:
            what = "the source does not tell its frame rate"
            raise SourceError("unsupported", what, "sample by --fps, not by every so many frames")
        fps = opened.fps / sample.every
    else:
        asked = sample.fps or 1.0
        fps = min(asked, opened.fps or asked)
    about = {"live": True, "width": opened.width, "height": opened.height, "fps": opened.fps}
    return Source(about, fps, size)
