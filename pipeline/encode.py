"""One video through the stages: decode -> fit -> embed -> segment and merge -> store, chunk by chunk."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..models.base import VideoModel
from ..models.types import Frames, ShapeError, TokenGrid
from ..stages.budget import ChunkBudget
from ..stages.decode import Decoder, Source
from ..stages.failure import SourceError
from ..stages.fit import chunks
from ..stages.methods import Method
from ..stages.overlap import prefetch
from ..stages.pack import Progress, pack, progress_after
from ..stages.reduction import Reduction
from ..stages.safefile import Header
from ..stages.same_file import FileStamp
from ..stages.sample import Sampling, Shown
from ..stages.schema import SCHEMA
from ..stages.store import Spool
from .account import budget_account, coverage, environment, tally_of
from .build import build_encoder, build_method, describe, device, fit_to_model, torch_threads
from .clock import Clock, Watch
from .config import Recipe


@dataclass(frozen=True)
class Plan:
    """What is known of one video before a frame is encoded: which frames, at what size, in which chunks."""

    index: np.ndarray  # int64 (F,): presentation numbers of the sampled frames
    fps: float  # sampled frames a second: as asked, or fewer where the source does not have that many
    size: tuple[int, int]  # (h, w) pixels at which they enter the model
    chunk_frames: int


class VideoEncoder:
    """A recipe made ready: model, method and decoder are built once and used for many videos."""

    def __init__(self, recipe: Recipe, identity: Mapping[str, Any]) -> None:
        self.recipe = recipe
        self.identity = dict(identity)
        method = build_method(recipe)  # first: a wrong setting is told before weights are loaded
        self.model: VideoModel = build_encoder(recipe)
        self.method: Method = fit_to_model(method, self.model)
        self.model.setup(device(recipe.compute.device))
        self.decoder = Decoder(**dict(recipe.decode))

    def close(self) -> None:
        """End the decode child."""
        self.decoder.close()

    def encode(
        self, path: Path, stamp: FileStamp, spool: Spool, about: dict[str, Any], clock: Clock, watch: Watch
    ) -> Header:
        """Encode one file into its spool and finish it; goes on behind the parts that an interrupted run left.

        `stamp` is the file's state when its content was digested; `about` (key, content digest, recipe) enters the
        record's metadata as it is.

        Raises:
            SourceError: the source failed as a whole.
        """
        with torch_threads(self.recipe.compute.threads):
            return self._encode(path, stamp, spool, about, clock, watch)

    def _encode(
        self, path: Path, stamp: FileStamp, spool: Spool, about: dict[str, Any], clock: Clock, watch: Watch
    ) -> Header:
        with clock.stage("decode"):
            source = self.decoder.open(path)
        plan = self.plan(source)
        parts = spool.finished()
        if progress_after(parts).chunks * plan.chunk_frames >= len(plan.index):
            parts = spool.without_last(parts)  # how the file ends decides its status
        with closing(self._chunks(source, plan, progress_after(parts), clock, watch)) as made:
            for part in made:
                with clock.stage("store"):
                    parts.append(spool.add(len(parts), *part))
        if not parts:
            raise SourceError("corrupt", "none of its frames can be decoded", "repair or replace the file")
        stamp.check(path)
        with clock.stage("store"):
            return spool.finish(parts, self._account(source, plan, parts) | about)

    def plan(self, source: Source) -> Plan:
        """Which frames, at what size: resolved once from all pts, for all chunks."""
        video = Shown(source.pts_s, source.end_s, source.key)
        sampling = Sampling(**dict(self.recipe.sample))
        try:
            index = sampling.plan(video)
        except ValueError as e:
            raise SourceError("no_sample", str(e), "ask for other times") from None
        try:
            size = self.model.frame_size(len(index), source.info.height, source.info.width)
        except ValueError as e:
            raise SourceError("unsupported", str(e), "crop or scale the video, or take another model") from None
        patch = self.model.temporal_patch
        return Plan(index, sampling.rate(video, index), size, -(-self.recipe.chunk_frames // patch) * patch)

    def _chunks(
        self, source: Source, plan: Plan, at: Progress, clock: Clock, watch: Watch
    ) -> Generator[tuple[dict[str, Any], dict[str, Any]], None, None]:
        """(tensors, metadata) of each further part."""
        budget = ChunkBudget(self.recipe.budget.asked, len(plan.index), plan.fps)
        ready = self._frames(source, plan, at.chunks, clock, watch)
        with closing(prefetch(ready, cancel=self.decoder.cancel)) as ahead:
            for number, frames in ahead:
                first, end = number * plan.chunk_frames, min((number + 1) * plan.chunk_frames, len(plan.index))
                with clock.stage("embed"):
                    grid = self._embed(frames, plan)
                watch("embed", end, len(plan.index))
                with clock.stage("reduce"):
                    reduction, carry = self._decide(grid, at.carry, budget.of(first, end))
                    tensors = pack(frames, grid, reduction, carry, at)
                watch("reduce", end, len(plan.index))
                at = Progress(number + 1, at.steps + grid.shape[0], at.rows + len(reduction), carry)
                yield tensors, {"chunk": number, "grid": grid.shape}

    def _decide(self, grid: TokenGrid, carry: Tensor | None, tokens: int | None) -> tuple[Reduction, Tensor | None]:
        """The method's decision; what it refuses (too many points, a grid it cannot tile) fails this source alone."""
        try:
            return self.method.decide(grid, carry, tokens)
        except ShapeError:
            raise  # tensors that do not fit together are our fault
        except ValueError as e:
            raise SourceError("unsupported", str(e), "see the method's settings") from None

    def _embed(self, frames: Frames, plan: Plan) -> TokenGrid:
        """A chunk's tokens, with the pixels they were made of where the method asks for them."""
        grid = self.model.encode(frames.data, frames.pts_s, plan.size)
        if "pixels" not in self.method.needs:
            return grid
        return replace(grid, pixels=frames.data.to(grid.data.device))

    def _frames(
        self, source: Source, plan: Plan, chunk: int, clock: Clock, watch: Watch
    ) -> Generator[tuple[int, Frames], None, None]:
        """Model-size chunks from number `chunk` on, decoded and resized (in the prefetch thread)."""
        skipped = chunk * plan.chunk_frames

        def resize(data: Tensor) -> Tensor:
            return self.model.resize(data, plan.size)

        batches = source.frames(plan.index[skipped:])
        made = chunks(batches, plan.index, plan.chunk_frames, resize)
        for number, frames in clock.timed("decode", made):
            watch("decode", min((number + 1) * plan.chunk_frames, len(plan.index)), len(plan.index))
            yield number, frames

    def _account(self, source: Source, plan: Plan, parts: list[Header]) -> dict[str, Any]:
        """What the record says of itself; see `account.py`."""
        tally = tally_of(parts)
        return {
            **coverage(source.outcome, len(plan.index), tally),
            **budget_account(self.recipe.budget.asked, self.method, plan.fps, len(plan.index), tally),
            "schema": SCHEMA,
            "source": source.info.to_json(),
            "model": self.identity,
            "method": describe(self.method),
            "grid": [tally.steps, *tally.grid_hw],
            "frames": tally.frames,
            "environment": environment(self.model.family),
            "fps": plan.fps,
            "temporal_patch": self.model.temporal_patch,
            "seconds_per_step": self.model.temporal_patch / plan.fps,
            "frame_size": list(plan.size),
            "chunk_frames": plan.chunk_frames,
        }
