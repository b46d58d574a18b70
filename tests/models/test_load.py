"""What cannot be loaded or prepared is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vidcomp


@pytest.mark.parametrize("device", ["meta", "nonsense", *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used") as caught:
        vidcomp.load_model("dct", device=device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["a.safetensors", Path("a.safetensors")])
def test_a_path_is_no_record(path: str | Path) -> None:
    with pytest.raises(TypeError, match="load it first"):
        vidcomp.prepare(None, None, path, "What is this?")
