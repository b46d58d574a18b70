"""Which files a list of sources names."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidcomp.pipeline.corpus import SourceListError, expand


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.MKV", "sub/c.webm", "sub/notes.txt", ".hidden/d.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path, target_is_directory=True)
    return tmp_path


def relative(tree: Path, *sources: str) -> list[str]:
    return [str(p.relative_to(tree)) for p in expand(str(tree / s) for s in sources)]


def test_a_folder_gives_its_videos_sorted(tree: Path) -> None:
    assert relative(tree, "") == ["a.MKV", "b.mp4", "sub/c.webm"]


def test_a_glob_and_a_file_each_once(tree: Path) -> None:
    assert relative(tree, "sub/notes.txt", "*.mp4", "b.mp4") == ["sub/notes.txt", "b.mp4"]
    assert relative(tree, "**/*.webm") == ["sub/c.webm"]


@pytest.mark.parametrize("source", ["gone.mp4", "*.flv", "empty"])
def test_nothing_named_is_one_line(tree: Path, source: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(SourceListError, match=r"no such file|matches no file|no videos"):
        expand([str(tree / source)])
