"""Ask many: what the questions about some videos have in common is prefilled once; each question goes on from there.

The prefix is everything up to the end of the last video. Its KV cache is one object, cut back to the prefix before each
question, so that asking costs no copy of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from .consume import Prompt, lay_out, stacked
from .load import reader_of
from .reader import Reader
from .sizes import counting_sizes
from .types import KeptVideo


@dataclass(eq=False)
class Asker:
    """A language model that has seen some videos. `count_sizes`: a merged row counts as all that it stands for.

    `cache` may be one that was saved (`pipeline/kv.py`) for the same model, records and settings; None: `prefill` makes
    it, at the first question.
    """

    model: Any
    tokenizer: Any
    records: Sequence[KeptVideo]
    position_rule: str | None = None
    count_sizes: bool = False
    cache: Any = field(default=None, repr=False)

    @property
    def reader(self) -> Reader:
        """The family's."""
        return reader_of(self.model.config.model_type)

    def prompt(self, question: str) -> Prompt:
        """The whole prompt of one question; ValueError as in `consume.prepare`."""
        rule = self.position_rule or self.reader.rules[0]
        if rule not in self.reader.rules:
            raise ValueError(f"position_rule must be one of {', '.join(self.reader.rules)}, got {rule!r}")
        return lay_out(self.reader, self.model.config, self.tokenizer, question, list(self.records), rule)

    @torch.inference_mode()
    def prefill(self) -> Any:
        """The cache of the prefix: computed once, then kept."""
        if self.cache is None:
            inputs = self._inputs(self.prompt(""), whole=False)
            handed = self.reader.hand_over(self.model, inputs["input_ids"], list(self.records))
            cache = import_module("transformers").DynamicCache(config=self.model.config.get_text_config())
            few = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(self.model.forward).parameters else {}
            with self._counting(inputs["input_ids"]):
                self.model(**inputs, **handed, **few, past_key_values=cache, use_cache=True)
            self.cache = cache
        return self.cache

    @torch.inference_mode()
    def ask(self, question: str, **how: Any) -> Tensor:
        """New ids int64 (M,) for one question; `how`: of `generate` (`max_new_tokens`, `streamer`, ...)."""
        prompt = self.prompt(question)
        cache = self.prefill()
        rewind(cache, prompt.prefix)
        inputs = self._inputs(prompt, whole=True)
        with self._counting(inputs["input_ids"]):
            ids: Tensor = self.model.generate(**inputs, past_key_values=cache, **how)
        return ids[0, len(prompt.ids) :]

    def _inputs(self, prompt: Prompt, *, whole: bool) -> dict[str, Tensor]:
        end = len(prompt.ids) if whole else prompt.prefix
        part = Prompt(prompt.ids[:end], prompt.places[:, :end], prompt.prefix)
        return stacked([part], 0, self.reader.axes, self.model.device)

    def _counting(self, input_ids: Tensor) -> AbstractContextManager[None]:
        if not self.count_sizes:
            return nullcontext()
        return counting_sizes(self.model, input_ids, list(self.records))


def rewind(cache: Any, length: int) -> None:
    """Cut a KV cache back to its first `length` ids."""
    if beyond := cache.get_seq_length() - length:
        cache.crop(-beyond)
