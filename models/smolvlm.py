"""SmolVLM (SmolVLM2): each frame through a SigLIP-like tower, blocks of patches side by side, projected.

Source: transformers 5.23, modeling_smolvlm.py (`get_image_features`, `SmolVLMConnector`), video_processing_smolvlm.py
and processing_smolvlm.py (`replace_video_token`). To this model a video is a row of pictures with text between them:
its rows go in as an image's. Deliberate difference: a frame whose pixels are all 0 behind the processor (black, with
`do_normalize` off) is encoded as any other; the model drops such frames as padding, and then misses their rows.

Legend: T frames, B of a pass; P patches, N tokens of a frame; C channels of the tower, D of the LLM; h w pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from . import framewise_pixels, tower
from .checkpoint import Checkpoint, dtype_name
from .consume import check, since_start
from .framewise import Framewise
from .framewise_parts import Geometry, Parts, check_geometry, load_module, side_of
from .framewise_prompt import handed, spelled
from .framewise_words import number_words
from .reader import Reader, Span, rows_of
from .types import KeptVideo

FAMILY = "smolvlm"
TOWER_PREFIXES = ("model.vision_model.",)
CONNECTOR_PREFIXES = ("model.connector.",)
FRAME = "<fake_token_around_image><global-img><image><fake_token_around_image>"


class SmolVLM(Framewise):
    """`VideoModel` of a SmolVLM checkpoint.

    `keep` is exact: a token is a block of `scale_factor` x `scale_factor` patches.
    """

    family = FAMILY

    @property
    def geometry(self) -> Geometry:
        """384 pixels in 27 x 27 patches, 3 x 3 of them a token (or 512 in 32 x 32, 4 x 4)."""
        config = self.checkpoint.config
        vision = config.get("vision_config", {})
        step = int(config.get("scale_factor") or 2)
        return Geometry(side_of(vision, "image_size", 224), side_of(vision, "patch_size", 32), step)

    def load_parts(self) -> Parts:
        """The tower and the connector."""
        smol = import_module("transformers.models.smolvlm.modeling_smolvlm")
        config = smol.SmolVLMConfig.from_dict(deepcopy(dict(self.checkpoint.config)))
        real, make = smol.SmolVLMVisionTransformer, partial(smol.SmolVLMConnector, config)
        return Parts(
            config,
            tower.load(real, config.vision_config, self.checkpoint, TOWER_PREFIXES, self.dtype),
            load_module(make, self.checkpoint, CONNECTOR_PREFIXES, self.dtype),
        )

    def preprocess(self, frames: Tensor, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """`pixel_values` float32 (1,T,3,h,w), `pixel_attention_mask` int64 (1,T,h,w), as the original's."""
        return preprocess(frames, self.checkpoint.settings, size)

    def embed(self, tower: Any, pixels: Tensor) -> Tensor:
        """(B,3,h,w) -> (B,P,C), no patch masked."""
        side = self.geometry.patches
        shown = torch.ones(len(pixels), side, side, dtype=torch.bool, device=pixels.device)
        states: Tensor = tower.embeddings(pixel_values=pixels, patch_attention_mask=shown)
        return states

    def read(self, parts: Parts, states: list[Tensor]) -> Tensor:
        """(B,P,C): behind the last norm."""
        normed: Tensor = parts.tower.post_layernorm(states[0])
        return normed

    def tokens(self, parts: Parts, patches: Tensor) -> Tensor:
        """(B,P,C) -> (B,N,D): the connector does both."""
        rows: Tensor = parts.head(patches)
        return rows


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> SmolVLM:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    model = SmolVLM(checkpoint, dtype_name(dtype or checkpoint.dtype))
    check_geometry(checkpoint, "smolvlm_vision", model.geometry)
    return model


def preprocess(frames: Tensor, settings: Mapping[str, Any], size: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """uint8 (T,H,W,3) -> `pixel_values` float32 (1,T,3,h,w) and, with `do_pad`, `pixel_attention_mask` int64 (1,T,h,w):
    ones, as a single video is never padded."""
    pixels = framewise_pixels.pixels(frames, settings, size)
    mask = {"pixel_attention_mask": torch.ones(pixels[:, :, 0].shape, dtype=torch.int64)} if settings["do_pad"] else {}
    return {"pixel_values": pixels, **mask}


def mark(config: Any, tokenizer: Any) -> tuple[int]:
    """`<image>`: what `text` puts where a video stands."""
    return (config.image_token_id,)


def text(tokenizer: Any, question: str, records: Sequence[KeptVideo]) -> str:
    """The prompt by the template that the processor takes for videos, whatever the tokenizer's own is.

    Each video begins with its number of frames in words and its length, H:MM:SS, and ends with an empty line.
    """
    videos = (f"{opening(record)}<image>\n\n" for record in records)
    return f"<|im_start|>User: {''.join(videos)}{question}<end_of_utterance>\nAssistant:"


def opening(record: KeptVideo) -> str:
    """What stands before the first frame's tokens; the length is the source's in whole seconds, or where that has none
    (a live stream) the last frame's pts, as in the processor."""
    length_s = record.meta["source"].get("duration_s")
    length = timedelta(seconds=int(times_s(record)[-1] if length_s is None else length_s))
    count = number_words(len(record.frame_pts_s))
    series = f"You are provided the following series of {count} frames from a {length} [H:MM:SS] video.\n"
    return series + stamp(times_s(record)[0])


def times_s(record: KeptVideo) -> list[float]:
    """When each frame is shown, from the stream's first one."""
    times: list[float] = since_start(record, record.frame_pts_s).tolist()
    return times


def stamp(pts_s: float) -> str:
    """What names a frame: its pts in whole minutes and seconds."""
    return f"\nFrame from {int(pts_s // 60):02d}:{int(pts_s % 60):02d}:"


def span(config: Any, tokenizer: Any, record: KeptVideo, rule: str) -> Span:
    """Each frame's tokens between its marks, from the second frame on named by its pts, as the processor writes it.

    The pts are the record's own; at a constant rate they are the processor's index / fps. A frame whose tokens were all
    dropped keeps its name and its marks.
    """
    check(record, FAMILY, config.get_text_config().hidden_size, ("source",))
    later = (stamp(pts_s) + FRAME for pts_s in times_s(record)[1:])
    return spelled(tokenizer, FRAME + "".join(later), config.image_token_id, record)


def hand_over(model: Any, input_ids: Tensor, records: Sequence[KeptVideo]) -> dict[str, Any]:
    """Rows as `get_image_features` would have returned them, video by video."""
    return handed("image", rows_of(records, model.device))


READER = Reader(
    llm="models.smolvlm:SmolVLMForConditionalGeneration",
    mark=mark,
    placeholder=lambda config: int(config.image_token_id),
    span=span,
    hand_over=hand_over,
    text=text,
)
