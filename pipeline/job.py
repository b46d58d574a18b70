"""From a recipe and an output folder to results: the cache is asked first, and a hit imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.checkpoint import identify
from ..stages.failure import SourceError
from ..stages.safefile import REMEDIES, Header, OutputError
from ..stages.same_file import FileStamp
from ..stages.store import Store, content_digest, record_key
from .clock import Clock, Watch, unwatched
from .config import Recipe
from .errors import CONFIG_ERRORS, ConfigError
from .heavy import signals_held

if TYPE_CHECKING:
    from .encode import VideoEncoder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What became of one input: its one final `status`, and the record's header where there is a record."""

    path: str
    status: str
    cached: bool = False
    header: Header | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: SourceError | None = None

    @classmethod
    def broken(cls, path: Path, error: Exception) -> Result:
        """For work that raised what it should not: our bug or the machine's trouble, not the input's."""
        what = f"{type(error).__name__}: {error}"
        return cls(str(path), "failed:internal", error=SourceError("internal", what, "please report this"))

    @property
    def failed(self) -> bool:
        return self.header is None

    def to_json(self) -> dict[str, Any]:
        """The object that `encode --json` prints."""
        if self.header is None:
            reason = {"reason": self.error.reason, "message": str(self.error)} if self.error else {}
            return {"path": self.path, "status": self.status, "cached": False, "record": None, **reason}
        meta = self.header.meta
        t, h, w = meta["grid"]
        kept = meta["budget"]["kept"]
        return {
            "path": self.path,
            "status": self.status,
            "cached": self.cached,
            "record": str(self.header.path),
            "key": meta["key"],
            "source": {"path": self.path, **meta["source"]},
            "decoded": meta["decoded"],
            "frames": meta["frames"],
            "grid": [t, h, w],
            "tokens_in": t * h * w,
            "tokens_out": kept,
            "ratio": kept / (t * h * w),
            "budget": meta["budget"],
            "model": meta["model"]["family"],
            "method": meta["method"]["name"],
            "seconds": dict(self.seconds),
            "recipe": meta["recipe_digest"],
        }


class Job:
    """One recipe over any number of files. The encoder is built on the first file that is not in the cache."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe = recipe
        self.store = Store(out)
        model = recipe.model
        try:
            self.identity = identify(model.id, model.revision, dtype=model.dtype, settings=model.settings)
        except CONFIG_ERRORS:
            raise
        except ValueError as e:
            raise ConfigError(f"model {model.id!r}: {e}") from None
        self.recipe_digest = recipe.digest(self.identity)

    @cached_property
    def encoder(self) -> VideoEncoder:
        """Model, method and decode child; imports torch."""
        with signals_held():
            from .encode import VideoEncoder
        try:
            return VideoEncoder(self.recipe, self.identity)
        except CONFIG_ERRORS:
            raise
        except Exception as e:  # whatever a model's own code raises: the whole run's trouble, not this input's
            log.debug("the encoder cannot be built", exc_info=True)
            what = " ".join(f"{type(e).__name__}: {e}".split())[:300]
            raise ConfigError(f"model {self.recipe.model.id!r} cannot be loaded ({what})") from None

    def run(self, path: Path, *, force: bool = False, watch: Watch = unwatched) -> Result:
        """Encode one file, or find its record. A source that fails is a result, not an exception."""
        clock = Clock()
        try:
            stamp, content = digest_source(path)
            key = record_key(content, self.recipe_digest)
            header = None if force else self.store.find(key)
            if header is not None:
                self.store.forget_spool(key)
                return Result(str(path), header.meta["status"], True, header, clock.seconds())
            header, waited = self._encode(path, key, content, stamp, force, clock, watch)
        except SourceError as e:
            return Result(str(path), e.status, error=e)
        return Result(str(path), header.meta["status"], waited, header, clock.seconds())

    def close(self) -> None:
        """Release the encoder, if one was built."""
        if "encoder" in self.__dict__:
            self.encoder.close()

    def _encode(
        self, path: Path, key: str, content: str, stamp: FileStamp, force: bool, clock: Clock, watch: Watch
    ) -> tuple[Header, bool]:
        """The record's header, and whether another process had made it while this one waited."""
        about = {
            "key": key,
            "content": content,
            "recipe": self.recipe.resolved(self.identity),
            "recipe_digest": self.recipe_digest,
        }
        encoder = self.encoder
        with self.store.spool(key) as spool:
            if force:
                spool.clear()
            elif (header := self.store.find(key)) is not None:
                return header, True
            try:
                return encoder.encode(path, stamp, spool, about, clock, watch), False
            except OSError as e:
                if e.errno not in REMEDIES:
                    raise
                raise OutputError.of("scratch space", e) from None  # the decoder's shared memory counts as a file
            except SourceError:  # a source that fails leaves nothing behind; an interrupted run leaves its chunks
                spool.clear()
                raise


def out_folder(out: str | Path) -> Path:
    """The folder of records; an empty name, which pathlib takes for the working folder, is a mistake."""
    if not str(out):
        raise ConfigError("the folder of records has an empty name: name one, or leave -o out")
    return Path(out)


def digest_source(path: Path) -> tuple[FileStamp, str]:
    """State and content digest of a regular, readable, non-empty file; `SourceError` otherwise."""
    try:
        if not path.exists():
            what = f"a link to {path.readlink()}, which is not there" if path.is_symlink() else "no such file"
            raise SourceError("missing", what, "check the path")
        if path.is_dir():
            raise SourceError("unreadable", "the folder cannot be listed", "check its permissions")
        if not path.is_file():
            raise SourceError("unreadable", "not a regular file", "give a video file or a folder of them")
        if path.stat().st_size == 0:
            raise SourceError("empty", "the file has no bytes", "copy or download it again")
        stamp = FileStamp.of(path)
        return stamp, content_digest(path)
    except OSError as e:
        raise SourceError("unreadable", f"cannot be read ({e.strerror})", "check its permissions") from None
