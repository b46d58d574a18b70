"""Segmenters and mergers: what they promise, and how they are made by name.

A part is a frozen dataclass whose fields are its hyper-parameters. One method, one file, file name = method name:
a new file in `segmenters/` or `mergers/` with one subclass is a new method, tested on arrival.
"""

from __future__ import annotations

import importlib
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from torch import Tensor

from ..models.types import Segments, TokenGrid
from .listing import Kind, UnknownMethodError, names
from .reduction import Reduction

__all__ = ["Kind", "Merger", "Need", "Part", "Result", "Segmenter", "UnknownMethodError", "make", "names", "part_class"]

Need = Literal["attention", "frame_vectors", "pixels", "audio", "grid"]
Result = Literal["prunes", "merges", "both"]


@dataclass(frozen=True)
class Part:
    """What segmenters and mergers share.

    `needs` besides features; `paper` it follows; `family`: in a word or two, what it goes by; `complexity`: time to
    decide, in T steps, N tokens of one, D channels, and what else it names; these two have no default. `either`: fields
    of which one at most holds, so that setting one by a flat hyper-parameter clears the others' presets.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    paper: ClassVar[str] = "vidcomp"
    family: ClassVar[str]
    complexity: ClassVar[str]
    either: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def name(cls) -> str:
        """The file's name."""
        return cls.__module__.rpartition(".")[2]


class Segmenter(Part, ABC):
    """Cuts a chunk into temporally coherent segments."""

    @abstractmethod
    def segment(self, grid: TokenGrid) -> Segments:
        """The segments of `grid`; at least one, covering every step."""


class Merger(Part, ABC):
    """Decides which source tokens each kept token is made of; applies nothing.

    `kind`: whether kept tokens are source tokens unchanged (`prunes`), averages (`merges`), or some of each (`both`).
    A merger need not look at `grid.valid`: `Method.decide` and `bisect` restrict its reduction to valid tokens.
    """

    kind: ClassVar[Result] = "prunes"

    @property
    def causal(self) -> bool:
        """True where, with these settings, anchors do not depend on `chunk_frames`, nor values but for averages over a
        run, which end at a chunk's border."""
        return False

    @abstractmethod
    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        """The method's own decision at its own hyper-parameters (the paper's arithmetic and floors)."""

    def step(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> tuple[Reduction, Tensor | None]:
        """`reduce` for a chunk that follows another: causal methods take and return what they carry over the border.

        `carry` is what the previous chunk's `step` returned (a tensor of the method's own, None at the start).
        """
        return self.reduce(grid, segments), None

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        """How many rows `step` would give. Worth overriding where arithmetic answers it: `bisect` asks often."""
        return len(self.step(grid, segments, carry)[0])

    @abstractmethod
    def at(self, knob: float) -> Self:
        """The same method with its budget knob at `knob` in [0, 1]: 0 its least, 1 its most, never fewer for more."""

    @abstractmethod
    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): the method's own order in which single tokens are added to, or stay in, an exact budget."""

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        """`step` with exactly min(tokens, valid tokens) rows: knob bisected, rows added by `score` (`budget.py`)."""
        from .budget import bisect

        return bisect(self, grid, segments, carry, tokens)


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
    return cls(**{key: typed(cls, key, value) for key, value in hyper.items()})


def typed(cls: type[Part], key: str, value: Any) -> Any:
    """A hyper-parameter's value in its field's type; a `ValueError` names the types it may have.

    Settings come from YAML, JSON and Python: a whole number stands for a float and the other way round, a list for a
    tuple, what numpy and torch hold for the same in plain Python, and nothing else is bent.
    """
    hint = get_type_hints(cls)[key]
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for option in options:
        with suppress(TypeError):
            return fitted(option, value)
    raise ValueError(f"{cls.name()}.{key} must be {' or '.join(map(named, options))}, got {value!r}")


def fitted(option: Any, value: Any) -> Any:
    """The value as one of a single type; a `TypeError` where it is none."""
    value = value.tolist() if hasattr(value, "tolist") else value
    kind, number = get_origin(option) or option, isinstance(value, Real) and not isinstance(value, bool)
    if kind is Literal and value in get_args(option):
        return value
    if kind is float and number and math.isfinite(value):
        return float(value)
    if kind is int and number and (isinstance(value, Integral) or float(value).is_integer()):
        return int(value)
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(fitted(get_args(option)[0], item) for item in value)
    if kind in (bool, str, NoneType) and isinstance(value, kind):
        return value
    raise TypeError(f"{value!r} is not {named(option)}")


def named(option: Any) -> str:
    """A type for a person: `int`, `list of int`, `'onevision' or 'llava_video'`, `none`."""
    if get_origin(option) is Literal:
        return " or ".join(repr(choice) for choice in get_args(option))
    if get_origin(option) is tuple:
        return f"list of {named(get_args(option)[0])}"
    return "none" if option is NoneType else str(getattr(option, "__name__", option))
