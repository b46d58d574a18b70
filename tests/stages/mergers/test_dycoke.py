"""DyCoke: which frames stay whole, how many patches of the others, and which."""

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.pipeline.reduce import reduce
from vidcomp.stages.mergers.dycoke import DyCoke, partner

PARTNERS = {
    1: [None],
    2: [None, 0],
    3: [None, 0, None],
    4: [None, 0, None, 2],  # the reference crashes up to here
    5: [None, 0, 0, 2, None],
    6: [None, 0, 0, 2, None, 4],
    7: [None, 0, 0, 2, None, 4, None],
    8: [None, 0, 0, 2, None, 4, None, 6],
    9: [None, 0, 0, 2, None, 4, 4, 6, None],
}


def example(t, n=10, seed=0, **more):
    data = torch.randn(t, 1, n, 16, generator=torch.Generator().manual_seed(seed))
    return TokenGrid(data, torch.arange(t).double(), **more)


@pytest.mark.parametrize("frames", PARTNERS)
def test_groups(frames):
    assert [partner(f, frames) for f in range(frames)] == PARTNERS[frames]
    found = DyCoke().reduce(example(frames), None)
    per_frame = found.positions[:, 0].bincount(minlength=frames).tolist()
    assert per_frame == [10 if p is None else 3 for p in PARTNERS[frames]]


@pytest.mark.parametrize("frames", PARTNERS)
def test_the_least_similar_stay(frames):
    grid = example(frames)
    found = DyCoke(merge_ratio=0.55).reduce(grid, None)
    for f, against in enumerate(PARTNERS[frames]):
        here = found.anchor[found.positions[:, 0] == f] - f * 10
        if against is not None:
            cosines = torch.cosine_similarity(grid.feat_TND[f], grid.feat_TND[against], dim=-1)
            assert here.tolist() == sorted(cosines.argsort()[:4].tolist())  # int(0.45 * 10) = 4


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, 10), (0.7, 3), (0.9, 0), (0.3, 7), (1.0, 0)])
def test_the_ratio_is_truncated_in_double(ratio, kept):
    assert DyCoke(ratio).quota(example(2)).tolist() == [10, int((1 - ratio) * 10)] == [10, kept]


def test_equal_patches_go_to_the_lower_index():
    data = torch.randn(1, 2, 5, 16).expand(8, -1, -1, -1).contiguous()
    found = reduce(data, "dycoke")
    assert found.positions[found.positions[:, 0] == 1][:, 1:].tolist() == [[0, 0], [0, 1], [0, 2]]


def test_budgets_below_the_whole_frames_keep_what_changed_most():
    data = torch.zeros(5, 1, 3, 4)
    data[..., 0] = 1
    data[4, 0, 1] = torch.tensor([0, 1.0, 0, 0])  # frame 4 begins a group: compared with frame 0, whole as well
    grid = TokenGrid(data, torch.arange(5).double())
    found, _ = DyCoke().exact(grid, None, None, 4)
    assert found.anchor.tolist() == [0, 1, 2, 13]


def test_invalid_patches_take_no_place():
    valid = torch.ones(2, 1, 10, dtype=torch.bool)
    valid[1, 0, :4] = False
    valid[0, 0, 9] = False
    found = DyCoke(merge_ratio=0.5).reduce(example(2, valid=valid), None)
    kept = found.anchor[found.anchor >= 10] - 10
    assert len(kept) == 3  # half of the 6 that are there
    assert kept.min() >= 4
    assert 9 in kept  # its partner is invalid: nothing else stands for it


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_bad_ratio_is_refused(ratio):
    with pytest.raises(ValueError, match="merge_ratio must be in"):
        DyCoke(ratio)
