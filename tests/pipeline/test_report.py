"""`inspect` and `report` on guided records: the picture in a terminal, and a page that holds all it needs."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from records import damage, video_record

from vidcomp.pipeline.report.blocks import BLOCKS, line
from vidcomp.pipeline.report.chart import Scale, axis, chart, clock
from vidcomp.pipeline.report.timeline import Stretch, gathered
from vidcomp.stages.record import VideoRecord

from .conftest import Cli

SOURCE = {"variable_rate": False, "rotation": 0, "codec": "h264", "width": 96, "height": 64}
NASTY = "<script>alert('x')</script>&\"\ud800"


def record(steps: int = 10, *, guided: bool = True, **more: Any) -> VideoRecord:
    """3 tokens of 2 x 2 kept in step 4, one in each other; chunks of 6 steps, windows of 4: 0-4, 4-6, 6-10."""
    old = video_record(0)
    t = torch.arange(steps).repeat_interleave(torch.where(torch.arange(steps) == 4, 3, 1))
    place = torch.arange(len(t)) % 4
    positions = torch.stack([t, place // 2, place % 2], dim=1).int()
    told = {"mode": "omnizip", "window_steps": 4, "heard": True, "by": "analyser"}
    meta = {
        **old.meta,
        "grid": [steps, 2, 2],
        "source": {**old.meta["source"], **SOURCE},
        "method": {"name": "evs", "stand_ins": {}, "segmenter": {"name": "uniform"}, "merger": {"name": "evs"}},
        "frame_size": [64, 96],
        "budget": {"asked": {"tokens": len(t)}, "nominal": len(t), "kept": len(t)},
        "seconds_per_step": 0.5,
        "chunk_frames": 6,
        "temporal_patch": 1,
        **({"audio_guide": told} if guided else {}),
        **more,
    }
    heard = torch.where(torch.arange(steps) == 4, 1.0, 0.0)
    weights = torch.tensor([0.8, 1.5, 0.9]).repeat_interleave(torch.tensor([4, 2, 4]))
    return replace(
        old,
        tokens=torch.zeros(len(t), 4),
        positions=positions,
        boxes=torch.zeros(len(t), 6, dtype=torch.int32),
        sizes=torch.ones(len(t), dtype=torch.int32),
        pts_s=t.double() / 2,
        owner=torch.zeros(steps * 4, dtype=torch.int32),
        grid_pts_s=torch.arange(steps).double() / 2,
        frame_vectors=None,
        extra={},
        meta=meta,
        saliency=heard if guided else None,
        guide_weights=weights if guided else None,
    )


@pytest.fixture
def path(here: Path) -> Path:
    record().save(here / "a.safetensors")
    return here / "a.safetensors"


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open, self.words = list[tuple[str, dict[str, str | None]]](), list[str](), list[str]()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


# -- inspect -----------------------------------------------------------------------------------------------


def test_inspect_draws_what_was_heard_and_kept(cli: Cli, path: Path) -> None:
    said = cli("inspect", path)
    rows = {line.split()[0]: line for line in said.out.splitlines()}
    assert rows["heard"].split(maxsplit=1)[1] == "▁▅▁  0 to 5 s"
    assert rows["kept"].split(maxsplit=1)[1] == "███  4 to 4 tokens a window"
    assert "omnizip, windows of 4 steps, heard by the analyser" in said.out


def test_inspect_tells_the_windows(cli: Cli, path: Path) -> None:
    windows = cli("inspect", path, "--json").json["windows"]
    assert [(w["start_s"], w["end_s"], w["tokens"], w["source"]) for w in windows] == [
        (0.0, 2.0, 4, 16),
        (2.0, 3.0, 4, 8),
        (3.0, 5.0, 4, 16),
    ]
    assert [w["saliency"] for w in windows] == [0.0, 0.5, 0.0]
    assert [w["weight"] for w in windows] == pytest.approx([0.8, 1.5, 0.9])


def test_inspect_says_nothing_of_sound_that_did_not_guide(cli: Cli, here: Path) -> None:
    record(guided=False).save(here / "b.safetensors")
    assert "windows" not in cli("inspect", "b.safetensors", "--json").json
    assert "heard" not in cli("inspect", "b.safetensors").out
    mute = {"mode": "proportional", "window_steps": 4, "heard": False}
    record(guided=False, audio_guide=mute).save(here / "c.safetensors")
    assert "proportional, windows of 4 steps, no sound" in cli("inspect", "c.safetensors").out


def test_a_long_video_fits_a_terminal() -> None:
    found = [Stretch(float(n), n + 1.0, n, 100, n / 1000, 1.0) for n in range(1000)]
    few = gathered(found, 64)
    assert len(few) <= 64
    assert (few[0].start_s, few[-1].end_s) == (0.0, 1000.0)
    assert sum(part.tokens for part in few) == sum(range(1000))
    assert few[1].saliency == pytest.approx((16 + 31) / 2 / 1000)
    assert gathered(found[:3], 64) == found[:3]


def test_blocks() -> None:
    assert line([0, 0.5, 1], 1.0) == f"▁{BLOCKS[4]}█"
    assert line([0, 0], 0) == "▁▁"
    assert line([-1, 9], 1.0) == "▁█"


# -- the page ----------------------------------------------------------------------------------------------


def test_a_page_holds_all_it_needs(cli: Cli, path: Path, here: Path) -> None:
    record(guided=False).save(here / "b.safetensors")
    said = cli("report", path, "b.safetensors", "-o", "page.html", "--json")
    assert (said.code, said.json) == (0, {"page": "page.html", "records": 2})
    text = (here / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "image", "use", "a"}
    assert not re.search(r"https?:|url\(|@import|\bon\w+=", text)
    bars = [attrs for tag, attrs in page.tags if tag == "rect"]
    kinds = [str(attrs["class"]) for attrs in bars]
    assert (kinds.count("heard"), kinds.count("kept")) == (10, 3 + 10)
    for wanted in ("a.safetensors", "10 × 2 × 2", "grid, 40 tokens", "tokens 12", "12 (30.0 %)"):
        assert wanted in page.words
    assert "2.00 to 3.00 s: 4 of 8 tokens, 1.50 x its even share" in page.words
    assert "2.00 to 2.50 s: saliency 1.000" in page.words


def test_bars_stand_on_their_seconds_and_are_as_high_as_their_values(path: Path) -> None:
    parts = [Stretch(0, 1, 10, 20, 0.0, 1.0), Stretch(1, 2, 30, 40, 0.5, 1.0), Stretch(2, 4, 20, 80, 1.0, 1.0)]
    bars = [attrs for tag, attrs in Page(chart(parts, parts)).tags if tag == "rect"]
    high = [float(str(attrs["height"])) for attrs in bars]
    assert high[:3] == pytest.approx([0, high[2] / 2, high[2]])
    assert high[3:] == pytest.approx([high[4] / 3, high[4], high[4] / 3], rel=0.01)  # 10, 30, 10 a second
    x = [float(str(attrs["x"])) for attrs in bars[:3]]
    assert x[2] - x[1] == pytest.approx(x[1] - x[0])
    wide = [float(str(attrs["width"])) for attrs in bars[:3]]
    assert wide[2] == pytest.approx(2 * wide[1], abs=2)


def test_nothing_in_a_record_becomes_markup(cli: Cli, here: Path) -> None:
    old = record()
    method = {**old.meta["method"], "name": NASTY, "merger": {"name": NASTY, NASTY: NASTY}}
    record(method=method, status=NASTY, key=NASTY).save(here / "<b>&.safetensors")
    assert cli("report", "<b>&.safetensors", "-o", "page.html").code == 0
    page = Page((here / "page.html").read_text(encoding="utf-8"))
    assert not {tag for tag, _ in page.tags} & {"script", "b&.safetensors"}
    assert "<b>&.safetensors" in page.words
    assert NASTY.replace("\ud800", "?") in page.words


@pytest.mark.parametrize(
    ("start_s", "end_s", "told"),
    [
        (0, 16, ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s", "12 s", "14 s", "16 s"]),
        (-0.1, 0.6, ["-0.1 s", "0 s", "0.1 s", "0.2 s", "0.3 s", "0.4 s", "0.5 s", "0.6 s"]),
        (1000, 1300, ["17:00", "18:00", "19:00", "20:00", "21:00"]),
        (86000, 90000, ["24:00:00", "24:10:00", "24:20:00", "24:30:00", "24:40:00", "24:50:00", "25:00:00"]),
    ],
)
def test_times_are_marked(start_s: float, end_s: float, told: list[str]) -> None:
    found = Page("".join(axis(Scale(start_s, end_s), 10))).words
    assert [text for text in found if text] == told


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.5, 60, 3599, 3600, -75)] == ["0 s", "59.5 s", "1:00", "59:59", "1:00:00", "-1:15"]


def test_a_day_is_a_page_of_bounded_size() -> None:
    steps = [Stretch(float(n), n + 1.0, n % 7, 100, 0.5, 1.0) for n in range(86400)]
    assert len(chart(steps, steps)) < 100_000


def test_neither_imports_torch(path: Path, here: Path) -> None:
    code = (
        "import sys; from vidcomp.pipeline.cli.app import run\n"
        "codes = [run(['inspect', 'a.safetensors']), run(['report', 'a.safetensors', '-o', 'page.html'])]\n"
        "print(codes, sorted({'torch', 'transformers', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[0, 0] []"


# -- what goes wrong ---------------------------------------------------------------------------------------


def test_a_page_never_takes_a_records_place(cli: Cli, path: Path, here: Path) -> None:
    before = path.read_bytes()
    said = cli("report", path, "-o", here / "." / "a.safetensors")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert path.read_bytes() == before


def test_damaged_and_absent_records(cli: Cli, path: Path, here: Path) -> None:
    said = cli("report", path, "none.safetensors", "-o", "page.html")
    assert said.code == 1
    assert "no such record" in said.err
    damage(path)  # the last tensor: its tokens, which no page shows
    assert cli("report", path, "-o", "page.html").code == 0
    data = bytearray(path.read_bytes())
    data[-(12 * 4 * 4 + 12 * 4 + 1)] ^= 1  # behind it sizes, and saliency
    path.write_bytes(data)
    said = cli("report", path, "-o", "other.html")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "'saliency' is damaged" in said.err
    assert not (here / "other.html").exists()
