"""`vidcomp.reduce`, from the outside."""

from __future__ import annotations

import pytest
import torch

import vidcomp

FEATURES = torch.randn(8, 4, 6, 16, generator=torch.Generator().manual_seed(0))
SENSES = {"attention": torch.rand(8, 24), "frame_vectors": torch.randn(8, 5)}


@pytest.mark.parametrize("name", sorted(set(vidcomp.methods()) - {"rlt", "omnizip", "hdbscan"}))
def test_every_method_reduces_features(name: str) -> None:
    found = vidcomp.reduce(FEATURES, name, **SENSES)
    assert found.grid == (8, 4, 6)
    assert found.apply(FEATURES).shape == (len(found), 16)
    assert found.owner.shape == (8 * 24,)
    assert found.to_sparse().shape == (len(found), 8 * 24)


def test_a_row_of_tokens_has_no_shape() -> None:
    flat = FEATURES.reshape(8, 24, 16)
    assert vidcomp.reduce(flat, "evs").grid == (8, 1, 24)
    assert vidcomp.reduce(flat, "pool", grid=(4, 6)).grid == (8, 4, 6)
    with pytest.raises(ValueError, match="needs the picture's shape"):
        vidcomp.reduce(flat, "pool")
    with pytest.raises(ValueError, match="has 20 places, features have 24"):
        vidcomp.reduce(flat, "evs", grid=(4, 5))


def test_pixels_need_no_features() -> None:
    pixels = torch.randint(0, 256, (8, 64, 96, 3), dtype=torch.uint8)
    assert vidcomp.reduce(method="rlt", pixels=pixels).grid == (4, 4, 6)
    with pytest.raises(ValueError, match="rlt needs pixels"):
        vidcomp.reduce(FEATURES, "rlt")


def test_omnizip_gives_both_reductions() -> None:
    sound = {"audio": torch.randn(200, 16), "audio_attention": torch.rand(200)}
    video, audio = vidcomp.reduce(FEATURES, "omnizip", **sound)
    assert (video.grid, audio.grid) == ((8, 4, 6), (200, 1, 1))
    assert 0 < len(audio) < 200
    video, audio = vidcomp.reduce(FEATURES, "omnizip")
    assert (len(video) > 0, len(audio)) == (True, 0)


def test_attention_is_never_made_up_for_a_paper_that_needs_it() -> None:
    with pytest.raises(ValueError, match="needs attention"):
        vidcomp.reduce(FEATURES, "holitom")


def test_hyper_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="has no 'nope'; it has: "):
        vidcomp.reduce(FEATURES, "evs", nope=1)
    with pytest.raises(ValueError, match="retain"):
        vidcomp.reduce(FEATURES, "evs", retain=2.0)
