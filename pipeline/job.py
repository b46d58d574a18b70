"""From a recipe and an output folder to results: the cache is asked first, and a hit imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.checkpoint import identify
from ..stages.failure import SourceError
from ..stages.safefile import REMEDIES, Header, OutputError
from ..stages.store import Store, record_key
from .clock import Clock, Watch, unwatched
from .config import Recipe
from .content import Content, local, stamp
from .errors import CONFIG_ERRORS, ConfigError
from .heavy import signals_held
from .item import Item
from .result import Result

if TYPE_CHECKING:
    from .encode import VideoEncoder

log = logging.getLogger(__name__)

Build = Callable[[Recipe, Mapping[str, Any]], "VideoEncoder"]


class Job:
    """One recipe over any number of inputs. The encoder is built on the first one that is not in the cache, by `build`
    where one is given (a runner that reads elsewhere)."""

    def __init__(self, recipe: Recipe, out: Path, build: Build | None = None) -> None:
        self.recipe = recipe
        self.store = Store(out)
        self._build = build
        model = recipe.model
        try:
            self.identity = identify(model.id, model.revision, dtype=model.dtype, settings=model.settings)
        except CONFIG_ERRORS:
            raise
        except ValueError as e:
            raise ConfigError(f"model {model.id!r}: {e}") from None

    def recipe_of(self, item: Item) -> Recipe:
        """The recipe over the item's own window of time, if it has one."""
        window = {k: v for k, v in (("start_s", item.start_s), ("end_s", item.end_s)) if v is not None}
        if not window:
            return self.recipe
        return self.recipe.model_copy(update={"sample": self.recipe.sample.model_copy(update=window)})

    def digest_of(self, item: Item) -> str:
        """The digest of `recipe_of`."""
        recipe = self.recipe_of(item)
        return self._whole_digest if recipe is self.recipe else recipe.digest(self.identity)

    @cached_property
    def _whole_digest(self) -> str:
        return self.recipe.digest(self.identity)

    @cached_property
    def encoder(self) -> VideoEncoder:
        """Model, method and reader; imports torch."""
        with signals_held():
            from .encode import VideoEncoder
        try:
            return (self._build or VideoEncoder)(self.recipe, self.identity)
        except CONFIG_ERRORS:
            raise
        except Exception as e:  # whatever a model's own code raises: the whole run's trouble, not this input's
            log.debug("the encoder cannot be built", exc_info=True)
            what = " ".join(f"{type(e).__name__}: {e}".split())[:300]
            raise ConfigError(f"model {self.recipe.model.id!r} cannot be loaded ({what})") from None

    def run(self, item: Item, *, force: bool = False, watch: Watch = unwatched) -> Result:
        """Encode one input, or find its record. A source that fails is a result, not an exception."""
        clock, about = Clock(), about_of(self, item)
        try:
            if item.error is not None:
                raise item.error
            with local(item, self.store.out) as content:
                about |= {"content": content.digest, "stamp": stamp(item, content)}
                header, cached = self._record(item, content, force, clock, watch)
        except SourceError as e:
            return Result.failed_with(item.name, e, about)
        return Result.made(item.name, header, cached, clock.seconds(), about | {"source_s": source_s(header)})

    def recorded(self, item: Item, content: str) -> Result | None:
        """The record of an input whose content is known, without reading the input; None: there is none."""
        key = record_key(content, self.digest_of(item))
        header = self.store.find(key)
        if header is None:
            return None
        self.store.forget_spool(key)
        about = {"content": content, "stamp": item.stamp_text, "source_s": source_s(header)}
        return Result.made(item.name, header, True, Clock().seconds(), about_of(self, item) | about)

    def close(self) -> None:
        """Release the encoder, if one was built."""
        if "encoder" in self.__dict__:
            self.encoder.close()

    def _record(self, item: Item, content: Content, force: bool, clock: Clock, watch: Watch) -> tuple[Header, bool]:
        """The record's header, and whether it was there already."""
        key = record_key(content.digest, self.digest_of(item))
        header = None if force else self.store.find(key)
        if header is not None:
            self.store.forget_spool(key)
            return header, True
        return self._encode(item, key, content, force, clock, watch)

    def _encode(
        self, item: Item, key: str, content: Content, force: bool, clock: Clock, watch: Watch
    ) -> tuple[Header, bool]:
        """The record's header, and whether another process had made it while this one waited."""
        recipe = self.recipe_of(item)
        digest = self.digest_of(item)
        about = {
            "key": key,
            "content": content.digest,
            "recipe": recipe.resolved(self.identity),
            "recipe_digest": digest,
        }
        encoder = self.encoder
        with self.store.spool(key) as spool:
            if force:
                spool.clear()
            elif (header := self.store.find(key)) is not None:
                return header, True
            try:
                window = (item.start_s, item.end_s)
                return encoder.encode(content, spool, about, clock, watch, window), False
            except OSError as e:
                if e.errno not in REMEDIES:
                    raise
                raise OutputError.of("scratch space", e) from None  # the decoder's shared memory counts as a file
            except SourceError:  # a source that fails leaves nothing behind; an interrupted run leaves its chunks
                spool.clear()
                raise


def about_of(job: Job, item: Item) -> dict[str, Any]:
    """What a manifest's row says of an input besides what became of it."""
    compute = job.recipe.compute
    plain = item.url if item.url == item.name else None  # one with a password or a signed query is not written down
    said = {"id": item.id, "start_s": item.start_s, "end_s": item.end_s, "url": plain}
    return {
        "recipe": job.digest_of(item),
        **({} if job.recipe_of(item) is job.recipe else {"recipe_base": job.recipe.digest(job.identity)}),
        "threads": compute.threads,
        "device": compute.device,
        **{name: value for name, value in said.items() if value is not None},
    }


def source_s(header: Header) -> float:
    """Seconds of video that a record covers."""
    return float(header.meta["frames"] / header.meta["fps"])


def out_folder(out: str | Path) -> Path:
    """The folder of records; an empty name, which pathlib takes for the working folder, is a mistake."""
    if not str(out):
        raise ConfigError("the folder of records has an empty name: name one, or leave -o out")
    return Path(out)
