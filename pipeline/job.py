"""From a recipe and an output folder to results: the cache is asked first, and a hit imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.checkpoint import identify
from ..stages.failure import SourceError
from ..stages.safefile import Header
from ..stages.store import Spool, Store, content_digest, record_key
from .clock import Clock, Watch, unwatched
from .config import Recipe

if TYPE_CHECKING:
    from .encode import VideoEncoder


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
        self.identity = identify(model.id, model.revision, dtype=model.dtype, settings=model.settings)
        self.recipe_digest = recipe.digest(self.identity)

    @cached_property
    def encoder(self) -> VideoEncoder:
        """Model, method and decode child; imports torch."""
        from .encode import VideoEncoder

        return VideoEncoder(self.recipe, self.identity)

    def run(self, path: Path, *, force: bool = False, watch: Watch = unwatched) -> Result:
        """Encode one file, or find its record. A source that fails is a result, not an exception."""
        clock = Clock()
        try:
            content = digest_source(path)
            key = record_key(content, self.recipe_digest)
            header = None if force else self.store.find(key)
            if header is not None:
                return Result(str(path), header.meta["status"], True, header, clock.seconds())
            header = self._encode(path, key, content, force, clock, watch)
        except SourceError as e:
            return Result(str(path), e.status, error=e)
        return Result(str(path), header.meta["status"], False, header, clock.seconds())

    def close(self) -> None:
        """Release the encoder, if one was built."""
        if "encoder" in self.__dict__:
            self.encoder.close()

    def _encode(self, path: Path, key: str, content: str, force: bool, clock: Clock, watch: Watch) -> Header:
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
            elif (header := self.store.find(key)) is not None:  # another process finished it while we waited
                return header
            return self._encode_or_clear(encoder, path, spool, about, clock, watch)

    @staticmethod
    def _encode_or_clear(
        encoder: VideoEncoder, path: Path, spool: Spool, about: dict[str, Any], clock: Clock, watch: Watch
    ) -> Header:
        """A source that fails leaves nothing behind; an interrupted run leaves its closed chunks."""
        try:
            return encoder.encode(path, spool, about, clock, watch)
        except SourceError:
            spool.clear()
            raise


def digest_source(path: Path) -> str:
    """The content digest of a regular, readable, non-empty file; `SourceError` otherwise."""
    try:
        if not path.exists():
            raise SourceError("missing", "no such file", "check the path")
        if not path.is_file():
            raise SourceError("unreadable", "not a regular file", "give a video file or a folder of them")
        if path.stat().st_size == 0:
            raise SourceError("empty", "the file has no bytes", "copy or download it again")
        return content_digest(path)
    except OSError as e:
        raise SourceError("unreadable", f"cannot be read ({e.strerror})", "check its permissions") from None
