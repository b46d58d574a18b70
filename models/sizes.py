"""Merged rows, of video and of sound, that count by size: attention as if each source token were there with the value
of the row that stands for it.

Proportional attention (ToMe, eq. 1): the log of a row's size is added to the logits of its key. transformers lets
`forward` take such a mask and `generate` not, so the language model runs with an attention function of ours, which is
sdpa with that bias added. The bias lies on the attention modules themselves and goes when the block ends.

Legend: B prompts, N ids of the prompt, S keys seen so far, Q queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from .consume import sounds
from .types import KeptVideo

NAME = "vidcomp_sdpa"
BIAS = "vidcomp_log_sizes"


class Sized(Protocol):
    """Rows, and int32 (K,) how many tokens each stands for."""

    @property
    def sizes(self) -> Tensor: ...


@contextmanager
def counting_sizes(model: Any, input_ids: Tensor, records: Sequence[KeptVideo]) -> Iterator[None]:
    """Inside, `model(...)` and `model.generate(...)` of a prompt `input_ids` (B,N) about `records` (of the whole batch,
    in order) count every row by its size. ValueError unless the model runs with sdpa attention, all of it full."""
    from .load import reader_of

    text = model.config.get_text_config()
    refuse_other_attention(text)
    reader = reader_of(model.config.model_type)
    bias = log_sizes(input_ids, reader.placeholder(model.config), records, reader.specials)
    if reader.hears is not None:
        bias += log_sizes(input_ids, reader.hears(model.config), sounds(records))
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


def refuse_other_attention(text: Any) -> None:
    """ValueError where a bias along the keys cannot be laid: not sdpa, or layers that keep a window of the keys."""
    if text._attn_implementation != "sdpa":
        raise ValueError(f"rows count by size under sdpa attention only, the model runs {text._attn_implementation!r}")
    others = {*(getattr(text, "layer_types", None) or ())} - {"full_attention"}
    if others:
        raise ValueError(f"rows count by size where attention is full, the model has {', '.join(sorted(others))}")


def log_sizes(input_ids: Tensor, placeholder: int, held: Sequence[Sized], specials: int = 0) -> Tensor:
    """float32 (B,N): log size where a row of `held` stands, 0 elsewhere (also at the last `specials` of each)."""
    bias = torch.zeros(input_ids.shape, device=input_ids.device)
    if not held:
        return bias
    alone = torch.ones(specials, dtype=torch.int32)
    sizes = torch.cat([part for rows in held for part in (rows.sizes.cpu(), alone)]).to(input_ids.device)
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
        bias = bias.repeat_interleave(len(query) // len(bias), dim=0)  # beam search has several rows for each prompt
        lowest = torch.finfo(query.dtype).min  # not -inf, which a row of padding makes NaN of in some kernels
        attention_mask = biased(attention_mask, bias, query.shape[2], key.shape[2]).clamp_min(lowest).to(query.dtype)
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
