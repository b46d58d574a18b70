"""VideoLLaMA3: frames -> merged vision tokens, and kept tokens -> inputs of the real transformers model.

Its own: a step is one frame; the pictures of a clip share a number of pixels; tokens are means of 2 x 2 patches, then
projected; a prompt that tells the time of each frame; positions that count. The rest is `qwen_vision`.

Its video processor drops tokens by itself (`use_token_compression`): those whose pixels hardly differ from the frame
before. `preprocess` tells which (`video_compression_mask`), `encode` does not drop them: what to drop is the method's
business here, and `rlt` or `dtd` in its pixel mode, as a gate or a method, decide much the same. Where the original
drops tokens it counts positions anew; here each token has the position that it has in the whole video.

Legend: T frames, h w patch rows and columns, m = merge_size, P tokens of a frame, K kept tokens.
"""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from . import qwen_load, qwen_patches, qwen_prompt, qwen_vision, tower
from .base import VideoModel
from .checkpoint import Checkpoint
from .consume import check, since_start
from .prompt import text_ids
from .qwen_patches import Settings, unit_of
from .reader import Reader, Span
from .resize import smart_resize
from .types import KeptVideo

FAMILY = "video_llama_3"
TOWER, PROJECTOR = "model.vision_model.", "model.projector."
MOVED = 0.1  # mean absolute difference of normalised pixels, times 255, above which a token counts as new


def shared_size(settings: Settings, frames: int, height: int, width: int) -> tuple[int, int]:
    """(h, w): the upper bound of `size` is shared by all frames, the lower one is each frame's.

    Rule: `VideoLlama3VideoProcessor.resize`. Where the share is under the lower bound it holds all the same.
    """
    low, high = settings["size"]["shortest_edge"], settings["size"]["longest_edge"]
    share = max(1, high // frames)
    return smart_resize(height, width, factor=unit_of(settings), min_pixels=low, max_pixels=share)


def preprocess(frames: Tensor, settings: Settings, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """uint8 (T,H,W,3) -> `pixel_values_videos` float32 (T*h*w, 3*14*14), `video_grid_thw` int64 (1,3),
    `video_merge_sizes` int64 (1,), `video_compression_mask` bool (T*P,)."""
    made = qwen_patches.preprocess(frames, settings, size, shared_size)
    steps, merge = int(made["video_grid_thw"][0, 0]), settings["merge_size"]
    blocks = made["pixel_values_videos"].view(steps, -1, merge**2 * made["pixel_values_videos"].shape[1])
    mask = moved(blocks) if settings["use_token_compression"] else blocks.new_ones(blocks.shape[:2], dtype=torch.bool)
    return {**made, "video_merge_sizes": torch.tensor([merge]), "video_compression_mask": mask.flatten()}


def moved(blocks: Tensor) -> Tensor:
    """Pixels (T,P,C) of each token -> bool (T,P): it differs from the same place in the frame before.

    Rule: `_get_compression_mask` of video_processing_video_llama_3.py. The first frame's are all True, and the first
    token of a frame in which none would be.
    """
    mask = torch.ones(blocks.shape[:2], dtype=torch.bool, device=blocks.device)
    mask[1:] = (blocks[1:] - blocks[:-1]).abs().mean(-1) * 255 > MOVED
    mask[:, 0] |= ~mask.any(1)
    return mask


class VideoLlama3(qwen_vision.QwenVision):
    """`VideoModel` of a VideoLLaMA3 checkpoint: its vision tower and its projector."""

    size_rule = staticmethod(shared_size)
    model_defaults = MappingProxyType({"patch_size": 16, "temporal_patch_size": 1})

    def preprocess(self, frames: Tensor, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """As `preprocess` of this module."""
        return preprocess(frames, self.checkpoint.settings, size)

    def load_tower(self) -> Any:
        """The two real modules that make its tokens, by name."""
        real = import_module("transformers.models.video_llama_3.modeling_video_llama_3")
        config = real.VideoLlama3Config.from_dict(deepcopy(dict(self.checkpoint.config)))
        vision = tower.load(real.VideoLlama3VisionModel, config.vision_config, self.checkpoint, (TOWER,), self.dtype)
        projector = tower.load(loadable_projector(real), config, self.checkpoint, (PROJECTOR,), self.dtype)
        return nn.ModuleDict({"vision": vision, "projector": projector.readout})

    def rows(self, pixels: Tensor, grid: Tensor, told: dict[str, Tensor]) -> qwen_vision.Rows:
        """The tower takes means of m x m patches at the end, for which rows that are kept count as one wide frame."""
        merge = self.checkpoint.settings["merge_size"]
        wide = torch.tensor([[1, merge, len(pixels) // merge]], device=pixels.device)
        merges = torch.tensor([merge], device=pixels.device)
        out = self._tower["vision"](pixels, grid_thw=wide, merge_sizes=merges, **told)
        return {"tokens": self._tower["projector"](out.last_hidden_state)}

    def widths(self) -> dict[str, int]:
        """The LLM's width."""
        return {"tokens": self._tower["projector"][-1].out_features}

    def last_attention(self) -> Any:
        """The attention module of the tower's last layer."""
        return self._tower["vision"].encoder.layers[-1].self_attn


def loadable_projector(real: Any) -> Any:
    """The real projector, a plain module, as a class that `tower.load` takes."""

    class Projector(real.VideoLlama3PreTrainedModel):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.readout = real.VideoLlama3Projector(config).readout
            self.post_init()

    return Projector


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> VideoModel:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    return qwen_load.adapter(VideoLlama3, checkpoint, dtype)


def span(config: Any, tokenizer: Any, record: KeptVideo, rule: str) -> Span:
    """`Time 0.0s:` and a frame's kept tokens, `,Time 1.0s:` and the next one's; the text of every frame stays.

    Source: `replace_video_token` of processing_video_llama_3.py, with true pts for the times.
    """
    check(record, FAMILY, config.get_text_config().hidden_size)
    steps, h, w = record.grid
    at = record.positions.long()
    inside = (at[:, 1] * w + at[:, 2]).split(at[:, 0].bincount(minlength=steps).tolist())
    ids, places, start = list[Tensor](), list[Tensor](), 0
    for i, (time, cells) in enumerate(zip(since_start(record, record.grid_pts_s).tolist(), inside, strict=True)):
        text = text_ids(tokenizer, f"{',' if i else ''}Time {time:.1f}s:")
        ids += [text, torch.full_like(cells, config.video_token_id)]
        places += [start + torch.arange(len(text)), start + len(text) + cells]
        start += len(text) + h * w
    return Span(torch.cat(ids), torch.cat(places)[None], start)


READER = Reader(
    llm="models.video_llama_3:VideoLlama3ForConditionalGeneration",
    mark=lambda config, tokenizer: (int(config.video_token_id),),
    placeholder=lambda config: int(config.video_token_id),
    span=span,
    hand_over=qwen_prompt.hand_over,
)
