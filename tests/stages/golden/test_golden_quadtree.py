"""STTM against what its authors' code gave: leaves, groups and boxes, values within 1e-5."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vidcomp.models.types import Segments, TokenGrid
from vidcomp.stages.mergers._sttm_links import Nodes
from vidcomp.stages.mergers.sttm import Sttm

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "golden"
TOLERANCE = 1e-5
FOUND = sorted(GOLDEN.glob("sttm_*.npz"))


def read(path):
    """The file, the method with its hyper-parameters, and its grid."""
    z = np.load(path)
    merger = Sttm(
        spatial_threshold=float(z["hp_threshold"]),
        temporal_threshold=float(z["hp_temporal_thresh"]),
        root_level=int(z["hp_root_level"]),
        weighted=bool(z["hp_weighted_avg"]),
        head_dim=int(z["hp_head_dim"]) or None,
    )
    x = torch.from_numpy(z["in_features"])
    t, _, d = x.shape
    return z, merger, TokenGrid(x.view(t, *z["hp_grid_hw"].tolist(), d), torch.arange(t).double())


@pytest.mark.parametrize("path", FOUND, ids=[path.stem for path in FOUND])
def test_leaves(path):
    z, merger, grid = read(path)
    nodes = Nodes(merger.pyramid(grid), merger.spatial_threshold)
    t, y, x, y_end, x_end = z["dbg_spatial_tyxyx"].astype(np.int64).T
    _, h, w = grid.shape
    corner, area = t * h * w + y * w + x, (y_end - y) * (x_end - x)
    order = np.argsort(corner)
    assert nodes.corner_M.tolist() == corner[order].tolist()
    assert nodes.number_TN.flatten().bincount().tolist() == area[order].tolist()


@pytest.mark.parametrize("path", FOUND, ids=[path.stem for path in FOUND])
def test_golden(path):
    z, merger, grid = read(path)
    found = merger.reduce(grid, Segments(torch.tensor([0]), grid.shape[0]))
    assert len(found) == len(z["out_tokens"])
    if int(z["index_stable"]) == 1:
        assert found.positions.tolist() == z["out_tyxyx"][:, :3].tolist()
        assert found.sizes.tolist() == z["out_num_patch"].tolist()
        assert np.abs(found.apply(grid.data).numpy() - z["out_tokens"]).max() <= TOLERANCE
