"""A video and its sound in the prompts of Qwen's Omni thinkers: one block of M-RoPE.

A video without sound stands there alone: start mark, tokens, end mark. With sound (`use_audio_in_video`) audio marks
stand inside the video's, and both kinds of tokens take turns by time. All is laid out for the *whole* video and sound
and the kept rows are taken out of that, so that each stands where it does in the whole and has the position that it has
there. Whatever was kept, all marks stay, and the text goes on where it does after the whole.

Source, transformers 5.23: `replace_video_with_audio_token` (processing_*omni*.py) for the order of the ids,
`get_rope_index` (modeling_*omni*.py) for positions. The one compares times in float64, the other in float32 from where
the video starts; where Qwen3-Omni's two disagree about a tie (seen at 7, 15, 30, 29.97 and 23.976 frames per second, at
none of 23 others), the original gives a few tokens their neighbours' positions. Here each has its own.

Legend: T steps, V = T*H*W video tokens, A audio tokens, N = V + A, the video's first; K kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .consume import check, sounds
from .qwen_prompt import mark
from .reader import Span
from .types import AudioTokens, KeptVideo


class Turns(NamedTuple):
    """`order` int64 (N,): which token comes when; `last`: how many of them the last run has, of one kind alone."""

    order: Tensor
    last: int


class Whole(NamedTuple):
    """A whole clip's tokens in the prompt: `order` int64 (N,); `places` (3,N); `end`, behind which the text goes on."""

    order: Tensor
    places: Tensor
    end: Tensor


@dataclass(frozen=True)
class Layout:
    """What the two generations do not share. `turns(config, video, audio)`: of ascending times (V,) and (A,), counted
    in positions. `dtype` of a position. `pair`: places of two start marks, and of two end marks, from the first one."""

    family: str
    turns: Callable[[Any, Tensor, Tensor], Turns]
    dtype: torch.dtype
    pair: tuple[int, int]


def by_chunks(config: Any, video: Tensor, audio: Tensor) -> Turns:
    """Qwen2.5-Omni: `seconds_per_chunk` of video, as much of sound, and so on; what is left of the longer one last."""
    length = int(config.position_id_per_seconds * config.seconds_per_chunk)
    turn = torch.cat([2 * chunks(video, length), 2 * chunks(audio, length) + 1])
    return Turns(turn.argsort(stable=True), int((turn == turn.max()).sum()))


def chunks(times: Tensor, length: int) -> Tensor:
    """int64: which chunk each of ascending `times` is in (`get_chunked_index`).

    No chunk is ever left out: behind a gap each token opens the next chunk, until they have caught up with the time.
    """
    count = torch.arange(len(times))
    return (times.div(length, rounding_mode="floor").long() - count).cummin(0).values + count


def by_time(config: Any, video: Tensor, audio: Tensor) -> Turns:
    """Qwen3-Omni: token by token; video first where both have the same time."""
    order = torch.cat([video, audio.to(video.dtype)]).argsort(stable=True)
    other = ((order < len(video)) != (order[-1] < len(video))).nonzero()
    return Turns(order, len(order) - 1 - int(other[-1]) if len(other) else len(order))


def whole(config: Any, layout: Layout, grid: tuple[int, int, int], seconds: float, count: int) -> Whole:
    """Of a clip whose steps are `seconds` apart, and whose sound has `count` tokens."""
    steps, height, width = grid
    rate, step, audio = config.position_id_per_seconds, torch.arange(steps), torch.arange(count)
    times = (step * torch.tensor(seconds, dtype=torch.float32) * rate).to(layout.dtype)
    video = torch.cartesian_prod(times, torch.arange(height).to(times), torch.arange(width).to(times)).view(-1, 3).T
    both = torch.cat([video, audio.expand(3, -1)], dim=1)
    if not count:
        return Whole(torch.arange(video.shape[1]), both, both.max())
    order, last = layout.turns(config, (step.double() * seconds * rate).repeat_interleave(height * width), audio)
    return Whole(order, both[:, order], both[:, order[-last:]].max())


def span(config: Any, record: KeptVideo, layout: Layout) -> Span:
    """One video in the prompt, with its sound if the record has any."""
    hidden = config.get_text_config().hidden_size
    check(record, layout.family, hidden, ("seconds_per_step",))
    sound = sound_of(record, hidden)
    count = 0 if sound is None else sound.count
    laid = whole(config, layout, record.grid, float(record.meta["seconds_per_step"]), count)
    taken = kept(record, sound)[laid.order]
    video = laid.order < len(laid.order) - count
    ids = torch.where(video, config.video_token_id, config.audio_token_id)[taken]
    starts, ends = mark_ids(config, sound is not None)
    marks = torch.tensor(layout.pair[: len(starts)])
    shift = int(marks[-1]) + 1
    after = laid.end + shift + 1 + marks
    sides = marks.expand(3, -1), laid.places[:, taken] + shift, after.expand(3, -1)
    return Span(torch.cat([starts, ids, ends]), torch.cat(sides, dim=1), float(after[-1]) + 1)


def sound_of(record: KeptVideo, hidden: int) -> AudioTokens | None:
    """The record's sound; None where it has no token, `ValueError` where it is another model's."""
    sound = record.audio
    if sound is None or not sound.count:
        return None
    if sound.tokens.shape[1] != hidden:
        raise ValueError(
            f"the record's audio tokens have {sound.tokens.shape[1]} channels, the model's hidden states "
            f"{hidden}: encode the video with this very checkpoint"
        )
    return sound


def kept(record: KeptVideo, sound: AudioTokens | None) -> Tensor:
    """bool (N,): which tokens of the whole have a row."""
    steps, height, width = record.grid
    t, y, x = record.positions.long().unbind(1)
    video = torch.zeros(steps * height * width, dtype=torch.bool)
    video[(t * height + y) * width + x] = True
    audio = torch.zeros(0 if sound is None else sound.count, dtype=torch.bool)
    if sound is not None:
        audio[sound.positions.long()] = True
    return torch.cat([video, audio])


def mark_ids(config: Any, sound: bool) -> tuple[Tensor, Tensor]:
    """The start marks and the end marks."""
    start, _, end = mark(config, None)
    if not sound:
        return torch.tensor([start]), torch.tensor([end])
    return torch.tensor([start, config.audio_start_token_id]), torch.tensor([config.audio_end_token_id, end])


def with_sound(model: Any, input_ids: Tensor, records: Sequence[KeptVideo], handed: dict[str, Any]) -> dict[str, Any]:
    """What a video family hands over, and `inputs_embeds` (B,N,D) where a record has sound: text and audio tokens in
    their places, video placeholders as they are (the model replaces them, and adds deepstack rows there, by itself).

    `mm_encoder_outputs` has no room for audio. The model does not count audio rows; `consume.lay_out` has.
    """
    rows = [sound.tokens for sound in sounds(records)]
    if not rows:
        return handed
    places = input_ids == model.config.audio_token_id
    embedded = model.get_input_embeddings()(input_ids)
    return {"inputs_embeds": embedded.masked_scatter(places[..., None], torch.cat(rows).to(embedded)), **handed}
