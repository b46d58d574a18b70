"""The sound side of Qwen's Omni models: samples -> the audio tokens that the thinker reads.

The audio towers cut the mel spectrogram into stretches that know nothing of each other: convolutions and attention end
with them. So a clip is encoded in passes of whole stretches, counted from its first sample, whatever pieces the sound
comes in; memory does not grow with the clip. The spectrogram is scaled by the whole clip's largest value (`mel`), for
which the sound is read once before. A family says how long a stretch is, how many tokens it gives, when they start.

Legend: S samples, M mel bins, F mel frames (100 a second), n tokens, D LLM channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .base import Heard
from .jsonfile import CheckpointError
from .mel import Mel
from .omni import thinker
from .qwen_vision import QwenVision

PASS_FRAMES = 3200  # of one pass through the tower: 32 s


@dataclass(eq=False)
class OmniAudio(QwenVision):
    """`base.AudioModel`: beside the vision tower an audio tower, which `setup` loads too."""

    _ear: Any = field(default=None, init=False, repr=False)

    padded = False  # whether the processor fills a clip up to `chunk_length` seconds, and cuts it there

    def load_ear(self) -> Any:
        """The real audio tower with its weights, on the CPU."""
        raise NotImplementedError

    def stretch(self) -> int:
        """Mel frames that pass through the tower by themselves."""
        raise NotImplementedError

    def tokens_of(self, frames: int) -> int:
        """How many tokens a clip of so many mel frames has."""
        raise NotImplementedError

    def audio_pts_s(self, count: int) -> Tensor:
        """float64 (count,): when the clip's first `count` tokens start, in seconds from its first sample."""
        raise NotImplementedError

    def hear(self, mel: Tensor, first: bool) -> Tensor:
        """(M,F) of one pass -> tokens (n,D); `first`: it is the clip's first."""
        raise NotImplementedError

    def attend(self, passes: Iterable[Tensor]) -> Iterator[Heard]:
        """The tokens of all passes (M,F) of a clip, with `attention`."""
        raise NotImplementedError

    @property
    def provides(self) -> frozenset[str]:
        """As the vision tower's, and `audio_attention`."""
        return super().provides | {"audio_attention"}

    @property
    def audio_rate(self) -> int:
        """16000: samples per second that `encode_audio` takes."""
        return int(self.checkpoint.settings["sampling_rate"])

    @property
    def audio_config(self) -> Mapping[str, Any]:
        """The audio tower's part of config.json, as written."""
        part: Mapping[str, Any] = thinker(self.checkpoint.config).get("audio_config", {})
        return part

    def mel(self) -> Mel:
        """The spectrogram by the checkpoint's settings; `CheckpointError` on one that is never the same twice, or does
        not fit the tower."""
        told, bins = self.checkpoint.settings, self.audio_config.get("num_mel_bins", 128)
        if told["dither"] or told["padding_value"]:
            raise CheckpointError(f"{self.checkpoint.model_id}: dither and padding_value must be 0 for sound")
        if told["feature_size"] != bins:
            raise CheckpointError(
                f"{self.checkpoint.model_id}: feature_size is {told['feature_size']}, the model's num_mel_bins {bins}; "
                "take the feature extractor's settings of the model it was made of"
            )
        rate = told["sampling_rate"]
        limit = told["chunk_length"] * rate if self.padded else None
        return Mel(told["feature_size"], told["n_fft"], told["hop_length"], rate, limit)

    def audio_count(self, samples: int) -> int:
        """Tokens of a clip of so many samples."""
        return self.tokens_of(self.mel().frames(samples))

    def audio_peak(self, pieces: Iterable[Tensor]) -> float:
        """The clip's largest log power, float32 (S,) in pieces cut anywhere: what `encode_audio` scales it by."""
        return self.mel().peak(pieces)

    def encode_audio(
        self, pieces: Iterable[Tensor], peak: float, *, wants: frozenset[str] = frozenset()
    ) -> Iterator[Heard]:
        """A clip's sound, float32 (S,) mono at `audio_rate` in pieces cut anywhere -> its tokens, pass by pass.

        `peak` is `audio_peak` of the same samples. The real processor's and tower's result for the clip alone;
        where the pieces end changes no bit. `wants` may hold `audio_attention`.
        """
        if self._ear is None:
            raise RuntimeError("no weights yet: call setup(device) before encode_audio")
        mel, like = self.mel(), next(self._ear.parameters())
        length = self.stretch() * max(1, PASS_FRAMES // self.stretch())
        passes = (mel.scaled(power, peak).to(like.device) for power in mel.powers(pieces, length))
        if "audio_attention" in wants:
            return self.attend(passes)
        return (Heard(self.hear(part, i == 0), None) for i, part in enumerate(passes))

    def setup(self, device: str) -> None:
        """Read both towers' weights onto `device`; every weight must be there and none too many."""
        super().setup(device)
        self._ear = self.load_ear().to(device)
