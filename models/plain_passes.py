"""Pictures through a plain vision tower: whole, or only the patches that are kept.

Legend: T frames, P patches, B frames of one pass, S special tokens in front (CLS), L the tokens that enter the encoder:
S + P, or S + the largest number of patches that a frame of the pass keeps. D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .image_pixels import planes
from .scores import watching
from .transfer import to_device

BATCH_PIXELS = 16 * 448 * 448  # of one pass


@dataclass(frozen=True)
class Kind:
    """A family's real class, and how it is taken apart.

    `module` below transformers.models; `classes` in it: the tower, its config; `whole`: prefix of the tower's weights
    inside a larger model; `special`: S; `defaults`: image_size and patch_size of the config's class; `any_size`: the
    class always fits its position embeddings to the picture. Functions of the loaded tower: `embed` float (B,3,h,w) ->
    (B,S+P,D), what the encoder takes; `last`, the last layer's attention module; `end`, from the encoder's (B,L,D) to
    `last_hidden_state`; `pool`, from there to (B,D).
    """

    module: str
    classes: tuple[str, str]
    whole: str
    special: int
    defaults: Mapping[str, int]
    embed: Callable[[Any, Tensor], Tensor]
    last: Callable[[Any], Any]
    end: Callable[[Any, Tensor], Tensor]
    pool: Callable[[Any, Tensor], Tensor]
    any_size: bool = False


class Seen(NamedTuple):
    """Tokens (T,P,D), and what was asked for: attention float32 (T,P), vectors (T,D)."""

    tokens: Tensor
    attention: Tensor | None
    vectors: Tensor | None


class Places(NamedTuple):
    """What frames keep: `rows` int64 (B,L), which of the S + P tokens; `valid` bool (B,L), False for padding."""

    rows: Tensor
    valid: Tensor

    def taken(self, states: Tensor) -> Tensor:
        """(B,S+P,D) -> (B,L,D); what stands in padding is any other token's."""
        return states.gather(1, self.rows[..., None].expand(-1, -1, states.shape[2]))

    def back(self, values: Tensor, count: int) -> Tensor:
        """(B,L,...) -> (B,count,...), count = S + P: zeros where nothing was taken."""
        out = values.new_zeros(len(values), count, *values.shape[2:])
        frame, place = self.valid.nonzero(as_tuple=True)
        out[frame, self.rows[frame, place]] = values[frame, place]
        return out


def places(shown: Tensor, special: int) -> Places:
    """Of bool (B,P): all special tokens, then the patches that a frame keeps in raster order."""
    counts = shown.sum(1, keepdim=True) + special
    spots = torch.arange(special + shown.shape[1], device=shown.device)
    kept_first = (~shown).byte().argsort(dim=1, stable=True) + special
    longest = int(counts.max())
    rows = torch.cat([spots[:special].expand(len(shown), -1), kept_first], dim=1)[:, :longest]
    return Places(rows, spots[:longest] < counts)


def alike(counts: Sequence[int], most: int) -> list[Tensor]:
    """Items of nonzero `counts` in groups of at most `most`, int64 each, by count; none is padded beyond 5 / 4."""
    groups: list[list[int]] = []
    for i in sorted(range(len(counts)), key=counts.__getitem__):
        if groups and len(groups[-1]) < most and 4 * counts[i] <= 5 * counts[groups[-1][0]]:
            groups[-1].append(i)
        elif counts[i]:
            groups.append([i])
    return [torch.tensor(group) for group in groups]


@dataclass(frozen=True, eq=False)
class Passes:
    """A loaded tower of some kind, and how many pixels one pass takes; `settings` are the image processor's."""

    kind: Kind
    tower: Any
    settings: Mapping[str, Any]
    batch_pixels: int

    @torch.no_grad()
    def encode(self, sized: Tensor, patches: int, wants: frozenset[str], keep: Tensor | None) -> Seen:
        """uint8 (T,h,w,3) of model size, `keep` bool (T,P) -> all frames; zeros where nothing is kept."""
        width, on, dtype = self.tower.config.hidden_size, self.tower.device, self.tower.dtype
        tokens = torch.zeros(len(sized), patches, width, device=on, dtype=dtype)
        attention = torch.zeros(len(sized), patches, device=on) if "attention" in wants else None
        vectors = torch.zeros(len(sized), width, device=on, dtype=dtype) if "frame_vectors" in wants else None
        for at in self._cut(sized, keep):
            found = self._pass(to_device(sized[at], on), None if keep is None else keep[at].to(on), wants)
            for whole, part in zip((tokens, attention, vectors), found, strict=True):
                if whole is not None and part is not None:
                    whole[at.to(on)] = part
        return Seen(tokens, attention, vectors)

    def _cut(self, sized: Tensor, keep: Tensor | None) -> list[Tensor]:
        """int64 (B,) frames of each pass; with `keep`, like counts together and frames without any left out."""
        step = max(1, self.batch_pixels // (sized.shape[1] * sized.shape[2]))
        if keep is None:
            return list(torch.arange(len(sized)).split(step))
        return alike(keep.sum(1).tolist(), step)

    def _pass(self, frames: Tensor, keep: Tensor | None, wants: frozenset[str]) -> Seen:
        """uint8 (B,h,w,3), bool (B,P) with at least one of each frame; without special tokens."""
        states, special = self.kind.embed(self.tower, planes(frames, self.settings)), self.kind.special
        if keep is None:
            tokens, attention, vectors = self._run(states, None, wants)
        else:
            kept = places(keep, special)
            held, looked, vectors = self._run(kept.taken(states), kept.valid, wants)
            tokens = kept.back(held, states.shape[1])
            attention = None if looked is None else kept.back(looked, states.shape[1])
        return Seen(tokens[:, special:], None if attention is None else attention[:, special:], vectors)

    def _run(self, states: Tensor, valid: Tensor | None, wants: frozenset[str]) -> Seen:
        """(B,L,D), bool (B,L) -> (B,L,D), (B,L), (B,D), with special tokens."""
        padded = None if valid is None or bool(valid.all()) else valid
        mask = None if padded is None else padded[:, None, None]
        watch = partial(watching, self.kind.last(self.tower), padded) if "attention" in wants else nullcontext[Any]
        with watch() as looked:
            states = self.kind.end(self.tower, self.tower.encoder(states, mask).last_hidden_state)
        vectors = self._pooled(states, padded) if "frame_vectors" in wants else None
        return Seen(states, looked[0] if looked else None, vectors)

    def _pooled(self, states: Tensor, padded: Tensor | None) -> Tensor:
        """Frames with padding one by one: a head that looks at all tokens takes no mask."""
        if padded is None:
            return self.kind.pool(self.tower, states)
        alone = [one[None, held] for one, held in zip(states, padded, strict=True)]
        return torch.cat([self.kind.pool(self.tower, one) for one in alone])
