"""HoliTom and PruneVid against what their authors' code gave: windows, groups and rows, values within 1e-5."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages import ops_static
from vidcomp.stages.methods import assemble

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "golden"
TOLERANCE = 1e-5


def cases(pattern):
    """The golden files of one method that hold a whole decision."""
    found = [path for path in sorted(GOLDEN.glob(f"{pattern}_*.npz")) if "inllm" not in path.stem]
    return pytest.mark.parametrize("path", found, ids=[path.stem for path in found])


def grid_of(z):
    t, n, d = z["in_features"].shape
    attention = torch.from_numpy(z["in_attn"]).view(t, 1, n) if "in_attn" in z else None
    return TokenGrid(torch.from_numpy(z["in_features"]).view(t, 1, n, d), torch.arange(t).double(), attention)


def values_in_rows(z):
    """The authors' tokens; in `grid` mode without the newline vectors."""
    out = z["out_tokens"]
    return out if "in_newline" not in z else out[(out != z["in_newline"]).any(1)]


def holitom(z):
    hp = json.loads(str(z["meta"]))["hp"]
    names = {"retain_ratio": "retain", "tau": "tau", "Beta": "beta", "K": "k", "max_window_size": "max_window"}
    return assemble("holitom", ("dp_static", {}), ("holitom", {}), {}, {ours: hp[name] for name, ours in names.items()})


def prunevid(z):
    hp = json.loads(str(z["meta"]))["hp"]
    names = {"tau": "tau", "temporal_segment_ratio": "segment_ratio", "cluster_ratio": "cluster_ratio", "k": "k"}
    hyper = {ours: hp[name] for name, ours in names.items()} | {"min_cluster": hp["min_tokens_to_cluster"]}
    return assemble("prunevid", ("dpc_frames", {}), ("prunevid", {}), {}, hyper)


@cases("holitom")
def test_holitom(path):
    z = np.load(path)
    method, grid = holitom(z), grid_of(z)
    segments = method.segmenter.segment(grid)
    assert [[first, end - 1] for first, end in segments.spans()] == z["out_windows"].tolist()
    static_SN = ops_static.unchanged(ops_static.traced(grid, segments), method.merger.tau)
    assert np.array_equal(static_SN.numpy(), z["out_static_mask"])
    found, _ = method.decide(grid)
    anchor = z["out_frame"] * grid.per_step + z["out_patch"]
    order = np.argsort(anchor)
    assert len(found) == len(anchor)
    if int(z["index_stable"]) == 1:
        assert found.anchor.tolist() == anchor[order].tolist()
        sizes = z["out_cluster_size"] * np.where(z["out_is_static"] == 1, z["out_span"], 1)
        assert found.sizes.tolist() == sizes[order].tolist()
        ours, theirs = found.apply(grid.data).numpy(), values_in_rows(z)
        # newline mode interleaves static and dynamic tokens of a window's first frame by patch
        theirs = theirs if "in_newline" in z else theirs[order]
        assert np.abs(ours - theirs).max() <= TOLERANCE


@cases("prunevid")
def test_prunevid(path):
    z = np.load(path)
    method, grid = prunevid(z), grid_of(z)
    segments = method.segmenter.segment(grid)
    assert segments.lengths.tolist() == z["out_windows"].tolist()
    assert np.array_equal(method.merger.static(grid, segments).numpy(), z["out_static_mask"])
    found, _ = method.decide(grid)
    assert len(found) == len(z["out_tokens"])
    if int(z["index_stable"]) == 1:
        theirs = torch.from_numpy(z["out_owner_row"]).flatten()
        match = torch.full((len(found),), -1).scatter_(0, found.owner.long(), theirs)
        assert torch.equal(match[found.owner.long()], theirs)  # the same partition
        assert sorted(match.tolist()) == list(range(len(found)))
        assert found.sizes.tolist() == z["out_cluster_size"][match].tolist()
        assert np.abs(found.apply(grid.data).numpy() - z["out_tokens"][match]).max() <= TOLERANCE


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden files beside this checkout")
@pytest.mark.parametrize("pattern", ["holitom", "prunevid"])
def test_every_pattern_finds_files(pattern):
    assert any(GOLDEN.glob(f"{pattern}_case*.npz"))
