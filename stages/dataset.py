"""A folder of records as torch datasets: `RecordDataset` by number, `IterableRecordDataset` in a stream.

Both give `VideoRecord`s: videos differ in length, so how they become a batch is the user's `collate_fn`, which runs in
the worker. The folder's records are listed once, when the dataset is made, in the order of their names (their keys).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from .record import VideoRecord, load
from .safefile import DamagedFileError
from .store import Store

log = logging.getLogger(__name__)


class RecordDataset(Dataset[VideoRecord]):
    """Record number i of a folder, memory-mapped; for samplers and `DataLoader(shuffle=True)`.

    `verify` re-hashes every tensor when it is read (about 1 GB/s). `skip_damaged` reads and re-hashes every record here
    and now and leaves the damaged ones out: a dataset by number must know how many there are. For a large folder take
    `IterableRecordDataset`, which finds them as it goes.

    Raises:
        ValueError: no records in the folder. DamagedFileError: from `dataset[i]`, unless `skip_damaged`.
    """

    def __init__(self, folder: str | Path, *, verify: bool = True, skip_damaged: bool = False) -> None:
        self.paths = records_in(folder)
        self.verify = verify
        self.skipped: list[Path] = []
        if skip_damaged:
            self.skipped = [path for path in self.paths if read(path, verify, skip_damaged) is None]
            self.paths = sorted(set(self.paths) - set(self.skipped))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> VideoRecord:
        return load(self.paths[number], verify=self.verify)


class IterableRecordDataset(IterableDataset[VideoRecord]):
    """Every record of a folder once an epoch, over all workers of all ranks.

    `shuffle_seed`: another order in each epoch, the same on every rank and machine; None: by key. Call `set_epoch`
    before each epoch; it reaches persistent workers too. `rank` of `world_size`: this process's part of a distributed
    run; parts differ by one record where the count does not divide. `verify`: as for `RecordDataset`. `skip_damaged`:
    damaged records are passed over, logged, and listed in `skipped`.

    Raises:
        ValueError: no records in the folder, a rank outside of the world. DamagedFileError: while iterating, unless
        `skip_damaged`.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        shuffle_seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        verify: bool = True,
        skip_damaged: bool = False,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0..{world_size - 1}, got {rank}")
        self.paths = records_in(folder)
        self.shuffle_seed, self.rank, self.world_size = shuffle_seed, rank, world_size
        self.verify, self.skip_damaged = verify, skip_damaged
        self._epoch = shared(torch.zeros(1, dtype=torch.int64))
        self._damaged = shared(torch.zeros(len(self.paths), dtype=torch.bool))  # a flag each: no two workers share one

    def set_epoch(self, epoch: int) -> None:
        """From the next iteration on."""
        self._epoch[0] = epoch

    @property
    def skipped(self) -> list[Path]:
        """The damaged records found so far, by any worker of this process."""
        return [self.paths[n] for n in self._damaged.nonzero().flatten().tolist()]

    def order(self) -> list[int]:
        """Numbers of all records in this epoch's order, the same in every worker of every rank."""
        if self.shuffle_seed is None:
            return list(range(len(self.paths)))
        numbers: list[int] = (
            np.random.default_rng([self.shuffle_seed, int(self._epoch)]).permutation(len(self.paths)).tolist()
        )
        return numbers

    def __iter__(self) -> Iterator[VideoRecord]:
        worker = get_worker_info()
        part, parts = (worker.id, worker.num_workers) if worker else (0, 1)
        return self._read(self.order()[self.rank * parts + part :: self.world_size * parts])

    def _read(self, numbers: list[int]) -> Iterator[VideoRecord]:
        for number in numbers:
            record = read(self.paths[number], self.verify, self.skip_damaged)
            self._damaged[number] = record is None
            if record is not None:
                yield record


def records_in(folder: str | Path) -> list[Path]:
    """Every record of a folder; `ValueError` where there is none."""
    return Store(Path(folder)).records() or _refuse(
        f"{folder}: no records in this folder: give the one that encode wrote to"
    )


def _refuse(message: str) -> list[Path]:
    raise ValueError(message)


def read(path: Path, verify: bool, skip_damaged: bool) -> VideoRecord | None:
    """A record; None for a damaged one that is to be skipped."""
    try:
        return load(path, verify=verify)
    except DamagedFileError as e:
        if not skip_damaged:
            raise
        log.warning("skipped: %s", e)
        return None


def shared(value: Tensor) -> Tensor:
    """A tensor that worker processes see change."""
    value.share_memory_()
    return value
