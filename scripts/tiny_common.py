"""What every tiny checkpoint is made of: a byte-level tokenizer, lively weights, and the files around them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def byte_tokenizer(specials: list[str], template: str) -> Any:
    """A byte-level BPE without merges: an id per byte, then the specials; any text goes in and comes back.

    The first special pads, `<|im_end|>` among them ends a turn.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",  # noqa: S106
        pad_token=specials[0],
        additional_special_tokens=specials[1:],
        chat_template=template,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )


def special_ids(tokenizer: Any) -> dict[str, int]:
    """{special token: its id}."""
    return dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))


def liven(model: Any, seed: int) -> None:
    """Weights large enough that logits tell right from wrong; with the usual std of 0.02 they hardly vary."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.12)
            elif "bias" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)


def write(folder: Path, model: Any, tokenizer: Any, processor: Mapping[str, Any], dtype: str, seed: int) -> None:
    """Every file of a checkpoint; `processor` are the settings of its image and its video processor."""
    liven(model, seed)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (folder / name).write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
