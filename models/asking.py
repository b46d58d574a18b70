"""Ask many: what the questions about some videos have in common is prefilled once; each question goes on from there.

The prefix is everything up to the end of the last video. Its KV cache is one object, cut back to the prefix before each
question, so that asking costs no copy of it. A cache that forgets (a window that slides) is made anew instead.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from .consume import Prompt, Videos, lay_out, stacked, videos
from .load import reader_of, refuse_paths
from .reader import Reader
from .sizes import counting_sizes
from .types import KeptVideo


@dataclass(eq=False)
class Asker:
    """A language model that has seen a video, or several. `count_sizes`: a merged row counts as all it stands for.

        model, tokenizer = vidcomp.load_llm("Qwen/Qwen2.5-VL-3B-Instruct")
        asker = vidcomp.Asker(model, tokenizer, record)
        for question in questions:
            print(tokenizer.decode(asker.ask(question, max_new_tokens=64), skip_special_tokens=True))

    `cache` may be one that was saved (`pipeline/kv.py`) for the same model, records and settings; None: `prefill` makes
    it, at the first question.
    """

    model: Any
    tokenizer: Any
    records: Videos
    position_rule: str | None = None
    count_sizes: bool = False
    cache: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        refuse_paths(self.records)
        if not self.videos:
            raise ValueError("there is no video to ask about: give a record, or several in a list")

    @cached_property
    def videos(self) -> list[KeptVideo]:
        """The records."""
        return videos(self.records)

    @property
    def reader(self) -> Reader:
        """The family's."""
        return reader_of(self.model.config.model_type)

    def prompt(self, question: str) -> Prompt:
        """The whole prompt of one question; ValueError as in `consume.prepare`."""
        rule = self.position_rule or self.reader.rules[0]
        if rule not in self.reader.rules:
            raise ValueError(f"position_rule must be one of {', '.join(self.reader.rules)}, got {rule!r}")
        return lay_out(self.reader, self.model.config, self.tokenizer, question, self.videos, rule)

    @cached_property
    def prefix(self) -> Prompt:
        """What all questions have in common."""
        return until_prefix(self.prompt(""))

    @torch.inference_mode()
    def prefill(self) -> Any:
        """The cache of the prefix: computed once, then kept."""
        if self.cache is None:
            inputs = self._inputs(self.prefix)
            handed = self.reader.hand_over(self.model, inputs["input_ids"], self.videos)
            cache = new_cache(self.model)
            few = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(self.model.forward).parameters else {}
            with self._counting(inputs["input_ids"]):
                self.model(**inputs, **handed, **few, past_key_values=cache, use_cache=True)
            self.cache = cache
        return self.cache

    @torch.inference_mode()
    def ask(self, question: str, **how: Any) -> Tensor:
        """New ids int64 (M,) for one question; `how`: of `generate` (`max_new_tokens`, `num_beams`, `streamer`, ...; of
        several sequences the first is returned). It may break off anywhere: the next question is answered as if it had
        not been."""
        prompt = self.prompt(question)
        self._refuse_another_prefix(prompt)
        cache = self._ready(max(how.get(name) or 1 for name in ("num_beams", "num_return_sequences")))
        inputs = self._inputs(prompt)
        with self._counting(inputs["input_ids"]):
            ids: Tensor = self.model.generate(**inputs, past_key_values=cache, **how)
        return ids[0, len(prompt.ids) :]

    def _ready(self, copies: int) -> Any:
        """The cache of the prefix alone, for so many sequences at a time."""
        cache = self.prefill()
        if keeps_all(cache):
            rewind(cache, len(self.prefix.ids))
        else:
            self.cache = None
        if copies > 1:
            cache.batch_repeat_interleave(copies)
        return cache

    def _refuse_another_prefix(self, prompt: Prompt) -> None:
        ours, its = self.prefix, until_prefix(prompt)
        if not (torch.equal(ours.ids, its.ids) and torch.equal(ours.places, its.places)):
            raise ValueError(
                "the tokenizer's chat template writes the question before the videos, so questions have nothing in "
                "common: use prepare"
            )

    def _inputs(self, prompt: Prompt) -> dict[str, Tensor]:
        return stacked([prompt], 0, self.reader.axes, self.model.device)

    def _counting(self, input_ids: Tensor) -> AbstractContextManager[None]:
        if not self.count_sizes:
            return nullcontext()
        return counting_sizes(self.model, input_ids, self.videos)


def until_prefix(prompt: Prompt) -> Prompt:
    """A prompt up to the end of its last video."""
    return Prompt(prompt.ids[: prompt.prefix], prompt.places[:, : prompt.prefix], prompt.prefix)


def new_cache(model: Any) -> Any:
    """An empty KV cache of the model's kind."""
    return import_module("transformers").DynamicCache(config=model.config.get_text_config())


def keeps_all(cache: Any) -> bool:
    """Whether no layer of a KV cache forgets, as one does whose window slides."""
    return all(type(layer).__name__ == "DynamicLayer" for layer in cache.layers)


def rewind(cache: Any, length: int) -> None:
    """Cut a KV cache that keeps all back to its first `length` ids and its first sequence.

    Not by `cache.crop`: a call that broke off leaves layers of unlike lengths, and that takes as much off each.
    """
    for layer in cache.layers:
        layer.keys, layer.values = (kv[:1, :, :length] for kv in (layer.keys, layer.values))
