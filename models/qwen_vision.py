"""The adapter that all vision towers of Qwen's make share: frames -> merged tokens, whole clips or kept tokens alone.

Vision attention never crosses a step, so a long video may be encoded chunk by chunk and pass by pass. A family's file
says what is its own: its tower, the size of its pictures, what the tower is told to skip, what else each token has.

Legend: T frames, t steps of `temporal_patch` frames, H W rows and columns of merged tokens, D LLM channels, n kept
tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from . import qwen_keep, qwen_patches, scores
from .checkpoint import Checkpoint
from .resize import resize_uint8
from .transfer import to_device
from .types import TokenGrid, law

BATCH_PIXELS = 8 * 2 * 448 * 448  # of one pass through the tower: 8 steps of 448 x 448
Rows = dict[str, Tensor]  # "tokens" (n,D), and what else a family has for each token
Size = tuple[int, int]


@dataclass(eq=False)
class QwenVision:
    """`VideoModel` of a checkpoint; only its vision tower is loaded, by `setup`.

    `batch_pixels` bounds one pass through the tower. A chunk is always cut into the same passes, from its own first
    frame on and at least one step each, so its bytes depend on neither neighbours nor the machine's memory.
    """

    checkpoint: Checkpoint
    dtype: str
    batch_pixels: int = BATCH_PIXELS
    _tower: Any = field(default=None, init=False, repr=False)

    size_rule = staticmethod(qwen_patches.picture_size)
    model_defaults = MappingProxyType({"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2})  # config class's

    def load_tower(self) -> Any:
        """The real tower with its weights, on the CPU; usually `qwen_load.tower` of its classes."""
        raise NotImplementedError

    def told(self, grid: Tensor, keep: Tensor) -> dict[str, Tensor]:
        """What the tower takes in place of what it would make of `grid` int64 (1,3) itself, to see `keep` bool (t,H,W)
        alone."""
        return qwen_keep.steps(grid, keep, self.checkpoint.settings["merge_size"])

    def rows(self, pixels: Tensor, grid: Tensor, told: dict[str, Tensor]) -> Rows:
        """One pass of the tower over patches."""
        return {"tokens": self._tower(pixels, grid_thw=grid, **told).pooler_output}

    def widths(self) -> dict[str, int]:
        """Channels of each of the `rows`."""
        return {"tokens": self._tower.config.out_hidden_size}

    def last_attention(self) -> Any:
        """The attention module of the tower's last layer, which sees whole steps."""
        return self._tower.blocks[-1].attn

    @property
    def family(self) -> str:
        """config.json's `model_type`."""
        return self.checkpoint.family

    @property
    def provides(self) -> frozenset[str]:
        """`attention`: received in the last layer (`scores`), mean of a token's patches; `frame_vectors`: of a step's
        tokens."""
        return frozenset({"attention", "frame_vectors"})

    @property
    def skips(self) -> Literal["exact"]:
        """Attention stays within a step whatever its rows are, so kept patches can be all that a step has."""
        return "exact"

    @property
    def temporal_patch(self) -> int:
        """Frames that make one time step; an odd tail is filled by repeating the last one."""
        return int(self.checkpoint.settings["temporal_patch_size"])

    @property
    def token_pixels(self) -> int:
        """A merge block's side in pixels."""
        return qwen_patches.unit_of(self.checkpoint.settings)

    def frame_size(self, frames: int, height: int, width: int) -> Size:
        """(h, w), multiples of `token_pixels`; `frames` is the whole clip's count."""
        return qwen_patches.frame_size(self.checkpoint.settings, frames, height, width, self.size_rule)

    def resize(self, frames: Tensor, size: Size) -> Tensor:
        """uint8 (T,H,W,3) -> uint8 (T,h,w,3), by the processor's `resample`."""
        return resize_uint8(frames, size, self.checkpoint.settings["resample"])

    def preprocess(self, frames: Tensor, size: Size | None = None) -> dict[str, Tensor]:
        """`pixel_values_videos` and `video_grid_thw`, as `qwen_patches.preprocess`."""
        return qwen_patches.preprocess(frames, self.checkpoint.settings, size, self.size_rule)

    def setup(self, device: str) -> None:
        """Read the tower's weights onto `device`; every weight must be there and none too many."""
        self._tower = self.load_tower().to(device)

    def encode(
        self,
        frames: Tensor,
        pts_s: Tensor,
        size: Size | None = None,
        *,
        wants: frozenset[str] = frozenset(),
        keep: Tensor | None = None,
    ) -> TokenGrid:
        """uint8 (T,H,W,3), float64 (T,) seconds -> tokens (t,H,W,D) in the model's dtype, on its device.

        `size` None: resolved from these frames alone. `keep` bool (t,H,W): these tokens alone pass through the tower,
        and see no others. `wants`, of the kept tokens where `keep` is given, zeros elsewhere: `attention` float32
        (t,H,W), whose sum over a step is 1 / merge block; `frame_vectors` float32 (t,D), the mean of a step's tokens.
        """
        law(len(frames) == len(pts_s) > 0, f"one pts per frame, at least one: {len(frames)} {tuple(pts_s.shape)}")
        if self._tower is None:
            raise RuntimeError("no weights yet: call setup(device) before encode")
        size = size or self.frame_size(*frames.shape[:3])
        shown = self._shown(keep, len(frames), size)
        steps = max(1, self.batch_pixels // (self.temporal_patch * size[0] * size[1]))
        parts = zip(frames.split(steps * self.temporal_patch), shown.split(steps), strict=True)
        passes = [self._pass(part, size, mask, wants) for part, mask in parts]
        found = {name: torch.cat([one[name] for one in passes]) for name in passes[0]}
        data, attention = found.pop("tokens"), found.pop("attention", None)
        valid = None if keep is None else to_device(shown, data.device)
        vectors = qwen_keep.step_means(data, valid) if "frame_vectors" in wants else None
        return TokenGrid(data, pts_s[:: self.temporal_patch], attention, vectors, valid, found)

    def _shown(self, keep: Tensor | None, frames: int, size: Size) -> Tensor:
        """bool (t,H,W) on the CPU: `keep`, or all of the grid."""
        side = self.token_pixels
        if size[0] % side or size[1] % side:
            raise ValueError(f"frames enter the model in multiples of {side} pixels, got {size[0]} x {size[1]}")
        shape = (-(-frames // self.temporal_patch), size[0] // side, size[1] // side)
        if keep is None:
            return torch.ones(shape, dtype=torch.bool)
        fits = keep.dtype == torch.bool and tuple(keep.shape) == shape
        law(fits, f"keep must be bool {shape}, got {keep.dtype} {tuple(keep.shape)}")
        return keep.cpu()

    @torch.no_grad()
    def _pass(self, frames: Tensor, size: Size, shown: Tensor, wants: frozenset[str]) -> Rows:
        """{name: (t,H,W,...)} of some steps; zeros where `shown` bool (t,H,W) is False."""
        settings, like = self.checkpoint.settings, next(self._tower.parameters())
        merge, watch = settings["merge_size"], "attention" in wants
        if not shown.any():
            return self._nothing(shown, like, watch)
        sized = to_device(self.resize(frames, size), like.device)
        grid = qwen_patches.grid_of(sized, settings)
        told = {  # where runs of rows end is for the host alone: sdpa cuts by it, at each layer
            name: value if name.endswith("seqlens") else to_device(value, like.device)
            for name, value in self.told(grid, shown).items()
        }
        kept = None if shown.all() else to_device(qwen_keep.patch_rows(shown, merge), like.device)
        pixels = qwen_patches.patchify(sized, settings, kept).to(like.dtype)
        found = (self._watched if watch else self.rows)(pixels, to_device(grid, like.device), told)
        return {name: qwen_keep.spread(rows, shown) for name, rows in found.items()}

    def _watched(self, pixels: Tensor, grid: Tensor, told: dict[str, Tensor]) -> Rows:
        """`rows`, and `attention` float32 (n,)."""
        with scores.watching(self.last_attention()) as seen:
            found = self.rows(pixels, grid, told)
        block = self.checkpoint.settings["merge_size"] ** 2
        return found | {"attention": scores.per_token(scores.packed(seen), block, told.get("window_index"))}

    def _nothing(self, shown: Tensor, like: Tensor, watch: bool) -> Rows:
        """What a pass gives that shows the tower no token: zeros, as the others have them."""
        found = {name: like.new_zeros(*shown.shape, width) for name, width in self.widths().items()}
        return found | ({"attention": like.new_zeros(shown.shape, dtype=torch.float32)} if watch else {})
