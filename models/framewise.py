"""What the families have in common whose vision tower takes each frame as a picture: no token sees two frames.

Layers whose output nothing reads are left out, and with `keep` the patches that no kept token reads.

Legend: T frames of a chunk, B of a pass; P patches, N = H*W tokens of a frame; C channels of the tower, D of the LLM.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from . import framewise_pixels, framewise_tower
from .framewise_family import Family
from .framewise_parts import Parts
from .framewise_pixels import Size
from .image_pixels import planes
from .jsonfile import CheckpointError
from .plain_passes import BATCH_PIXELS, places
from .transfer import to_device
from .types import TokenGrid, law


@dataclass(eq=False)
class Framewise(Family):
    """`VideoModel` of a checkpoint; its vision tower and what stands between that and the LLM are loaded by `setup`.

    `batch_pixels` bounds one pass through the tower. A chunk is always cut into the same passes, from its own first
    frame on and at least one frame each, so its bytes depend on neither neighbours nor the machine's memory.
    """

    batch_pixels: int = BATCH_PIXELS
    _parts: Parts | None = field(default=None, init=False, repr=False)

    provides: ClassVar[frozenset[str]] = frozenset({"attention", "frame_vectors"})
    temporal_patch: ClassVar[int] = 1
    skips: ClassVar[Literal["exact", "filled"] | None] = "exact"

    @property
    def token_pixels(self) -> int | None:
        """See `Geometry`."""
        return self.geometry.token_pixels

    def frame_size(self, frames: int, height: int, width: int) -> Size:
        """(h, w) at which frames enter the tower, however many there are."""
        return framewise_pixels.frame_size(self.checkpoint.settings, height, width)

    def resize(self, frames: Tensor, size: Size) -> Tensor:
        """uint8 (T,H,W,3) -> uint8 (T,h,w,3): resized and cropped as the processor does."""
        return framewise_pixels.resize(frames, self.checkpoint.settings, size)

    def preprocess(self, frames: Tensor, size: Size | None = None) -> dict[str, Tensor]:
        """`pixel_values_videos` float32 (1,T,3,h,w), as the original's."""
        return framewise_pixels.preprocess(frames, self.checkpoint.settings, size)

    @torch.no_grad()
    def setup(self, device: str) -> None:
        """Read the weights onto `device`; every weight must be there and none too many."""
        parts = self.load_parts()
        named = self.checkpoint.config.get("vision_feature_layer")
        try:
            parts.read = framewise_tower.layers_read(self.feature_layer if named is None else named, len(parts.layers))
        except ValueError as e:
            raise CheckpointError(f"{self.checkpoint.model_id}: {e}") from None
        parts.layers = parts.layers[: max(parts.read)]
        parts.tower, parts.head = parts.tower.to(device), parts.head.to(device)
        side = self.geometry.patches
        eye = torch.eye(side * side).view(-1, 1, side, side)
        parts.weights = self.pool(eye).flatten(1).T.contiguous().to(device)
        self._parts = parts

    @torch.no_grad()
    def encode(
        self,
        frames: Tensor,
        pts_s: Tensor,
        size: Size | None = None,
        *,
        wants: frozenset[str] = frozenset(),
        keep: Tensor | None = None,
    ) -> TokenGrid:
        """uint8 (T,H,W,3), float64 (T,) seconds -> tokens (T,H,W,D) in the model's dtype, on its device.

        Frames that have the `size` given are at model size already. `attention` float32: what a token's patches receive
        in the last layer that is read, mean over heads and queries (CLS asks, and is not shown), pooled as tokens are.
        `frame_vectors` (T,C): CLS as it is read there or, where there is none, the mean of the patches. `keep`: patches
        that no kept token reads are left out; of a frame with no token, nothing is known (zeros).
        """
        law(len(frames) == len(pts_s) > 0, f"one pts per frame, at least one: {(*frames.shape,)} {(*pts_s.shape,)}")
        if self._parts is None:
            raise RuntimeError("no weights yet: call setup(device) before encode")
        sized, side = self._sized(frames, size), self.geometry.tokens
        shape = (len(frames), side, side)
        kept = torch.ones(shape, dtype=torch.bool) if keep is None else keep
        law(kept.shape == shape, f"keep must be {shape}, got {(*kept.shape,)}")
        kept = kept.flatten(1).to(self._parts.weights.device)
        out = self._encode(self._parts, sized, kept, wants)
        grids = {name: v.unflatten(1, (side, side)) for name, v in out.items() if name != "frame_vectors"}
        return TokenGrid(
            grids["data"],
            pts_s,
            attention=grids.get("attention"),
            frame_vectors=out.get("frame_vectors"),
            valid=None if keep is None else kept.unflatten(1, (side, side)),
        )

    def _sized(self, frames: Tensor, size: Size | None) -> Tensor:
        side = self.geometry.side
        sized = framewise_pixels.sized(frames, self.checkpoint.settings, size)
        if tuple(sized.shape[1:3]) != (side, side):
            raise ValueError(f"frames enter the model as {side} x {side} pixels, got {(*sized.shape[1:3],)}")
        return sized

    def _encode(self, parts: Parts, frames: Tensor, kept: Tensor, wants: frozenset[str]) -> dict[str, Tensor]:
        """uint8 (T,h,w,3), bool (T,N) -> `data` (T,N,D), zeros where not kept, and what else is asked for."""
        seen = (kept.float() @ (parts.weights > 0).float()) > 0
        out = self._blank(parts, len(frames), wants)
        batch, counts = max(1, self.batch_pixels // self.geometry.side**2), seen.sum(1).tolist()
        for ids in framewise_tower.passes(counts, batch):
            part = None if counts[ids[-1]] == seen.shape[1] else seen[ids]
            for name, value in self._pass(parts, frames[ids], part, wants).items():
                out[name][ids] = value
        for name in out.keys() & {"data", "attention"}:
            out[name][~kept] = 0
        return out

    def _blank(self, parts: Parts, frames: int, wants: frozenset[str]) -> dict[str, Tensor]:
        """Zeros for all that is asked for."""
        config, count, like = parts.config, len(parts.weights), parts.weights.new_zeros
        out = {"data": like(frames, count, config.get_text_config().hidden_size, dtype=parts.tower.dtype)}
        if "attention" in wants:
            out["attention"] = like(frames, count)
        if "frame_vectors" in wants:
            width = config.vision_config.hidden_size * len(parts.read)
            out["frame_vectors"] = like(frames, width, dtype=parts.tower.dtype)
        return out

    def _pass(self, parts: Parts, frames: Tensor, seen: Tensor | None, wants: frozenset[str]) -> dict[str, Tensor]:
        """uint8 (B,h,w,3), bool (B,P), None for all -> `data` (B,N,D), and what else is asked for."""
        pixels = planes(to_device(frames, parts.weights.device), self.checkpoint.settings).to(parts.tower.dtype)
        entering, watch = self.embed(parts.tower, pixels), "attention" in wants
        here, count = None if seen is None else places(seen, self.special), entering.shape[1]
        given, valid = (entering, None) if here is None else (here.taken(entering), here.valid)
        states, received = framewise_tower.run(parts.layers, self.call_layer, given, valid, parts.read, watch=watch)
        read = self.read(parts, states)
        if here is not None:
            read = here.back(read, count)
            received = None if received is None else here.back(received, count)
        patches = read[:, self.special :]
        found = {"data": self.tokens(parts, patches)}
        if received is not None:
            found["attention"] = received[:, self.special :] @ parts.weights.T
        if "frame_vectors" in wants:
            shown = count if seen is None else seen.sum(1, keepdim=True)
            found["frame_vectors"] = read[:, 0] if self.special else patches.sum(1) / shown
        return found
