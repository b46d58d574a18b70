"""ToMe and AIM against what their authors' code gave: groups, anchors and values within 1e-5."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages.methods import assemble

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "golden"
TOLERANCE = 1e-5


def cases(pattern):
    found = sorted(GOLDEN.glob(pattern))
    return pytest.mark.parametrize("path", found, ids=[path.stem for path in found])


def decided(z, merger, **hyper):
    """(grid, reduction): the features as frames of one row of tokens."""
    t, n, d = z["in_features"].shape
    grid = TokenGrid(torch.from_numpy(z["in_features"]).view(t, 1, n, d), torch.arange(t).double())
    return grid, assemble(merger, ("uniform", {}), (merger, {}), {}, hyper).decide(grid)[0]


def assert_same_rows(ours, theirs):
    """The same set of rows: each has one of the other's within the tolerance, one to one."""
    assert ours.shape == theirs.shape
    away = np.abs(ours[:, None] - theirs[None]).max(-1)
    assert sorted(away.argmin(1).tolist()) == list(range(len(theirs)))
    assert away.min(1).max() <= TOLERANCE


@cases("tome_[ci]*.npz")
def test_tome(path):
    z = np.load(path)
    grid, found = decided(z, "tome", rounds=z["hp_r"].tolist(), proportional=True)
    t, k, d = z["out_tokens"].shape
    assert len(found) == t * k
    if int(z["index_stable"]) != 1:
        return
    theirs = torch.from_numpy(z["out_owner"] + np.arange(t)[:, None] * k).flatten()
    match = torch.full((t * k,), -1).scatter_(0, found.owner.long(), theirs)
    assert torch.equal(match[found.owner.long()], theirs)  # the same partition
    assert found.sizes.tolist() == z["out_size"].reshape(-1)[match].tolist()
    assert np.abs(found.apply(grid.data).numpy() - z["out_tokens"].reshape(-1, d)[match]).max() <= TOLERANCE


@cases("tome_[ci]*.npz")
def test_tome_plain_means(path):
    z = np.load(path)
    grid, found = decided(z, "tome", rounds=z["hp_r"].tolist()[:1], proportional=False)
    theirs = z["out_merge_mean_round1"].reshape(-1, grid.data.shape[3])
    assert len(found) == len(theirs)
    if int(z["index_stable"]) == 1:
        assert_same_rows(found.apply(grid.data).numpy(), theirs)


@cases("tome_per*.npz")
def test_tome_down_to_a_share(path):
    z = np.load(path)
    scope = "video" if "pervideo" in path.stem else "frame"
    grid, found = decided(z, "tome", retain=1 - float(z["hp_prune_ratio"]), scope=scope)
    ids = z["out_token_idx"]
    ids = (
        ids
        if ids.ndim == 1
        else ids + np.arange(len(ids))[:, None] * (grid.per_step if ids.max() < grid.per_step else 0)
    )
    order = np.argsort(ids.ravel())
    assert found.anchor.tolist() == ids.ravel()[order].tolist()
    theirs = z["out_tokens"].reshape(-1, grid.data.shape[3])[order]
    assert np.abs(found.apply(grid.data).numpy() - theirs).max() <= TOLERANCE


@cases("aim_*.npz")
def test_aim(path):
    z = np.load(path)
    grid, found = decided(z, "aim")
    t, k, d = z["out_tokens"].shape
    assert found.positions[:, 0].bincount().tolist() == [k] * t
    ours = found.apply(grid.data).numpy().reshape(t, k, d)
    for frame in range(t):
        assert_same_rows(ours[frame], z["out_tokens"][frame])


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden files beside this checkout")
@pytest.mark.parametrize("pattern", ["tome_[ci]*", "tome_per*", "aim_*"])
def test_every_pattern_finds_files(pattern):
    assert any(GOLDEN.glob(f"{pattern}.npz"))
