"""Received attention: how much a vision tower's tokens look at each one, taken from one layer of the real class.

HoliTom's score (last layer, mean over heads and queries) and what FastVID-like methods rank by. Under sdpa
transformers returns no weights (`output_attentions` gives an empty tuple, and for the Qwen towers the module's output),
so one layer is watched: inside `watching` the tower runs an attention function of ours, which is sdpa plus the sum that
is wanted. It is given queries and keys as the layer's softmax sees them, after q/k norms and rotary embeddings and
segment by segment: one way for all families, and the tokens themselves come out bit for bit as without it.

    with watching(tower.blocks[-1].attn) as seen:            # Qwen2-VL to 3-VL, Omni, VideoLLaMA3: packed segments
        tower(...)
    scores = per_token(packed(seen), merge=4, window_index=index)

    with watching(tower.encoder.layers[-1].self_attn) as seen:  # SigLIP, CLIP, SmolVLM, InternViT, DINOv2: frames
        tower(...)
    scores = torch.cat(seen)[:, 1:]                              # (T,N) without CLS

Legend: B frames or segments, A heads, N tokens (patches, and CLS where there is one), C channels of a head, P patches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

NAME = "vidcomp_received"  # of the attention function
SEEN = "vidcomp_seen"  # where a watched layer keeps its list, while it is watched
BLOCK = 1 << 24  # elements of the largest softmax: 64 MiB of float32, of which two are alive
SINK = 10.0  # times the frame's median


@torch.no_grad()
def received(q: Tensor, k: Tensor, scale: float, valid: Tensor | None = None, *, block: int = BLOCK) -> Tensor:
    """(B,A,N,C) queries and keys of any dtype -> float32 (B,N): mean over heads and queries of softmax(q k^T scale).

    `valid` bool (B,N): False is padding, which neither looks nor is looked at and receives 0. Special tokens (CLS) look
    and are looked at as in the model: cut their columns off the result. A frame's scores sum to 1 over all its tokens.
    No softmax is larger than `block` elements (or one query's N): heads of frames are taken together, and one head's
    queries are split only where N x N alone is larger. The result depends on `block` by rounding only.
    """
    frames, heads, count, _ = q.shape
    held = torch.ones(frames, count, dtype=torch.bool, device=q.device) if valid is None else valid
    mask = None if valid is None else valid.repeat_interleave(heads, dim=0)
    q, k = q.flatten(0, 1), k.flatten(0, 1)
    total = q.new_zeros(len(q), count, dtype=torch.float32)
    rows = min(count, max(1, block // count))
    pairs = max(1, block // (rows * count))
    for i in range(0, len(q), pairs):
        here = slice(i, i + pairs)
        for j in range(0, count, rows):
            there = slice(j, j + rows)
            total[here] += _summed(q[here, there], k[here], scale, None if mask is None else (mask[here], there))
    looking = held.sum(1, keepdim=True).clamp(min=1)
    return total.view(frames, heads, count).mean(1) / looking


def _summed(q: Tensor, k: Tensor, scale: float, held: tuple[Tensor, slice] | None) -> Tensor:
    """(G,Q,C), (G,N,C) -> (G,N): attention that each key receives, summed over these queries."""
    logits = torch.bmm(q.float() * scale, k.float().mT)
    if held is None:
        return torch.softmax(logits, dim=-1).sum(1)
    valid, there = held
    logits.masked_fill_(~valid[:, None], torch.finfo(torch.float32).min)
    keep = valid[:, there, None] & valid[:, None]
    return torch.softmax(logits, dim=-1).where(keep, 0).sum(1)


@contextmanager
def watching(attention: Any, valid: Tensor | None = None) -> Iterator[list[Tensor]]:
    """Inside, every forward of the tower adds to the list what one layer's tokens receive, float32 (B,N).

    `attention`: the attention module of one layer of a transformers vision class that runs under sdpa (ValueError
    otherwise). Frames in a batch give one entry a pass; packed towers one (1,n) for each segment (`cu_seqlens`) in the
    tower's own order. `valid` bool (B,N): as in `received`, for a batch that the caller has padded. When the block
    ends, or an exception leaves it, nothing of it stays on the model.
    """
    config = attention.config
    if config._attn_implementation != "sdpa":
        raise ValueError(f"attention is read under sdpa only, the tower runs {config._attn_implementation!r}")
    _register()
    seen: list[Tensor] = []
    try:
        setattr(attention, SEEN, (seen, valid))
        config._attn_implementation = NAME
        yield seen
    finally:
        config._attn_implementation = "sdpa"
        delattr(attention, SEEN)


def _register() -> None:
    """Make the attention function known to transformers by its name; doing so again changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **how: Any) -> Any:
    """sdpa; a watched layer also notes what its tokens receive."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if hasattr(module, SEEN):
        seen, valid = getattr(module, SEEN)
        seen.append(received(query, key, how.get("scaling") or query.shape[-1] ** -0.5, valid))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **how)


def packed(seen: list[Tensor]) -> Tensor:
    """float32 (P,): the segments of a packed tower one behind the other, in the tower's own (window) order."""
    return torch.cat([part.flatten() for part in seen])


def per_token(scores: Tensor, merge: int, window_index: Tensor | None = None) -> Tensor:
    """(P,) of patches -> (P / merge,): mean over the `merge` (4) patches of each LLM token, in raster order.

    The Qwen towers keep a merge block's patches together. `window_index` int64 (P / merge,): the tower's order of
    blocks (Qwen2.5's `get_vision_window_index`), which is undone; None: blocks stand in raster order already.
    """
    tokens = scores.view(-1, merge).mean(1)
    return tokens if window_index is None else tokens[window_index.to(tokens.device).argsort()]


def sinks(scores: Tensor, valid: Tensor | None = None, *, times: float = SINK) -> Tensor:
    """(T,...) received attention -> bool of the same shape: tokens that receive more than `times` their frame's median.

    A rule of our own: the few background tokens on which trained towers park attention ("registers") stand orders of
    magnitude above the rest, salient objects a few times. The median is over the frame's `valid` tokens alone.
    """
    flat = scores.flatten(1).float()
    known = flat if valid is None else flat.masked_fill(~valid.flatten(1), torch.nan)
    return (flat > times * known.nanmedian(1, keepdim=True).values).view(scores.shape)


def masked(scores: Tensor, *, valid: Tensor | None = None, sink_times: float | None = None) -> Tensor:
    """The same scores with 0, the lowest rank there is, for padding (`valid` False) and, asked for with `sink_times`
    (`SINK` is ours), for `sinks`. Other scores stay as they are: they are not scaled up to sum to 1 again."""
    drop = torch.zeros_like(scores, dtype=torch.bool) if valid is None else ~valid
    if sink_times is not None:
        drop = drop | sinks(scores, valid, times=sink_times)
    return scores.masked_fill(drop, 0)
