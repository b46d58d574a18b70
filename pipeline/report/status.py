"""What stands in a folder of records, counted by status, and what is read again of it while somebody watches."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..manifest import NAME, key_of, parsed


class Tally:
    """How many inputs have which status in a manifest. A second look reads only what was added since the first."""

    def __init__(self, out: Path) -> None:
        self.path = out / NAME
        self.forget()

    def forget(self) -> None:
        """Begin with the first line again."""
        self._status: dict[bytes, str] = {}
        self._recipes: set[str] = set()
        self._at, self._inode = 0, -1

    def look(self) -> dict[str, Any]:
        """`inputs` (paths, each as often as it was given to a recipe), `recipes`, and `counts` by status."""
        for row in self._new():
            self._status[key_of(row)] = sys.intern(str(row.get("status")))
            self._recipes.add(str(row.get("recipe_base", row.get("recipe"))))
        counts = dict(Counter(self._status.values()))
        return {"inputs": len(self._status), "recipes": len(self._recipes), "counts": counts}

    def _new(self) -> Iterator[dict[str, Any]]:
        with suppress(FileNotFoundError), open(self.path, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._at:  # `verify` has rebuilt it
                self.forget()
                self._inode = found.st_ino
            file.seek(self._at)
            for line in file:
                self._at += len(line) if line.endswith(b"\n") else 0  # the last may be on its way
                if (row := parsed(line)) is not None:
                    yield row
