"""Records for a `DataLoader`: every one exactly once, in an order that a seed and an epoch decide, damage told."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from records import damage, make_records
from torch.utils.data import DataLoader, default_collate

import vidcomp
from vidcomp.stages.dataset import IterableRecordDataset, RecordDataset
from vidcomp.stages.safefile import DamagedFileError

COUNT = 11
WORKERS = pytest.mark.parametrize("workers", [0, 1, 3])
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # three workers, however few cores


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_records(tmp_path / "out", COUNT)
    return tmp_path / "out"


def loader(dataset: Any, workers: int, **more: Any) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=list, **more)


def keys(batches: Any) -> list[str]:
    return [record.meta["key"] for batch in batches for record in batch]


def sorted_keys(folder: Path) -> list[str]:
    return sorted(p.stem for p in folder.glob("*.safetensors"))


@WORKERS
def test_by_number_in_the_order_of_the_keys(folder: Path, workers: int) -> None:
    dataset = vidcomp.RecordDataset(folder)
    assert len(dataset) == COUNT
    batches = list(loader(dataset, workers))
    assert keys(batches) == sorted_keys(folder)
    for record in (record for batch in batches for record in batch):
        true = vidcomp.load(folder / f"{record.meta['key']}.safetensors")
        assert all(torch.equal(record.tensors()[n], v) for n, v in true.tensors().items())
        assert record.meta == true.meta


def test_samplers_and_collate_functions_work_as_ever(folder: Path) -> None:
    dataset = RecordDataset(folder)
    shuffled = keys(loader(dataset, 2, shuffle=True, generator=torch.Generator().manual_seed(0)))
    assert shuffled != sorted(shuffled) == sorted_keys(folder)
    assert dataset[-1].meta["key"] == sorted_keys(folder)[-1]

    def positions(records: list[vidcomp.VideoRecord]) -> torch.Tensor:
        return default_collate([r.positions for r in records])

    (batch,) = DataLoader(dataset, batch_size=COUNT, collate_fn=positions)
    assert batch.shape == (COUNT, 5, 3)


@WORKERS
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("seed", [None, 7])
def test_every_record_exactly_once_over_all(folder: Path, workers: int, world_size: int, seed: int | None) -> None:
    ranks = [
        IterableRecordDataset(folder, shuffle_seed=seed, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    parts = [keys(loader(dataset, workers)) for dataset in ranks]
    assert Counter(key for part in parts for key in part) == Counter(sorted_keys(folder))
    assert max(map(len, parts)) - min(map(len, parts)) <= max(1, workers)


def test_a_seed_and_an_epoch_decide_the_order(folder: Path) -> None:
    a, b, c = (IterableRecordDataset(folder, shuffle_seed=seed) for seed in (3, 3, 4))
    orders = set()
    for epoch in range(3):
        for dataset in (a, b, c):
            dataset.set_epoch(epoch)
        assert keys([a]) == keys([b]) != keys([c])
        orders.add(tuple(keys([a])))
    assert len(orders) == 3
    assert keys([IterableRecordDataset(folder)]) == sorted_keys(folder)


def test_an_epoch_reaches_persistent_workers(folder: Path) -> None:
    dataset = IterableRecordDataset(folder, shuffle_seed=1)
    kept = loader(dataset, 2, persistent_workers=True)
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        fresh = IterableRecordDataset(folder, shuffle_seed=1)
        fresh.set_epoch(epoch)
        assert keys(kept) == keys(loader(fresh, 2))
    del kept


def test_an_iteration_keeps_the_epoch_that_it_began_with(folder: Path) -> None:
    dataset = IterableRecordDataset(folder, shuffle_seed=1)
    before = keys([dataset])
    begun = iter(dataset)
    dataset.set_epoch(1)
    assert keys([begun]) == before != keys([dataset])


@WORKERS
@pytest.mark.parametrize("kind", [RecordDataset, IterableRecordDataset])
def test_a_damaged_record_is_an_error_that_names_it(folder: Path, kind: Any, workers: int) -> None:
    bad = sorted(folder.iterdir())[4]
    damage(bad)
    with pytest.raises(DamagedFileError, match=f"{bad.name}: tensor .* is damaged: encode the video again"):
        list(loader(kind(folder), workers))


@WORKERS
def test_damaged_records_are_passed_over_and_counted(
    folder: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [sorted(folder.iterdir())[n] for n in (0, 5)]
    damage(bad[0])
    bad[1].write_bytes(b"torn")
    good = [key for key in sorted_keys(folder) if key not in {p.stem for p in bad}]

    by_number = RecordDataset(folder, skip_damaged=True)
    assert (len(by_number), by_number.skipped) == (len(good), bad)
    assert keys(loader(by_number, workers)) == good
    assert [r.getMessage().count(bad[n].name) for n, r in enumerate(caplog.records)] == [1, 1]

    stream = IterableRecordDataset(folder, skip_damaged=True)
    assert stream.skipped == []
    assert sorted(keys(loader(stream, workers))) == good
    assert stream.skipped == bad


def test_without_verify_only_the_header_is_checked(folder: Path) -> None:
    damage(sorted(folder.iterdir())[0])
    assert len(list(loader(RecordDataset(folder, verify=False), 0))) == 6
    assert len(keys([IterableRecordDataset(folder, verify=False)])) == COUNT


def test_a_dataset_can_be_sent_to_another_machine(folder: Path) -> None:
    for dataset in (RecordDataset(folder), IterableRecordDataset(folder, shuffle_seed=2, rank=1, world_size=3)):
        again = pickle.loads(pickle.dumps(dataset))
        assert keys([iter(again)]) == keys([iter(dataset)])


def test_what_cannot_be_is_one_line(tmp_path: Path, folder: Path) -> None:
    for kind in (RecordDataset, IterableRecordDataset):
        with pytest.raises(ValueError, match="gone: no records in this folder"):
            kind(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"rank must be in 0\.\.1, got 2"):
        IterableRecordDataset(folder, rank=2, world_size=2)
