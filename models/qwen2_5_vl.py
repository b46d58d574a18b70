"""Qwen2.5-VL: frames -> merged vision tokens, and kept tokens -> inputs of the real transformers model.

Vision attention never crosses a temporal patch (2 frames), so a long video may be encoded chunk by chunk.
Facts about transformers 5.23 that this file rests on are in specs/consumers.md, sections 0 to 3.

Legend: T frames, t = ceil(T/2) steps, H W rows and columns of merged tokens (28 x 28 pixels each), D LLM
channels, K kept tokens, N ids of the prompt.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from . import mrope, prompt, qwen_patches, tower
from .checkpoint import Checkpoint, dtype_name
from .jsonfile import CheckpointError
from .quiet import quiet
from .qwen_patches import preprocess as preprocess  # what `vidcomp.preprocess(family=...)` calls
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


def load_llm(checkpoint: Checkpoint, *, dtype: str | None = None, device: str = "cpu") -> Any:
    """The real `Qwen2_5_VLForConditionalGeneration` in eval mode, from safetensors only."""
    with quiet():
        model = import_module("transformers").Qwen2_5_VLForConditionalGeneration.from_pretrained(
            checkpoint.folder,
            dtype=getattr(torch, dtype_name(dtype or checkpoint.dtype)),
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
        )
    return model.to(device).eval()


def prepare(
    model: Any, tokenizer: Any, record: KeptVideo, question: str, *, position_rule: str = "max+1"
) -> dict[str, Any]:
    """kwargs for `model.generate(**inputs)` or `model(**inputs)`: one video and one question, batch 1.

    `input_ids`, `attention_mask` int64 (1,N), one placeholder per kept token; `position_ids` int64 (3,1,N) by
    `mrope` (`position_rule` there); `mm_encoder_outputs` {"video": rows}. Build it anew for every call: beam
    search changes `mm_encoder_outputs` in place. Raises `ValueError` on a record that this model cannot read.
    """
    config = model.config
    check(record, config.get_text_config().hidden_size)
    ids = {name: getattr(config, f"{name}_token_id") for name in ("video", "vision_start", "vision_end")}
    before, after = prompt.around_video(
        tokenizer, question, video=ids["video"], start=ids["vision_start"], end=ids["vision_end"]
    )
    input_ids = torch.cat([before, torch.full((len(record.tokens),), ids["video"]), after])[None]
    pace = config.vision_config.tokens_per_second, float(record.meta["seconds_per_step"])
    times = mrope.time_index(record.grid[0], *pace)
    places = mrope.positions(len(before), len(after), record.positions, record.grid, times, position_rule)
    return {
        "input_ids": input_ids.to(model.device),
        "attention_mask": torch.ones_like(input_ids).to(model.device),
        "position_ids": places[:, None].to(model.device),
        "mm_encoder_outputs": {"video": encoder_output(record.tokens.to(model.device))},
    }


def check(record: KeptVideo, hidden: int) -> None:
    """Raise `ValueError` unless its rows are this family's and as wide as the model's hidden states."""
    family = record.meta.get("model", {}).get("family")
    if family != FAMILY:
        raise ValueError(f"the record's tokens are of {family!r}, the model reads {FAMILY!r}: encode the video with it")
    if record.tokens.shape[1] != hidden:
        raise ValueError(
            f"the record's tokens have {record.tokens.shape[1]} channels, the model's hidden states "
            f"{hidden}: encode the video with this very checkpoint"
        )
    if not float(record.meta.get("seconds_per_step") or 0) > 0:
        raise ValueError("the record does not say seconds_per_step, which its positions need: encode the video again")


def encoder_output(rows: Tensor) -> Any:
    """What `get_video_features` would have returned for one video of these rows (K,D)."""
    return import_module("transformers.modeling_outputs").BaseModelOutputWithPooling(pooler_output=(rows,))
