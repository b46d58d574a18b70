"""`vidcomp export`: read back by what the records are exported for, bit for bit; reproducible, resumable, contained."""

from __future__ import annotations

import errno
import gc
import importlib
import json
import os
import re
import subprocess
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from records import damage, make_records, video_record
from torch import Tensor

import vidcomp
from vidcomp.pipeline.cli.app import run
from vidcomp.pipeline.export import FORMATS, Limit, Summary, export
from vidcomp.pipeline.export_format import SCRATCH
from vidcomp.pipeline.export_index import Ledger
from vidcomp.pipeline.export_webdataset import Webdataset
from vidcomp.stages.safefile import BLOCK, DamagedFileError, OutputError

from .conftest import Cli, tree_bytes

COUNT, A_SHARD = 7, 3
Tensors = Mapping[str, Tensor]


def needed(to: str) -> None:
    for package in {"parquet": ["pyarrow"], "lance": ["pyarrow", "lance"]}.get(to, []):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'vidcomp[{to}]'")


@pytest.fixture(params=["webdataset", "parquet", "lance", "npy"])
def to(request: pytest.FixtureRequest) -> str:
    needed(request.param)
    return str(request.param)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    make_records(tmp_path / "out", COUNT)
    return tmp_path / "out"


def limit(to: str) -> Limit | None:
    return None if to == "npy" else Limit(records=A_SHARD)


def shards(folder: Path) -> list[Path]:
    named = json.loads((folder / "_index").read_bytes())["shards"]
    return [folder / s["name"] for s in named]


def lasting(folder: Path) -> dict[str, bytes]:
    """All but Lance's commit, which has a time in it."""
    return {k: v for k, v in tree_bytes(folder).items() if not k.startswith(("_versions", "_transactions"))}


# -- read back -----------------------------------------------------------------------------------------


def of_table(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Tensors]]:
    """Tensors of table rows, as Parquet's and Lance's readers give them."""
    dtypes = {"sizes": torch.int32, "positions": torch.int32, "boxes": torch.int32, "owner": torch.int32}
    for row in rows:
        names = ("positions", "boxes", "sizes", "pts_s", "owner", "grid_pts_s", "frame_pts_s", "frame_index")
        held = {n: torch.tensor(row[n], dtype=dtypes.get(n, torch.float64)) for n in names if n != "frame_index"}
        held["frame_index"] = torch.tensor(row["frame_index"], dtype=torch.int64)
        held["tokens"] = of_bytes(row["tokens"], row["tokens_dtype"], row["tokens_shape"])
        held |= {o["name"]: of_bytes(o["rows"], o["dtype"], o["shape"]) for o in row["other"]}
        yield row["key"], held


def of_bytes(rows: Sequence[bytes], dtype: str, shape: Sequence[int]) -> Tensor:
    return torch.frombuffer(bytearray(b"".join(rows)), dtype=getattr(torch, dtype)).reshape(*shape)


def read_webdataset(folder: Path) -> Iterator[tuple[str, Tensors]]:
    wds = pytest.importorskip("webdataset", reason="the real webdataset is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its files for the collector to close
        samples = list(wds.WebDataset([str(p) for p in shards(folder)], shardshuffle=False).decode())
        gc.collect()
    for sample in samples:
        assert sample["json"]["key"] == sample["__key__"]
        yield sample["__key__"], safetensors.torch.load(sample["safetensors"])


def read_parquet(folder: Path) -> Iterator[tuple[str, Tensors]]:
    import pyarrow.dataset

    return of_table(pyarrow.dataset.dataset(folder).to_table().to_pylist())


def read_lance(folder: Path) -> Iterator[tuple[str, Tensors]]:
    import lance

    return of_table(lance.dataset(str(folder)).to_table().to_pylist())


def read_npy(folder: Path) -> Iterator[tuple[str, Tensors]]:
    for place in shards(folder):
        told = json.loads((place / "record.json").read_bytes())
        held = {}
        for name, spec in told["tensors"].items():
            value = np.load(place / f"{name}.npy")
            assert str(value.dtype) == spec["dtype"].replace("bfloat16", "uint16")
            held[name] = torch.from_numpy(value)
            held[name] = held[name].view(torch.bfloat16) if spec["dtype"] == "bfloat16" else held[name]
            assert str(held[name].dtype) == f"torch.{spec['dtype']}"
        yield place.name, held


READERS: dict[str, Callable[[Path], Iterator[tuple[str, Tensors]]]] = {
    "webdataset": read_webdataset,
    "parquet": read_parquet,
    "lance": read_lance,
    "npy": read_npy,
}


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def check_same(read: Iterator[tuple[str, Tensors]], out: Path) -> None:
    found = dict(read)
    assert list(found) == [p.stem for p in sorted(out.glob("*.safetensors"))]
    for key, held in found.items():
        true = vidcomp.load(out / f"{key}.safetensors").tensors()
        assert held.keys() == true.keys()
        for name, value in true.items():
            assert same_bits(held[name], value), (key, name)


def test_every_bit_comes_back(to: str, out: Path, tmp_path: Path) -> None:
    summary = export(out, to, tmp_path / "x", limit(to))
    assert (summary.records, summary.shards) == (COUNT, COUNT if to == "npy" else 3)
    check_same(READERS[to](tmp_path / "x"), out)


@pytest.mark.parametrize("to", ["webdataset", "parquet", "lance"])
def test_datasets_streams_it(to: str, out: Path, tmp_path: Path) -> None:
    needed(to)
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    export(out, to, tmp_path / "x", limit(to))
    streamed = datasets.load_dataset(str(tmp_path / "x"), streaming=True, split="train", cache_dir=str(tmp_path / "c"))
    assert streamed.num_shards == 3
    rows = list(streamed)
    if to == "webdataset":
        assert [row["json"]["key"] for row in rows] == [row["__key__"] for row in rows]
        check_same(((row["__key__"], safetensors.torch.load(row["safetensors"])) for row in rows), out)
    else:
        check_same(of_table(rows), out)


def test_a_real_record_by_the_command(cli: Cli, clip: Path, here: Path, to: str) -> None:
    cli("encode", clip, "--method", "evs", "--json")
    said = cli("export", "vidcomp-out", "--to", to, "-o", "x", "--json")
    assert said.code == 0
    assert said.json == {
        "format": to,
        "index": "x/_index",
        "records": 1,
        "shards": 1,
        "made": 1,
        "skipped": 0,
        "why": [],
    }
    check_same(READERS[to](here / "x"), here / "vidcomp-out")
    assert cli("export", "vidcomp-out", "--to", to, "-o", "x").out == "1 records in 1 shards, 0 made now: x/_index\n"


# -- reproducible, resumable -----------------------------------------------------------------------------


def test_the_same_bytes_whenever_and_whoever(to: str, out: Path, tmp_path: Path) -> None:
    export(out, to, tmp_path / "a", limit(to))
    for path in out.iterdir():
        path.chmod(0o600)
        os.utime(path, (1, 1))
    before = os.umask(0o077)
    try:
        export(out, to, tmp_path / "b", limit(to))
    finally:
        os.umask(before)
    assert lasting(tmp_path / "a") == lasting(tmp_path / "b")
    assert not [name for name in lasting(tmp_path / "a") if Path(name).name.startswith(".")]


def test_a_second_run_touches_nothing(to: str, out: Path, tmp_path: Path) -> None:
    export(out, to, tmp_path / "x", limit(to))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "x").rglob("*") if p.is_file()}
    assert export(out, to, tmp_path / "x", limit(to)).made == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "x").rglob("*") if p.is_file()} == before
    assert export(out, to, tmp_path / "x", limit(to), force=True).made == len(shards(tmp_path / "x"))


class StoppedError(BaseException):
    """The run ends here, as by a signal."""


def test_an_interrupted_run_goes_on(to: str, out: Path, tmp_path: Path) -> None:
    def stop(so_far: Summary) -> None:
        if so_far.shards == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        export(out, to, tmp_path / "x", limit(to), watch=stop)
    assert not (tmp_path / "x" / "_index").exists()
    with open(tmp_path / "x" / ".shards.jsonl", "ab") as torn:
        torn.write(b'\n{"name": "shard-0')
    (tmp_path / "x" / ".lock").touch()  # what a kill leaves
    (tmp_path / "x" / "._index.1.tmp").touch()
    (tmp_path / "x" / SCRATCH).mkdir()
    (tmp_path / "x" / SCRATCH / "half").touch()
    summary = export(out, to, tmp_path / "x", limit(to))
    assert summary.made == summary.shards - 2
    export(out, to, tmp_path / "y", limit(to))
    assert lasting(tmp_path / "x") == lasting(tmp_path / "y")
    check_same(READERS[to](tmp_path / "x"), out)


def test_a_run_that_ends_just_before_its_index(
    to: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Ledger) -> None:
        raise StoppedError

    export(out, to, tmp_path / "y", limit(to))
    with monkeypatch.context() as stopped:
        stopped.setattr(Ledger, "finish", stop)
        with pytest.raises(StoppedError):
            export(out, to, tmp_path / "x", limit(to))
    assert export(out, to, tmp_path / "x", limit(to)).made == 0
    assert lasting(tmp_path / "x") == lasting(tmp_path / "y")
    check_same(READERS[to](tmp_path / "x"), out)


def test_a_shard_is_durable_before_it_has_its_name(
    to: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, placed = set(), []
    fsync, rename = os.fsync, os.replace

    def note_sync(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        fsync(fd)

    def note_replace(source: Path, place: Path) -> None:
        inside = [*source.iterdir()] if source.is_dir() else []
        assert {p.stat().st_ino for p in [source, *inside]} <= synced
        rename(source, place)
        placed.append(Path(place))

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    export(out, to, tmp_path / "x", limit(to))
    assert set(shards(tmp_path / "x")) < set(placed)
    assert placed[-1].name == "_index"
    assert {p.parent.stat().st_ino for p in placed} <= synced


@pytest.mark.parametrize("how", ["torn", "altered", "gone"])
def test_a_shard_that_is_not_whole_is_made_again(to: str, how: str, out: Path, tmp_path: Path) -> None:
    export(out, to, tmp_path / "x", limit(to))
    before = lasting(tmp_path / "x")
    shard = shards(tmp_path / "x")[1]
    victim = shard / "tokens.npy" if shard.is_dir() else shard
    if how == "gone":
        victim.unlink()
    elif how == "torn":
        victim.write_bytes(victim.read_bytes()[:-9])
    else:
        damage(victim)
    assert export(out, to, tmp_path / "x", limit(to)).made == 1
    assert lasting(tmp_path / "x") == before
    check_same(READERS[to](tmp_path / "x"), out)


def test_it_follows_the_records(to: str, out: Path, tmp_path: Path) -> None:
    export(out, to, tmp_path / "x", limit(to))
    for path in sorted(out.iterdir())[-4:]:
        path.unlink()
    export(out, to, tmp_path / "x", limit(to))
    assert set(shards(tmp_path / "x")) == set(shard_files(tmp_path / "x"))
    check_same(READERS[to](tmp_path / "x"), out)


def shard_files(folder: Path) -> Iterator[Path]:
    """What lies in an export beside its index and Lance's commit."""
    for path in folder.iterdir():
        if path.name == "data":
            yield from path.iterdir()
        elif not path.name.startswith("_"):
            yield path


def test_two_at_once_make_it_once(to: str, out: Path, tmp_path: Path) -> None:
    made: list[int] = []
    threads = [
        threading.Thread(target=lambda: made.append(export(out, to, tmp_path / "x", limit(to)).made)) for _ in range(2)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(made) == [0, len(shards(tmp_path / "x"))]
    check_same(READERS[to](tmp_path / "x"), out)


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_full_disk_leaves_no_half_shard(
    to: str, name: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    export(out, to, tmp_path / "y", limit(to))
    with monkeypatch.context() as broken:
        broken.setattr(os, name, full)
        with pytest.raises(OutputError, match="the disk is full: free some space"):
            export(out, to, tmp_path / "x", limit(to))
    assert not lasting(tmp_path / "x").keys() & (lasting(tmp_path / "y").keys() | {SCRATCH})
    export(out, to, tmp_path / "x", limit(to))
    assert lasting(tmp_path / "x") == lasting(tmp_path / "y")


# -- bounded -----------------------------------------------------------------------------------------


def test_shards_by_bytes(out: Path, tmp_path: Path) -> None:
    largest = max(p.stat().st_size for p in out.iterdir())
    export(out, "webdataset", tmp_path / "x", Limit(bytes=2 * largest))
    counts = [len(s["records"]) for s in json.loads((tmp_path / "x" / "_index").read_bytes())["shards"]]
    assert sum(counts) == COUNT
    assert set(counts[:-1]) == {2}
    assert export(out, "webdataset", tmp_path / "y", Limit(bytes=1)).shards == COUNT


@pytest.mark.parametrize("to", ["webdataset", "npy"])
def test_memory_is_a_few_blocks(to: str, tmp_path: Path) -> None:
    (path,) = make_records(tmp_path / "out", 1, rows=1 << 16, channels=128)
    assert path.stat().st_size > 8 * BLOCK
    tracemalloc.start()
    try:
        export(tmp_path / "out", to, tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < 4 * BLOCK
    finally:
        tracemalloc.stop()


def test_it_imports_no_torch() -> None:
    modules = ", ".join(f"vidcomp.pipeline.export_{name}" for name in ("webdataset", "npy"))
    code = f"import vidcomp.pipeline.cli.export, {modules}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# -- what is wrong with an input -------------------------------------------------------------------------


def test_damaged_records_are_left_out_and_told(cli: Cli, to: str, out: Path, tmp_path: Path) -> None:
    paths = sorted(out.iterdir())
    damage(paths[1])
    paths[3].write_bytes(b"torn")
    (out / "another name.safetensors").write_bytes(paths[0].read_bytes())
    said = cli("export", out, "--to", to, "-o", tmp_path / "x", "--json")
    assert (said.code, said.json["records"], said.json["skipped"]) == (2, COUNT - 2, 3)
    assert said.err.count("\n") == 3
    assert "left out: " in said.err
    assert "its name is not its key" in said.err
    for path in (paths[1], paths[3], out / "another name.safetensors"):
        path.unlink()
    check_same(READERS[to](tmp_path / "x"), out)


def test_names_in_a_record_or_an_index_are_no_paths(out: Path, tmp_path: Path) -> None:
    odd = video_record(1)
    for path in out.iterdir():
        path.unlink()
    hostile = replace(odd, extra={"/../../../evil": odd.tokens})
    hostile.save(out / f"{odd.meta['key']}.safetensors")
    replace(odd, meta={**odd.meta, "key": "a.b c"}).save(out / "a.b c.safetensors")
    summary = export(out, "npy", tmp_path / "x")
    assert (summary.records, summary.skipped) == (0, 2)
    assert "cannot be a file's name" in summary.why[0]
    assert "its name is not its key" in summary.why[1]
    (tmp_path / "keep").touch()
    shard = {"name": "../keep", "bytes": 0, "digest": "", "records": []}
    (tmp_path / "x" / "_index").write_text(json.dumps({"format": "npy", "shards": [shard, {"name": 3}, 4]}))
    export(out, "npy", tmp_path / "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["keep", "out", "x"]


def test_a_record_that_changes_meanwhile_is_no_part_of_a_shard(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Webdataset.write

    def meanwhile(self: Webdataset, path: Path, items: Any) -> None:
        write(self, path, items)
        items[0].path.write_bytes(items[1].path.read_bytes())

    monkeypatch.setattr(Webdataset, "write", meanwhile)
    with pytest.raises(DamagedFileError, match="changed while it was exported: run the same command again"):
        export(out, "webdataset", tmp_path / "x")
    assert not list((tmp_path / "x").glob("*.tar"))


def test_what_a_parquet_page_cannot_hold_is_left_out(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed("parquet")
    monkeypatch.setattr(importlib.import_module("vidcomp.pipeline.export_parquet"), "LARGEST", 130)
    summary = export(out, "parquet", tmp_path / "x")
    assert (summary.records, summary.skipped) == (4, 3)
    assert sorted(re.findall(r"its (.*) are .* over Parquet's 2 GiB a page", "\n".join(summary.why))) == [
        "other tensors",
        "tokens",
        "tokens",
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("out", "--to", "pickle", "-o", "x"), "no format 'pickle'; there are: webdataset, parquet, lance, npy"),
        (("out", "--to", "npy", "-o", "x", "--shard-records", "2"), "makes a folder of each record"),
        (("out", "--to", "npy", "-o", "out"), "holds the records themselves"),
        (("empty", "--to", "npy", "-o", "x"), "empty: no records there: give the folder that"),
        (("gone", "--to", "npy", "-o", "x"), "gone: no records there"),
        (("file", "--to", "npy", "-o", "x"), "file: no records there"),
        (("out", "--to", "npy", "-o", "mixed"), "holds an export to 'webdataset': give another folder"),
        (("out", "--to", "npy", "-o", "file"), "cannot be written"),
        (("out", "--to", "npy"), "--out"),
        (("out", "--to", "webdataset", "-o", "x", "--shard-records", "0"), "Invalid value for '--shard-records'"),
    ],
)
def test_a_command_that_cannot_be_done_is_one_line(
    cli: Cli, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    export(out, "webdataset", tmp_path / "mixed")
    before = tree_bytes(tmp_path)
    said = cli("export", *words)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert says in said.err
    assert tree_bytes(tmp_path) == before


@pytest.mark.parametrize(("to", "package", "extra"), [("parquet", "pyarrow", "parquet"), ("lance", "lance", "lance")])
def test_an_absent_package_is_one_line(
    cli: Cli, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, package: str, extra: str
) -> None:
    for name in [
        m for m in sys.modules if m.startswith((f"vidcomp.pipeline.export_{to}", "vidcomp.pipeline.export_t"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    said = cli("export", out, "--to", to, "-o", tmp_path / "x")
    assert (said.code, said.err) == (1, f"vidcomp: --to {to} needs {package}: pip install 'vidcomp[{extra}]'\n")


# -- what the documentation shows ------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S) if PAGE.exists() else []
COMMANDS = re.findall(r"^vidcomp (export [^#\n]*)", PAGE.read_text(), re.M) if PAGE.exists() else []


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands of the page were run."""
    folder = tmp_path_factory.mktemp("page")
    for n in range(3):
        video_record(4 * n, rows=5 + n).save(folder / "vidcomp-out" / f"{video_record(4 * n).meta['key']}.safetensors")
    for command in COMMANDS:
        needed(command.split()[3])
        words = [str(folder / w) if w.startswith(("vidcomp-", "train-")) else w for w in command.split()]
        assert run(words) == 0
    return folder


@pytest.mark.skipif(not BLOCKS, reason="docs are not shipped: the tests were copied from the tree")
def test_the_page_shows_every_format() -> None:
    assert [c.split()[3] for c in COMMANDS] == list(FORMATS)
    assert len(BLOCKS) == 7


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_of_the_page_run(
    block: str, exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in re.findall(r"^(?:import|from) (\w+)", block, re.M):
        pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(exported)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files for the collector to close
        exec(compile(block, str(PAGE), "exec"), {"__name__": "__main__"})
        gc.collect()
    assert capsys.readouterr().out
