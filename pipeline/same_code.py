"""Whether two machines run the same vidcomp: records of one run must not depend on where they were made."""

from __future__ import annotations

import os

from .. import __version__
from ..stages.schema import SCHEMA
from .errors import ConfigError


def code_here() -> str:
    """The version, and the schema of its records, as text."""
    return f"{__version__}, schema {SCHEMA}"


def check_code(code: str) -> None:
    """`ConfigError` where this machine's is not that one."""
    if code != code_here():
        raise ConfigError(
            f"node {os.uname().nodename} runs vidcomp {code_here()}, this run is of vidcomp {code}: "
            "ship the same wheel to every node (docs/clusters.md)"
        )
