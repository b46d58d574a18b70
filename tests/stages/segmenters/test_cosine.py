"""Cuts by cosine: at the threshold itself, by frame vectors or by mean tokens."""

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages.segmenters.cosine import Cosine


def grid_of(vectors, **more):
    return TokenGrid(vectors[:, None, None].expand(-1, 2, 3, -1), torch.arange(len(vectors)).double(), **more)


def test_cuts_at_the_threshold_and_below():
    vectors = torch.tensor([[1.0, 0], [3, 4], [3, 4], [0, 1], [0, -1]])  # cosines 0.6, 1, 0.8, -1
    assert Cosine(threshold=0.7).segment(grid_of(vectors)).starts.tolist() == [0, 1, 4]
    assert Cosine(threshold=0.9).segment(grid_of(vectors)).starts.tolist() == [0, 1, 3, 4]
    assert Cosine(threshold=1.0).segment(grid_of(vectors)).starts.tolist() == [0, 1, 2, 3, 4]
    assert Cosine(threshold=-1.0).segment(grid_of(vectors)).starts.tolist() == [0, 4]


def test_the_models_own_frame_vectors_come_first():
    own = torch.eye(4)[[0, 0, 1, 1]]
    grid = grid_of(torch.eye(4), frame_vectors=own)
    assert Cosine().segment(grid).starts.tolist() == [0, 2]


def test_one_step():
    assert Cosine().segment(grid_of(torch.zeros(1, 4))).starts.tolist() == [0]


def test_refuses():
    with pytest.raises(ValueError, match="threshold must be"):
        Cosine(threshold=1.1)
