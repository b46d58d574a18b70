"""The text around one video, as token ids: what comes before its placeholders and what comes after."""

from __future__ import annotations

from typing import Any

from torch import Tensor, tensor


def around_video(tokenizer: Any, question: str, *, video: int, start: int, end: int) -> tuple[Tensor, Tensor]:
    """int64 (B,), int64 (A,): the ids before and after the one placeholder `video` of a user's turn.

    With the tokenizer's chat template: one message of a video and the question, generation prompt added. A
    tokenizer without one gets the plain form `<start><video><end>question`. Raises `ValueError` unless
    exactly one placeholder comes out (a template that knows no video, a question that spells the placeholder,
    another model's tokenizer).
    """
    ids = _templated(tokenizer, question) if tokenizer.chat_template else _plain(tokenizer, question, video, start, end)
    if (found := ids.count(video)) != 1:
        raise ValueError(
            f"the prompt holds {found} video placeholders (id {video}), expected 1: the tokenizer is another "
            "model's, its chat template knows no video, or the question spells the placeholder"
        )
    at = ids.index(video)
    return tensor(ids[:at]).long(), tensor(ids[at + 1 :]).long()


def _templated(tokenizer: Any, question: str) -> list[int]:
    turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}
    text = tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    return _ids(tokenizer, text)


def _plain(tokenizer: Any, question: str, video: int, start: int, end: int) -> list[int]:
    return [start, video, end, *_ids(tokenizer, question)]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
