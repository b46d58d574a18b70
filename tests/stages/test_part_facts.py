"""Every segmenter and merger says what it follows, what it goes by, what it costs and what it does."""

from __future__ import annotations

import inspect

import pytest

from vidcomp.stages.parts import Kind, names, part_class

KINDS: tuple[Kind, ...] = ("segmenter", "merger")
PARTS = [(kind, name) for kind in KINDS for name in names(kind)]
LONGEST = 120


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_states_its_facts(kind: Kind, name: str) -> None:
    cls = part_class(kind, name)
    for fact in ("paper", "family", "complexity"):
        value = getattr(cls, fact, None)
        assert isinstance(value, str), f"{kind} {name} states no {fact}: {cls.__name__}.{fact}: ClassVar[str] = ..."
        assert value == value.strip() != "", f"{kind} {name}: {fact} is {value!r}"
    assert cls.complexity.startswith("O("), f"{kind} {name}: {cls.complexity!r} is not O(...)"


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_says_what_it_does_in_one_line(kind: Kind, name: str) -> None:
    cls = part_class(kind, name)
    text = inspect.getdoc(cls) or ""
    assert text, f"{kind} {name} has no docstring"
    assert not text.startswith(f"{cls.__name__}("), f"{kind} {name} has only the docstring that dataclasses makes"
    first, _, rest = text.partition("\n")
    assert first.endswith("."), f"{kind} {name}: the first line is no sentence: {first!r}"
    assert len(first) <= LONGEST, f"{kind} {name}: the first line has {len(first)} characters"
    assert not rest or rest.startswith("\n"), f"{kind} {name}: the first line goes on in the second"
