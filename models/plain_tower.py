"""A vision tower without a language model: every frame a picture, its patches the tokens. For retrieval, segmentation.

Legend: T frames, H W rows and columns of patches, D channels.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, Literal

from torch import Tensor

from . import image_pixels, tower, weights
from .checkpoint import Checkpoint, dtype_name
from .jsonfile import CheckpointError
from .plain_passes import BATCH_PIXELS, Kind, Passes
from .types import TokenGrid, law


@dataclass(eq=False)
class PlainTower:
    """`VideoModel` of a picture tower; only the vision part of a checkpoint is loaded, by `setup`.

    Tokens: `last_hidden_state` of the real class without CLS, one time step a frame, (T,H,W,D). `attention`: float32,
    what each patch receives in the last layer (`scores`), CLS being among those that look. `frame_vectors` (T,D): the
    class's pooled output. `keep` is exact: all patches are embedded, the kept ones alone (and CLS) pass through the
    encoder. A chunk is always cut into the same passes of at most `batch_pixels`, from its own first frame on (with
    `keep`, by how many tokens a frame keeps), so its bytes depend on neither neighbours nor the machine's memory.
    """

    kind: Kind
    checkpoint: Checkpoint
    dtype: str
    batch_pixels: int = BATCH_PIXELS
    _passes: Passes | None = field(default=None, init=False, repr=False)

    provides: ClassVar[frozenset[str]] = frozenset({"attention", "frame_vectors"})
    temporal_patch: ClassVar[int] = 1
    skips: ClassVar[Literal["exact"]] = "exact"

    @property
    def family(self) -> str:
        """The name of the family's file."""
        return self.checkpoint.family

    @property
    def vision(self) -> dict[str, Any]:
        """The tower's part of config.json."""
        return {**self.kind.defaults, **self.checkpoint.config.get("vision_config", self.checkpoint.config)}

    @property
    def token_pixels(self) -> int | None:
        """A patch's side in pixels; None where patches do not tile a picture (14 in 384) or pictures differ in size."""
        size, patch = image_pixels.fixed_size(self.checkpoint.settings), int(self.vision["patch_size"])
        return patch if size and not (size[0] % patch or size[1] % patch) else None

    def frame_size(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """(h, w) in pixels after resize and crop; ValueError where the tower does not take that."""
        size = image_pixels.model_size(self.checkpoint.settings, height, width)
        self.check_size(size)
        return size

    def check_size(self, size: tuple[int, int]) -> None:
        """`ValueError` unless pictures of (h, w) may enter: of the config's image_size, or where any may, a patch."""
        side, patch = self.vision["image_size"], self.vision["patch_size"]
        made = f"the image processor makes {size[0]} x {size[1]} pixels"
        if not self.kind.any_size and tuple(size) != (side, side):
            raise ValueError(f"{made}, the model takes {side} x {side}")
        if min(size) < patch:
            raise ValueError(f"{made}, a patch of the model has {patch} x {patch}")

    def resize(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        """uint8 (T,H,W,3) of a source -> uint8 (T,h,w,3): the processor's whole geometry, resize and crop."""
        sized = image_pixels.fit(frames, self.checkpoint.settings)
        made = tuple(sized.shape[1:3])
        law(made == tuple(size), f"the image processor makes {made} of {tuple(frames.shape[1:3])}, not {tuple(size)}")
        return sized

    def preprocess(self, frames: Tensor, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """`pixel_values` float32 (T,3,h,w); frames that have `size` already are not resized or cropped again."""
        return {"pixel_values": image_pixels.planes(self._sized(frames, size), self.checkpoint.settings)}

    def setup(self, device: str) -> None:
        """Read the tower's weights onto `device`; every weight must be there and none too many."""
        room = import_module(f"transformers.models.{self.kind.module}")
        real, config = (getattr(room, name) for name in self.kind.classes)
        names = [name for path in weights.weight_files(self.checkpoint.folder) for name in weights.header(path)[1]]
        prefix = self.kind.whole if any(name.startswith(self.kind.whole) for name in names) else ""
        loaded = tower.load(real, config.from_dict(deepcopy(self.vision)), self.checkpoint, (prefix,), self.dtype)
        self._passes = Passes(self.kind, loaded.to(device), self.checkpoint.settings, self.batch_pixels)

    def encode(
        self,
        frames: Tensor,
        pts_s: Tensor,
        size: tuple[int, int] | None = None,
        *,
        wants: frozenset[str] = frozenset(),
        keep: Tensor | None = None,
    ) -> TokenGrid:
        """uint8 (T,H,W,3), float64 (T,) seconds -> tokens (T,H,W,D) in the model's dtype, on its device.

        Frames that have `size` already are taken as they are. `keep` bool (T,H,W): attention and vectors are of the
        kept tokens among themselves, and zeros for a frame without any.
        """
        law(len(frames) == len(pts_s) > 0, f"one pts a frame, at least one: {tuple(frames.shape)} {tuple(pts_s.shape)}")
        if self._passes is None:
            raise RuntimeError("no weights yet: call setup(device) before encode")
        sized, patch = self._sized(frames, size), int(self.vision["patch_size"])
        h, w = sized.shape[1] // patch, sized.shape[2] // patch
        if keep is not None:
            law(keep.shape == (len(frames), h, w), f"keep must be {(len(frames), h, w)}, got {tuple(keep.shape)}")
        rows = None if keep is None else keep.flatten(1).cpu()
        tokens, attention, vectors = self._passes.encode(sized, h * w, wants, rows)
        looked = None if attention is None else attention.unflatten(1, (h, w))
        valid = None if keep is None else keep.to(tokens.device)
        return TokenGrid(tokens.unflatten(1, (h, w)), pts_s, looked, vectors, valid)

    def _sized(self, frames: Tensor, size: tuple[int, int] | None) -> Tensor:
        if size is None or tuple(frames.shape[1:3]) != tuple(size):
            return self.resize(frames, size or self.frame_size(*frames.shape[:3]))
        self.check_size(size)
        return frames


def load(kind: Kind, checkpoint: Checkpoint, dtype: str | None) -> PlainTower:
    """The adapter, without weights; `CheckpointError` where the processor's one size is not the model's."""
    model = PlainTower(kind, checkpoint, dtype_name(dtype or checkpoint.dtype))
    try:
        if fixed := image_pixels.fixed_size(checkpoint.settings):
            model.check_size(fixed)
    except ValueError as error:
        raise CheckpointError(
            f"{checkpoint.model_id}: {error}; take the processor settings of the model it was made of"
        ) from None
    return model
