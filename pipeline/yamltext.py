"""YAML from strangers: plain values, of bounded size, or one line."""

from __future__ import annotations

from typing import Any

import yaml

from .errors import ConfigError

MAX_YAML = 1 << 20  # characters


class Plain(yaml.SafeLoader):
    """`yaml.SafeLoader` without aliases: a few lines of them, each naming the last twice, fill any memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            problem = "aliases (*name) are not taken: write the value out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


def read_yaml(text: str, name: str) -> Any:
    """The value of a YAML text, or a `ConfigError` that begins with `name`."""
    if len(text) > MAX_YAML:
        raise ConfigError(f"{name}: over {MAX_YAML} characters, which no settings need: is it the right file?")
    try:
        return yaml.load(text, Plain)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as e:  # ValueError: a date or a number that cannot be
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(e).split())}") from None
