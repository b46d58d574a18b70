"""Kept tokens of any family as inputs of its real language model: one prompt or a ragged batch, one video or several.

Facts about transformers 5.23 that this rests on: specs/consumers.md, sections 0 to 3. Positions are always given, and
are those that the kept tokens have in the whole video; the model is never told the whole grid.

Legend: B prompts, N ids of the longest, A position axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import prompt
from .reader import Reader, Span
from .types import AudioTokens, KeptVideo

Videos = KeptVideo | Sequence[KeptVideo]


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One prompt laid out: `ids` int64 (N,), `places` (A,N); the videos and all before them are the first `prefix`."""

    ids: Tensor
    places: Tensor
    prefix: int


def prepare(
    reader: Reader,
    model: Any,
    tokenizer: Any,
    records: Videos | Sequence[Videos],
    question: str | Sequence[str],
    *,
    position_rule: str | None = None,
) -> dict[str, Any]:
    """kwargs for `model.generate(**inputs)` or `model(**inputs)`.

    A question that is a string makes one prompt about one record or several in a row; a list of questions makes a
    batch, each about its own record or list of records, padded on the left. `input_ids`, `attention_mask` int64 (B,N);
    `position_ids` (B,N) or (3,B,N); and what the family hands over. Build it anew for every call: beam search changes
    `mm_encoder_outputs` in place.

    Raises `ValueError` on a record that this model cannot read, or a prompt that does not hold its videos.
    """
    rule = position_rule or reader.rules[0]
    if rule not in reader.rules:
        raise ValueError(f"position_rule must be one of {', '.join(reader.rules)}, got {rule!r}")
    asked = [(question, videos(records))] if isinstance(question, str) else paired(question, records)
    prompts = [lay_out(reader, model.config, tokenizer, text, held, rule) for text, held in asked]
    inputs = stacked(prompts, tokenizer.pad_token_id or 0, reader.axes, model.device)
    every = [record for _, held in asked for record in held]
    return inputs | reader.hand_over(model, inputs["input_ids"], every)


def videos(given: Any) -> list[KeptVideo]:
    """One record, or several, as a list."""
    return list(given) if isinstance(given, list | tuple) else [given]


def paired(questions: Sequence[str], given: Any) -> list[tuple[str, list[KeptVideo]]]:
    """Each question with its own videos."""
    if not isinstance(given, list | tuple) or len(given) != len(questions) or not questions:
        count = len(given) if isinstance(given, list | tuple) else "one that is no list"
        raise ValueError(
            f"a batch needs one record, or list of records, for each of {len(questions)} questions: {count}"
        )
    return [(text, videos(held)) for text, held in zip(questions, given, strict=True)]


def lay_out(
    reader: Reader, config: Any, tokenizer: Any, question: str, records: Sequence[KeptVideo], rule: str
) -> Prompt:
    """One prompt's ids and positions."""
    mark = list(reader.mark(config, tokenizer))
    spans = [reader.span(config, tokenizer, record, rule) for record in records]
    text = None if reader.text is None else reader.text(tokenizer, question, records)
    texts = prompt.around(tokenizer, question, mark, len(records), text)
    pieces = [piece for pair in zip(texts, [*spans, None], strict=True) for piece in pair if piece is not None]
    laid = joined(pieces, reader.axes)
    wanted = sum(len(record.tokens) + reader.specials for record in records)
    refuse_stray("video", laid.ids, reader.placeholder(config), wanted)
    if reader.hears is not None:
        refuse_stray("audio", laid.ids, reader.hears(config), sum(len(sound.tokens) for sound in sounds(records)))
    return laid


def sounds(records: Sequence[KeptVideo]) -> list[AudioTokens]:
    """What is heard, of the videos that have sound."""
    return [record.audio for record in records if record.audio is not None and record.audio.count]


def joined(pieces: Sequence[Tensor | Span], axes: int) -> Prompt:
    """Text ids (M,) and spans one behind the other, each starting where the one before it leaves off."""
    ids, places, at, prefix, count = list[Tensor](), list[Tensor](), 0.0, 0, 0
    for piece in pieces:
        span = piece if isinstance(piece, Span) else Span(piece, torch.arange(len(piece)).expand(axes, -1), len(piece))
        ids.append(span.ids)
        places.append(span.places + (int(at) if at == int(at) else at))
        at += span.length
        count += len(span.ids)
        prefix = count if isinstance(piece, Span) else prefix
    return Prompt(torch.cat(ids), torch.cat(places, dim=1), prefix)


def stacked(prompts: Sequence[Prompt], pad_id: int, axes: int, device: Any) -> dict[str, Tensor]:
    """Prompts of any lengths as one batch, padded on the left; padding has no attention and position 0."""
    longest = max(len(p.ids) for p in prompts)
    ids = torch.full((len(prompts), longest), pad_id)
    mask = torch.zeros_like(ids)
    places = torch.zeros(axes, *ids.shape, dtype=torch.result_type(prompts[0].places, ids))
    for i, p in enumerate(prompts):
        ids[i, longest - len(p.ids) :] = p.ids
        mask[i, longest - len(p.ids) :] = 1
        places[:, i, longest - len(p.ids) :] = p.places
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": places[0] if axes == 1 else places}
    return {name: value.to(device) for name, value in inputs.items()}


def refuse_stray(kind: str, ids: Tensor, placeholder: int, wanted: int) -> None:
    """`ValueError` unless every placeholder of the prompt stands for a row: a question may spell one."""
    found = int((ids == placeholder).sum())
    if found != wanted:
        raise ValueError(
            f"the prompt holds {found} {kind} placeholders for {wanted} rows: the question spells the placeholder"
        )


def check(record: KeptVideo, family: str, hidden: int, facts: Sequence[str] = ()) -> None:
    """`ValueError` unless its rows are this family's, as wide as the model's hidden states, and say `facts`."""
    found = record.meta.get("model", {}).get("family")
    if found != family:
        raise ValueError(f"the record's tokens are of {found!r}, the model reads {family!r}: encode the video with it")
    if record.tokens.shape[1] != hidden:
        raise ValueError(
            f"the record's tokens have {record.tokens.shape[1]} channels, the model's hidden states "
            f"{hidden}: encode the video with this very checkpoint"
        )
    for fact in facts:
        if record.meta.get(fact) is None:
            raise ValueError(f"the record does not say {fact}, which its prompt needs: encode the video again")


def since_start(record: KeptVideo, pts_s: Tensor) -> Tensor:
    """float64: times as processors count them, from the first frame: a container's clock may start anywhere."""
    start_s: float = record.meta.get("source", {}).get("start_s", 0.0)
    return pts_s - start_s
