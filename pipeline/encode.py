"""One video through the stages: read -> embed -> segment and merge -> store, chunk by chunk."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from ..models.base import VideoModel
from ..models.types import Frames
from ..stages.budget import ChunkBudget
from ..stages.embed import Embedder
from ..stages.failure import SourceError
from ..stages.overlap import prefetch
from ..stages.pack import Progress, progress_after
from ..stages.read import LocalReader, Reader, Reading, Window
from ..stages.safefile import Header
from ..stages.schema import SCHEMA
from ..stages.store import Spool
from .account import budget_account, coverage, environment, guide_of, revision_of, sound_of, tally_of
from .build import (
    build_encoder,
    build_gate,
    build_guide,
    build_method,
    describe,
    device,
    fit_gate,
    fit_sinks,
    fit_to_model,
    torch_threads,
)
from .clock import Clock, Watch
from .config import Recipe
from .content import Content
from .encode_sound import Hearing


class VideoEncoder:
    """A recipe made ready: model, method and reader are built once and used for many videos."""

    def __init__(self, recipe: Recipe, identity: Mapping[str, Any], reader: Reader | None = None) -> None:
        self.recipe = recipe
        self.identity = dict(identity)
        method = build_method(recipe)  # first: a wrong setting is told before weights are loaded
        guide = build_guide(recipe, method)
        self.model: VideoModel = build_encoder(recipe)
        gate = build_gate(recipe)
        fitted = fit_to_model(method, self.model), gate and fit_gate(gate, self.model)
        self.embedder = Embedder(self.model, *fitted, guide, fit_sinks(recipe.model.sink_times, fitted[0], self.model))
        self.model.setup(device(recipe.compute.device))
        self.reader = reader or local_reader(recipe, self.model)

    def close(self) -> None:
        """End what reads."""
        self.reader.close()

    def encode(
        self,
        content: Content,
        spool: Spool,
        about: dict[str, Any],
        clock: Clock,
        watch: Watch,
        window: Window = (None, None),
    ) -> Header:
        """Encode one file into its spool and finish it; goes on behind the parts that an interrupted run left.

        `about` (key, content digest, recipe) enters the record's metadata as it is; `window` (start_s, end_s) stands
        over the recipe's own.

        Raises:
            SourceError: the source failed as a whole.
        """
        with torch_threads(self.recipe.compute.threads):
            with clock.stage("decode"):
                reading = self.reader.open(content.path, window)
            parts = self._parts(reading, spool, clock, watch)
            content.stamp.check(content.path)
            with clock.stage("store"):
                return spool.finish(parts, self._account(reading, parts) | about)

    def _parts(self, reading: Reading, spool: Spool, clock: Clock, watch: Watch) -> list[Header]:
        """All of a video's parts: those that are there, and the rest."""
        plan = reading.plan
        parts = spool.finished()
        if progress_after(parts).chunks * plan.chunk_frames >= len(plan.index):
            parts = spool.without_last(parts)  # how the file ends decides its status
        with closing(self.chunks(reading, progress_after(parts), clock, watch)) as made:
            for part in made:
                with clock.stage("store"):
                    parts.append(spool.add(len(parts), *part))
        if not parts:
            raise SourceError("corrupt", "none of its frames can be decoded", "repair or replace the file")
        return parts

    def chunks(
        self, reading: Reading, at: Progress, clock: Clock, watch: Watch
    ) -> Generator[tuple[dict[str, Any], dict[str, Any]], None, None]:
        """(tensors, metadata) of each further part."""
        plan = reading.plan
        hearing = Hearing.of(self.embedder, reading, at.heard, self.recipe.model.sound)
        budget = ChunkBudget(self.recipe.budget.asked, len(plan.index), plan.fps)
        ready = self._frames(reading, at.chunks, clock, watch)
        with closing(prefetch(ready, cancel=self.reader.cancel)) as ahead:
            for number, frames in ahead:
                end = min((number + 1) * plan.chunk_frames, len(plan.index))
                at = replace(at, chunks=number)
                with clock.stage("embed"), torch_threads(self.recipe.compute.threads):
                    chunk = hearing.add(self.embedder.embed(frames, plan.size, at), number)
                watch("embed", end, len(plan.index))
                with clock.stage("reduce"), torch_threads(self.recipe.compute.threads):
                    due = budget.of(0, end)  # what chunks before had no use for (a gate, lost frames) is due now
                    tensors, at = self.embedder.reduce(chunk, at, None if due is None else due - at.rows)
                watch("reduce", end, len(plan.index))
                yield tensors, {"chunk": number, "grid": chunk.grid.shape}

    def _frames(
        self, reading: Reading, chunk: int, clock: Clock, watch: Watch
    ) -> Generator[tuple[int, Frames], None, None]:
        """Model-size chunks from number `chunk` on (in the prefetch thread)."""
        plan = reading.plan
        for number, frames in clock.timed("decode", reading.chunks(chunk)):
            watch("decode", min((number + 1) * plan.chunk_frames, len(plan.index)), len(plan.index))
            if len(frames):
                yield number, frames

    def _account(self, reading: Reading, parts: list[Header]) -> dict[str, Any]:
        """What the record says of itself; see `account.py`."""
        tally, plan = tally_of(parts), reading.plan
        return {
            **coverage(reading.outcome, len(plan.index), tally),
            **budget_account(self.recipe.budget.asked, self.embedder.method, plan.fps, len(plan.index), tally),
            "schema": SCHEMA,
            "source": {**reading.info.to_json(), "start_s": plan.start_s},
            "model": self.identity,
            "method": describe(self.embedder),
            "grid": [tally.steps, *tally.grid_hw],
            "frames": tally.frames,
            "environment": environment(self.model.family),
            "fps": plan.fps,
            "temporal_patch": self.model.temporal_patch,
            "seconds_per_step": self.model.temporal_patch / plan.fps,
            "frame_size": list(plan.size),
            "chunk_frames": plan.chunk_frames,
            **sound_of(parts),
            **guide_of(self.embedder, plan.fps, parts[0].entries),
            **revision_of(self.model),
        }


def local_reader(recipe: Recipe, model: VideoModel) -> LocalReader:
    """A reader on this machine, as the recipe says."""
    return LocalReader(model, dict(recipe.sample), dict(recipe.decode), recipe.chunk_frames)
