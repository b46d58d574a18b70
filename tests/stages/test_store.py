"""The store: parts in, one file out; interrupted, damaged, contended."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from pathlib import Path

import pytest
import torch

from vidcomp.stages.record import source
from vidcomp.stages.safefile import DamagedFileError, OutputError, check_tensors
from vidcomp.stages.store import CARRIES, Spool, Store, content_digest, record_key


def add(spool: Spool, number: int, rows: int = 3) -> None:
    value = torch.full((rows, 2), float(number))
    spool.add(number, {"tokens": source(value), **{name: source(value) for name in CARRIES}}, {"chunk": number})


def test_parts_become_one_file_without_carry(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.spool("k") as spool:
        for n, rows in enumerate((3, 0, 2)):
            add(spool, n, rows)
        header = spool.finish(spool.finished(), {"schema": 1})
    assert header.path == tmp_path / "k.safetensors"
    assert header.entries.keys() == {"tokens"}
    assert header.entries["tokens"].shape == (5, 2)
    check_tensors(header)
    assert [p.name for p in tmp_path.iterdir()] == ["k.safetensors"]


def test_a_resumed_spool_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, stops in (("once", []), ("thrice", [1, 2])):
        store = Store(tmp_path / name)
        for stop in [*stops, 4]:
            with store.spool("k") as spool:
                for n in range(len(spool.finished()), stop):
                    add(spool, n)
                if stop == 4:
                    spool.finish(spool.finished(), {"schema": 1})
    once, thrice = ((tmp_path / n / "k.safetensors").read_bytes() for n in ("once", "thrice"))
    assert once == thrice


def test_a_damaged_part_and_all_behind_it_are_made_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.spool("k") as spool:
        for n in range(4):
            add(spool, n)
        data = bytearray(spool.part(1).read_bytes())
        data[-1] ^= 1
        spool.part(1).write_bytes(data)
        (spool.folder / ".torn.tmp").write_bytes(b"half")
        assert [p.meta["chunk"] for p in spool.finished()] == [0]
        assert [p.name for p in spool.folder.iterdir()] == [spool.part(0).name]


def test_parts_that_disagree_are_refused(tmp_path: Path) -> None:
    with Store(tmp_path).spool("k") as spool:
        spool.add(0, {"tokens": source(torch.zeros(1, 2))}, {})
        spool.add(1, {"tokens": source(torch.zeros(1, 3))}, {})
        with pytest.raises(DamagedFileError, match="disagree"):
            spool.finish(spool.finished(), {})
        spool.clear()
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time_holds_a_spool(tmp_path: Path) -> None:
    store, inside, seen = Store(tmp_path), 0, []
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside
        for _ in range(60):
            with store.spool("other"):  # a busy neighbour: the shared folder comes and goes
                store.sweep()
            with store.spool("k") as spool:
                with guard:
                    inside += 1
                    seen.append(inside)
                assert spool.folder.is_dir()
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert seen == [1] * 240
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_of_a_spool_is_swept_and_no_more(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("a.lock", "b.lock", "b", "begun.lock", "begun"):
        path = tmp_path / ".parts" / name
        path.parent.mkdir(exist_ok=True)
        path.touch() if name.endswith(".lock") else path.mkdir()
    add(Spool(tmp_path / ".parts" / "begun", tmp_path / "final"), 0)
    with store.spool("held"):
        store.sweep()
        left = sorted(path.name for path in (tmp_path / ".parts").iterdir())
        assert left == ["begun", "begun.lock", "held", "held.lock"]
    with store.spool("begun") as spool:
        spool.clear()
    store.sweep()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_counts_as_absent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path("k").write_bytes(b"not a record")
    assert store.find("k") is None
    assert store.find("other") is None


def test_content_not_name_makes_the_key(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")
    (tmp_path / "c").write_bytes(b"samf")
    a, b, c = (content_digest(tmp_path / n) for n in "abc")
    assert a == b != c
    assert record_key(a, "r") != record_key(a, "s") != record_key(c, "s")


def test_what_the_disk_refuses_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store(tmp_path).spool("k") as spool:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"000000.safetensors: cannot be written .*the disk is full: free some"):
            add(spool, 0)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file: cannot be written .File exists"), Store(tmp_path / "file").spool("k"):
        pass
    assert pickle.loads(pickle.dumps(OutputError("a", "b", "c"))).args == ("a", "b", "c")
