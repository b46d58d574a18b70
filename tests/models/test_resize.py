"""models/resize.py and models/qwen_patches.py against what the real video processors made (golden files)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from vidcomp.models import qwen_patches
from vidcomp.models.preprocess import preprocess
from vidcomp.models.resize import BLOCK_FRAMES, resize_uint8, smart_resize
from vidcomp.models.settings import resolve

BOUNDS = {"factor": 28, "min_pixels": 4 * 28 * 28, "max_pixels": 48 * 28 * 28}


@pytest.mark.parametrize("case", ["a", "b"])
def test_preprocess_equals_the_real_processor(shared: Path, case: str) -> None:
    with np.load(shared / "golden" / f"preprocess_qwen2_5_vl_{case}.npz") as golden:
        frames, meta = torch.from_numpy(golden["in_frames"]), json.loads(str(golden["meta"]))
        wanted, grid = torch.from_numpy(golden["out_pixel_values_videos"]), golden["out_video_grid_thw"]
    out = preprocess(frames, family="qwen2_5_vl", settings=meta["settings"])
    assert out["video_grid_thw"].tolist() == grid.tolist()
    assert out["pixel_values_videos"].shape == wanted.shape
    tolerance = 1e-3 if wanted.dtype == torch.float16 else 1e-5
    torch.testing.assert_close(out["pixel_values_videos"], wanted.float(), atol=tolerance, rtol=0)
    assert torch.equal(out["pixel_values_videos"].half(), wanted.half())  # float16 is all that the golden lost


@pytest.mark.parametrize(
    ("sides", "wanted"),
    [
        ((56, 56), (56, 56)),  # fits as it is
        ((72, 104), (84, 112)),  # rounded to the nearest multiple
        ((42, 70), (56, 56)),  # 1.5 and 2.5 units: halves go to even (then 56 x 56 is the lower bound)
        ((1080, 1920), (140, 252)),  # shrunk under the upper bound
        ((1920, 1080), (252, 140)),  # portrait
        ((10, 10), (56, 56)),  # grown over the lower bound
        ((10, 2000), (28, 812)),  # the short side rounds to 0: grown, to one factor at least
        ((28, 28), (56, 56)),
    ],
)
def test_smart_resize(sides: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert smart_resize(*sides, **BOUNDS) == wanted


@pytest.mark.parametrize("sides", [(0, 10), (10, 0), (1, 201)])
def test_smart_resize_refuses(sides: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="1:200"):
        smart_resize(*sides, **BOUNDS)


@pytest.mark.parametrize(("resample", "mode"), [(2, "bilinear"), (3, "bicubic")])
@pytest.mark.parametrize("size", [(28, 56), (84, 40), (200, 200)])
def test_blocks_and_layout_change_nothing(resample: int, mode: str, size: tuple[int, int]) -> None:
    frames = torch.randint(0, 256, (BLOCK_FRAMES + 3, 60, 90, 3), dtype=torch.uint8)
    planes = frames.permute(0, 3, 1, 2).contiguous()
    wanted = interpolate(planes, size=size, mode=mode, antialias=True, align_corners=False).permute(0, 2, 3, 1)
    out = resize_uint8(frames, size, resample)
    assert out.dtype == torch.uint8
    assert out.is_contiguous()
    assert torch.equal(out, wanted)
    assert torch.equal(resize_uint8(frames[4:5], size, resample), wanted[4:5])


def test_same_size_is_the_same_tensor() -> None:
    frames = torch.randint(0, 256, (2, 28, 56, 3), dtype=torch.uint8)
    assert resize_uint8(frames, (28, 56), 3) is frames


@pytest.mark.parametrize(
    ("frames", "resample", "message"),
    [
        (torch.zeros(2, 8, 8, 3), 3, "uint8"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 3, r"\(T,H,W,3\)"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), 0, "resample"),
    ],
)
def test_resize_refuses(frames: torch.Tensor, resample: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resize_uint8(frames, (4, 4), resample)


def test_a_cap_bounds_the_whole_video() -> None:
    capped = resolve("qwen2_5_vl", {"cap_pixels_per_frame": True, "max_video_tokens": 4000})
    free = resolve("qwen2_5_vl")
    assert qwen_patches.frame_size(free, 100, 720, 1280) == (560, 1008)
    assert qwen_patches.frame_size(capped, 4, 720, 1280) == (560, 1008)  # 4 frames: their share is large
    # int(4000 * 784 * 0.9) * 2 // 40 = 141120 pixels a frame, over the floor of 1.05 * 100352
    assert qwen_patches.frame_size(capped, 40, 720, 1280) == (280, 476)
    # 1000 frames: 5644 pixels would be their share, the floor of 105369 holds
    assert qwen_patches.frame_size(capped, 1000, 720, 1280) == (224, 420)


def test_settings_switch_steps_off() -> None:
    frames = torch.randint(0, 256, (2, 56, 84, 3), dtype=torch.uint8)
    steps = {"do_resize": False, "do_rescale": False, "do_normalize": False}
    raw = preprocess(frames, family="qwen2_5_vl", settings=steps)
    assert raw["video_grid_thw"].tolist() == [[1, 4, 6]]
    first = raw["pixel_values_videos"][0].reshape(3, 2, 14, 14)  # channel, frame, y, x
    assert torch.equal(first, frames[:, :14, :14].permute(3, 0, 1, 2))
    scaled = preprocess(frames, family="qwen2_5_vl", settings={**steps, "do_rescale": True})["pixel_values_videos"]
    torch.testing.assert_close(scaled, raw["pixel_values_videos"] / 255)
    with pytest.raises(ValueError, match="multiples of 28"):
        preprocess(frames[:, :50], family="qwen2_5_vl", settings=steps)


def test_preprocess_refuses() -> None:
    frames = torch.zeros(2, 56, 56, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"no model family 'nope'; there are: .*qwen2_5_vl"):
        preprocess(frames, family="nope")
    with pytest.raises(ValueError, match="T >= 1"):
        preprocess(frames[:0], family="qwen2_5_vl")
    with pytest.raises(ValueError, match="Qwen3VLVideoProcessor"):
        preprocess(frames, family="qwen2_5_vl", settings={"video_processor_type": "Qwen3VLVideoProcessor"})
