"""The words of vidcomp as types: frozen, slotted, checked at construction, printed by shape.

Legend: T time steps, H W grid rows and columns, D channels, G channels of a frame vector, S segments,
N = T*H*W source tokens (flat id ``t*H*W + y*W + x``), K kept tokens. Times are seconds from the
container's clock (``pts_s``, float64); intervals are half-open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor


class ShapeError(ValueError):
    """Tensors that do not fit together; the message prints every shape."""


def law(holds: bool, message: str) -> None:
    """Raise `ShapeError(message)` unless the law holds."""
    if not holds:
        raise ShapeError(message)


def brief(value: object) -> str:
    """Shape and dtype of a tensor (never its data), `repr` of anything else."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {brief(v)}" for k, v in value.items()) + "}"
    return repr(value)


class Shaped:
    """Mixin for dataclasses of tensors: `repr` shows shapes, never data."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = ", ".join(f"{f.name}={brief(getattr(self, f.name))}" for f in fields(self) if f.repr)  # type: ignore[arg-type]
        return f"{type(self).__name__}({shown})"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Frames(Shaped):
    """Upright RGB pictures: `data` uint8 (T,H,W,3), `pts_s` float64 (T,), `index` int64 (T,) in presentation order."""

    data: Tensor
    pts_s: Tensor
    index: Tensor

    def __post_init__(self) -> None:
        d, p, i = self.data, self.pts_s, self.index
        law(d.ndim == 4 and d.shape[-1] == 3, f"frames must be (T,H,W,3), got {tuple(d.shape)}")
        law(d.dtype == torch.uint8, f"frames must be uint8, got {d.dtype}")
        law(
            p.shape == i.shape == d.shape[:1],
            f"one pts and one index per frame: {tuple(d.shape)=} {tuple(p.shape)=} {tuple(i.shape)=}",
        )
        law(p.dtype == torch.float64, f"pts_s must be float64, got {p.dtype}")

    def __len__(self) -> int:
        return self.data.shape[0]

    def __getitem__(self, steps: slice) -> Frames:
        return Frames(self.data[steps], self.pts_s[steps], self.index[steps])


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class AudioTrack(Shaped):
    """Mono sound on the video's clock: `samples` float32 (S,), `rate` in Hz, first sample at `start_s`."""

    samples: Tensor
    rate: int
    start_s: float

    def __post_init__(self) -> None:
        s = self.samples
        law(s.ndim == 1 and s.dtype == torch.float32, f"audio must be float32 (S,), got {brief(s)}")
        law(self.rate > 0, f"rate must be positive, got {self.rate}")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class TokenGrid(Shaped):
    """A model's own visual tokens (after projector and pooling) of one chunk.

    `data` (T,H,W,D), any float dtype; `pts_s` float64 (T,), first frame of each temporal patch.
    Optional: `attention` (T,H,W) received attention, `frame_vectors` (T,G), `valid` bool (T,H,W) (False where
    the gate skipped a patch: such tokens are in no row, ids stay on the full grid), `extra` {name: (T,H,W,...)}
    rows that the same `Reduction` reduces (deepstack). For the methods that ask for them: `pixels` uint8 (F,Hp,Wp,3),
    the frames at model size, F//T (rounded up) to a step; `audio` (Na,Da), the clip's audio tokens, and
    `audio_attention` (Na,), how much each is attended to.
    """

    data: Tensor
    pts_s: Tensor
    attention: Tensor | None = None
    frame_vectors: Tensor | None = None
    valid: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    pixels: Tensor | None = None
    audio: Tensor | None = None
    audio_attention: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.data.shape)
        law(self.data.ndim == 4, f"a token grid must be (T,H,W,D), got {shape}")
        law(tuple(self.pts_s.shape) == shape[:1], f"one pts per step: {shape=} {tuple(self.pts_s.shape)=}")
        for name, value in (("attention", self.attention), ("valid", self.valid)):
            if value is not None:
                law(tuple(value.shape) == shape[:3], f"{name} must be {shape[:3]}, got {tuple(value.shape)}")
        vectors = self.frame_vectors
        if vectors is not None:
            ok = vectors.ndim == 2 and vectors.shape[0] == shape[0]
            law(ok, f"frame_vectors must be ({shape[0]},G), got {tuple(vectors.shape)}")
        for name, value in self.extra.items():
            fits = tuple(value.shape[:3]) == shape[:3]
            law(fits, f"extra {name!r} must start with {shape[:3]}, got {tuple(value.shape)}")
        self._check_other_senses()

    def _check_other_senses(self) -> None:
        pixels, audio, heard = self.pixels, self.audio, self.audio_attention
        if pixels is not None:
            ok = pixels.ndim == 4 and pixels.shape[3] == 3 and pixels.dtype == torch.uint8
            law(ok and len(pixels) >= len(self.data), f"pixels must be uint8 (F,Hp,Wp,3), got {brief(pixels)}")
        law(audio is None or audio.ndim == 2, f"audio must be (Na,Da), got {brief(audio)}")
        if heard is not None:
            ok = audio is not None and tuple(heard.shape) == (len(audio),)
            law(ok, f"one audio_attention per audio token: {brief(audio)} {brief(heard)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        t, h, w, _ = self.data.shape
        return t, h, w

    @property
    def count(self) -> int:
        """N = T*H*W source tokens."""
        t, h, w = self.shape
        return t * h * w

    @property
    def per_step(self) -> int:
        """H*W tokens of one time step."""
        return self.data.shape[1] * self.data.shape[2]

    @property
    def feat_TND(self) -> Tensor:
        """The tokens as (T, H*W, D), without a copy where the layout allows."""
        t, h, w, d = self.data.shape
        return self.data.reshape(t, h * w, d)

    @property
    def feat_ND(self) -> Tensor:
        """The tokens as (N, D), flat ids in raster order of time."""
        return self.data.reshape(self.count, self.data.shape[3])


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Segments(Shaped):
    """Temporally coherent runs of grid steps: `starts` int64 (S,) ascending from 0, `length` steps in all."""

    starts: Tensor
    length: int

    def __post_init__(self) -> None:
        s = self.starts
        law(s.ndim == 1 and s.dtype == torch.int64, f"starts must be int64 (S,), got {brief(s)}")
        law(len(s) > 0 and int(s[0]) == 0, "segments start at step 0")
        law(bool((s.diff() > 0).all()) and int(s[-1]) < self.length, f"starts must ascend below {self.length}")

    @property
    def lengths(self) -> Tensor:
        """Steps in each segment, int64 (S,)."""
        return torch.cat([self.starts, self.starts.new_tensor([self.length])]).diff()

    def spans(self) -> Iterator[tuple[int, int]]:
        """Half-open (first, end) of each segment."""
        starts = [*self.starts.tolist(), self.length]
        yield from pairwise(starts)

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, slots=True)
class Budget:
    """How many tokens of a video may stay; at most one field is set, none means the method's own defaults.

    `retain` in (0,1]: the paper's own parameter with its arithmetic and floors, nominal.
    `tokens`: of the whole video, exact. `tokens_per_second`: of sampled time, exact.
    """

    retain: float | None = None
    tokens: int | None = None
    tokens_per_second: float | None = None

    def __post_init__(self) -> None:
        asked = [f.name for f in fields(self) if getattr(self, f.name) is not None]
        if len(asked) > 1:
            raise ValueError(f"one budget at a time, got {' and '.join(asked)}")
        if self.retain is not None and not 0 < self.retain <= 1:
            raise ValueError(f"retain must be in (0, 1], got {self.retain}")
        if self.tokens is not None and self.tokens < 1:
            raise ValueError(f"tokens must be at least 1, got {self.tokens}")
        if self.tokens_per_second is not None and not self.tokens_per_second > 0:
            raise ValueError(f"tokens_per_second must be positive, got {self.tokens_per_second}")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class CompressedTokens(Shaped):
    """What stays of a token grid, rows in raster order of time.

    `tokens` (K,D); `positions` int32 (K,3) t,y,x of each row's anchor; `boxes` int32 (K,6) half-open
    t0,t1,y0,y1,x0,x1 around all that a row stands for; `sizes` int32 (K,) how many source tokens that is;
    `pts_s` float64 (K,) of the anchor's step; `extra` {name: (K,...)}.
    """

    tokens: Tensor
    positions: Tensor
    boxes: Tensor
    sizes: Tensor
    pts_s: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        k = self.tokens.shape[0]
        law(self.tokens.ndim == 2, f"tokens must be (K,D), got {tuple(self.tokens.shape)}")
        wanted = {"positions": (k, 3), "boxes": (k, 6), "sizes": (k,), "pts_s": (k,)}
        for name, shape in wanted.items():
            got = tuple(getattr(self, name).shape)
            law(got == shape, f"{name} must be {shape}, got {got}")
        for name, value in self.extra.items():
            law(value.shape[0] == k, f"extra {name!r} must have {k} rows, got {tuple(value.shape)}")

    def __len__(self) -> int:
        return self.tokens.shape[0]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class AudioTokens(Shaped):
    """A video's kept sound, rows in order of time.

    `tokens` (K,D); `positions` int32 (K,) each row's place among the clip's `count` audio tokens; `sizes` int32 (K,)
    how many of them it stands for; `pts_s` float64 (K,) when it starts; `owner` int32 (count,) the row that each audio
    token went to, -1 = dropped, where that is known.
    """

    tokens: Tensor
    positions: Tensor
    sizes: Tensor
    pts_s: Tensor
    count: int
    owner: Tensor | None = None

    def __post_init__(self) -> None:
        k, at = len(self.tokens), self.positions
        law(self.tokens.ndim == 2, f"tokens must be (K,D), got {tuple(self.tokens.shape)}")
        for name in ("positions", "sizes", "pts_s"):
            got = tuple(getattr(self, name).shape)
            law(got == (k,), f"{name} must be {(k,)}, got {got}")
        inside = not k or (int(at[0]) >= 0 and bool((at.diff() > 0).all()) and int(at[-1]) < self.count)
        law(inside, f"positions must ascend in [0, {self.count})")

    def __len__(self) -> int:
        return len(self.tokens)


class KeptVideo(Protocol):
    """What a model needs of a record to build its inputs: rows, places, times, facts. Shapes as in `CompressedTokens`,
    over the whole video; `grid_pts_s` float64 (T,) of each grid step, `frame_pts_s` float64 (F,) of each frame."""

    @property
    def tokens(self) -> Tensor: ...
    @property
    def positions(self) -> Tensor: ...
    @property
    def sizes(self) -> Tensor: ...
    @property
    def extra(self) -> Mapping[str, Tensor]: ...
    @property
    def audio(self) -> AudioTokens | None: ...
    @property
    def grid_pts_s(self) -> Tensor: ...
    @property
    def frame_pts_s(self) -> Tensor: ...
    @property
    def grid(self) -> tuple[int, int, int]: ...
    @property
    def meta(self) -> Mapping[str, Any]: ...
