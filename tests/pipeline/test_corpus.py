"""Which inputs a list of sources names: each once, whatever it is called, and nothing executed or expanded."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vidcomp.pipeline.corpus import Item, SourceListError, items

TREE = ("b.mp4", "a.MKV", "sub/c.webm", "sub/deep/d.mp4", "sub/notes.dat", ".hidden/d.mp4", "sub/.e.mp4", "z/sub/f.mp4")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in reversed(TREE):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def looped(tree: Path) -> Path:
    """With links that lead up, two of them: a walk that follows them comes to 2^40 folders."""
    for name in ("one", "two"):
        (tree / "sub" / name).symlink_to(tree, target_is_directory=True)
    return tree


def relative(tree: Path, *sources: str) -> list[str]:
    return [str(Path(item.name).relative_to(tree)) for item in items(str(tree / s) for s in sources)]


def listed(tree: Path, rows: str, name: str = "list.txt", **more: str) -> list[Item]:
    (tree / name).write_bytes(os.fsencode(rows))
    return items([str(tree / name)], **more)


def statuses(found: list[Item]) -> list[str]:
    return [item.error.status if item.error else "ok" for item in found]


# -- folders and globs -------------------------------------------------------------------------------


def test_a_folder_gives_its_videos_sorted(looped: Path) -> None:
    assert relative(looped, "") == ["a.MKV", "b.mp4", "sub/.e.mp4", "sub/c.webm", "sub/deep/d.mp4", "z/sub/f.mp4"]


def test_a_glob_and_a_file_each_once(tree: Path) -> None:
    assert relative(tree, "sub/notes.dat", "*.mp4", "b.mp4") == ["sub/notes.dat", "b.mp4"]
    assert relative(tree, "**/*.webm") == ["sub/c.webm"]


@pytest.mark.parametrize(
    "pattern",
    ["**", "**/*.mp4", "**/*", "sub/**", "sub/**/*.mp4", "**/sub/**/*", "*/**/[cd].*", "**/deep/*.mp4", "s?b/**/d*"],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_a_glob_matches_what_the_standard_library_says(
    tree: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, absolute: bool
) -> None:
    monkeypatch.chdir(tree)
    text = str(tree / pattern) if absolute else pattern
    expected = {p for p in glob.glob(text, recursive=True) if os.path.isfile(p)}
    assert expected
    assert {item.name for item in items([text])} == expected


def test_links_that_lead_up_end(looped: Path) -> None:
    code = "import sys; from vidcomp.pipeline.corpus import items; print(*sorted(i.name for i in items(sys.argv[1:])))"
    pattern = str(looped / "**/*.mp4")
    done = subprocess.run([sys.executable, "-c", code, pattern], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [str(looped / name) for name in ("b.mp4", "sub/deep/d.mp4", "z/sub/f.mp4")]


@pytest.mark.parametrize("source", ["gone.mp4", "*.flv", "empty", "**/*.flv", "", "self.mp4", "nul\0.mp4", "x" * 5000])
def test_nothing_named_is_one_line(tree: Path, source: str) -> None:
    (tree / "empty").mkdir()
    (tree / "self.mp4").symlink_to("self.mp4")
    with pytest.raises(SourceListError, match=r"no such file|matches no file|no videos") as told:
        items([str(tree / source) if source else ""])
    assert "\n" not in str(told.value)


def test_what_is_known_of_a_file(tree: Path) -> None:
    (item,) = items([str(tree / "b.mp4")])
    found = (tree / "b.mp4").stat()
    assert (item.path, item.size, item.error, item.url) == (tree / "b.mp4", 5, None, None)
    assert item.stamp_text == f"{found.st_dev}:{found.st_ino}:5:{found.st_mtime_ns}"


def test_no_real_path_is_looked_up_for_different_files(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "realpath", None)  # it costs a look at every folder above
    assert len(items([str(tree)])) == 6


# -- each once ---------------------------------------------------------------------------------------


def test_a_file_and_links_to_it_are_one(looped: Path) -> None:
    (looped / "c.mp4").symlink_to("b.mp4")
    assert relative(looped, "b.mp4", "c.mp4", "sub/one/b.mp4", "sub/../b.mp4") == ["b.mp4"]


def test_hard_links_are_two(tree: Path) -> None:
    os.link(tree / "b.mp4", tree / "c.mp4")
    assert relative(tree, "b.mp4", "c.mp4", "c.mp4", "b.mp4") == ["b.mp4", "c.mp4"]


def test_windows_of_one_file_are_many(tree: Path) -> None:
    rows = "file,start,end,id\nb.mp4,,,whole\nb.mp4,0,1.5,first\nb.mp4,1.5,,rest\n./b.mp4,0,1.5,again\n"
    found = listed(tree, rows, "list.csv")
    assert [(i.start_s, i.end_s, i.id) for i in found] == [
        (None, None, "whole"),
        (0.0, 1.5, "first"),
        (1.5, None, "rest"),
    ]
    assert {i.name for i in found} == {str(tree / "b.mp4")}


def test_every_row_that_cannot_be_used_is_told(tree: Path) -> None:
    found = listed(tree, "path,start\nb.mp4,\nb.mp4,soon\nb.mp4,soon\n,\n", "list.csv")
    assert statuses(found) == ["ok", *["failed:unreadable"] * 3]
    assert [i.name for i in found[1:]] == [str(tree / f"list.csv:{n}") for n in (3, 4, 5)]


# -- lists -------------------------------------------------------------------------------------------


def test_rows_are_read_from_the_lists_own_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "z")
    (tree / "lists").mkdir()
    found = listed(tree, f"../b.mp4\n\n# no video\n{tree}/a.MKV\r\n../gone.mp4\n", "lists/all.TXT")
    assert statuses(found) == ["ok", "ok", "failed:missing"]
    assert [i.name for i in found] == [f"{tree}/lists/../b.mp4", f"{tree}/a.MKV", f"{tree}/lists/../gone.mp4"]
    monkeypatch.chdir(tree / "lists")
    assert [i.name for i in items(["all.TXT"])] == ["../b.mp4", f"{tree}/a.MKV", "../gone.mp4"]


@pytest.mark.parametrize(
    "text",
    [
        *("~/b.mp4", "$HOME/b.mp4", "${HOME}", "%HOME%", "*.mp4", "file:/etc/passwd", "C:\\b.mp4", "b.mp4#t=1"),
        *("$(touch x).mp4", "`touch x`", "b.mp4;touch x", "-o", "b.mp4 ", " b.mp4", "'b.mp4'", "list.csv"),
    ],
)
def test_a_row_is_taken_literally(tree: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HOME", str(tree))
    monkeypatch.chdir(tree)
    Path("list.txt").write_text(f"{text}\n")
    (missing,) = items(["list.txt"])
    assert (missing.name, statuses([missing])) == (text, ["failed:missing"])
    Path(text).parent.mkdir(exist_ok=True, parents=True)
    Path(text).write_bytes(b"x")
    (there,) = items(["list.txt"])
    assert (there.path, statuses([there])) == (Path(text), ["ok"])
    assert not (tree / "x").exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "local:///x", "zip://a::http://h/b", "simplecache::s3://b/k"])
def test_a_url_that_leads_back_to_the_disk_is_refused(tree: Path, url: str) -> None:
    (found,) = listed(tree, f"{url}\n")
    assert (found.path, statuses([found])) == (None, ["failed:unreadable"])
    with pytest.raises(SourceListError, match="give the"):
        items([url])


def test_a_url_in_a_list_is_not_asked_for(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    found = listed(tree, "https://me:word@no.example/a.mp4?key=1\nhttps://me:word@no.example/a.mp4?key=1\n")
    assert [i.url for i in found] == ["https://me:word@no.example/a.mp4?key=1"]
    assert found[0].name.startswith("https://no.example/a.mp4#")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "status", "why"),
    [
        (_fifo, "failed:unreadable", "not a regular file"),
        (_loop, "failed:unreadable", "Too many levels of symbolic links"),
        (Path.mkdir, "failed:unreadable", "a folder, where one file is asked for"),
        (lambda path: path.symlink_to("gone"), "failed:missing", "a link to gone, which is not there"),
        (lambda path: None, "failed:missing", "no such file"),
    ],
)
@pytest.mark.parametrize("how", ["row", "glob", "folder"])
def test_what_cannot_be_a_video_has_one_status(
    tmp_path: Path, make: Callable[[Path], None], status: str, why: str, how: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.mp4").write_bytes(b"x")
    make(tmp_path / "in" / "odd.mp4")
    if how == "row":
        found = listed(tmp_path, "in/good.mp4\nin/odd.mp4\nin/odd.mp4\n")
    else:
        found = items([str(tmp_path / "in" / ("*.mp4" if how == "glob" else ""))])
    if how != "row" and (make is Path.mkdir or why == "no such file"):
        assert statuses(found) == ["ok"]
    else:
        assert statuses(found) == ["ok", status]
        assert why in str(found[1].error)


def test_a_link_to_a_folder_is_no_video(tree: Path) -> None:
    (tree / "link.mp4").symlink_to("sub", target_is_directory=True)
    assert "link.mp4" not in relative(tree, "")
    assert relative(tree, "*.mp4") == relative(tree, "**/b.mp4") == ["b.mp4"]


@pytest.mark.parametrize("pattern", ["", "**/*.mp4"])
def test_a_closed_folder_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    scan = os.scandir

    def closed(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    (told,) = [item for item in items([str(tree / pattern)]) if item.error]
    assert told.name == str(tree / "sub/deep")
    assert str(told.error) == "the folder cannot be listed: check its permissions"


def test_names_of_any_bytes(tmp_path: Path) -> None:
    odd = [b"a \"b\" 'c'.mp4", b"\xff\xfe.mp4", "\u202e\u00e9.mp4".encode(), b"-rf $(x) `y`;.mp4", b"line\nbreak.mp4"]
    for name in odd:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")
    expected = {os.fsdecode(name) for name in odd}
    assert {i.path.name for i in items([str(tmp_path)]) if i.path and i.path.exists()} == expected
    found = listed(tmp_path, "\n".join(os.fsdecode(name) for name in odd[:4]))
    assert (statuses(found), {i.path.name for i in found if i.path}) == (["ok"] * 4, {os.fsdecode(n) for n in odd[:4]})
    # json has no bytes: a name that is not UTF-8 is written as Python's own escapes
    rows = '{"path": "line\\nbreak.mp4"}\n{"path": "\\udcff\\udcfe.mp4"}\n{"path": "nul\\u0000"}\n{"path": "\\ud800"}\n'
    assert statuses(listed(tmp_path, rows, "list.jsonl")) == ["ok", "ok", "failed:missing", "failed:missing"]


def test_a_lists_name_may_come_from_a_glob(tree: Path) -> None:
    listed(tree, "b.mp4\n", "one.txt"), listed(tree, "a.MKV\n", "two.txt")
    assert relative(tree, "*.txt") == ["b.mp4", "a.MKV"]


def test_listing_is_light(tree: Path) -> None:
    code = (
        "import sys; from vidcomp.pipeline.corpus import items; items(sys.argv[1:])\n"
        "print({'torch', 'fsspec', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tree)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
