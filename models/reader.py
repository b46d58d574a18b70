"""What a family says of its language model: how a video stands in the prompt, and how its rows are handed over.

A family's file that has a language model has `READER = Reader(...)` at its top level; `consume.py` does the rest for
all of them.

Legend: M ids of one video in the prompt, K of them placeholders (one for each kept row), A position axes (1, or 3: t y
x), D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from .types import KeptVideo, law


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """One video in the prompt: `ids` int64 (M,), placeholders and the text around and between them; `places` (A,M),
    their positions, 0 being where the span starts; what follows it goes on `length` positions after that."""

    ids: Tensor
    places: Tensor
    length: float

    def __post_init__(self) -> None:
        fits = self.ids.ndim == 1 and self.places.ndim == 2 and self.places.shape[1] == len(self.ids)
        law(fits, f"a place for each id: {tuple(self.ids.shape)} {tuple(self.places.shape)}")


@dataclass(frozen=True)
class Reader:
    """How one family's language model reads kept tokens.

    `llm`: the real class, as `module:Class` below `transformers`. `axes`: 1 for position_ids (B,N), 3 for (3,B,N).
    `rules`: names of its position rules, the default first. `mark(config, tokenizer)`: the ids that the chat template
    writes for one video, all of which the span replaces. `placeholder(config)`: the id that stands for a row.
    `span(config, tokenizer, record, rule)`: the video in the prompt. `hand_over(model, input_ids, records)`: what goes
    with the ids, for the videos of the whole batch in order: `mm_encoder_outputs`, anew at each call (beam search
    changes it in place), and what else the family needs. `facts`: keys of the record's meta that `span` reads.
    `specials`: placeholders of each video that stand for no row; they end its span. `hears(config)`: the id that stands
    for a row of sound, of a model that listens. `text(tokenizer, question,
    records)`: the whole prompt as text, in which each video is one mark; None: as the chat template writes it.
    """

    llm: str
    mark: Callable[[Any, Any], Sequence[int]]
    placeholder: Callable[[Any], int]
    span: Callable[[Any, Any, KeptVideo, str], Span]
    hand_over: Callable[[Any, Tensor, Sequence[KeptVideo]], dict[str, Any]]
    axes: int = 1
    rules: tuple[str, ...] = ("grid",)
    facts: tuple[str, ...] = ()
    specials: int = 0
    hears: Callable[[Any], int] | None = None
    text: Callable[[Any, str, Sequence[KeptVideo]], str] | None = None

    def llm_class(self) -> Any:
        """The transformers class; imports it."""
        module, _, name = self.llm.partition(":")
        return getattr(import_module(f"transformers.{module}"), name)


def rows_of(records: Sequence[KeptVideo], device: Any) -> list[Tensor]:
    """(K,D) of each video on `device`, never the record's own tensor to be changed in place."""
    return [record.tokens.to(device) for record in records]


def counted(ids: Tensor) -> Tensor:
    """int64 (1,M): places of a span whose positions simply count its ids."""
    return torch.arange(len(ids))[None]
