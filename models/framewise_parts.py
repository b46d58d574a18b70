"""What a tower of single pictures is made of: its geometry by config.json, and its real modules, loaded alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .checkpoint import Checkpoint
from .framewise_pixels import frame_size, resize
from .jsonfile import CheckpointError
from .weights import read

# Of LLaVA's kin, as released, and as the class's own names are in transformers 4 and 5.
TOWER_PREFIXES = (
    "vision_tower.vision_model.",
    "model.vision_tower.vision_model.",
    "vision_tower.",
    "model.vision_tower.",
)
PROJECTOR_PREFIXES = ("multi_modal_projector.", "model.multi_modal_projector.")


@dataclass(frozen=True)
class Geometry:
    """`side` of a frame and of a `patch` in pixels; `step`: the side in patches of what makes one token, None where
    tokens overlap."""

    side: int
    patch: int
    step: int | None

    @property
    def patches(self) -> int:
        """Patches on a side."""
        return self.side // self.patch

    @property
    def tokens(self) -> int:
        """Tokens on a side; overlapping ones are half as many as patches, rounded up."""
        return -(-self.patches // (self.step or 2))

    @property
    def token_pixels(self) -> int | None:
        """Side of the square of pixels that makes one token, where such squares tile the frame."""
        square = self.patch * (self.step or 0)
        return square if square and self.side == square * self.tokens else None


@dataclass(eq=False)
class Parts:
    """The real `config`, vision `tower` and the modules behind it (`head`), and once `setup` has fitted them: `read`,
    the states that are read, and `weights` float32 (N,P), with which a token reads patches; a token's sum to 1."""

    config: Any
    tower: Any
    head: Any
    read: tuple[int, ...] = ()
    weights: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def layers(self) -> Any:
        """The tower's, first to last."""
        return getattr(self.tower.encoder, self._layers)

    @layers.setter
    def layers(self, layers: Any) -> None:
        setattr(self.tower.encoder, self._layers, layers)

    @property
    def _layers(self) -> str:
        return "layers" if hasattr(self.tower.encoder, "layers") else "layer"  # InternViT's


def side_of(vision: Mapping[str, Any], key: str, default: int) -> int:
    """A side in pixels from a vision_config, which may hold a pair of equal ones."""
    value = vision.get(key) or default
    return int(value[0] if isinstance(value, Sequence) else value)


def check_geometry(checkpoint: Checkpoint, kind: str, geometry: Geometry) -> None:
    """`CheckpointError` unless the tower is of the `kind` (`model_type`) that is known here, its patches fall into
    tokens, and the processor makes pictures of the tower's size in a way that this torch knows."""
    name, vision = checkpoint.model_id, checkpoint.config.get("vision_config", {})
    if (found := vision.get("model_type", kind)) != kind:
        raise CheckpointError(f"{name}: a vision tower of {found!r}, only {kind!r} is known for {checkpoint.family}")
    if geometry.step and geometry.patches % geometry.step:
        raise CheckpointError(f"{name}: {geometry.patches} patches a side do not fall into blocks of {geometry.step}")
    try:
        resize(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), checkpoint.settings, (1, 1))
    except (ValueError, NotImplementedError) as e:
        raise CheckpointError(
            f"{name}: this torch cannot resize by resample {checkpoint.settings['resample']} ({e}): "
            "take a newer torch, or set model.settings.resample to 3 (bicubic)"
        ) from None
    made = frame_size(checkpoint.settings, 2 * geometry.side, 3 * geometry.side)
    if checkpoint.settings["do_resize"] and made != (geometry.side, geometry.side):
        raise CheckpointError(
            f"{name}: the processor makes frames of {made[0]} x {made[1]} pixels, the model takes {geometry.side} x "
            f"{geometry.side}; take the processor settings of the model it was made of"
        )


def check_strategy(checkpoint: Checkpoint, wanted: str) -> None:
    """`CheckpointError` unless `vision_feature_select_strategy` (by default `wanted`) leaves just the patches."""
    found = checkpoint.config.get("vision_feature_select_strategy") or wanted
    if found != wanted:
        raise CheckpointError(
            f"{checkpoint.model_id}: vision_feature_select_strategy {found!r} does not leave one state for each patch "
            f"of this tower, {wanted!r} does"
        )


def load_module(make: Callable[[], Any], checkpoint: Checkpoint, prefixes: Sequence[str], dtype: str) -> Any:
    """`make()`, a plain module, in eval mode on the CPU, its weights those under `prefixes`.

    Raises `CheckpointError` unless the weights are exactly those of the module.
    """
    weights = read(checkpoint.folder, prefixes)
    with torch.device("meta"):
        module = make()
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        name = wrong[0]
        raise CheckpointError(
            f"{checkpoint.model_id}: these are not the weights that config.json describes: {len(wrong)} differ under "
            f"{prefixes[0]} ({name} is {found.get(name, 'missing')}, expected {wanted.get(name, 'none')})"
        )
    floats = {name: value.to(getattr(torch, dtype)) for name, value in weights.items()}
    module.load_state_dict(floats, assign=True)
    return module.eval()
