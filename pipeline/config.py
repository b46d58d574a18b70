"""The recipe: everything that decides a record's values, validated; unknown keys are errors. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..stages.decode_limits import MAX_DURATION_S, MAX_FRAMES, MAX_MEMORY_BYTES
from ..stages.safefile import canonical, digest_of
from ..stages.schema import SCHEMA

MAX_THREADS = 1024  # more than machines have; a hundred thousand hang the decoder and crash torch


class Strict(BaseModel):
    """A frozen block of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def fit_64_bits(key: str, value: Any) -> None:
    """Refuse whole numbers (a seed) that no tensor and no other reader of the record could hold."""
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, int) and not -(1 << 63) <= item < 1 << 63:
            raise ValueError(f"{key}: a whole number of {item.bit_length()} bits does not fit in 64 bits")


class ModelBlock(Strict):
    """Which encoder: a hub id, a checkpoint's folder, or `dct`; `settings` override its video processor's; `sound`:
    whether a model that listens does; `sink_times`: tokens that receive more than so many times their frame's median
    attention count as receiving none (`models/scores.sinks`), None: they stay as they are."""

    id: str = "dct"
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    sound: bool = True
    sink_times: float | None = Field(default=None, ge=1, strict=True)


class SampleBlock(Strict):
    """Which frames, by true pts: one rule (1 fps where none is given), a window, and bounds; see `stages/sample.py`."""

    fps: float | None = Field(default=None, gt=0, le=1000)
    every: int | None = Field(default=None, ge=1)
    frames: int | None = Field(default=None, ge=1)
    keyframes: bool = False
    times_s: tuple[float, ...] = ()
    start_s: float | None = None
    end_s: float | None = None
    min_frames: int = Field(default=1, ge=1)
    max_frames: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def one_rule(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        rules = [rule for rule in ("fps", "every", "frames", "keyframes", "times_s") if given.get(rule)]
        if len(rules) > 1:
            raise ValueError(f"one rule at a time, got {' and '.join(rules)} (null takes one away)")
        return given if rules or given.get("fps") is not None else {**given, "fps": 1.0}

    @model_validator(mode="after")
    def bounds_in_order(self) -> SampleBlock:
        if self.start_s is not None and self.end_s is not None and self.start_s >= self.end_s:
            raise ValueError(f"start_s must be before end_s, got {self.start_s:g} and {self.end_s:g}")
        if self.max_frames is not None and self.min_frames > self.max_frames:
            raise ValueError(f"min_frames must not be over max_frames, got {self.min_frames} and {self.max_frames}")
        return self


class PartBlock(BaseModel):
    """A segmenter or merger by name; every other key is one of its hyper-parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="after")
    def plain_values(self) -> PartBlock:
        for key, value in self.hyper.items():
            fit_64_bits(key, value)
        try:
            canonical(self.model_extra)  # what cannot be written as JSON (NaN, a date) can enter no digest
        except (TypeError, ValueError) as e:
            raise ValueError(f"its settings must be plain JSON values ({e})") from None
        return self

    @property
    def hyper(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class BudgetBlock(Strict):
    """How many tokens may stay: at most one of the three (see `models.types.Budget`)."""

    retain: float | None = Field(default=None, gt=0, le=1)
    tokens: int | None = Field(default=None, ge=1)
    tokens_per_second: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def one_at_most(self) -> BudgetBlock:
        asked = self.asked
        if len(asked) > 1:
            raise ValueError(f"one budget at a time, got {' and '.join(asked)}")
        return self

    @property
    def asked(self) -> dict[str, float]:
        """The field that is set, if any."""
        return self.model_dump(exclude_none=True)


class GuideBlock(Strict):
    """How sound guides the budget, over windows of `window_s` seconds; see `stages/guide.py`."""

    mode: Literal["off", "omnizip", "proportional"] = "off"
    window_s: float = Field(default=2.0, gt=0)


class DecodeBlock(Strict):
    """How decoding runs, and what a file may ask for; see `stages/decode.py`. Only `backend` changes a pixel.

    `deadline_s` None: 30 s + 4 x duration; `threads` 0: as many as cores; `max_pixels` of one frame, None: by the
    file's size.
    """

    backend: Literal["av", "decord"] = "av"
    deadline_s: float | None = Field(default=None, gt=0)
    threads: int = Field(default=0, ge=0)
    processes: int = Field(default=1, ge=1, le=64)
    max_pixels: int | None = Field(default=None, ge=1)
    max_frames: int = Field(default=MAX_FRAMES, ge=1)
    max_duration_s: float = Field(default=MAX_DURATION_S, gt=0)
    max_memory_bytes: int = Field(default=MAX_MEMORY_BYTES, ge=1 << 28)

    @field_validator("backend")
    @classmethod
    def installed(cls, backend: str) -> str:
        if backend == "decord" and find_spec("decord") is None:
            raise ValueError("decord is not installed: pip install vidcomp[decord], or take the default backend")
        return backend


class ComputeBlock(Strict):
    """Where and how the encoder runs: `auto` is a GPU where there is one. Kept in the manifest, not in the key."""

    device: str = "auto"
    threads: int = Field(default=1, ge=1, le=MAX_THREADS)


class Recipe(Strict):
    """One video's whole treatment. `digest` covers what decides the record's values, and nothing else."""

    model: ModelBlock = Field(default_factory=ModelBlock)
    sample: SampleBlock = Field(default_factory=SampleBlock)
    chunk_frames: int = Field(default=32, ge=1, le=4096)
    gate: PartBlock | None = None  # a merger that looks at pixels alone: what it drops is not encoded
    method: str
    segmenter: PartBlock
    merger: PartBlock
    stand_ins: dict[str, str] = Field(default_factory=dict)
    budget: BudgetBlock = Field(default_factory=BudgetBlock)
    audio_guide: GuideBlock = Field(default_factory=GuideBlock)
    decode: DecodeBlock = Field(default_factory=DecodeBlock)
    compute: ComputeBlock = Field(default_factory=ComputeBlock)

    @field_validator("decode")
    @classmethod
    def few_threads(cls, decode: DecodeBlock) -> DecodeBlock:
        if decode.threads > MAX_THREADS:
            raise ValueError(f"threads must be at most {MAX_THREADS}, got {decode.threads}")
        return decode

    def resolved(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """What the record keeps and the digest covers; `identity` is the checkpoint's own account of itself."""
        blocks = self.model_dump(include={"method", "chunk_frames", "segmenter", "merger", "stand_ins"})
        if not self.model.sound:
            blocks["sound"] = False
        if self.model.sink_times is not None:
            blocks["sink_times"] = self.model.sink_times
        if self.gate is not None:
            blocks["gate"] = self.gate.model_dump()
        if self.audio_guide.mode != "off":
            blocks["audio_guide"] = self.audio_guide.model_dump()
        if self.decode.backend != "av":
            blocks["decode"] = {"backend": self.decode.backend}
        blocks["sample"] = self.sample.model_dump(mode="json", exclude_defaults=True)
        return {**blocks, "budget": self.budget.asked, "model": dict(identity), "schema": SCHEMA}

    def digest(self, identity: Mapping[str, Any]) -> str:
        """32 hex digits: part of the cache key."""
        return digest_of([canonical(self.resolved(identity)).encode()])
