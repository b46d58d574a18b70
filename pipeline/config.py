"""The recipe: everything that decides a record's values, validated; unknown keys are errors. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..stages.safefile import canonical, digest_of
from ..stages.schema import SCHEMA


class Strict(BaseModel):
    """A frozen block of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelBlock(Strict):
    """Which encoder: a hub id, a checkpoint's folder, or `dct`; `settings` override its video processor's."""

    id: str = "dct"
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)


class SampleBlock(Strict):
    """Which frames: the nearest to each multiple of 1/fps seconds, by true pts."""

    fps: float = Field(default=1.0, gt=0, le=1000)


class PartBlock(BaseModel):
    """A segmenter or merger by name; every other key is one of its hyper-parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="after")
    def plain_values(self) -> PartBlock:
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


class DecodeBlock(Strict):
    """How decoding runs; none of it changes a pixel.

    `deadline_s` None: 30 s + 4 x duration; `threads` 0: as many as cores.
    """

    deadline_s: float | None = Field(default=None, gt=0)
    threads: int = Field(default=0, ge=0)


class ComputeBlock(Strict):
    """Where and how the encoder runs: `auto` is a GPU where there is one. Kept in the manifest, not in the key."""

    device: str = "auto"
    threads: int = Field(default=1, ge=1)


class Recipe(Strict):
    """One video's whole treatment. `digest` covers what decides the record's values, and nothing else."""

    model: ModelBlock = Field(default_factory=ModelBlock)
    sample: SampleBlock = Field(default_factory=SampleBlock)
    chunk_frames: int = Field(default=32, ge=1, le=4096)
    method: str
    segmenter: PartBlock
    merger: PartBlock
    stand_ins: dict[str, str] = Field(default_factory=dict)
    budget: BudgetBlock = Field(default_factory=BudgetBlock)
    decode: DecodeBlock = Field(default_factory=DecodeBlock)
    compute: ComputeBlock = Field(default_factory=ComputeBlock)

    def resolved(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """What the record keeps and the digest covers; `identity` is the checkpoint's own account of itself."""
        blocks = self.model_dump(include={"method", "sample", "chunk_frames", "segmenter", "merger", "stand_ins"})
        return {**blocks, "budget": self.budget.asked, "model": dict(identity), "schema": SCHEMA}

    def digest(self, identity: Mapping[str, Any]) -> str:
        """32 hex digits: part of the cache key."""
        return digest_of([canonical(self.resolved(identity)).encode()])
