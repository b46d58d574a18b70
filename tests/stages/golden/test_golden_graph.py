"""LLaVA-Scissor (exact components) and DivPrune against what their authors' code gave, values within 1e-5."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages.methods import assemble

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "golden"
TOLERANCE = 1e-5


def cases(name):
    found = sorted(GOLDEN.glob(f"{name}_*.npz"))
    return pytest.mark.parametrize("path", found, ids=[path.stem for path in found])


def grid_of(z):
    t, n, d = z["in_features"].shape
    return TokenGrid(torch.from_numpy(z["in_features"]).view(t, 1, n, d), torch.arange(t).double())


def decide(name, z, **hyper):
    grid = grid_of(z)
    return grid, assemble(name, ("uniform", {}), (name, {}), {}, hyper).decide(grid)[0]


@cases("scissor")
def test_scissor(path):
    z = np.load(path)
    grid, found = decide("scissor", z, tau=float(z["hp_tau"]))
    kind = "exact" if "exact_tokens" in z else "out"
    assign, counts, tokens = (torch.from_numpy(z[f"{kind}_{name}"]) for name in ("assign", "counts", "tokens"))
    assert len(found) == len(tokens)
    # rows of ours to rows of theirs: the nearest, each once
    theirs = torch.cdist(found.apply(grid.data).double(), tokens.double()).argmin(1)
    assert sorted(theirs.tolist()) == list(range(len(tokens)))
    assert torch.equal(theirs[found.owner.long()], assign)
    assert torch.equal(found.owner.bincount(minlength=len(found)) + 1, counts.long()[theirs])
    assert float((found.apply(grid.data) - tokens[theirs]).abs().max()) <= TOLERANCE


@cases("divprune")
def test_divprune(path):
    z = np.load(path)
    grid, found = decide("divprune", z, retain=float(z["hp_ratio"]))
    assert len(found) == len(z["out_index"])
    if int(z["index_stable"]) == 1:
        assert found.anchor.tolist() == z["out_index"].tolist()
        for tokens in (1, 2, len(found) // 2):  # budgets are prefixes of one order
            fewer = assemble("divprune", ("uniform", {}), ("divprune", {}), {}, {}).decide(grid, tokens=tokens)[0]
            assert fewer.anchor.tolist() == sorted(z["out_order"][:tokens].tolist())


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden files beside this checkout")
@pytest.mark.parametrize("name", ["scissor", "divprune"])
def test_every_pattern_finds_files(name):
    assert any(GOLDEN.glob(f"{name}_case*.npz"))
