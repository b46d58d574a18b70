"""FastVID's three code paths against what their authors' code gave: segments, kept tokens, values within 1e-5."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages.methods import assemble

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "golden"
TOLERANCE = 1e-5
VARIANTS = {"fastvid_llavavideo": "llava_video", "fastvid_qwen25vl": "qwen2_5_vl", "fastvid": "onevision"}
NAMES = {
    "retention_ratio": "retain",
    "DySeg_c": "segments",
    "DySeg_tau": "tau",
    "STPrune_d": "context_share",
    "DTM_p": "anchor_stride",
    "DTM_beta": "beta",
    "DySeg_ignore": "ignore",
}
FOUND = sorted(GOLDEN.glob("fastvid_*.npz"))


def read(path):
    """The file, the method with its hyper-parameters, and its grid."""
    z = np.load(path)
    hp = json.loads(str(z["meta"]))["hp"]
    hyper = {ours: hp[name] for name, ours in NAMES.items() if name in hp}
    variant = next(ours for prefix, ours in VARIANTS.items() if path.stem.startswith(prefix))
    method = assemble("fastvid", ("dyseg", {}), ("fastvid", {"variant": variant}), {}, hyper)
    x, attention = torch.from_numpy(z["in_features"]), torch.from_numpy(z["in_attn"])
    t, n, d = x.shape
    h, w = z["in_grid"].tolist() if "in_grid" in z else (1, n)
    pts, vectors = torch.arange(t).double(), torch.from_numpy(z["in_global"])
    return z, method, TokenGrid(x.view(t, h, w, d), pts, attention.view(t, h, w), vectors)


def kept(z):
    """Flat ids and values of the authors' tokens; of LLaVA-Video's sequence without the newline behind each row."""
    ids, values = z["out_keep_index"], z["out_tokens"]
    if "in_grid" not in z:
        return ids, values
    w = int(z["in_grid"][1])
    row, column = np.divmod(ids, w + 1)
    newline = column == w
    assert (values[newline] == 7).all()
    return (row * w + column)[~newline], values[~newline]


@pytest.mark.parametrize("path", FOUND, ids=[path.stem for path in FOUND])
def test_golden(path):
    z, method, grid = read(path)
    theirs = torch.from_numpy(np.concatenate([[0], z["out_segment_sizes"].cumsum()[:-1]]))
    if path.stem != "fastvid_identical":  # there it is topk's whim which of equal similarities are cut
        assert torch.equal(method.segmenter.segment(grid).starts, theirs)
    found = method.merger.reduce(grid, Segments(theirs, grid.shape[0]))
    ids, values = kept(z)
    assert len(found) == len(ids)
    assert len(found) == method.merger.count(grid, Segments(theirs, grid.shape[0]), None)
    if int(z["index_stable"]) == 1:
        assert found.anchor.tolist() == ids.tolist()
        assert np.abs(found.apply(grid.data).numpy() - values).max() <= TOLERANCE


@pytest.mark.parametrize("name", ["fastvid_case1", "fastvid_case3"])
def test_onevision_plan(name):
    path = GOLDEN / f"{name}.npz"
    if not path.is_file():
        pytest.skip("no golden files beside this checkout")
    z, method, grid = read(path)
    plan = method.merger.plan(grid, method.segmenter.segment(grid))
    assert [plan.centres.get(frame, 0) for frame in range(grid.shape[0])] == z["out_frame_context_num"].tolist()
    per_frame = np.bincount(z["out_frame"][z["out_is_salient"] == 1], minlength=grid.shape[0])
    assert plan.salient == per_frame.tolist()


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden files beside this checkout")
def test_every_variant_has_files():
    assert {read(path)[1].merger.variant for path in FOUND} == set(VARIANTS.values())
