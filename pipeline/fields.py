"""What JSON that somebody may have altered holds: the fields that are gone by, of the types that they must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MOST: Final = 1e15  # no count and no time is larger, and doubles still tell neighbours apart


def fits(fields: Mapping[str, type], value: Any) -> bool:
    """Whether it is a mapping that has these fields, of these types, as `fitting` has it."""
    return isinstance(value, dict) and all(fitting(kind, value.get(name)) for name, kind in fields.items())


def fitting(kind: type, value: Any) -> bool:
    """Whether one value is of a type: an `int` is from 0 on, a `float` may be one, and both can be reckoned with."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float:
        return number and -MOST < value < MOST
    if kind is int:
        return number and isinstance(value, int) and 0 <= value < MOST
    return isinstance(value, kind)
