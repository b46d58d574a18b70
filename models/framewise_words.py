"""Whole numbers in English words, as a prompt spells them that was trained with the package num2words."""

from __future__ import annotations

# fmt: off
SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
# fmt: on
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
BIG = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"))


def number_words(count: int) -> str:
    """`count` >= 0 as num2words writes cardinals (British "and", a comma between groups of three).

    >>> number_words(1042), number_words(12345)
    ('one thousand and forty-two', 'twelve thousand, three hundred and forty-five')
    """
    for size, name in BIG:
        if count >= size:
            return _joined(f"{number_words(count // size)} {name}", count % size, ", ")
    if count >= 100:
        return _joined(f"{SMALL[count // 100]} hundred", count % 100, " and ")
    if count >= 20:
        return _joined(TENS[count // 10 - 2], count % 10, "-")
    return SMALL[count]


def _joined(head: str, rest: int, comma: str) -> str:
    """The head alone, or with what is left over: "and" before what is below a hundred."""
    if not rest:
        return head
    return f"{head}{' and ' if comma == ', ' and rest < 100 else comma}{number_words(rest)}"
