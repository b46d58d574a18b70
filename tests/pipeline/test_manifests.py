"""Lists of inputs, written by others' writers: csv, json, pyarrow, pandas."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidcomp.pipeline import manifests
from vidcomp.pipeline.item import SourceListError
from vidcomp.pipeline.manifests import rows

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
PLAIN = ["a.mp4", 'b "x", c.mp4', " d'.mp4 ", "two\nlines\r\n.mp4", "é\u202e.mp4", "#e.mp4", "s3://b/k?x=1"]


def texts(path: Path, column: str | None = None) -> list[str]:
    found = list(rows(str(path), column))
    assert [row.error for row in found] == [None] * len(found)
    return [row.text for row in found]


def write(target: Path, names: Sequence[str], column: str = "path", **more: Sequence[Any]) -> Path:
    """A list, as the usual writer of its format writes it."""
    return write_table(target, {column: names} | more)


def write_table(path: Path, table: dict[str, Sequence[Any]]) -> Path:
    records = [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pytest.importorskip("pyarrow").table({k: list(v) for k, v in table.items()}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(records)
    return path


FORMATS = pytest.mark.parametrize("name", ["l.csv", "l.tsv", "l.jsonl", "l.parquet", "L.CSV"])


# -- names -------------------------------------------------------------------------------------------


@FORMATS
def test_names_come_back(tmp_path: Path, name: str) -> None:
    assert texts(write(tmp_path / name, PLAIN)) == PLAIN


@given(names=st.lists(NAMES, min_size=1, max_size=5))
def test_any_name_comes_back_from_csv(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("lists")
    assert texts(write(folder / "l.csv", names, x=range(len(names)))) == names
    assert texts(write(folder / "l.jsonl", names)) == names


def test_a_name_may_be_any_bytes(tmp_path: Path) -> None:
    name = b"\xff\x80 \xc3.mp4"
    (tmp_path / "l.txt").write_bytes(name + b"\n")
    (tmp_path / "l.csv").write_bytes(b"path,id\n" + name + b",\xfe\n")
    (tmp_path / "l.jsonl").write_bytes(b'{"path": "' + name + b'"}\n')
    write(tmp_path / "l.parquet", [name])  # type: ignore[list-item]
    for suffix in ("txt", "csv", "jsonl", "parquet"):
        assert [os.fsencode(t) for t in texts(tmp_path / f"l.{suffix}")] == [name]


def test_txt(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbfa b.mp4\r\n\n  \n# no\n./#1.mp4\nx\rcr.mp4\n last.mp4 ")
    assert texts(tmp_path / "l.txt", "whatever") == ["a b.mp4", "./#1.mp4", "x\rcr.mp4", " last.mp4 "]


@pytest.mark.parametrize("name", ["l.csv", "l.jsonl", "l.parquet"])
def test_lists_that_pandas_wrote(tmp_path: Path, name: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"path": PLAIN, "start": [None, 1, 2.5, *[None] * 4], "id": range(7), "text": "x"})
    path = tmp_path / name
    if name == "l.csv":
        frame.to_csv(path, index=False)
    elif name == "l.jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(path, row_group_size=2)
    found = list(rows(str(path)))
    assert [row.text for row in found] == PLAIN
    assert [row.start_s for row in found] == [None, 1.0, 2.5, *[None] * 4]
    assert [row.id for row in found] == [str(n) for n in range(7)]


def test_parquet_with_a_dictionary_and_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(manifests, "BATCH", 7)
    names = [f"{n % 5}.mp4" for n in range(100)]
    table = pyarrow.table({"video": pyarrow.array(names).dictionary_encode(), "start": range(100)})
    parquet.write_table(table, tmp_path / "l.parquet", row_group_size=13)
    found = list(rows(str(tmp_path / "l.parquet")))
    assert [(r.number, r.text, r.start_s) for r in found] == [(n + 1, names[n], float(n)) for n in range(100)]


# -- columns -----------------------------------------------------------------------------------------


@FORMATS
@pytest.mark.parametrize(
    ("columns", "asked", "taken"),
    [
        (["id", "path", "video"], None, "path"),
        (["file", "video", "url"], None, "video"),
        (["file_name", "text"], None, "file_name"),
        (["clip", "start", "end_s", "id"], None, "clip"),
        (["path", "other"], "other", "other"),
    ],
)
def test_which_column(tmp_path: Path, name: str, columns: list[str], asked: str | None, taken: str) -> None:
    cells = {c: ["2" if c == "end_s" else "1" if c == "start" else f"{c}.mp4"] for c in columns}
    assert texts(write_table(tmp_path / name, cells), asked) == [f"{taken}.mp4"]


@FORMATS
@pytest.mark.parametrize("asked", [None, "path"])
def test_no_such_column(tmp_path: Path, name: str, asked: str | None) -> None:
    path = write(tmp_path / name, ["a.mp4"], "left", right=["b.mp4"])
    with pytest.raises(SourceListError, match=r"holds the paths\? it has left, right: name one of them with --column"):
        list(rows(str(path), asked))


@pytest.mark.parametrize("text", ["a.mp4\nb.mp4\n", "s3://bucket/key\n", "in/a\nin/b\n"])
def test_a_csv_without_names_loses_no_row(tmp_path: Path, text: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(SourceListError, match="is no column's name: put `path` above it"):
        list(rows(str(tmp_path / "l.csv")))


# -- windows -----------------------------------------------------------------------------------------


@FORMATS
def test_windows_and_ids(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ["a", "b"], start_s=["0", " 1e1 "], end=["0.5", ""], id=["x", ""])
    assert [(r.start_s, r.end_s, r.id) for r in rows(str(path))] == [(0.0, 0.5, "x"), (10.0, None, None)]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ('"start": "soon"', "start is 'soon', not a number of seconds"),
        ('"start_s": "1:30"', "start_s is '1:30', not a number of seconds"),
        ('"end": Infinity', "end is inf, not a number of seconds"),
        ('"end": "nan"', "end is 'nan', not a number of seconds"),
        ('"end": 1e999', "end is inf, not a number of seconds"),
        (f'"end": 1{"0" * 400}', "not a number of seconds"),
        ('"end": true', "end is True, not a number of seconds"),
        ('"end": [1]', "end is [1], not a number of seconds"),
        ('"start": 2, "end": 2', "start must be before end, got 2 and 2"),
        ('"start": 3, "end_s": 2.5', "start must be before end, got 3 and 2.5"),
        ('"id": {"a": 1}', "id is {'a': 1}, not text"),
        ('"path": 7', "path is 7, not a path or URL"),
        ('"path": null', "its path is empty"),
        ('"path": ""', "its path is empty"),
        ('"path": ["' + "x" * 500 + '"]', "x..., not a path or URL"),
    ],
)
def test_a_bad_row_is_its_own_error(tmp_path: Path, cells: str, says: str) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text(f'{{"path": "a"}}\n{{"path": "b", {cells}}}\n{{"path": "c", "start": NaN, "id": 3}}\n')
    good, bad, last = rows(str(path))
    assert (good.text, good.error, last.start_s, last.id, last.error) == ("a", None, None, "3", None)
    assert bad.error is not None
    assert (bad.number, bad.error.status) == (2, "failed:unreadable")
    assert says in str(bad.error)
    assert len(str(bad.error)) < 150


def test_an_unquoted_comma_is_told(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,id\nmy, video.mp4,1\nb.mp4\nc.mp4,2\n")
    bad, short, good = rows(str(tmp_path / "l.csv"))
    assert str(bad.error) == "3 cells under 2 columns: quote a name that holds ','"
    assert (short.text, short.id, good.text, good.id) == ("b.mp4", None, "c.mp4", "2")


# -- lists that are none -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("l.csv", b'path\n"a.mp4\nb.mp4\n', "line 3: unexpected end of data"),
        ("l.csv", b'path\n"a" b.mp4\n', "line 2: ',' expected after '\"'"),
        ("l.csv", b"", "it has no columns"),
        ("l.csv", "path\na.mp4\n".encode("utf-16"), "line 1 holds a NUL: save the list as UTF-8 text"),
        ("l.txt", b"a.mp4\n\x00\x01", "line 2 holds a NUL"),
        ("l.txt", b"a" * 200, "line 1 has 100 characters or more"),
        ("l.csv", b"path\n" + b"a" * 200, "line 2 has 100 characters or more"),
        ("l.jsonl", b'{"path": "a"}\n{"path": ', "line 2 is no JSON object"),
        ("l.jsonl", b'"a.mp4"\n', "line 1 is no JSON object"),
        ("l.jsonl", b"[" * 99, "line 1 is no JSON object"),
        ("l.parquet", b"PAR1 no PAR1", "no parquet file, or a damaged one"),
        ("l.parquet", b"", "no parquet file, or a damaged one"),
    ],
)
def test_a_broken_list_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, says: str
) -> None:
    monkeypatch.setattr(manifests, "LONGEST", 100)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceListError) as told:
        list(rows(str(tmp_path / name)))
    assert str(told.value).startswith(f"{tmp_path / name}: ")
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_deeply_nested_json_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text("[" * 1_000_000)
    with pytest.raises(SourceListError, match="line 1 is no JSON object"):
        list(rows(str(tmp_path / "l.jsonl")))


def test_a_quote_that_never_closes_is_not_read_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text('path\n"' + "a.mp4\n" * 1_000_000)
    with pytest.raises(SourceListError, match="field larger than field limit"):
        list(rows(str(path)))


def test_a_list_is_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row is there before the last is read."""
    monkeypatch.setattr(manifests, "BATCH", 2)
    for name in ("l.txt", "l.csv", "l.jsonl"):
        path = tmp_path / name
        path.write_text({"l.txt": "", "l.csv": "path\n", "l.jsonl": ""}[name])
        row = '{"path": "a"}\n' if name == "l.jsonl" else "a\n"
        path.write_text(path.read_text() + row * 20_000 + "\0")
        assert next(iter(rows(str(path)))).text == "a"
        with pytest.raises(SourceListError, match="holds a NUL"):
            list(rows(str(path)))


def test_a_video_in_a_column_is_not_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"video": [{"bytes": b"x", "path": "a.mp4"}], "text": ["x"]})
    parquet.write_table(table, tmp_path / "l.parquet")
    with pytest.raises(SourceListError, match=r"its column video holds struct<.*>, no paths: name another with"):
        list(rows(str(tmp_path / "l.parquet")))
    assert texts(tmp_path / "l.parquet", "text") == ["x"]


def test_a_damaged_parquet_file_is_told_or_read(tmp_path: Path) -> None:
    whole = write(tmp_path / "l.parquet", PLAIN, start=[1.0] * len(PLAIN)).read_bytes()
    path, rng = tmp_path / "m.parquet", random.Random(0)
    for at in rng.sample(range(len(whole) * 8), 400):
        bad = bytearray(whole)
        bad[at // 8] ^= 1 << at % 8
        path.write_bytes(bad)
        with suppress(SourceListError):
            assert all(math.isfinite(r.start_s or 0) for r in rows(str(path)))
    for cut in rng.sample(range(len(whole)), 50):
        path.write_bytes(whole[:cut])
        with pytest.raises(SourceListError, match="no parquet file, or a damaged one"):
            list(rows(str(path)))


def test_a_pipe_is_no_list(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "l.txt")  # to open it would wait for ever
    with pytest.raises(SourceListError, match="not a regular file"):
        list(rows(str(tmp_path / "l.txt")))


def test_a_list_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "l.txt").write_text("a")

    def closed(*arguments: Any, **more: Any) -> io.BytesIO:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", closed)
    with pytest.raises(SourceListError, match=r"cannot be read \(Permission denied\): check its permissions"):
        list(rows(str(tmp_path / "l.txt")))


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "l.parquet").write_bytes(b"")
    with pytest.raises(SourceListError, match=r'needs pyarrow: pip install "vidcomp\[parquet\]"'):
        list(rows(str(tmp_path / "l.parquet")))
