"""Qwen2.5-Omni's thinker: frames and sound -> the tokens that it reads, and kept ones of both -> its inputs.

Vision is that of Qwen2.5-VL. Its own: sound in stretches of 2 s, of which the processor takes the first `chunk_length`
seconds alone (300 in the released checkpoints), and prompts in which both take turns every 2 s. M-RoPE time is in
seconds. What all Omni models share is in `omni`, `omni_audio` and `omni_prompt`.

Legend: M mel bins, F mel frames, n tokens, D LLM channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from . import omni, omni_prompt, qwen_prompt, scores
from .base import AudioModel, Heard
from .checkpoint import Checkpoint
from .omni_audio import OmniAudio
from .qwen2_5_vl import Qwen2_5VL
from .qwen_patches import preprocess as preprocess  # what `vidcomp.preprocess(family=...)` calls
from .reader import Reader, Span
from .types import KeptVideo

FAMILY = "qwen2_5_omni"
TYPES = ("qwen2_5_omni_thinker",)


class Qwen2_5Omni(OmniAudio, Qwen2_5VL):
    """`AudioModel` of a Qwen2.5-Omni checkpoint."""

    padded = True

    def load_tower(self) -> Any:
        """The thinker's vision tower."""
        classes = modeling()
        return omni.read_part(self, "visual", classes.Qwen2_5OmniThinkerConfig, classes.Qwen2_5OmniVisionEncoder)

    def load_ear(self) -> Any:
        """The thinker's audio tower."""
        classes = modeling()
        return omni.read_part(self, "audio_tower", classes.Qwen2_5OmniThinkerConfig, classes.Qwen2_5OmniAudioEncoder)

    def stretch(self) -> int:
        """Two chunks of 2 x `n_window` frames, so that pooled pairs never lie across."""
        return 4 * int(self.audio_config.get("n_window", 100))

    def tokens_of(self, frames: int) -> int:
        """25 a second: one for four frames."""
        return ((frames + 1) // 2) // 2

    def audio_pts_s(self, count: int) -> Tensor:
        """Each token starts 40 ms after the one before it."""
        return torch.arange(count).double() * 4 * self.mel().hop / self.audio_rate

    @torch.no_grad()
    def hear(self, mel: Tensor, first: bool) -> Tensor:
        """A pass is as the tower would have it in the whole clip: it masks what it fills up."""
        out = self._ear(mel, feature_lens=torch.tensor([mel.shape[1]], device=mel.device))
        tokens: Tensor = out.last_hidden_state
        return tokens

    def attend(self, passes: Iterable[Tensor]) -> Iterator[Heard]:
        """`attention` is OmniZip's: softmax over *all* keys of the clip, though the tower attends within its chunks;
        mean over heads and queries, then of the two that a token is pooled of.

        So nothing comes before the clip's end: at most `chunk_length` seconds of queries and keys are held till then.
        """
        attention, seen = self._ear.layers[-1].self_attn, dict[str, list[Tensor]](q_proj=[], k_proj=[])
        hooks = [
            getattr(attention, name).register_forward_hook(lambda _module, _given, out, held=held: held.append(out))
            for name, held in seen.items()
        ]
        try:
            heard = [self.hear(mel, first=i == 0) for i, mel in enumerate(passes)]
        finally:
            for hook in hooks:
                hook.remove()
        if heard:
            q, k = (
                torch.cat(held).unflatten(1, (attention.num_heads, -1)).transpose(0, 1)[None] for held in seen.values()
            )
            received = scores.received(q, k, attention.scaling)[0]
            pooled = received[: len(received) // 2 * 2].view(-1, 2).mean(1)
            yield from map(Heard, heard, pooled.split([len(tokens) for tokens in heard]))


def modeling() -> Any:
    """The transformers module with the family's classes."""
    return import_module("transformers.models.qwen2_5_omni.modeling_qwen2_5_omni")


def load(checkpoint: Checkpoint, *, dtype: str | None = None) -> AudioModel:
    """The adapter, without weights; `dtype` None: the checkpoint's own."""
    return omni.load(Qwen2_5Omni, checkpoint, dtype)


LAYOUT = omni_prompt.Layout(FAMILY, omni_prompt.by_chunks, torch.int64, pair=(0, 0))


def span(config: Any, tokenizer: Any, record: KeptVideo, rule: str) -> Span:
    """`omni_prompt.span`; the two start marks have one position, and the two end marks."""
    return omni_prompt.span(config, record, LAYOUT)


def hand_over(model: Any, input_ids: Tensor, records: Sequence[KeptVideo]) -> dict[str, Any]:
    """Video rows as Qwen2.5-VL has them, and sound."""
    return omni_prompt.with_sound(model, input_ids, records, qwen_prompt.hand_over(model, input_ids, records))


READER = Reader(
    llm="models.qwen2_5_omni:Qwen2_5OmniThinkerForConditionalGeneration",
    mark=qwen_prompt.mark,
    placeholder=lambda config: int(config.video_token_id),
    hears=lambda config: int(config.audio_token_id),
    span=span,
    hand_over=hand_over,
    axes=3,
)
