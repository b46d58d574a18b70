"""What a runner tells of its tasks. A task is a JSON object with a `number`; so is what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Heard:
    """A task is under way: whatever its worker says of it."""

    number: int
    message: Message


@dataclass(frozen=True, slots=True)
class Done:
    """A task has come to an end."""

    number: int
    reply: Message


@dataclass(frozen=True, slots=True)
class Lost:
    """A task's worker died under it, or was killed at its deadline (`late`)."""

    number: int
    why: str
    late: bool = False


Event = Heard | Done | Lost


class RunnerError(Exception):
    """The whole run cannot go on: `kind` and `message` as a worker told them, or why there are no workers."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message


class AgainError(Exception):
    """A runner that must be made anew to go on; it is nobody's failure. `str()` is one line."""


class Runner(Protocol):
    """Does tasks, in any order, and tells of them."""

    def run(self, tasks: Sequence[Message]) -> Iterator[Event]:
        """One `Done` or `Lost` for each task. Closing the iterator early stops what is under way."""

    def close(self) -> None:
        """End what the runner has started."""
