"""Merged rows that count by size: attention as if each source token that a row stands for were there with its value.

Proportional attention (ToMe, eq. 1): the log of a row's size is added to the logits of its key. transformers lets
`forward` take such a mask and `generate` not, so the language model runs with an attention function of ours, which is
sdpa with that bias added. The bias lies on the attention modules themselves and goes when the block ends.

Legend: B prompts, N ids of the prompt, S keys seen so far, Q queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .types import KeptVideo

NAME = "vidcomp_sdpa"
BIAS = "vidcomp_log_sizes"


@contextmanager
def counting_sizes(model: Any, input_ids: Tensor, records: Sequence[KeptVideo]) -> Iterator[None]:
    """Inside, `model(...)` and `model.generate(...)` of a prompt `input_ids` (B,N) about `records` (of the whole batch,
    in order) count every video row by its size. The model must run with sdpa attention; ValueError otherwise."""
    from .load import reader_of

    text = model.config.get_text_config()
    if text._attn_implementation != "sdpa":
        raise ValueError(f"rows count by size under sdpa attention only, the model runs {text._attn_implementation!r}")
    reader = reader_of(model.config.model_type)
    bias = log_sizes(input_ids, reader.placeholder(model.config), records, reader.specials)
    register()
    layers = [layer for layer in model.get_decoder().modules() if hasattr(layer, "is_causal")]
    try:
        text._attn_implementation = NAME
        for layer in layers:
            setattr(layer, BIAS, bias)
        yield
    finally:
        text._attn_implementation = "sdpa"
        for layer in layers:
            if hasattr(layer, BIAS):
                delattr(layer, BIAS)


def log_sizes(input_ids: Tensor, placeholder: int, records: Sequence[KeptVideo], specials: int = 0) -> Tensor:
    """float32 (B,N): log size where a video row stands, 0 elsewhere (also at each video's last `specials`)."""
    alone = torch.ones(specials, dtype=torch.int32)
    sizes = torch.cat([part for record in records for part in (record.sizes.cpu(), alone)]).to(input_ids.device)
    bias = torch.zeros(input_ids.shape, device=input_ids.device)
    return bias.masked_scatter(input_ids == placeholder, sizes.float().log())


def register() -> None:
    """Make the attention function known to transformers by its name; doing so again changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **how: Any) -> Any:
    """sdpa with the module's bias, if it has one, added to the logits of the prompt's keys."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    bias = getattr(module, BIAS, None)
    if bias is not None:
        attention_mask = biased(attention_mask, bias, query.shape[2], key.shape[2]).to(query.dtype)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **how)


def biased(mask: Tensor | None, bias: Tensor, queries: int, keys: int) -> Tensor:
    """float (B,1,Q,S): `bias` (B,N) along the keys, and what `mask` (None: causal; bool; or float) forbids."""
    known = min(keys, bias.shape[1])
    add = torch.nn.functional.pad(bias[:, :known], (0, keys - known))[:, None, None]
    if mask is None:
        mask = torch.ones(queries, keys, dtype=torch.bool, device=bias.device).tril(keys - queries)
    if mask.dtype == torch.bool:
        return torch.where(mask[..., :keys], add, torch.finfo(add.dtype).min)
    return mask[..., :keys] + add
