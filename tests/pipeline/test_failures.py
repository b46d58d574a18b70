"""What failed is listed as the manifest has it, and tried again by itself."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest
from media import make_clip

from vidcomp.pipeline.cli.app import run
from vidcomp.pipeline.filesystem import Remote
from vidcomp.stages.failure import SourceError

from .conftest import Cli, tree_bytes
from .test_remote import server as server  # a fixture

HERE = ("--workers", "0")  # in this process
EVS = ("--method", "evs")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of a second."""
    return make_clip(tmp_path_factory.mktemp("good") / "good.mp4", count=25)


@pytest.fixture
def corpus(here: Path, good: Path) -> Path:
    """`videos/` with one good clip, two that are none, and an empty one."""
    folder = here / "videos"
    folder.mkdir()
    shutil.copy(good, folder / "good.mp4")
    for name, data in (("junk.mp4", b"no video"), ("text.mp4", b"text" * 99), ("empty.mp4", b"")):
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def out(corpus: Path, here: Path) -> Path:
    """The corpus encoded, from the working folder."""
    assert run(["encode", "videos", *HERE, *EVS]) == 2
    return here / "vidcomp-out"


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def last(out: Path) -> dict[str, str]:
    return {row["path"]: row["status"] for row in rows(out)}


def swap(path: Path, by: Path) -> None:
    """Put another file in a file's place."""
    path.unlink()
    shutil.copy(by, path)


# -- the list ----------------------------------------------------------------------------------------


def test_reasons_and_inputs_are_listed(cli: Cli, out: Path) -> None:
    said = cli("failures", out)
    first, *lines = said.out.splitlines()
    assert (said.code, said.err, first) == (0, "", "3 failed: 2 not_video, 1 empty")
    heads = [line.split(": ")[:2] for line in lines]
    assert sorted(heads[:2]) == [["videos/junk.mp4", "not_video"], ["videos/text.mp4", "not_video"]]
    assert heads[2:] == [["videos/empty.mp4", "empty"]]
    told = cli("failures", out, "--json")
    failed = [row for row in rows(out) if row["status"] != "ok"]
    expected = [{name: row[name] for name in ("path", "reason", "message", "recipe")} for row in failed]
    assert (told.code, told.json["failures"]) == (0, expected)
    assert (told.json["failed"], told.json["reasons"]) == (3, {"not_video": 2, "empty": 1})


def test_only_what_counts_is_listed(cli: Cli, tmp_path: Path) -> None:
    """The last row of each path and recipe; a torn line is none."""
    given = [("a", "r", "failed:empty"), ("a", "s", "failed:timeout"), ("a", "r", "ok"), ("b", "r", "ok")]
    given += [("b", "r", "failed:corrupt"), ("c", "r", "skipped:other"), ("d", "r", "partial")]
    lines = [json.dumps({"path": p, "recipe": r, "status": s, "message": "m"}) for p, r, s in given]
    (tmp_path / "manifest.jsonl").write_text("\n".join([*lines, '{"path": "e", "status": "failed:']))
    assert cli("failures", tmp_path).out == "2 failed: 1 timeout, 1 corrupt\na: timeout: m\nb: corrupt: m\n"


def test_a_name_is_one_line_whatever_it_holds(cli: Cli, tmp_path: Path, here: Path) -> None:
    for name in (b"a\nb.mp4", b"\x1b[2J\r.mp4", b"\xff.mp4", "\u202e$(x)'\".mp4".encode()):
        Path(os.fsdecode(b"videos/" + name)).parent.mkdir(exist_ok=True)
        Path(os.fsdecode(b"videos/" + name)).write_bytes(b"no video")
    assert cli("encode", "videos", *HERE).code == 2
    said = cli("failures", "vidcomp-out")
    assert (said.out.count("\n"), re.findall(r"[^ -~\n]", said.out)) == (5, [])
    names = {os.fsencode(failure["path"]) for failure in cli("failures", "vidcomp-out", "--json").json["failures"]}
    assert names == {b"videos/" + name for name in map(os.fsencode, os.listdir("videos"))}
    for path in Path("videos").iterdir():
        path.write_bytes(b"")
    assert cli("failures", "vidcomp-out", "--retry", *HERE).code == 2
    assert cli("failures", "vidcomp-out", "--json").json["reasons"] == {"empty": 4}


def test_nothing_failed(cli: Cli, good: Path, here: Path) -> None:
    assert cli("encode", good).code == 0
    for words in ((), ("--retry",)):
        said = cli("failures", "vidcomp-out", *words)
        assert (said.code, said.out, said.err) == (0, "0 failed\n", "")
        assert cli("failures", "vidcomp-out", "--json", *words).json["failures"] == []


@pytest.mark.parametrize("words", [(), ("--retry",), ("--json",)])
@pytest.mark.parametrize("name", ["gone", "file", "empty"])
def test_what_is_no_folder_of_records_is_one_line(cli: Cli, here: Path, name: str, words: tuple[str, ...]) -> None:
    (here / "empty").mkdir()
    (here / "file").touch()
    said = cli("failures", name, *words)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)


# -- once more ---------------------------------------------------------------------------------------


def test_just_the_failed_ones_are_tried_again(cli: Cli, out: Path, corpus: Path, good: Path) -> None:
    before = tree_bytes(out)
    swap(corpus / "junk.mp4", good)
    (corpus / "text.mp4").write_bytes(b"")
    (corpus / "empty.mp4").unlink()
    said = cli("failures", out, "--retry", *HERE, "--json")
    assert (said.code, said.json["inputs"]) == (2, 3)
    assert said.json["counts"] == {"ok": 1, "failed:empty": 1, "failed:missing": 1}
    assert last(out) == {
        "videos/good.mp4": "ok",
        "videos/junk.mp4": "ok",
        "videos/text.mp4": "failed:empty",
        "videos/empty.mp4": "failed:missing",
    }
    assert len({row["recipe"] for row in rows(out)}) == 1
    after = tree_bytes(out)
    assert after["manifest.jsonl"].startswith(before.pop("manifest.jsonl"))
    assert all(after[name] == data for name, data in before.items() if name != "run.json")


def test_when_all_are_mended_it_ends_well(cli: Cli, out: Path, corpus: Path, good: Path) -> None:
    for number, name in enumerate(("junk.mp4", "text.mp4", "empty.mp4")):
        (corpus / name).unlink()
        make_clip(corpus / name, count=10, seed=number)
    said = cli("failures", out, "--retry", *HERE)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-1].startswith("3 inputs: 3 ok (0 from the cache)")
    assert cli("failures", out).out == "0 failed\n"
    again = cli("encode", "videos", *HERE, *EVS, "--json").json
    assert (again["inputs"], again["cached"], again["counts"]) == (4, 4, {"ok": 4})


def test_what_fails_as_before_adds_no_row(cli: Cli, out: Path) -> None:
    before = (out / "manifest.jsonl").read_bytes()
    said = cli("failures", out, "--retry", *HERE)
    assert (said.code, said.err.count("\n")) == (2, 3)
    assert "(0 from the cache)" in said.out  # they were tried
    assert (out / "manifest.jsonl").read_bytes() == before


def test_in_a_process_of_its_own(cli: Cli, out: Path, corpus: Path, good: Path) -> None:
    swap(corpus / "junk.mp4", good)
    said = cli("failures", out, "--retry", "--workers", "1", "--deadline", "60", "--json")
    assert said.json["counts"] == {"ok": 1, "failed:not_video": 1, "failed:empty": 1}


def test_windows_and_ids_are_those_of_the_list(cli: Cli, here: Path, good: Path) -> None:
    (here / "a.mp4").write_bytes(b"no video")
    Path("list.csv").write_text("path,start,end,id\na.mp4,,,whole\na.mp4,0.2,0.6,part\na.mp4,0.5,,rest\nb.mp4,1,,b\n")
    encode = ("encode", "list.csv", *HERE, *EVS, "--fps", "10")
    assert cli(*encode).code == 2
    told = cli("failures", "vidcomp-out").out
    assert "a.mp4 (from 0.2 s to 0.6 s): not_video" in told
    assert "a.mp4 (from 0.5 s to its end): not_video" in told
    assert "b.mp4 (from 1 s to its end): missing" in told
    swap(here / "a.mp4", good)
    shutil.copy(good, "b.mp4")
    retried = cli("failures", "vidcomp-out", "--retry", *HERE, "--json")
    assert retried.json["counts"] == {"ok": 3, "failed:no_sample": 1}  # b.mp4 ends at 1 s
    made = {row["id"]: (row.get("start_s"), row.get("end_s"), row.get("key")) for row in rows(here / "vidcomp-out")}
    assert {i: window[:2] for i, window in made.items()} == {
        "whole": (None, None),
        "part": (0.2, 0.6),
        "rest": (0.5, None),
        "b": (1.0, None),
    }
    assert cli(*encode, "--json").json["cached"] == 4
    assert cli(*encode, "-o", "anew").code == 2
    assert {row["id"]: row.get("key") for row in rows(here / "anew")} == {i: key for i, (*_, key) in made.items()}


def test_each_recipe_does_its_own(cli: Cli, out: Path, corpus: Path, good: Path) -> None:
    assert cli("encode", "videos", *HERE, "--method", "uniform", "--retain", "0.5").code == 2
    swap(corpus / "junk.mp4", good)
    said = cli("failures", out, "--retry", *HERE, "--json")
    assert (said.code, said.json["inputs"], said.json["counts"]["ok"]) == (2, 6, 2)
    keys = [{row["path"]: row.get("key") for row in rows(out) if row["recipe"] == r} for r in recipes(out)]
    assert len(keys) == 2
    for found in keys:
        assert found["videos/junk.mp4"] == found["videos/good.mp4"] is not None


def recipes(out: Path) -> set[str]:
    return {row["recipe"] for row in rows(out)}


@pytest.mark.parametrize("change", ["remove", "alter"])
def test_a_recipe_that_is_not_kept_is_one_line(cli: Cli, out: Path, change: str) -> None:
    (kept,) = (out / ".recipes").iterdir()
    if change == "remove":
        kept.unlink()
    else:
        kept.write_text(json.dumps({**json.loads(kept.read_text()), "chunk_frames": 16}))
    before = tree_bytes(out)
    said = cli("failures", out, "--retry", *HERE)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "3 failed by a recipe that is not kept here" in said.err
    assert tree_bytes(out) == before


def test_the_others_are_tried_without_it(cli: Cli, out: Path, corpus: Path, good: Path) -> None:
    assert cli("encode", "videos/empty.mp4", "--method", "uniform").code == 2  # of one input no recipe is kept
    for path in corpus.iterdir():
        swap(path, good)
    said = cli("failures", out, "--retry", *HERE, "--json")
    assert (said.code, said.json["counts"], said.err.count("\n")) == (2, {"ok": 3}, 1)
    assert "1 failed by a recipe that is not kept" in said.err


def test_remote_files_are_asked_for_again(cli: Cli, here: Path, good: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name, data in (("a", b"no video"), ("b", good.read_bytes()), ("c", b"no video")):
        memory.pipe(f"/failed/{name}.mp4", data)
    try:
        assert cli("encode", "memory://failed/", *HERE, *EVS).code == 2
        memory.pipe("/failed/a.mp4", good.read_bytes())
        memory.rm("/failed/c.mp4")
        said = cli("failures", "vidcomp-out", "--retry", *HERE, "--json")
    finally:
        memory.rm("/failed", recursive=True)
    assert (said.code, said.json["counts"]) == (2, {"ok": 1, "failed:missing": 1})
    found = {row["path"]: row.get("key") for row in rows(here / "vidcomp-out")}
    assert found["memory://failed/a.mp4"] == found["memory://failed/b.mp4"] is not None
    assert last(here / "vidcomp-out")["memory://failed/c.mp4"] == "failed:missing"


def test_what_a_server_tells_is_known_afterwards(cli: Cli, server: str, tmp_path: Path, here: Path, good: Path) -> None:
    """As if `encode` had made it."""
    a, b = (tmp_path / "in" / f"{name}.mp4" for name in "ab")
    a.write_bytes(b"no video")
    shutil.copy(good, b)
    encode = ("encode", *(f"{server}/in/{path.name}" for path in (a, b)), *HERE, *EVS)
    assert cli(*encode).code == 2
    swap(a, good)
    assert cli("failures", "vidcomp-out", "--retry", *HERE, "--json").json["counts"] == {"ok": 1}
    before = (here / "vidcomp-out" / "manifest.jsonl").read_bytes()
    assert cli(*encode, "--json").json["cached"] == 2
    assert (here / "vidcomp-out" / "manifest.jsonl").read_bytes() == before


@pytest.mark.parametrize("source", ["{}/in/a.mp4", "list.txt"])
def test_what_has_not_changed_on_its_server_is_not_fetched(
    cli: Cli, server: str, tmp_path: Path, here: Path, good: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """A single input, which is looked at more closely, and one that a list names, which nobody has asked about."""
    shutil.copy(good, tmp_path / "in" / "a.mp4")
    Path("list.txt").write_text(f"{server}/in/a.mp4\n")
    words = ("encode", source.format(server), *EVS, "--json")
    before = cli(*words).json
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "blocks", lambda self: pytest.fail("it was fetched"))
        again = cli(*words).json
    assert {**again, "seconds": None} == {**before, "seconds": None, "cached": True}
    (tmp_path / "in" / "a.mp4").write_bytes(b"no video")
    assert cli(*words).code == 2


def test_a_server_that_is_down_has_changed_no_video(
    cli: Cli,
    server: str,
    tmp_path: Path,
    here: Path,
    good: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copy(good, tmp_path / "in" / "a.mp4")
    Path("list.txt").write_text(f"{server}/in/a.mp4\n{server}/in/new.mp4\n")
    assert cli("encode", "list.txt", *EVS).code == 2
    shutil.copy(good, tmp_path / "in" / "new.mp4")
    before = (here / "vidcomp-out" / "manifest.jsonl").read_bytes()

    def down(self: Remote) -> None:
        raise SourceError("unreadable", "the server answers with 503", "run the same command again")

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "info", down)
        said = cli("encode", "list.txt", *EVS, "--json")
        assert (said.code, said.json["cached"], said.json["counts"]) == (2, 1, {"ok": 1, "failed:unreadable": 1})
        assert "in/a.mp4: taken for unchanged, its record stands (the server answers with 503" in caplog.text
    assert (here / "vidcomp-out" / "manifest.jsonl").read_bytes().startswith(before)
    again = cli("encode", "list.txt", *EVS, "--json")
    assert (again.code, again.json["cached"], again.json["counts"]) == (0, 2, {"ok": 2})  # of one content


def test_a_url_with_a_secret_has_to_be_given_again(cli: Cli, server: str, out: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "in" / f"{name}.mp4").write_bytes(b"no video")
    names = [f"{server}/in/{name}.mp4?token=secret" for name in "ab"]
    assert cli("encode", *names, *HERE, *EVS).code == 2
    assert cli("encode", *names, *HERE, *EVS, "-o", "other").code == 2
    assert "secret" not in "".join(path.read_text() for path in (out / "manifest.jsonl", out / "run.json"))
    said = cli("failures", out, "--retry", *HERE, "--json")
    assert (said.code, said.json["inputs"]) == (2, 3)
    assert "2 failed by a URL with a password or a query, which is not kept: run encode again with it\n" in said.err
    alone = cli("failures", "other", "--retry", *HERE)
    assert (alone.code, alone.out, alone.err.count("\n")) == (1, "", 1)


def test_what_is_no_file_keeps_its_reason(cli: Cli, here: Path, good: Path) -> None:
    """Rows of a list that name nothing, URLs that are not opened."""
    rows_ = f"{good},0,1\n{good},soon,\n,,\nfile:///etc/hostname,,\n"
    Path("list.csv").write_text(f"path,start,end\n{rows_}")
    assert cli("encode", "list.csv", *HERE, *EVS).code == 2
    before = cli("failures", "vidcomp-out", "--json").json["failures"]
    assert [failure["reason"] for failure in before] == ["unreadable"] * 3
    assert cli("failures", "vidcomp-out", "--retry", *HERE).code == 2
    assert cli("failures", "vidcomp-out", "--json").json["failures"] == before


def test_a_folder_that_is_found_by_its_error_stays_one(cli: Cli, out: Path, here: Path, corpus: Path) -> None:
    """Root may list every folder: the row stands for what another user met."""
    (here / "closed").mkdir()
    shutil.copy(corpus / "junk.mp4", here / "closed" / "a.mp4")
    row = {**rows(out)[0], "path": "closed", "status": "failed:unreadable", "reason": "unreadable"}
    with open(out / "manifest.jsonl", "a") as file:
        file.write(json.dumps({**row, "key": None, "message": "the folder cannot be listed: check"}) + "\n")
    assert cli("failures", out, "--retry", *HERE).code == 2
    assert "closed: unreadable: the folder cannot be listed: check\n" in cli("failures", out).out


def test_elsewhere_relative_paths_are_refused(
    cli: Cli, out: Path, here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree_bytes(out)
    said = cli("failures", out, "--retry", *HERE)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "run it where encode was run" in said.err
    assert tree_bytes(out) == before
    assert cli("failures", out).code == 0


def test_rows_of_one_video_are_told_apart(cli: Cli, clip: Path, here: Path) -> None:
    rows = [f"{clip},,,", f"{clip},1,,late", f"{clip},,1.5,early", f"{clip},90,99,beyond"]
    (here / "list.csv").write_text("\n".join(["path,start,end,id", *rows]))
    said = cli("encode", "list.csv", "--method", "evs")
    assert said.code == 2
    lines = [line for line in (said.out + said.err).splitlines() if str(clip) in line]
    told = [line.partition(str(clip))[2].partition(": ")[0] for line in lines]
    assert sorted(told) == ["", " [beyond, 90.0 s to 99.0 s]", " [early, 0 s to 1.5 s]", " [late, 1.0 s to its end]"]
