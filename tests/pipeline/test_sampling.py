"""Sampling rules as a user gives them, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest
from media import B_FRAMES, make_clip

import vidcomp
from vidcomp.models.consume import since_start
from vidcomp.pipeline.errors import ConfigError
from vidcomp.pipeline.presets import build_recipe


def encoded(path: Path, out: Path, **sample: Any) -> vidcomp.VideoRecord:
    return vidcomp.encode(path, method="evs", out=out, settings=[{"sample": sample}])


def test_rules_decide_the_frames_of_a_record(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", count=60, options=B_FRAMES)  # 25 a second, a key frame every 12
    rules: list[tuple[dict[str, Any], list[float]]] = [
        ({}, [0.0, 1.0, 2.0]),
        ({"every": 25}, [0.0, 1.0, 2.0]),
        ({"frames": 3}, [0.0, 1.16, 2.36]),
        ({"keyframes": True, "max_frames": 3}, [0.0, 0.96, 1.92]),
        ({"times_s": [0.5, 1.5]}, [0.48, 1.48]),  # 0.5 and 1.5 are ties of 25 a second
        ({"start_s": 1.0}, [1.0, 2.0]),
        ({"fps": 2, "start_s": 1.0, "end_s": 2.0}, [1.0, 1.48]),
    ]
    for rule, times in rules:
        record = encoded(path, tmp_path / "out", **rule)
        assert record.grid_pts_s.tolist() == pytest.approx(times), rule
        assert record.meta["recipe"]["sample"] == (rule if {*rule} - {"start_s", "end_s"} else {"fps": 1.0, **rule})


def test_nothing_at_the_times_asked_for_fails_that_video(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4")
    with pytest.raises(vidcomp.SourceError, match="start_s=9") as caught:
        encoded(path, tmp_path / "out", start_s=9.0)
    assert caught.value.reason == "no_sample"


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ({"fps": 1, "frames": 2}, "one rule at a time, got fps and frames"),
        ({"every": 0}, "every"),
        ({"frames": 1.5}, "frames"),
        ({"fps": 0}, "fps"),
        ({"start_s": 2, "end_s": 1}, "start_s must be before end_s"),
        ({"min_frames": 3, "max_frames": 2}, "min_frames must not be over max_frames"),
    ],
)
def test_rules_that_make_no_sense(sample: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build_recipe(settings=[{"sample": sample}])


def test_a_presets_rule_can_be_taken_away() -> None:
    with pytest.raises(ConfigError, match="got fps and frames"):
        build_recipe(method="omnizip", settings=["sample.frames=8"])
    recipe = build_recipe(method="omnizip", settings=["sample.fps=null", "sample.frames=8"])
    assert (recipe.sample.fps, recipe.sample.frames) == (None, 8)


def test_a_clock_that_starts_anywhere_is_told(clip: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.ts"
    with av.open(str(clip)) as source, av.open(str(late), "w", options={"output_ts_offset": "36000"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in (p for p in source.demux(video=0) if p.size):
            packet.stream = stream
            out.mux(packet)
    record = vidcomp.encode(late, out=tmp_path / "out", fps=2.0, method="uniform")
    assert record.meta["source"]["start_s"] == float(record.frame_pts_s[0]) >= 36000
    assert since_start(record, record.frame_pts_s)[0] == 0
