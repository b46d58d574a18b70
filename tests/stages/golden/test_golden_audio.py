"""OmniZip and TS-LLaVA against what their authors' code gave: rows, ratios, merges and pictures, values within 1e-5.

Not compared: `omnizip_units_*`, the spatial selector of an older variant (without distances to denser tokens).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages.mergers._omnizip_windows import drop_ratios
from vidcomp.stages.mergers.linspace import Linspace
from vidcomp.stages.mergers.omnizip import OmniZip
from vidcomp.stages.methods import Method
from vidcomp.stages.parts import make
from vidcomp.stages.thumbnail import grid_shape, thumbnail, thumbnail_steps

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "golden"
TOLERANCE = 1e-5


def cases(pattern):
    found = [path for path in sorted(GOLDEN.glob(f"{pattern}_*.npz")) if "units" not in path.stem]
    return pytest.mark.parametrize("path", found, ids=[path.stem for path in found])


def off(got, want):
    return float((got - torch.from_numpy(want)).abs().max()) if want.size else 0.0


def omnizip(z):
    """(merger, grid, places of video tokens in the sequence, places of audio tokens)."""
    meta = json.loads(str(z["meta"]))
    video, audio = (np.flatnonzero(z["in_ids"] == meta["ids"][kind]) for kind in ("video", "audio"))
    t, h, w = z["hp_grid_thw"] // [1, meta["merge"], meta["merge"]]
    rows = torch.from_numpy(z["in_embeds"])
    sound = {"audio": rows[audio], "audio_attention": torch.from_numpy(z["in_attn"])} if len(audio) else {}
    grid = TokenGrid(rows[video].view(t, h, w, -1), torch.arange(t).double(), **sound)
    names = {"merging_ratio_audio": "audio_drop", "merging_ratio_v": "video_drop"}
    hyper = {names.get(name, name): value for name, value in meta["hp"].items()}
    return OmniZip(frames_per_window=int(z["hp_frames_per_chunk"]), **hyper), grid, video, audio


@cases("omnizip")
def test_omnizip_windows(path):
    z = np.load(path)
    merger, grid, _, _ = omnizip(z)
    windows = merger.windows(grid)
    tokens = [[first * grid.per_step, end * grid.per_step] for first, end in windows.video]
    assert tokens == z["dbg_video_chunks"].tolist()
    assert [list(span) for span in windows.audio] == z["dbg_audio_chunks"].tolist()
    ratios = drop_ratios([end - first for first, end in tokens], z["dbg_retention"].tolist(), merger.video_drop)
    assert ratios[: len(z["out_video_ratio"])] == z["out_video_ratio"].tolist()


@cases("omnizip")
def test_omnizip(path):
    z = np.load(path)
    merger, grid, video, audio = omnizip(z)
    seen, heard = Method("omnizip", make("segmenter", "uniform", {}), merger).decide(grid)[0], merger.reduce_audio(grid)
    kept = z["out_kept_index"]
    is_video, is_audio = np.isin(kept, video), np.isin(kept, audio)
    assert len(seen) == is_video.sum()
    assert heard.anchor.tolist() == np.searchsorted(audio, kept[is_audio]).tolist()
    assert off(heard.apply(grid.audio) if len(audio) else torch.zeros(0), z["out_kept_embeds"][is_audio]) <= TOLERANCE
    if int(z["index_stable"]) == 1:
        assert seen.anchor.tolist() == np.searchsorted(video, kept[is_video]).tolist()
        assert off(seen.apply(grid.data), z["out_kept_embeds"][is_video]) == 0


@cases("omnizip")
def test_omnizip_merges(path):
    z = np.load(path)
    merger, grid, _, _ = omnizip(z)
    heard = merger.reduce_audio(grid)
    anchor = heard.anchor[heard.row_of_entry]
    merged = heard.indices != anchor
    pairs = torch.stack([anchor, heard.indices], 1)[merged].tolist()
    assert sorted(pairs) == sorted(z["out_merge_pairs"].tolist())
    assert set(z["out_audio_anchors"].tolist()) <= set(heard.anchor.tolist())


@cases("omnizip")
def test_omnizip_exactly_at_its_own_count(path):
    merger, grid, _, _ = omnizip(np.load(path))
    segments = Segments(torch.tensor([0]), grid.shape[0])
    seen = merger.reduce(grid, segments)
    assert torch.equal(merger.exact(grid, segments, None, len(seen))[0].anchor, seen.anchor)
    assert merger.count(grid, segments, None) == len(seen)


@cases("tsllava")
def test_tsllava_tokens(path):
    z = np.load(path)
    t, n, d = z["in_features"].shape
    grid = TokenGrid(torch.from_numpy(z["in_features"]).view(t, 1, n, d), torch.arange(t).double())
    asked = int(z["hp_num_sampled_tokens"])
    for hyper in ({"tokens": asked}, {"retain": asked / grid.count}):
        found, _ = Method("linspace", make("segmenter", "uniform", {}), Linspace(**hyper)).decide(grid)
        assert found.anchor.tolist() == z["out_token_index"].tolist()
        assert off(found.apply(grid.data), z["out_tokens"]) == 0


@cases("tsllava")
def test_tsllava_thumbnail(path):
    z = np.load(path)
    cells = int(z["hp_thumbnail_frames"])
    frames = torch.from_numpy(z["in_frames"]).permute(0, 2, 3, 1)
    assert thumbnail_steps(len(frames), cells).tolist() == z["out_frame_index"].tolist()
    assert list(grid_shape(cells)) == z["out_grid"].tolist()
    picture = thumbnail(frames, cells, tuple(z["hp_final"].tolist()))
    assert off(picture.permute(2, 0, 1), z["out_thumbnail"]) <= TOLERANCE


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden files beside this checkout")
def test_every_pattern_finds_files():
    assert any(GOLDEN.glob("omnizip_case*.npz"))
    assert any(GOLDEN.glob("tsllava_case*.npz"))
