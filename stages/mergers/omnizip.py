"""OmniZip: what is heard decides how much of the picture stays, window by window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid, brief, law
from .. import ops
from ..parts import Merger, Need
from ..reduction import Reduction
from ._omnizip_audio import Hearing, listen, merge_audio
from ._omnizip_video import rank_tokens
from ._omnizip_windows import Windows, drop_ratios, pair_windows

NO_SHARE = 1e-9  # of a token


@dataclass(frozen=True)
class OmniZip(Merger):
    """Drops less of the picture where less of the sound stays; within a window frames are pruned in turns.

    OmniZip (audio-guided token compression), as the authors' `omnizip_core.py` does it. Of the sound stay the
    round((1-audio_drop)*Na) most attended tokens, and round(contextual_ratio*Na) anchors, each merged with the `g` most
    video-like tokens near it (`reduce_audio`). Windows are `frames_per_window` steps and `audio_per_window` audio
    tokens; of each, 0.35 to 0.75 of the video tokens go: 0.75 - 0.4 x kept sound, scaled to `video_drop` of the whole.
    Steps after the sound are one window and drop `video_drop`. Even frames of a window keep their density peaks (by
    cosine, 5 neighbours), odd ones what changed most since the frame before. Exact budgets keep the frames' shares.

    It hears what there is: without audio (`needs` names what it makes use of) every step drops `video_drop`.
    Segments are not used. Kept video tokens are source tokens; so are audio ones, but for the anchors.

    Differs from the reference: no audio, or less audio than video, is no error; at least one token stays; equal
    densities and similarities (flat areas, identical frames) go to the lower index; the input is not overwritten.
    Like it, `video_drop` is not reached where ratios are clipped, and not used for two windows or fewer with sound.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"audio"})
    paper: ClassVar[str] = "OmniZip, audio-guided token compression"
    family: ClassVar[str] = "audio-guided"
    complexity: ClassVar[str] = "O(TN²D + PTND), P pooled audio tokens"

    audio_drop: float = 0.3
    video_drop: float = 0.6
    g: int = 3
    contextual_ratio: float = 0.05
    frames_per_window: int = 2
    audio_per_window: int = 50

    def __post_init__(self) -> None:
        for field in ("audio_drop", "video_drop", "contextual_ratio"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} must be in [0, 1], got {getattr(self, field)}")
        for field, least in (("g", 0), ("frames_per_window", 1), ("audio_per_window", 1)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}, got {getattr(self, field)}")

    # -- the picture ---------------------------------------------------------------------------------

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        score_N = self.score(grid, segments, None)
        return Reduction.select(grid.shape, ops.top(score_N, self.count(grid, segments, None)))

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        score_N = self.score(grid, segments, carry)
        if grid.valid is not None:
            score_N = score_N.masked_fill(~grid.valid.flatten(), float("-inf"))
            tokens = min(tokens, int(grid.valid.sum()))
        return Reduction.select(grid.shape, ops.top(score_N, tokens)), None

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        return max(int(self.shares(grid).long().sum()), min(1, grid.count))

    def at(self, knob: float) -> Self:
        return replace(self, video_drop=1 - knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float64 (N,): minus the part of its frame's share that is full once the token is in; from -1 on it stays."""
        rank_TN = rank_tokens(grid.feat_TND, self.windows(grid).video)
        share_T1 = self.shares(grid).to(rank_TN.device)[:, None]
        full_TN = (rank_TN + 1) / share_T1.clamp_min(NO_SHARE)
        stays_TN = rank_TN < share_T1.long()  # int(): a frame keeps what fits, whatever the division rounds to
        return -torch.where(stays_TN, full_TN.clamp_max(1), full_TN.clamp_min(1 + NO_SHARE)).flatten()

    def windows(self, grid: TokenGrid) -> Windows:
        """Which steps and which audio tokens belong together."""
        heard = 0 if grid.audio is None else len(grid.audio)
        return pair_windows(grid.shape[0], heard, self.frames_per_window, self.audio_per_window)

    def shares(self, grid: TokenGrid) -> Tensor:
        """float64 (T,): tokens that each frame keeps, before whole numbers are made of them."""
        windows = self.windows(grid)
        lengths = [end - first for first, end in windows.video]
        kept = []
        if windows.audio:
            kept_A = self._hear(grid).kept.float().cpu()
            kept = [float(kept_A[first:end].mean()) for first, end in windows.audio]
        ratios = drop_ratios([steps * grid.per_step for steps in lengths], kept, self.video_drop)
        shares = torch.tensor([grid.per_step * (1.0 - ratio) for ratio in ratios], dtype=torch.float64)
        return shares.repeat_interleave(torch.tensor(lengths, dtype=torch.int64))

    # -- the sound -----------------------------------------------------------------------------------

    @torch.no_grad()
    def reduce_audio(self, grid: TokenGrid) -> Reduction:
        """The decision over the audio tokens, a grid (Na,1,1); of no rows without audio."""
        if grid.audio is None or not len(grid.audio):
            return Reduction.select((0, 1, 1), torch.empty(0, dtype=torch.int64, device=grid.data.device))
        same = grid.audio.shape[1] == grid.data.shape[3]
        law(same, f"audio and video tokens must share a space: {brief(grid.audio)} {brief(grid.data)}")
        return merge_audio(grid.audio, self._hear(grid), grid.feat_ND, self.g)

    def _hear(self, grid: TokenGrid) -> Hearing:
        if grid.audio_attention is None:
            raise ValueError("omnizip needs audio_attention, how much each audio token is attended to, beside audio")
        return listen(grid.audio_attention, self.audio_drop, self.contextual_ratio, self.g)
