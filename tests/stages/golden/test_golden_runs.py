"""DyCoke, RLT and DTD against what their authors' code gave."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.pipeline.reduce import reduce
from vidcomp.stages.mergers.dtd import Dtd
from vidcomp.stages.mergers.rlt import Rlt

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "golden"
TOLERANCE = 1e-5


def files(pattern):
    return [pytest.param(np.load(path), id=path.stem) for path in sorted(GOLDEN.glob(f"{pattern}.npz"))]


def features(z):
    return torch.from_numpy(z["in_features"])


@pytest.mark.parametrize("z", files("dycoke_*"))
def test_dycoke(z):
    ratio = json.loads(str(z["meta"]))["hp"]["merging_ratio"]
    feat_TND = features(z)
    found = reduce(feat_TND, "dycoke", merge_ratio=ratio)
    t, n, _ = feat_TND.shape
    per_frame = z["out_tokens_per_frame"].tolist()
    if t % 2:  # the reference loses the last of an odd number of frames; here it begins a group, or ends one whole
        assert per_frame[-1] == 0
        per_frame[-1] = n
    assert found.positions[:, 0].bincount(minlength=t).tolist() == per_frame
    if "identical" in json.loads(str(z["meta"]))["note"]:
        return  # which of equal patches stay is torch's whim there
    kept = z["out_frame"] * n + z["out_patch"]
    order = np.argsort(kept)
    ours = found.anchor < (t - t % 2) * n
    assert found.anchor[ours].tolist() == kept[order].tolist()
    assert np.abs(found.apply(feat_TND)[ours].numpy() - z["out_tokens"][order]).max() <= TOLERANCE


def rlt_settings(z):
    hyper = {name: z[f"hp_{name}"].item() for name in ("threshold", "tubelet", "patch")}
    return {**hyper, "mean": tuple(z["hp_mean"].tolist()), "std": tuple(z["hp_std"].tolist())}


@pytest.mark.parametrize("z", files("rlt_*"))
def test_rlt(z):
    frames = torch.from_numpy(z["in_frames"])
    found = reduce(None, "rlt", pixels=frames, **rlt_settings(z))
    assert found.grid == z["out_mask"].shape
    assert found.positions.tolist() == z["out_thw"].tolist()
    assert found.anchor.tolist() == z["out_mask"].reshape(-1).nonzero()[0].tolist()
    assert found.sizes.tolist() == z["out_lengths_token_order"].tolist()


@pytest.mark.parametrize("z", files("rlt_*"))
def test_rlt_differences(z):
    frames = torch.from_numpy(z["in_frames"])
    shape = z["out_mask"].shape
    grid = TokenGrid(torch.zeros(*shape, 0), torch.arange(shape[0]).double(), pixels=frames)
    score = Rlt(**rlt_settings(z)).score(grid, Segments(torch.tensor([0]), shape[0]), None)
    assert np.abs(score.view(shape)[1:].numpy() - z["dbg_diff"]).max() <= TOLERANCE


def dtd_settings(z):
    return {"mode": str(z["hp_method"]), "threshold": float(z["hp_threshold"]), "absolute": bool(z["hp_absolute"])}


@pytest.mark.parametrize("z", files("dtd_*"))
def test_dtd(z):
    if "in_frames" in z.files:
        given = {"features": None, "pixels": torch.from_numpy(z["in_frames"])}
    else:
        given = {"features": features(z), "grid": tuple(z["hp_grid_hw"].tolist())}
    found = reduce(method="dtd", **given, **dtd_settings(z))
    if int(z["index_stable"]) == 1:
        assert found.anchor.tolist() == z["out_index"].tolist()
    if "out_tokens" in z.files:
        assert np.abs(found.apply(given["features"]).numpy() - z["out_tokens"]).max() <= TOLERANCE


@pytest.mark.parametrize("z", files("dtd_pixel*"))
def test_dtd_differences(z):
    frames, (t, high, wide) = torch.from_numpy(z["in_frames"]), z["hp_grid_thw"].tolist()  # patches before merging 2x2
    grid = TokenGrid(torch.zeros(t, high // 2, wide // 2, 0), torch.arange(t).double(), pixels=frames)
    score = Dtd(**dtd_settings(z)).score(grid, Segments(torch.tensor([0]), t), None)
    assert np.abs(score.view(grid.shape)[1:].numpy() - z["dbg_diff"]).max() <= TOLERANCE


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden files beside this checkout")
def test_every_pattern_finds_files():
    assert all(any(GOLDEN.glob(f"{name}_*.npz")) for name in ("dycoke", "rlt", "dtd"))
