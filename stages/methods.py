"""A method: a segmenter and a merger with all their hyper-parameters. It decides; `Reduction` applies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..models.types import TokenGrid
from .edit import restrict
from .parts import Kind, Merger, Need, Part, Result, Segmenter, hyper_fields, make, part_class
from .reduction import Reduction
from .standins import complete, stand_in

PartSpec = tuple[str, Mapping[str, Any]]  # a part's name and its hyper-parameters


@dataclass(frozen=True)
class Method:
    """`name`, its two parts, and the stand-ins ({need: name}) used where a model does not give what they need."""

    name: str
    segmenter: Segmenter
    merger: Merger
    stand_ins: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> frozenset[Need]:
        """What it needs besides features."""
        return self.segmenter.needs | self.merger.needs

    @property
    def causal(self) -> bool:
        """True where anchors do not depend on `chunk_frames`, nor values but for averages over runs; see `Merger`."""
        return self.merger.causal

    @property
    def paper(self) -> str:
        """What it follows."""
        return self.merger.paper

    @property
    def kind(self) -> Result:
        """`prunes`, `merges` or `both`."""
        return self.merger.kind

    @torch.no_grad()
    def decide(
        self, grid: TokenGrid, carry: Tensor | None = None, tokens: int | None = None
    ) -> tuple[Reduction, Tensor | None]:
        """The reduction of one chunk, and what the next chunk's call takes as `carry`.

        `tokens` None: the method's own parameter decides, nominally; else exactly min(tokens, valid tokens) rows.
        """
        grid = complete(grid, self.stand_ins, self.needs)
        carry = None if carry is None else carry.to(grid.data.device)  # a resumed one comes from a file
        segments = self.segmenter.segment(grid)
        if tokens is None:
            reduction, carried = self.merger.step(grid, segments, carry)
        else:
            reduction, carried = self.merger.exact(grid, segments, carry, tokens)
        return reduction if grid.valid is None else restrict(reduction, grid.valid.flatten()), carried


def assemble(
    name: str,
    segmenter: PartSpec,
    merger: PartSpec,
    stand_ins: Mapping[str, str],
    hyper: Mapping[str, Any],
) -> Method:
    """A method from named parts; each of `hyper` goes to every part that has a field of that name.

    A flat hyper-parameter is laid over the parts' own, and clears those it stands in the place of (`Part.either`).

    Raises:
        UnknownMethodError: no such part. ValueError: a hyper-parameter that no part has, or a value out of bounds.
    """
    specs: dict[Kind, PartSpec] = {"segmenter": segmenter, "merger": merger}
    classes = {kind: part_class(kind, part) for kind, (part, _) in specs.items()}
    known = {field for cls in classes.values() for field in hyper_fields(cls)}
    for key in hyper:
        if key not in known:
            raise ValueError(f"method {name!r} has no {key!r}; it has: {', '.join(sorted(known))}")
    for need, chosen in stand_ins.items():
        stand_in(need, chosen)
    built = {kind: make(kind, part, laid_over(classes[kind], own, hyper)) for kind, (part, own) in specs.items()}
    first, second = built["segmenter"], built["merger"]
    assert isinstance(first, Segmenter)
    assert isinstance(second, Merger)
    return Method(name, first, second, dict(stand_ins))


def laid_over(cls: type[Part], own: Mapping[str, Any], hyper: Mapping[str, Any]) -> dict[str, Any]:
    """A part's own hyper-parameters with the flat ones that it has laid over."""
    flat = {key: value for key, value in hyper.items() if key in hyper_fields(cls)}
    chosen = [key for key in cls.either if flat.get(key) is not None]
    if len(chosen) > 1:
        raise ValueError(f"{cls.name()} takes one of {' and '.join(chosen)}, not both")
    cleared = {key: None for key in cls.either if chosen and key not in chosen}
    return {**own, **cleared, **flat}
