"""`vidcomp.stream`: a source that goes on, chunk by chunk, each committed as it closes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..models.types import CompressedTokens
from ..stages.failure import SourceError
from ..stages.ingest import Ended, Event, Jumped, Lost, Opened, Resized
from ..stages.ingest_url import place
from ..stages.safefile import REMEDIES, OutputError, digest_of
from .config import Recipe
from .encode import VideoEncoder
from .errors import ConfigError
from .job import Job
from .live_chunks import Shot
from .live_parts import sound_rate
from .live_source import Live, Pace, feed_of, is_file
from .overrides import overrides
from .presets import build_recipe
from .stream_folder import StreamFolder
from .stream_items import Item, of_feed, of_file
from .stream_stats import LiveStats
from .stream_told import Begun, Gap, Ready
from .stream_write import StreamWriter
from .urls import is_url

Hear = Callable[[Event | Shot], None]


class Stream:
    """One source and one recipe; `folder` None: nothing is written. `hear` is told of all that comes from the source.

    Raises `ConfigError`, `SourceListError` for what cannot be followed, `ConfigError` for a folder of another stream.
    """

    def __init__(self, source: str, recipe: Recipe, folder: Path | None, live: Live) -> None:
        self.source, self.recipe, self.live = source, recipe, live
        self.hear: Hear | None = None
        self.folder = None if folder is None else StreamFolder(folder)
        self.stats = LiveStats()
        self.of_file = is_file(source)
        if not self.of_file:
            feed_of(source, live, recipe, None).close()  # what cannot be followed is told now
        self.name = told_as(source)
        self.job = Job(recipe, folder or Path())
        self._refuse_another()

    def chunks(self) -> Iterator[CompressedTokens]:
        """The tokens of each closed chunk, counted from this run's start, as it is committed. To be asked for once.

        Raises `SourceError` where nothing can be read, or no longer, and `OutputError`.
        """
        with ExitStack() as stack:
            if self.folder is not None:
                stack.enter_context(self.folder.held())
                self._refuse_another()  # another may have ended meanwhile
            stack.callback(self.job.close)
            encoder = self.job.encoder
            self._note("start", source=self.name)
            items = stack.enter_context(closing(self._items(encoder)))
            yield from self._committed(encoder, scratch_told(items))
            if not self.stats.chunks:
                raise SourceError("empty", "not one frame came", "check the source")
            self._note("end")

    def _items(self, encoder: VideoEncoder) -> Generator[Item]:
        if self.of_file:
            return of_file(encoder, Path(self.source), self.live.pace)
        rate = sound_rate(encoder)
        feed = feed_of(self.source, self.live, self.recipe, rate)
        size = None if self.folder is None else self.folder.picture_size()
        return of_feed(encoder, feed, rate, size, wait=self.live.pace == "max")

    def _committed(self, encoder: VideoEncoder, items: Iterator[Item]) -> Iterator[CompressedTokens]:
        writer: StreamWriter | None = None
        for item in items:
            if isinstance(item, Begun):
                self._refuse_size(item.source.size)
                writer = StreamWriter(encoder, item.source, self.folder)
                writer.go_on()
                self.stats.begun_s = time.monotonic()  # not before the first frame: rates are of the source
            elif isinstance(item, Gap) and writer is not None:
                writer.gap(item.why)
            elif isinstance(item, Ready) and writer is not None:
                dropped = item.dropped - self.stats.dropped
                tokens = writer.commit(item, dropped)
                self.stats.count(item)
                yield tokens
            elif not isinstance(item, Gap | Ready):
                self._happened(item)
                if isinstance(item, Ended) and item.why == "gave_up":
                    raise SourceError("unreadable", "the source gives no more frames", "see the lines before this one")

    def _happened(self, event: Event | Shot) -> None:
        """Count it, tell it, and note it in the index."""
        if isinstance(event, Shot):
            self.stats.frames = event.number + 1
        self.stats.losses += isinstance(event, Lost)
        if isinstance(event, Opened | Lost | Jumped | Resized):
            self._note(type(event).__name__.lower(), **asdict(event))
        if self.hear is not None:
            self.hear(event)

    def _refuse_another(self) -> None:
        """`ConfigError` where the folder holds a stream of another recipe: its chunks could not be put together."""
        if self.folder is None:
            return
        held = {row["recipe"] for row in self.folder.chunks()}
        held |= {header.meta["recipe_digest"] for header in self.folder.unlisted()}
        if held - {self.recipe.digest(self.job.identity)}:
            raise ConfigError(f"{self.folder.path}: holds a stream of other settings: take another folder, or the same")

    def _refuse_size(self, size: tuple[int, int]) -> None:
        """The same of another size of pictures (a live source's are brought to that of the stream)."""
        held = None if self.folder is None else self.folder.picture_size()
        if self.folder is not None and held not in (None, size):
            raise ConfigError(f"{self.folder.path}: holds a stream of pictures of another size: take another folder")

    def _note(self, event: str, **facts: Any) -> None:
        if self.folder is not None:
            wall_s = round(facts.pop("wall_s", time.time()), 3)
            self.folder.note({"event": event, "wall_s": wall_s, **facts})


def scratch_told(items: Iterator[Item]) -> Iterator[Item]:
    """The decoder's shared memory counts as a file: a disk or a limit that is full is no mistake of ours."""
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except OSError as e:
            if e.errno not in REMEDIES:
                raise
            raise OutputError.of("scratch space", e) from None
        yield item


def told_as(source: str) -> str:
    """A source's name in messages and in the index: of a URL scheme and host, and a digest that tells two apart; its
    path may hold a password as well as its query."""
    return f"{place(source)}#{digest_of([source.encode()])[:12]}" if is_url(source) else source


def stream(
    source: str | Path,
    *,
    model: str | None = None,
    method: str | None = None,
    retain: float | None = None,
    tokens_per_second: float | None = None,
    fps: float | None = None,
    gate: str | None = None,
    audio_guide: str | None = None,
    config: str | Mapping[str, Any] | None = None,
    settings: Iterable[str | Mapping[str, Any]] = (),
    out: str | Path | None = None,
    pace: Pace = "real",
    size: tuple[int, int] | None = None,
    rate: float | None = None,
    open_timeout_s: float = 10.0,
    read_timeout_s: float = 5.0,
    give_up_s: float | None = None,
) -> Iterator[CompressedTokens]:
    """The tokens of each chunk of a source, as it closes: a file, `rtsp://`, `http://`, ..., or `-`, raw frames.

    `out`: a folder to which each chunk is written; without one nothing is. From `pace` on: see `Live`. All else as in
    `encode`. Positions and boxes count from the stream's start, times are the source's own.

    Raises:
        ConfigError, UnknownMethodError, SourceListError: what cannot be followed; at once.
        SourceError, OutputError: while it goes.
    """
    over = overrides(model, retain, None, tokens_per_second, fps, gate, audio_guide)
    recipe = build_recipe(config, method=method, settings=settings, over=over)
    live = Live(pace, size, rate, open_timeout_s, read_timeout_s, give_up_s)
    return Stream(str(source), recipe, None if out is None else Path(out), live).chunks()
