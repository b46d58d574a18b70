"""One closed chunk as tensors of the whole video: steps and rows counted from the video's start, not the chunk's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import safe_open
from torch import Tensor

from ..models.types import Frames, TokenGrid
from .failure import SourceError
from .guide import Guidance
from .record import AUDIO, EXTRA, source
from .reduction import Reduction
from .safefile import Header, Source
from .store import CARRIES


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a video's spool has come: chunks seen, grid steps and rows written, what the next chunk needs, and audio
    tokens heard and rows of them written."""

    chunks: int = 0
    steps: int = 0
    rows: int = 0
    carry: Tensor | None = None
    gate_carry: Tensor | None = None
    heard: int = 0
    audio_rows: int = 0


def pack(
    frames: Frames, grid: TokenGrid, reduction: Reduction, carries: Mapping[str, Tensor | None], before: Progress
) -> dict[str, Source]:
    """A part's tensors, named as in the record; `before` is what the chunks before it came to, `carries` (by a name of
    `CARRIES`) what the next one needs."""
    kept = reduction.compress(grid)
    step = torch.tensor([before.steps, 0, 0], dtype=torch.int32)
    owner = reduction.owner.cpu()
    tensors = {
        "tokens": kept.tokens,
        "positions": kept.positions + step,
        "boxes": kept.boxes + step.repeat_interleave(2),
        "sizes": kept.sizes,
        "pts_s": kept.pts_s,
        "owner": torch.where(owner >= 0, owner + before.rows, -1),
        "grid_pts_s": grid.pts_s,
        "frame_pts_s": frames.pts_s,
        "frame_index": frames.index,
    }
    tensors |= {} if grid.frame_vectors is None else {"frame_vectors": grid.frame_vectors}
    tensors |= {EXTRA + name: value for name, value in kept.extra.items()}
    own = {name: source(value) for name, value in carries.items() if value is not None}  # marks may be no number
    return sealed(tensors) | own


def pack_audio(grid: TokenGrid, reduction: Reduction, pts_s: Tensor, before: Progress) -> dict[str, Source]:
    """A part's audio tensors; `pts_s` float64 (n,) when each of the chunk's audio tokens starts."""
    assert grid.audio is not None
    owner = reduction.owner.cpu()
    return sealed(
        {
            AUDIO + "tokens": reduction.apply(grid.audio),
            AUDIO + "positions": (reduction.anchor.cpu() + before.heard).int(),
            AUDIO + "sizes": reduction.sizes.cpu(),
            AUDIO + "pts_s": pts_s[reduction.anchor.cpu()],
            AUDIO + "owner": torch.where(owner >= 0, owner + before.audio_rows, -1),
        }
    )


def pack_guidance(guidance: Guidance) -> dict[str, Source]:
    """A part's account of what was heard of each grid step, and of the weight of the window that it stands in."""
    return sealed({"saliency": guidance.saliency, "guide_weights": guidance.weights})


def sealed(tensors: Mapping[str, Tensor]) -> dict[str, Source]:
    """Tensors as they will be written; `SourceError` where one is not finite."""
    check_finite(tensors)
    return {name: source(value) for name, value in tensors.items()}


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """`SourceError` where a value is NaN or infinite: such a record would be cached for good."""
    for name, value in tensors.items():
        if value.dtype.is_floating_point and not bool(torch.isfinite(value).all()):
            what = f"the model gave values that are not finite ({name})"
            raise SourceError("unsupported", what, "take another --set model.dtype: bfloat16 or float32")


def progress_after(parts: list[Header]) -> Progress:
    """Where the next chunk of a spool goes on."""
    if not parts:
        return Progress()
    last = parts[-1]
    return Progress(
        chunks=int(last.meta["chunk"]) + 1,
        steps=rows_of(parts, "grid_pts_s"),
        rows=rows_of(parts, "tokens"),
        heard=rows_of(parts, AUDIO + "owner"),
        audio_rows=rows_of(parts, AUDIO + "tokens"),
        **{name: read_tensor(last, name) for name in CARRIES if name in last.entries},
    )


def rows_of(parts: list[Header], name: str) -> int:
    """Rows of a tensor in all parts together; 0 where they have none of that name."""
    return sum(part.entries[name].shape[0] for part in parts if name in part.entries)


def read_tensor(header: Header, name: str) -> Tensor:
    """One tensor of a checked file."""
    with safe_open(header.path, framework="pt") as f:
        value: Tensor = f.get_tensor(name)
    return value
