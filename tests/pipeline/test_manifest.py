"""One final status for each input; a second run changes no byte."""

from __future__ import annotations

from pathlib import Path

from vidcomp.pipeline.manifest import NAME, Manifest, rows


def test_a_second_run_changes_no_byte(tmp_path: Path) -> None:
    Manifest(tmp_path).note({"path": "a", "status": "ok", "cached": False, "seconds": {"total": 1.0}})
    before = (tmp_path / NAME).read_bytes()
    Manifest(tmp_path).note({"path": "a", "status": "ok", "cached": True, "seconds": {"total": 0.1}})
    assert (tmp_path / NAME).read_bytes() == before
    Manifest(tmp_path).note({"path": "a", "status": "failed:corrupt"})
    assert [r["status"] for r in rows(tmp_path / NAME)] == ["ok", "failed:corrupt"]


def test_odd_names_and_torn_lines(tmp_path: Path) -> None:
    odd = 'a\n"b" \udcff.mp4'
    Manifest(tmp_path).note({"path": odd, "status": "ok"})
    with open(tmp_path / NAME, "ab") as f:
        f.write(b'{"path": "torn')
    assert [r["path"] for r in rows(tmp_path / NAME)] == [odd]
    Manifest(tmp_path).note({"path": "next", "status": "ok"})
    assert [r["path"] for r in rows(tmp_path / NAME)] == [odd, "next"]


def test_each_recipe_has_its_own_last_row(tmp_path: Path) -> None:
    given = [{"path": "a", "recipe": r, "status": "ok"} for r in ("x", "y")]
    for _ in range(2):
        for row in given:
            Manifest(tmp_path).note(row)
    assert rows(tmp_path / NAME) == given
    Manifest(tmp_path).note({"path": "a", "recipe": "x", "status": "partial"})
    assert len(rows(tmp_path / NAME)) == 3
