"""What a record says of itself beyond its tensors. Nothing here depends on when, where or how fast it was made."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from ..models.base import VideoModel
from ..models.families import BUILT_IN
from ..stages.decode import Outcome
from ..stages.embed import Embedder
from ..stages.failure import SourceError
from ..stages.methods import Method
from ..stages.safefile import Header


@dataclass(frozen=True, slots=True)
class Tally:
    """What all parts of a video come to: grid steps, the grid's rows and columns, kept rows, frames."""

    steps: int
    grid_hw: tuple[int, int]
    rows: int
    frames: int

    @property
    def tokens_in(self) -> int:
        """N of the whole video."""
        return self.steps * self.grid_hw[0] * self.grid_hw[1]


def tally_of(parts: list[Header]) -> Tally:
    """Counted from the parts' shapes, so a resumed run says the same as an uninterrupted one."""
    steps, rows, frames = (
        sum(p.entries[name].shape[0] for p in parts) for name in ("grid_pts_s", "tokens", "frame_index")
    )
    _, h, w = parts[0].meta["grid"]
    return Tally(steps, (h, w), rows, frames)


def sound_of(parts: list[Header]) -> dict[str, Any]:
    """`audio`: audio tokens of the whole video, and how many stay; nothing where no sound was encoded."""
    if "audio.owner" not in parts[0].entries:
        return {}
    count, kept = (sum(p.entries[f"audio.{name}"].shape[0] for p in parts) for name in ("owner", "tokens"))
    return {"audio": {"tokens": count, "kept": kept}}


def guide_of(embedder: Embedder, fps: float, held: Container[str]) -> dict[str, Any]:
    """`audio_guide`: how sound guided, in windows of how many grid steps, whether there was any (`held`: the names of a
    part's tensors), and who listened, the `model` or the `analyser`; nothing where it was not asked to."""
    guide = embedder.guide
    if guide is None:
        return {}
    heard = "saliency" in held
    by = "model" if "audio.owner" in held else "analyser"
    steps = guide.steps(embedder.model.temporal_patch / fps)
    return {"audio_guide": {"mode": guide.mode, "window_steps": steps, "heard": heard, **({"by": by} if heard else {})}}


def coverage(outcome: Outcome, sampled: int, tally: Tally) -> dict[str, Any]:
    """`partial` where the container promised more than could be read, or a sampled frame is missing."""
    missing = sampled - tally.frames
    return {
        "status": "partial" if missing or outcome.status == "partial" else "ok",
        "decoded": {"declared": outcome.declared, "decoded": outcome.decoded, "missing": missing, "why": outcome.why},
    }


def revision_of(model: VideoModel) -> dict[str, str]:
    """`revision`: the hub's commit of a model that came from there; a folder has none."""
    commit = getattr(getattr(model, "checkpoint", None), "commit", None)
    return {} if commit is None else {"revision": commit}


def environment(family: str) -> dict[str, str]:
    """Versions of what decoded and encoded: they may decide a value's last bits, and are no part of the key."""
    used = ("av", "torch") if family in BUILT_IN else ("av", "torch", "transformers")
    return {name: version(name) for name in used}


def budget_account(asked: Mapping[str, float], method: Method, fps: float, frames: int, tally: Tally) -> dict[str, Any]:
    """`budget`: what was asked, what that is in tokens of this video (None: the method decides), what was kept.

    Raises `SourceError` where that is nothing: a record without a token answers no question.
    """
    if not tally.rows:
        what = f"{method.name} would keep none of its {tally.tokens_in} tokens"
        raise SourceError("unsupported", what, "raise the budget, or ask for --tokens 1")
    retain = getattr(method.merger, "retain", None)
    nominal: float | None = None if retain is None else retain * tally.tokens_in
    if "tokens" in asked:
        nominal = asked["tokens"]
    elif "tokens_per_second" in asked:
        nominal = asked["tokens_per_second"] * frames / fps
    return {"budget": {"asked": dict(asked), "nominal": nominal, "kept": tally.rows}}
