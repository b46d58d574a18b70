"""Segmenters and mergers: what they promise, and how they are found by listing the folder.

A part is a frozen dataclass whose fields are its hyper-parameters. One method, one file, file name = method name:
a new file in `segmenters/` or `mergers/` with one subclass is a new method, tested on arrival.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, ClassVar, Literal, Self

from torch import Tensor

from ..models.types import Segments, TokenGrid
from .reduction import Reduction

Kind = Literal["segmenter", "merger"]
Need = Literal["attention", "frame_vectors", "pixels", "audio", "grid"]


class UnknownMethodError(ValueError):
    """A method, segmenter or merger name that no file answers to."""


@dataclass(frozen=True)
class Part(ABC):
    """What segmenters and mergers share: `needs` besides features, and the `paper` they follow."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    paper: ClassVar[str] = "vidcomp"

    @classmethod
    def name(cls) -> str:
        """The file's name."""
        return cls.__module__.rpartition(".")[2]


class Segmenter(Part):
    """Cuts a chunk into temporally coherent segments."""

    @abstractmethod
    def segment(self, grid: TokenGrid) -> Segments:
        """The segments of `grid`; at least one, covering every step."""


class Merger(Part):
    """Decides which source tokens each kept token is made of; applies nothing."""

    @property
    def causal(self) -> bool:
        """True where, with these settings, anchors and values do not depend on `chunk_frames`."""
        return False

    @abstractmethod
    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        """The method's own decision at its own hyper-parameters (the paper's arithmetic and floors)."""

    def step(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> tuple[Reduction, Tensor | None]:
        """`reduce` for a chunk that follows another: causal methods take and return what they carry over the border.

        `carry` is what the previous chunk's `step` returned (a tensor of the method's own, None at the start).
        """
        return self.reduce(grid, segments), None

    @abstractmethod
    def at(self, knob: float) -> Self:
        """The same method with its budget knob at `knob` in [0, 1]; larger never keeps fewer (0: its least, 1: its most)."""

    @abstractmethod
    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): the method's own order in which single tokens are added to, or stay in, an exact budget."""

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        """`step` with exactly min(tokens, N) rows: the knob bisected, then rows added by `score` (see `budget.py`)."""
        from .budget import bisect

        return bisect(self, grid, segments, carry, tokens)




def names(kind: Kind) -> list[str]:
    """Every segmenter or merger there is, sorted: the files of the folder."""
    folder = importlib.import_module(f".{kind}s", __package__)
    return sorted(m.name for m in pkgutil.iter_modules(folder.__path__) if not m.name.startswith("_"))


def part_class(kind: Kind, name: str) -> type[Part]:
    """The one class that a method's file defines; `UnknownMethodError` names what there is."""
    if name not in names(kind):
        raise UnknownMethodError(f"no {kind} {name!r}; there are: {', '.join(names(kind))}")
    module = importlib.import_module(f".{kind}s.{name}", __package__)
    base = Segmenter if kind == "segmenter" else Merger
    found = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
    (only,) = [c for c in found if issubclass(c, base)]
    return only


def hyper_fields(cls: type[Part]) -> dict[str, Field[Any]]:
    """A part's hyper-parameters by name."""
    return {f.name: f for f in fields(cls) if f.init}


def make(kind: Kind, name: str, hyper: Mapping[str, Any]) -> Part:
    """Build a part; an unknown hyper-parameter is an error that lists the known ones."""
    cls = part_class(kind, name)
    known = hyper_fields(cls)
    for key in hyper:
        if key not in known:
            raise ValueError(f"{kind} {name!r} has no {key!r}; it has: {', '.join(known) or 'no hyper-parameters'}")
    missing = [k for k, f in known.items() if k not in hyper and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise ValueError(f"{kind} {name!r} needs {', '.join(missing)}")
    return cls(**hyper)


