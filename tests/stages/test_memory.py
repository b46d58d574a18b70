"""The bounded memory of a stream: exact counts, older chunks smaller, nothing lost but what was merged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidcomp.models.types import AudioTokens
from vidcomp.stages.join import join
from vidcomp.stages.memory import Chunk, compacted, heard_less, remember, seen_less, shares_by_age
from vidcomp.stages.record import VideoRecord

GRID = (4, 3, 5)  # of each chunk; two frames a step


def chunk_record(number: int, rows: int = 20, sound: int = 0, frames: int = 8) -> VideoRecord:
    """A chunk in which `rows` tokens stay as they are."""
    random = torch.Generator().manual_seed(number)
    t, h, w = GRID
    kept = torch.randperm(t * h * w, generator=random)[:rows].sort().values
    at = torch.stack([kept // (h * w), kept // w % h, kept % w], dim=1).int()
    owner = torch.full((t * h * w,), -1, dtype=torch.int32)
    owner[kept] = torch.arange(rows, dtype=torch.int32)
    pts_s = torch.arange(frames, dtype=torch.float64) / 2 + 4 * number
    meta: dict[str, Any] = {
        **{
            "key": f"{number:032x}",
            "content": f"{number:032x}",
            "recipe_digest": "r",
            "temporal_patch": 2,
            "status": "ok",
        },
        **{"grid": list(GRID), "frames": frames, "budget": {"asked": {}, "nominal": None, "kept": rows}},
        **({"audio": {"tokens": sound, "kept": sound}} if sound else {}),
    }
    every = torch.arange(sound, dtype=torch.int32)
    audio = AudioTokens(
        torch.randn(sound, 6, generator=random), every, torch.ones_like(every), every / 2.0, sound, every
    )
    return VideoRecord(
        tokens=torch.randn(rows, 6, generator=random),
        positions=at,
        boxes=torch.stack([at, at + 1], dim=2).flatten(1),
        sizes=torch.ones(rows, dtype=torch.int32),
        pts_s=pts_s[::2][at[:, 0].long()],
        owner=owner,
        grid_pts_s=pts_s[::2],
        frame_pts_s=pts_s,
        frame_index=torch.arange(frames) + 8 * number,
        extra={"deep": torch.randn(rows, 2, 3, generator=random)},
        audio=replace(audio, pts_s=audio.pts_s.double()) if sound else None,
        meta=meta,
    )


def chunks(records: list[VideoRecord], offset_s: float = 0.0) -> list[Chunk]:
    def count(record: VideoRecord) -> int:
        return 0 if record.audio is None else len(record.audio)

    return [Chunk(len(r), count(r), offset_s, False, lambda r=r: r) for r in records]  # type: ignore[misc]


@given(st.lists(st.integers(0, 500), min_size=1, max_size=60), st.integers(1, 2000))
def test_shares_are_exact_and_never_more_than_there_is(kept: list[int], tokens: int) -> None:
    due = shares_by_age(kept, tokens)
    assert sum(due) == min(tokens, sum(kept))
    assert all(0 <= share <= have for share, have in zip(due, kept, strict=True))


def test_the_older_the_smaller() -> None:
    due = shares_by_age([300] * 50, 2000)
    assert due == sorted(due)
    assert (due[-1], due[0] > 0, due[0] < 30) == (300, True, True)


@pytest.mark.parametrize("tokens", [1, 7, 50, 99])
@pytest.mark.parametrize("sound", [0, 9])
def test_a_memory_has_just_so_many_tokens_and_stands_for_what_was_kept(tokens: int, sound: int) -> None:
    whole = [chunk_record(n, sound=sound) for n in range(6)]
    found = remember(chunks(whole), tokens)
    heard = 0 if found.audio is None else len(found.audio)
    assert len(found) + heard == tokens
    assert found.meta["budget"]["kept"] == len(found)
    if not sound:
        assert int(found.sizes.sum()) % 20 == 0  # of each chunk that has a share all of its tokens


def test_without_a_bound_it_is_the_chunks_joined() -> None:
    whole = [chunk_record(n) for n in range(3)]
    found, joined = remember(chunks(whole), None), join(whole, [0.0] * 3, [False] * 3)
    assert found.tensors().keys() == joined.tensors().keys()
    assert all(torch.equal(value, joined.tensors()[name]) for name, value in found.tensors().items())
    assert torch.equal(found.tokens, torch.cat([record.tokens for record in whole]))
    assert found.positions[:, 0].tolist() == [
        4 * n + t for n, r in enumerate(whole) for t in r.positions[:, 0].tolist()
    ]


@pytest.mark.parametrize("tokens", [3, 4, 1000])
def test_a_still_scene_does_not_fill_the_prompt_with_steps(tokens: int) -> None:
    """However much there is room for, steps of which nothing is kept go, and chunks without a token are not read."""

    def never() -> VideoRecord:
        raise AssertionError("read")

    still = [Chunk(0, 0, 0.0, False, never)] * 50
    found = remember([*chunks([chunk_record(0, rows=2)]), *still, *chunks([chunk_record(51, rows=2)])], tokens)
    assert len(found) == min(tokens, 4)
    assert found.grid[0] == len(found.positions[:, 0].unique())


def test_a_record_that_is_another_than_its_line_says() -> None:
    with pytest.raises(ValueError, match="another than its line says"):
        remember([Chunk(-5, 0, 0.0, False, lambda: chunk_record(0)), *chunks([chunk_record(1)])], 30)


def test_a_chunk_without_a_share_is_not_read() -> None:
    def never() -> VideoRecord:
        raise AssertionError("read")

    newest = chunk_record(9, rows=40)
    found = remember([Chunk(40, 0, 0.0, False, never), *chunks([newest])], 1)
    assert len(found) == 1
    with pytest.raises(ValueError, match="nothing is kept"):
        remember([Chunk(0, 0, 0.0, False, never)], 5)


@pytest.mark.parametrize("rows", [0, 1, 3, 19, 20])
def test_merged_rows_are_means_by_size(rows: int) -> None:
    record = chunk_record(3)
    record = replace(record, sizes=torch.arange(1, 21, dtype=torch.int32))
    small = seen_less(record, rows)
    assert (len(small), small.meta["budget"]["kept"]) == (rows, rows)
    if not rows:
        assert (small.owner == -1).all()
        return
    assert int(small.sizes.sum()) == int(record.sizes.sum())
    weight = record.sizes.double()
    row_of = torch.full((20,), -1)
    row_of[record.owner[record.owner >= 0].long()] = small.owner[record.owner >= 0].long()
    for row in range(rows):
        members = (row_of == row).nonzero()[:, 0]
        assert len(members)
        mean = (record.tokens[members].double() * weight[members, None]).sum(0) / weight[members].sum()
        torch.testing.assert_close(small.tokens[row].double(), mean, rtol=0, atol=1e-5)
        deep = (record.extra["deep"][members].double() * weight[members, None, None]).sum(0) / weight[members].sum()
        torch.testing.assert_close(small.extra["deep"][row].double(), deep, rtol=0, atol=1e-5)
        inside = record.positions[members]
        assert small.boxes[row, ::2].tolist() == inside.amin(0).tolist()
        assert small.boxes[row, 1::2].tolist() == (inside.amax(0) + 1).tolist()
        assert any(torch.equal(small.positions[row], place) for place in inside)


def test_sound_shrinks_the_same_way() -> None:
    sound = chunk_record(1, sound=9).audio
    assert sound is not None
    small = heard_less(sound, 4)
    assert (len(small), small.count, int(small.sizes.sum())) == (4, 9, 9)
    assert small.owner is not None
    assert set(small.owner.tolist()) == {0, 1, 2, 3}
    assert len(heard_less(sound, 0)) == 0


def test_steps_of_which_nothing_stands_go_with_their_frames() -> None:
    record = seen_less(chunk_record(2, rows=3), 1)
    step = int(record.positions[0, 0])
    small = compacted(record)
    assert small.grid == (1, 3, 5)
    assert torch.equal(small.grid_pts_s, record.grid_pts_s[step : step + 1])
    assert torch.equal(small.frame_pts_s, record.frame_pts_s[2 * step : 2 * step + 2])
    assert small.positions[0].tolist() == [0, *record.positions[0, 1:].tolist()]
    assert small.boxes[0, :2].tolist() == [0, 1]
    assert len(small.owner) == 15


def test_behind_a_gap_times_go_on_and_a_half_step_is_filled() -> None:
    first, second = chunk_record(0, frames=7), chunk_record(0)
    joined = join([first, second], [0.0, 10.0], [False, True])
    assert joined.grid == (8, 3, 5)
    assert joined.frame_pts_s.tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3, *(10 + n / 2 for n in range(8))]
    assert (joined.frame_index.diff() >= 0).all()
    assert (joined.grid_pts_s.diff() > 0).all()
    with pytest.raises(ValueError, match="2 recipes"):
        join([first, replace(second, meta={**second.meta, "recipe_digest": "s"})], [0.0, 10.0], [False, True])


def test_a_gap_without_a_pause_is_one_too() -> None:
    first, second = chunk_record(0, frames=7), chunk_record(1)
    joined = join([first, second], [0.0, 0.0], [False, True])
    assert torch.equal(joined.frame_pts_s[::2], joined.grid_pts_s)


@pytest.mark.parametrize("tokens", [None, 1, 10, 47])
def test_sound_that_only_some_have(tokens: int | None) -> None:
    whole = [
        chunk_record(0, rows=10),
        chunk_record(1, rows=10, sound=9),
        chunk_record(2, rows=10),
        chunk_record(3, rows=10, sound=9),
    ]
    found = remember(chunks(whole), tokens)
    assert len(found) + (0 if found.audio is None else len(found.audio)) == (58 if tokens is None else tokens)
    if found.audio is not None:
        assert found.meta["audio"] == {"tokens": found.audio.count, "kept": len(found.audio)}


def test_pictures_of_two_sizes_are_not_joined() -> None:
    other = chunk_record(1)
    turned = replace(other, meta={**other.meta, "grid": [4, 5, 3]}, positions=other.positions[:, [0, 2, 1]])
    with pytest.raises(ValueError, match="2 picture sizes"):
        join([chunk_record(0), turned], [0.0, 0.0], [False, False])
