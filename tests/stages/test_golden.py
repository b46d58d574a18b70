"""Each method against what its authors' code gave: indices exactly where they are stable, values within 1e-5.

A method enters by a function that reads one golden file: (method, grid, rows the authors kept, their values or None).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages.methods import assemble

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
TOLERANCE = 1e-5


def grid_of(z, h=1, **more):
    """The file's features (T,N,D) as a grid of `h` rows."""
    t, n, d = z["in_features"].shape
    shaped = {k: v.reshape(t, h, n // h) if k == "attention" else v for k, v in more.items()}
    return TokenGrid(torch.from_numpy(z["in_features"]).reshape(t, h, n // h, d), torch.arange(t).double(), **shaped)


def evs(z):
    # "thw" counts patches before merging; q is the share to drop
    method = assemble("evs", ("uniform", {}), ("evs", {}), {}, {"retain": 1 - float(z["hp_q"])})
    return method, grid_of(z, int(z["hp_video_size_thw"][1] // z["hp_spatial_merge_size"])), z["out_index"], None


def fastvid(z):
    hp = json.loads(str(z["meta"]))["hp"]
    hyper = {
        "retain": hp["retention_ratio"],
        "segments": hp["DySeg_c"],
        "tau": hp["DySeg_tau"],
        "context_share": hp["STPrune_d"],
        "anchor_stride": hp["DTM_p"],
        "beta": hp["DTM_beta"],
    }
    method = assemble("fastvid", ("dyseg", {}), ("fastvid", {}), {}, hyper)
    grid = grid_of(z, attention=torch.from_numpy(z["in_attn"]), frame_vectors=torch.from_numpy(z["in_global"]))
    assert method.segmenter.segment(grid).lengths.tolist() == z["out_segment_sizes"].tolist()
    return method, grid, z["out_keep_index"], z["out_tokens"]


METHODS = {"evs_*": evs, "fastvid_case*": fastvid}
CASES = [(path, read) for pattern, read in METHODS.items() for path in sorted(GOLDEN.glob(f"{pattern}.npz"))]


@pytest.mark.parametrize(("path", "read"), CASES, ids=[path.stem for path, _ in CASES])
def test_golden(path, read):
    z = np.load(path)
    method, grid, kept, values = read(z)
    reduction, _ = method.decide(grid)
    assert len(reduction) == len(kept)
    if int(z["index_stable"]) == 1:
        assert reduction.anchor.tolist() == kept.tolist()
        want = grid.feat_ND[torch.from_numpy(kept)].numpy() if values is None else values
        assert np.abs(reduction.apply(grid.data).numpy() - want).max() <= TOLERANCE


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden files beside this checkout")
def test_every_pattern_finds_files():
    assert all(any(GOLDEN.glob(f"{pattern}.npz")) for pattern in METHODS)
