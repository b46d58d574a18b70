"""The process that leads a run on a cluster: `python -m vidcomp.pipeline.cli.cluster`, never by hand."""

from __future__ import annotations

import os
import sys
import traceback

from ..far import lead
from ..runners.host import host
from ..tasks import fatal


def main() -> int:
    """Until stdin ends."""
    try:
        host(lead, fatal)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # Ray's threads may be in the middle of anything; there is nothing left to clean up
