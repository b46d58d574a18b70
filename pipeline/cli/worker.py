"""One process of the pool: `python -m vidcomp.pipeline.cli.worker`, started by the local engine, never by hand."""

from __future__ import annotations

import os
import sys

from ..runners.worker import serve
from ..tasks import fatal, prepare
from .ending import Terminated, signals


def main() -> int:
    """Until stdin ends, or SIGTERM."""
    with signals():
        try:
            serve(prepare, fatal)
        except (Terminated, KeyboardInterrupt):
            return 143
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # the thread that reads stdin may hold it; there is nothing left to clean up
