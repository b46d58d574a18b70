"""The text around the videos of a prompt, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def around(tokenizer: Any, question: str, mark: Sequence[int], videos: int, text: str | None = None) -> list[Tensor]:
    """`videos` + 1 runs of ids int64 (M,): what stands before, between and after the videos of a user's turn.

    `mark`: the ids that stand for a video. `text`: the whole prompt, where the family writes it; None: `written`.
    Raises `ValueError` unless just `videos` marks come out (a template that knows no video, a question that spells the
    mark, another model's tokenizer).
    """
    if text is None:
        text = written(tokenizer, question, tokenizer.decode(list(mark)), videos)
    ids = _prompt_ids(tokenizer, text)
    starts = [i for i in range(len(ids)) if ids[i : i + len(mark)] == list(mark)]
    if len(starts) != videos:
        raise ValueError(
            f"the prompt holds {len(starts)} video placeholders (ids {list(mark)}), expected {videos}: the tokenizer "
            "is another model's, its chat template knows no video, or the question spells the placeholder"
        )
    cuts = [0, *(cut for start in starts for cut in (start, start + len(mark))), len(ids)]
    return [torch.tensor(ids[a:b], dtype=torch.int64) for a, b in zip(cuts[::2], cuts[1::2], strict=True)]


def text_ids(tokenizer: Any, text: str) -> Tensor:
    """int64 (M,): the ids of a text, with nothing added around it."""
    return torch.tensor(_ids(tokenizer, text), dtype=torch.int64)


def written(tokenizer: Any, question: str, mark: str, videos: int) -> str:
    """The prompt as text, by the tokenizer's chat template: one message of that many videos and the question,
    generation prompt added. A tokenizer without one gets the plain form, the marks and then the question."""
    if not tokenizer.chat_template:
        return mark * videos + question
    turn = {"role": "user", "content": [*[{"type": "video"}] * videos, {"type": "text", "text": question}]}
    try:
        text: str = tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    except Exception as e:  # a template is a program: it raises what it likes
        why = " ".join(f"{type(e).__name__}: {e}".split())[:200]
        raise ValueError(
            f"the tokenizer's chat template cannot write a video ({why}): take that of the model's processor"
        ) from None
    return text


def _prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """With what the tokenizer puts around every text (Llama's BOS), unless the text begins with that, as processors
    have it."""
    bos = tokenizer.bos_token
    return list(tokenizer(text, add_special_tokens=not (bos and text.startswith(bos)), verbose=False)["input_ids"])


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
