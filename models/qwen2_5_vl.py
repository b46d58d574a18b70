"""Qwen2.5-VL: frames -> merged vision tokens, and kept tokens -> inputs of the real transformers model.

Vision attention never crosses a temporal patch (2 frames), so a long video may be encoded chunk by chunk.
Facts about transformers 5.23 that this file rests on are in specs/consumers.md, sections 0 to 3.

Legend: T frames, t = ceil(T/2) steps, H W rows and columns of merged tokens (28 x 28 pixels each), D LLM
channels, K kept tokens, N ids of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from . import mrope, qwen_patches, tower
from .checkpoint import Checkpoint, dtype_name
from .consume import check
from .jsonfile import CheckpointError
from .qwen_patches import preprocess as preprocess  # what `vidcomp.preprocess(family=...)` calls
from .reader import Reader, Span, rows_of
from .resize import resize_uint8
from .types import KeptVideo, TokenGrid, law

FAMILY = "qwen2_5_vl"
TOWER_PREFIXES = ("visual.", "model.visual.")  # as released; as the class's own names are in transformers 5
BATCH_PIXELS = 8 * 2 * 448 * 448  # of one pass through the tower: 8 steps of 448 x 448


@dataclass(eq=False)
class Qwen2_5VL:
    """`VideoModel` of a Qwen2.5-VL checkpoint; only its vision tower is loaded, by `setup`.

    `batch_pixels` bounds one pass through the tower. A chunk is always cut into the same passes, from its own first
    frame on and at least one step each, so its bytes depend on neither neighbours nor the machine's memory.
    """

    checkpoint: Checkpoint
    dtype: str
    batch_pixels: int = BATCH_PIXELS
    _tower: Any = field(default=None, init=False, repr=False)

    family = FAMILY
    provides: frozenset[str] = frozenset()

    @property
    def temporal_patch(self) -> int:
        """2: frames that make one time step."""
        return int(self.checkpoint.settings["temporal_patch_size"])

    @property
    def token_pixels(self) -> int:
        """28: a merge block's side in pixels."""
        return int(self.checkpoint.settings["patch_size"] * self.checkpoint.settings["merge_size"])

    def frame_size(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """(h, w), multiples of 28 pixels; `frames` is the whole clip's count."""
        return qwen_patches.frame_size(self.checkpoint.settings, frames, height, width)

    def resize(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        """uint8 (T,H,W,3) -> uint8 (T,h,w,3), by the processor's `resample`."""
        return resize_uint8(frames, size, self.checkpoint.settings["resample"])

    def preprocess(self, frames: Tensor, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """`pixel_values_videos` float32 (t*2H*2W, 1176), `video_grid_thw` int64 (1,3), as the original's."""
        return preprocess(frames, self.checkpoint.settings, size)

    def setup(self, device: str) -> None:
        """Read the tower's weights onto `device`; every weight must be there and none too many."""
        self._tower = load_tower(self.checkpoint, self.dtype).to(device)

    def encode(self, frames: Tensor, pts_s: Tensor, size: tuple[int, int] | None = None) -> TokenGrid:
        """uint8 (T,H,W,3), float64 (T,) seconds -> tokens (t,H,W,D) in the model's dtype, on its device.

        An odd tail is filled by repeating the last frame; `size` None: resolved from these frames alone.
        """
        law(
            len(frames) == len(pts_s) > 0,
            f"one pts per frame, at least one: {tuple(frames.shape)} {tuple(pts_s.shape)}",
        )
        height, width = size or self.frame_size(*frames.shape[:3])
        steps = max(1, self.batch_pixels // (self.temporal_patch * height * width))
        passes = [self._encode(part, (height, width)) for part in frames.split(steps * self.temporal_patch)]
        return TokenGrid(torch.cat(passes), pts_s[:: self.temporal_patch])

    @torch.no_grad()
    def _encode(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        if self._tower is None:
            raise RuntimeError("no weights yet: call setup(device) before encode")
        settings = self.checkpoint.settings
        sized = self.resize(frames, size).to(self._tower.device)
        grid = qwen_patches.grid_of(sized, settings)
        pixels = qwen_patches.patchify(sized, settings).to(self._tower.dtype)
        tokens: Tensor = self._tower(pixels, grid_thw=grid.to(pixels.device)).pooler_output
        t, h, w = grid[0].tolist()
        return tokens.view(t, h // settings["merge_size"], w // settings["merge_size"], -1)


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> Qwen2_5VL:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    vision, settings = checkpoint.config.get("vision_config", {}), checkpoint.settings
    for ours, theirs, default in (
        ("patch_size", "patch_size", 14),
        ("temporal_patch_size", "temporal_patch_size", 2),
        ("merge_size", "spatial_merge_size", 2),
    ):
        if settings[ours] != vision.get(theirs, default):
            raise CheckpointError(
                f"{checkpoint.model_id}: the processor's {ours} is {settings[ours]}, the model's {theirs} "
                f"{vision.get(theirs, default)}; take the processor settings of the model it was made of"
            )
    return Qwen2_5VL(checkpoint, dtype_name(dtype or checkpoint.dtype))


def load_tower(checkpoint: Checkpoint, dtype: str) -> Any:
    """The real vision tower, on the CPU."""
    qwen = import_module("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl")
    config = qwen.Qwen2_5_VLConfig.from_dict(deepcopy(dict(checkpoint.config))).vision_config
    return tower.load(qwen.Qwen2_5_VisionTransformerPretrainedModel, config, checkpoint, TOWER_PREFIXES, dtype)


def mark(config: Any, tokenizer: Any) -> tuple[int, int, int]:
    """`<|vision_start|><|video_pad|><|vision_end|>`, as its chat template writes a video."""
    return config.vision_start_token_id, config.video_token_id, config.vision_end_token_id


def span(config: Any, tokenizer: Any, record: KeptVideo, rule: str) -> Span:
    """One block of M-RoPE between its start and end marks (`mrope`); M-RoPE time is step x seconds_per_step."""
    check(record, FAMILY, config.get_text_config().hidden_size, ("seconds_per_step",))
    start, video, end = mark(config, tokenizer)
    pace = config.vision_config.tokens_per_second, float(record.meta["seconds_per_step"])
    times = mrope.time_index(record.grid[0], *pace)
    block, length = mrope.block(record.positions, record.grid, times, rule)
    ids = torch.tensor([start, *[video] * block.shape[1], end])
    places = torch.cat([block.new_zeros(3, 1), block + 1, block.new_full((3, 1), 1 + length)], dim=1)
    return Span(ids, places, length + 2)


def hand_over(model: Any, input_ids: Tensor, records: Sequence[KeptVideo]) -> dict[str, Any]:
    """What `get_video_features` would have returned for videos of these rows."""
    output = import_module("transformers.modeling_outputs").BaseModelOutputWithPooling
    rows = tuple(rows_of(records, model.device))
    return {"mm_encoder_outputs": {"video": output(pooler_output=rows)}}


READER = Reader(
    llm="models.qwen2_5_vl:Qwen2_5_VLForConditionalGeneration",
    mark=mark,
    placeholder=lambda config: int(config.video_token_id),
    span=span,
    hand_over=hand_over,
    axes=3,
    rules=mrope.RULES,
)
