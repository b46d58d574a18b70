"""A real video LLM answers from a record, without pixels."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..models.checkpoint import identify
from ..models.load import load_llm, prepare
from ..stages.record import load
from .build import device as usable
from .errors import ConfigError


def answer(
    path: Path, question: str, model_id: str, *, max_new_tokens: int, position_rule: str, device: str = "auto"
) -> dict[str, Any]:
    """`answer` (text), `prompt_tokens`, `video_tokens`, `new_tokens` and `seconds` for one question.

    Raises:
        ConfigError: the record was made for another model; says what differs.
    """
    record = load(path)
    refuse_another_model(record.meta["model"], identify(model_id))
    where = usable(device)
    start = time.perf_counter()
    model, tokenizer = load_llm(model_id, device=where)
    loaded = time.perf_counter()
    try:
        inputs = prepare(model, tokenizer, record, question, position_rule=position_rule)
    except ValueError as e:
        raise ConfigError(str(e)) from None
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    new = ids[0, inputs["input_ids"].shape[1] :]
    return {
        "answer": tokenizer.decode(new, skip_special_tokens=True).strip(),
        "prompt_tokens": int(inputs["input_ids"].shape[1]),
        "video_tokens": len(record),
        "new_tokens": len(new),
        "seconds": {"load": round(loaded - start, 3), "answer": round(time.perf_counter() - loaded, 3)},
    }


def refuse_another_model(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """`ConfigError` naming what differs between the model a record was made with and the one asked."""
    differs = [
        f"{k}: record {recorded.get(k)!r}, model {given.get(k)!r}"
        for k in ("family", "weights", "config")
        if recorded.get(k) != given.get(k)
    ]
    if differs:
        raise ConfigError(f"the record was made for another model ({'; '.join(differs)}): ask the one that encoded it")
