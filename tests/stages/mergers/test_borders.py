"""The causal methods that follow a place from step to step: what stays does not depend on `chunk_frames`."""

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages.methods import Method
from vidcomp.stages.parts import make

STEPS, H, W, PATCH = 10, 3, 4, 8
SETTINGS = {
    "rlt": ("rlt", {"patch": PATCH, "threshold": 0.45}),
    "rlt, one frame a step": ("rlt", {"patch": PATCH, "threshold": 0.45, "tubelet": 1}),
    "dtd": ("dtd", {}),
    "dtd, relative": ("dtd", {"absolute": False, "threshold": 0.6}),
    "dtd, pixels": ("dtd", {"mode": "pixel", "threshold": 0.1}),
    "dtd, pixels, relative": ("dtd", {"mode": "pixel", "absolute": False}),
    "static_runs": ("static_runs", {"threshold": 0.8}),
}


def example(dtype=torch.float32, gated=False, per_step=2, frames=None):
    g = torch.Generator().manual_seed(0)
    scene = torch.randn(3, H, W, 33, generator=g)[torch.arange(STEPS) // 4]
    data = (scene + 0.3 * torch.randn(STEPS, H, W, 33, generator=g)).to(dtype)
    still = torch.randint(40, 200, (3, H, W, 3), generator=g)[torch.arange(STEPS * per_step) // (4 * per_step)]
    moving = still + torch.randint(-40, 40, still.shape, generator=g)
    pixels = moving.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2).to(torch.uint8)
    valid = torch.rand(STEPS, H, W, generator=g) < 0.7 if gated else None
    return TokenGrid(data, torch.arange(STEPS).double(), valid=valid, pixels=pixels[:frames])


def cut(grid, first, size, per_step):
    at, frames = slice(first, first + size), slice(first * per_step, (first + size) * per_step)
    valid = None if grid.valid is None else grid.valid[at]
    return TokenGrid(grid.data[at].clone(), grid.pts_s[at], valid=valid, pixels=grid.pixels[frames].clone())


def in_chunks(method, grid, size, per_step):
    carry, anchors, values = None, [], []
    for first in range(0, STEPS, size):
        part = cut(grid, first, size, per_step)
        found, carry = method.decide(part, carry)
        anchors.append(found.anchor + first * grid.per_step)
        values.append(found.apply(part.data))
    return torch.cat(anchors), torch.cat(values)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frames", [None, -1], ids=["all", "last step cut short"])
def test_borders_change_nothing(setting, gated, dtype, frames):
    name, hyper = SETTINGS[setting]
    per_step = hyper.get("tubelet", 2)
    grid = example(dtype, gated, per_step, frames if per_step == 2 else None)
    method = Method(name, make("segmenter", "uniform", {}), make("merger", name, hyper))
    assert method.causal
    whole, values = in_chunks(method, grid, STEPS, per_step)
    assert 12 < len(whole) < 100
    for size in (1, 3, 4):
        anchors, here = in_chunks(method, grid, size, per_step)
        assert torch.equal(anchors, whole)
        assert name == "static_runs" or torch.equal(here, values)  # its averages end at the border


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_carry_is_no_view_of_its_chunk(setting):
    name, hyper = SETTINGS[setting]
    grid = example(per_step=hyper.get("tubelet", 2))
    _, carry = make("merger", name, hyper).step(grid, None, None)
    before = carry.clone()
    grid.data.zero_()
    grid.pixels.zero_()
    assert torch.equal(carry, before)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_carry_of_another_shape_is_refused(setting):
    name, hyper = SETTINGS[setting]
    with pytest.raises(ValueError, match="carried"):
        make("merger", name, hyper).step(example(per_step=hyper.get("tubelet", 2)), None, torch.zeros(7, 5))


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("gated", [False, True])
def test_exact_budgets(setting, gated):
    name, hyper = SETTINGS[setting]
    grid = example(gated=gated, per_step=hyper.get("tubelet", 2))
    method = Method(name, make("segmenter", "uniform", {}), make("merger", name, hyper))
    there = grid.count if grid.valid is None else int(grid.valid.sum())
    _, carry = method.decide(grid)
    for before in (None, carry):
        for tokens in (0, 5, 31, there - 1, there + 9):
            found, _ = method.decide(grid, before, tokens)
            assert len(found) == min(tokens, there)
            assert grid.valid is None or grid.valid.flatten()[found.indices].all()


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("gated", [False, True])
def test_a_larger_knob_never_keeps_fewer(setting, gated):
    name, hyper = SETTINGS[setting]
    grid, part = example(gated=gated, per_step=hyper.get("tubelet", 2)), make("merger", name, hyper)
    counts = [len(part.at(i / 20).step(grid, None, None)[0]) for i in range(21)]
    assert counts == sorted(counts) == [part.at(i / 20).count(grid, None, None) for i in range(21)]
    assert counts[-1] == (grid.count if grid.valid is None else int(grid.valid.sum()))
