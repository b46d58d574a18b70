"""Qwen3-Omni's thinker: frames and sound -> the tokens that it reads, and kept ones of both -> its inputs.

Vision is that of Qwen3-VL, deepstack rows with it, but each picture has a size of its own (the processor is Qwen2-VL's)
and a video is one block of M-RoPE. Its own: sound in stretches of 8 s, 13 tokens a second; prompts in which both kinds
of tokens stand in order of time; positions that are float32. What all Omni models share is in `omni`, `omni_audio` and
`omni_prompt`.

Legend: M mel bins, F mel frames, n tokens, D LLM channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from . import omni, omni_prompt, qwen3_vl, qwen_patches, qwen_prompt, scores
from .base import AudioModel, Heard
from .checkpoint import Checkpoint
from .omni_audio import OmniAudio
from .qwen_patches import preprocess as preprocess  # what `vidcomp.preprocess(family=...)` calls
from .reader import Reader, Span
from .types import KeptVideo

FAMILY = "qwen3_omni_moe"
TYPES = ("qwen3_omni_moe_thinker",)
PER_CHUNK = 13  # tokens of a whole chunk of 2 x `n_window` frames, whatever `n_window` is: the original's constant


class Qwen3Omni(OmniAudio, qwen3_vl.Qwen3VL):
    """`AudioModel` of a Qwen3-Omni checkpoint."""

    size_rule = staticmethod(qwen_patches.picture_size)

    def load_tower(self) -> Any:
        """The thinker's vision tower."""
        classes = modeling()
        return omni.read_part(self, "visual", classes.Qwen3OmniMoeThinkerConfig, classes.Qwen3OmniMoeVisionEncoder)

    def load_ear(self) -> Any:
        """The thinker's audio tower."""
        classes = modeling()
        return omni.read_part(self, "audio_tower", classes.Qwen3OmniMoeThinkerConfig, classes.Qwen3OmniMoeAudioEncoder)

    def chunk(self) -> int:
        """Mel frames that the convolutions see at once."""
        return 2 * int(self.audio_config.get("n_window", 50))

    def stretch(self) -> int:
        """A window of attention, in whole chunks."""
        return int(self.audio_config.get("n_window_infer", 800)) // self.chunk() * self.chunk()

    def tokens_of(self, frames: int) -> int:
        """13 a chunk; of what is left over one for eight frames, or part of them."""
        whole, left = divmod(frames, self.chunk())
        return whole * PER_CHUNK + -(-left // 8)

    def audio_pts_s(self, count: int) -> Tensor:
        """A token starts 80 ms after the one before it in its chunk."""
        token = torch.arange(count)
        frames = token // PER_CHUNK * self.chunk() + token % PER_CHUNK * 8
        return frames.double() * self.mel().hop / self.audio_rate

    @torch.no_grad()
    def hear(self, mel: Tensor, first: bool) -> Tensor:
        """A pass as the tower would have it in the whole clip: where a whole chunk came before, a lone shorter one is
        filled up to that length, which its last tokens can tell."""
        lengths = torch.tensor([mel.shape[1]], device=mel.device)
        short = self.chunk() - mel.shape[1]
        told = {} if first or short <= 0 else {"padded_feature": pad(mel, (0, short))[None], "chunk_lengths": lengths}
        tokens: Tensor = self._ear(mel, feature_lens=lengths, **told).last_hidden_state
        return tokens

    def attend(self, passes: Iterable[Tensor]) -> Iterator[Heard]:
        """`attention` is OmniZip's: softmax over the keys of a window, summed over its queries, mean over heads."""
        for i, mel in enumerate(passes):
            with scores.watching(self._ear.layers[-1].self_attn) as seen:
                tokens = self.hear(mel, first=i == 0)
            yield Heard(tokens, torch.cat([window.flatten() * window.numel() for window in seen]))


def modeling() -> Any:
    """The transformers module with the family's classes."""
    return import_module("transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe")


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> AudioModel:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    return omni.load(Qwen3Omni, checkpoint, dtype)


LAYOUT = omni_prompt.Layout(FAMILY, omni_prompt.by_time, torch.float32, pair=(0, 1))


def span(config: Any, tokenizer: Any, record: KeptVideo, rule: str) -> Span:
    """`omni_prompt.span`, of a record that holds deepstack rows."""
    laid = omni_prompt.span(config, record, LAYOUT)
    qwen3_vl.check_deepstack(record, config.vision_config)
    return laid


def hand_over(model: Any, input_ids: Tensor, records: Sequence[KeptVideo]) -> dict[str, Any]:
    """Video and deepstack rows as Qwen3-VL has them, and sound."""
    return omni_prompt.with_sound(model, input_ids, records, qwen3_vl.hand_over(model, input_ids, records))


READER = Reader(
    llm="models.qwen3_omni_moe:Qwen3OmniMoeThinkerForConditionalGeneration",
    mark=qwen_prompt.mark,
    placeholder=lambda config: int(config.video_token_id),
    hears=lambda config: int(config.audio_token_id),
    span=span,
    hand_over=hand_over,
    axes=3,
)
