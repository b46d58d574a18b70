"""A real video LLM answers from records, without pixels: videos are prefilled once, each question goes on from them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models.asking import Asker
from ..models.checkpoint import identify
from ..models.consume import sounds
from ..models.load import load_llm, reader_of
from ..stages.record import VideoRecord
from .build import device as usable
from .errors import CONFIG_ERRORS, ConfigError
from .kv import PrefixFile
from .recall import recalled

log = logging.getLogger(__name__)

SAME = ("family", "weights", "config", "settings")  # of a model's identity: the dtype may differ
OnText = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What is asked of which model; `settings` stand over its video processor's, as when the record was made."""

    model: str
    revision: str | None = None
    settings: Mapping[str, Any] | None = None
    dtype: str | None = None
    device: str = "auto"
    position_rule: str | None = None
    count_sizes: bool = False
    max_new_tokens: int = 128
    save_kv: Path | None = None
    memory_tokens: int | None = None  # of a stream's folder; None: all


class Answerer:
    """Some records and the model that answers from them. ConfigError: they were made for another one."""

    def __init__(self, paths: Sequence[Path], asked: Asked) -> None:
        self.asked = asked
        self.records = [recalled(path, asked.memory_tokens) for path in paths]
        with usage_errors():
            identity = identify(asked.model, asked.revision, settings=asked.settings)
        for record in self.records:
            refuse_another_model(record.meta["model"], identity)
        start = time.perf_counter()
        self.asker = Asker(*loaded(asked), self.records, asked.position_rule, asked.count_sizes)
        self.file = prefix_file(asked, self.records, identity)
        self.seconds = {"load": time.perf_counter() - start}

    def check(self, questions: Sequence[str]) -> None:
        """ConfigError for a question that cannot be asked: told before the videos are prefilled."""
        with usage_errors():
            for question in questions:
                self.asker.prompt(question)

    def prefill(self) -> None:
        """Prefill the videos, or take them from the file that an earlier run kept."""
        start = time.perf_counter()
        with usage_errors():
            if self.file is None:
                self.asker.prefill()
            elif not self.file.restore(self.asker):
                self.file.keep(self.asker)
        self.seconds["prefill"] = time.perf_counter() - start

    def answer(self, question: str, on_text: OnText | None = None) -> dict[str, Any]:
        """`answer` (text), counts of tokens, and `seconds`; `on_text` hears the text as it comes."""
        prompt = self.asker.prompt(question)
        start = time.perf_counter()
        how: dict[str, Any] = {"max_new_tokens": self.asked.max_new_tokens, "do_sample": False}
        if on_text is not None:
            how["streamer"] = listener(self.asker, on_text)
        with usage_errors():
            new = self.asker.ask(question, **how)
        return {
            "question": question,
            "answer": self.asker.tokenizer.decode(new, skip_special_tokens=True).strip(),
            "prompt_tokens": len(prompt.ids),
            "video_tokens": sum(len(record) for record in self.records),
            "audio_tokens": sum(len(sound) for sound in sounds(self.records)),
            "new_tokens": len(new),
            "seconds": {**rounded(self.seconds), "answer": round(time.perf_counter() - start, 3)},
        }


def loaded(asked: Asked) -> tuple[Any, Any]:
    """(language model, tokenizer); ConfigError where that cannot be had."""
    where = usable(asked.device)
    try:
        return load_llm(asked.model, revision=asked.revision, dtype=asked.dtype, device=where)
    except CONFIG_ERRORS:
        raise
    except Exception as e:  # whatever the model's own code raises
        log.debug("the language model cannot be loaded", exc_info=True)
        what = " ".join(f"{type(e).__name__}: {e}".split())[:300]
        raise ConfigError(f"model {asked.model!r} cannot be loaded ({what})") from None


def prefix_file(asked: Asked, records: Sequence[VideoRecord], identity: Mapping[str, Any]) -> PrefixFile | None:
    """Where the prefix is kept, if it is; two records of one key may hold other tensors, so their digests count."""
    if asked.save_kv is None:
        return None
    held = [[record.meta["key"], record.meta["header_digest"]] for record in records]
    return PrefixFile(asked.save_kv, {"records": held, "model": dict(identity)})


def listener(asker: Asker, on_text: OnText) -> Any:
    """A transformers streamer that hands on text word by word."""
    from transformers import TextStreamer

    class Listener(TextStreamer):  # type: ignore[misc]
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            on_text(text)

    return Listener(asker.tokenizer, skip_prompt=True, skip_special_tokens=True)


@contextmanager
def usage_errors() -> Iterator[None]:
    """What a record, question or option that does not fit raises is the user's, and one line."""
    try:
        yield
    except CONFIG_ERRORS:
        raise
    except ValueError as e:
        raise ConfigError(str(e)) from None


def rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """To a millisecond."""
    return {name: round(value, 3) for name, value in seconds.items()}


def refuse_another_model(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """`ConfigError` naming what differs between the model a record was made with and the one asked."""
    reader_of(str(given.get("family")))  # a family without a language model is told as that
    found = differences(recorded, given)
    differs = [f"{what}: record {mine!r}, model {theirs!r}" for what, mine, theirs in found if mine != theirs]
    if differs:
        raise ConfigError(f"the record was made for another model ({'; '.join(differs)}): ask the one that encoded it")


def differences(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(what, record's, model's): settings one by one, so that a line names the one that differs."""
    plain = [(k, recorded.get(k), given.get(k)) for k in SAME if k != "settings"]
    if any(mine != theirs for _, mine, theirs in plain[:1]):
        return plain
    mine, theirs = recorded.get("settings") or {}, given.get("settings") or {}
    return plain + [(f"settings.{k}", mine.get(k), theirs.get(k)) for k in sorted({*mine, *theirs})]
