"""The record: one video, compressed, as a value in memory and as one safe file.

`VideoRecord` stands here rather than in `models/types.py` because it knows how to be a file; models see it through
the `KeptVideo` protocol.

Legend: K kept tokens, N source tokens, T grid steps, F sampled frames, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..models.types import AudioTokens, Shaped, brief, law
from .record_check import check_record
from .safefile import DamagedFileError, Source, check_tensors, read_header, write, write_atomically

DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
SOUND = ("tokens", "positions", "sizes", "pts_s", "owner")  # of `AudioTokens`
ROWS = ("tokens", "positions", "boxes", "sizes", "pts_s")  # (K, ...)
GUIDED = ("saliency", "guide_weights")  # (T,), where sound guided
EXTRA = "extra."  # prefix of the extra rows' names in a file
AUDIO = "audio."  # and of the sound's


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class VideoRecord(Shaped):
    """Everything a consumer needs later (`tokens` ... `pts_s` as in `CompressedTokens`, over the whole video).

    `owner` int32 (N,): the row each source token went to, -1 = dropped. `grid_pts_s` float64 (T,) and, where the model
    gives them, `frame_vectors` (T,G), one per grid step. `frame_pts_s` float64 (F,) and `frame_index` int64 (F,): the
    sampled frames' true times and presentation numbers. `audio`: kept sound, of models that listen. Where sound guided:
    `saliency` float32 (T,), how much there is to hear in each grid step, and `guide_weights` float32 (T,), the budget
    of the window that it stands in over an even share. `meta`: model, method, recipe, source, budget (JSON-able).
    """

    tokens: Tensor
    positions: Tensor
    boxes: Tensor
    sizes: Tensor
    pts_s: Tensor
    owner: Tensor
    grid_pts_s: Tensor
    frame_pts_s: Tensor
    frame_index: Tensor
    meta: Mapping[str, Any] = field(repr=False)
    frame_vectors: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    audio: AudioTokens | None = None
    saliency: Tensor | None = None
    guide_weights: Tensor | None = None

    def __post_init__(self) -> None:
        k, (t, h, w) = self.tokens.shape[0], self.grid
        law(self.tokens.ndim == 2, f"tokens must be (K,D), got {tuple(self.tokens.shape)}")
        wanted = {
            "positions": ((k, 3), torch.int32),
            "boxes": ((k, 6), torch.int32),
            "sizes": ((k,), torch.int32),
            "pts_s": ((k,), torch.float64),
            "owner": ((t * h * w,), torch.int32),
            "grid_pts_s": ((t,), torch.float64),
            "frame_pts_s": (tuple(self.frame_index.shape), torch.float64),
        }
        guided = {name: ((t,), torch.float32) for name in GUIDED if getattr(self, name) is not None}
        for name, (shape, dtype) in (wanted | guided).items():
            got = getattr(self, name)
            law(tuple(got.shape) == shape and got.dtype == dtype, f"{name} must be {dtype} {shape}, got {brief(got)}")
        limits = torch.tensor([t, h, w], dtype=torch.int32)
        inside = bool(((self.positions >= 0) & (self.positions < limits)).all())
        law(inside, f"positions must lie in the grid {self.grid}")
        law(bool(((self.owner >= -1) & (self.owner < k)).all()), f"owners must be rows 0..{k - 1} or -1")

    @property
    def grid(self) -> tuple[int, int, int]:
        """(T, H, W) of the whole video's token grid."""
        t, h, w = self.meta["grid"]
        return t, h, w

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its name in a file."""
        plain = (*ROWS, "owner", "grid_pts_s", "frame_pts_s", "frame_index")
        out = {name: getattr(self, name) for name in plain}
        optional = {name: getattr(self, name) for name in ("frame_vectors", *GUIDED)}
        out |= {name: value for name, value in optional.items() if value is not None}
        heard = {} if self.audio is None else {name: getattr(self.audio, name) for name in SOUND}
        out |= {AUDIO + name: value for name, value in heard.items() if value is not None}
        return out | {EXTRA + name: value for name, value in self.extra.items()}

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, atomically; equal records give equal bytes."""
        sources = {name: source(value) for name, value in self.tensors().items()}
        meta = {k: v for k, v in self.meta.items() if k not in ("tensors", "header_digest")}
        write_atomically(Path(path), lambda out: write(out, sources, meta))


def source(value: Tensor) -> Source:
    """A tensor in memory as something to be written; `TypeError` on a dtype that a record does not hold."""
    if value.dtype not in DTYPE_NAMES:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPE_NAMES)
        raise TypeError(f"a record holds no {value.dtype} {tuple(value.shape)}: convert it to one of {known}")
    flat = value.detach().reshape(-1).to("cpu", copy=True, memory_format=torch.contiguous_format)
    flat = flat.as_strided(flat.shape, (1,))  # one element counts as contiguous at any stride, but not to `view`
    data = memoryview(flat.view(torch.uint8).numpy().data) if len(flat) else memoryview(b"")
    return Source(DTYPE_NAMES[value.dtype], tuple(value.shape), lambda: [data])


def unsealed(data: Source) -> Tensor:
    """The reverse of `source`: a tensor of its own."""
    dtype = next(dtype for dtype, name in DTYPE_NAMES.items() if name == data.dtype)
    held = bytearray().join(data.blocks())
    return torch.frombuffer(held, dtype=dtype).reshape(data.shape) if held else torch.empty(data.shape, dtype=dtype)


def load(path: str | Path, *, verify: bool = True) -> VideoRecord:
    """A record from its file, memory-mapped; nothing in it is executed.

    `verify` re-hashes every tensor (about 1 GB/s); without it the header's own checks still run (schema, shapes,
    offsets, the header's digest).

    Raises:
        FileNotFoundError: no such file.
        DamagedFileError: not a record of this schema, or torn, or altered.
    """
    header = read_header(Path(path))
    check_record(header)
    if verify:
        check_tensors(header)
    with safe_open(path, framework="pt") as f:
        held = {name: f.get_tensor(name) for name in header.entries}
    extra = {n.removeprefix(EXTRA): held.pop(n) for n in list(held) if n.startswith(EXTRA)}
    sound = {n.removeprefix(AUDIO): held.pop(n) for n in list(held) if n.startswith(AUDIO)}
    try:
        audio = AudioTokens(**sound, count=len(sound["owner"])) if sound else None
        return VideoRecord(meta=header.meta, extra=extra, audio=audio, **held)
    except (TypeError, ValueError, KeyError) as e:
        raise DamagedFileError(f"{path}: its tensors do not make a record ({e}): encode the video again") from None
