"""A folder of records looked through: every byte hashed again, what is damaged put aside, the manifest made true.

Nothing is moved or rewritten while a run is at work in the folder. Imports no torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from ..stages.record_check import check_record
from ..stages.safefile import DamagedFileError, check_tensors, read_header, sync_folder, writing
from ..stages.schema import SCHEMA
from ..stages.store import SUFFIX
from .known import names_in
from .manifest import NAME, placed_rows
from .rebuild import Rebuilt, at_work, rebuild
from .stats import alive
from .stream_folder import StreamFolder

QUARANTINE = "quarantine"
KEY = re.compile(r"[0-9a-f]{32}")
TEMPORARY = re.compile(r"\..+\.([0-9]{1,9})\.tmp")

Tell = Callable[[str], None]
Watch = Callable[[int, int], None]  # records looked at, of how many


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file that is not what it says it is (`why`, one line), or that cannot be read (`unread`). `ours`: it was made
    here, not put here by a user, so it may be moved; `moved`: where to."""

    path: Path
    why: str
    ours: bool = False
    unread: bool = False
    moved: Path | None = None


@dataclass(frozen=True)
class Verified:
    """What a folder holds. `old`: whole records of another schema; `unlisted`: whole files no row of the manifest
    speaks of; `leftovers`: temporary files of dead processes; `unfinished`: keys of records that an interrupted run has
    begun; `rebuilt`: None where the manifest was left as it is."""

    checked: int
    damaged: Sequence[Damaged]
    old: Sequence[Path]
    unlisted: Sequence[Path]
    leftovers: Sequence[Path]
    unfinished: Sequence[str]
    rebuilt: Rebuilt | None


def verify_folder(out: Path, *, keep: bool, tell: Tell, watch: Watch) -> Verified:
    """Look through `out`; damaged files go to `out/quarantine`, unless `keep`. `tell` hears of each at once.

    Raises:
        OutputError: the folder cannot be written to.
    """
    names = record_names(out)
    damaged, old = look_through(out, names, tell, watch)
    rebuilt = None
    if worker := at_work(out):
        tell(f"{out}: {worker} is at work here: nothing is moved, the manifest stays: verify again when it has ended")
    else:
        damaged = damaged if keep else [put_aside(out, found) for found in damaged]
        rebuilt = rebuild(out / NAME, standing(out, damaged))
    unlisted = [out / name for name in without_row(out, names, damaged)]
    return Verified(len(names), damaged, old, unlisted, leftovers(out), unfinished(out), rebuilt)


def look_through(out: Path, names: Sequence[str], tell: Tell, watch: Watch) -> tuple[list[Damaged], list[Path]]:
    """The damaged files among those of these names, and the whole records of another schema."""
    damaged: list[Damaged] = []
    old: list[Path] = []
    for number, name in enumerate(names):
        watch(number, len(names))
        found = look_at(out / name)
        if isinstance(found, Damaged):
            tell(found.why)
            damaged.append(found)
        elif found == "old":
            old.append(out / name)
    return damaged, old


def record_names(out: Path) -> list[str]:
    """As `Store.records`, but names: a folder may hold millions."""
    return sorted(name for name in names_in(out) if name.endswith(SUFFIX) and not name.startswith("."))


def look_at(path: Path) -> Damaged | Literal["whole", "old"]:
    """What is wrong with a file; or whether it is a record of another schema.

    A file that has a key for its name must state that key: else `encode` takes it for another video's, or for none. A
    file of any other name is a user's own, and only has to be whole.
    """
    ours = named = KEY.fullmatch(path.stem) is not None
    try:
        header = read_header(path)
        ours = True
        if named and header.meta.get("key") != path.stem:
            raise DamagedFileError(f"{path}: another record under this name: encode the video again")
        check_tensors(header)
        if not named:
            return "whole"
        if header.meta.get("schema") != SCHEMA:
            return "old"
        check_record(header)
    except DamagedFileError as e:
        return Damaged(path, str(e), ours)
    except OSError as e:
        return Damaged(path, f"{path}: cannot be read ({e.strerror}): check its permissions and the disk", unread=True)
    return "whole"


def put_aside(out: Path, found: Damaged) -> Damaged:
    """Move a damaged file of ours to the quarantine, under a name that is free there."""
    if not found.ours:
        return found
    folder, name = out / QUARANTINE, found.path.name
    with writing(folder):
        folder.mkdir(exist_ok=True)
        place, number = folder / name, 0
        while os.path.lexists(place):
            number += 1
            place = folder / f"{name.removesuffix(SUFFIX)}.{number}{SUFFIX}"
        os.rename(found.path, place)
        sync_folder(folder)
        sync_folder(out)
    return replace(found, moved=place)


def standing(out: Path, damaged: Collection[Damaged]) -> frozenset[str]:
    """The names of the folder's files that a row may speak of: a damaged one's video must be looked at again."""
    return names_in(out) - {found.path.name for found in damaged if not found.unread}


def without_row(out: Path, names: Collection[str], damaged: Collection[Damaged]) -> list[str]:
    """The names of whole files that neither a row of the manifest nor a stream's index speaks of."""
    left = set(names) - {found.path.name for found in damaged}
    for row in chain((row for _, row in placed_rows(out / NAME)), StreamFolder(out).chunks()):
        left.discard(f"{row.get('key')}{SUFFIX}")
    return sorted(left)


def leftovers(out: Path) -> list[Path]:
    """Temporary files whose process is gone."""
    found = ((name, TEMPORARY.fullmatch(name)) for name in sorted(names_in(out)))
    return [out / name for name, match in found if match and not alive(int(match[1]))]


def unfinished(out: Path) -> list[str]:
    """Keys of the records that are begun: `encode` goes on with them."""
    return sorted(name for name in names_in(out / ".parts") if KEY.fullmatch(name))
