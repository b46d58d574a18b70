"""vidcomp: compress a video's visual tokens once, ask a video LLM many times.

    record = vidcomp.encode("video.mp4", model="dct", method="fastvid", retain=0.1, fps=1.0)
    record.save("a.safetensors"); record = vidcomp.load("a.safetensors")

Names are imported on first use: `import vidcomp` itself imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models.asking import Asker
    from .models.load import load_llm, load_model, prepare
    from .models.preprocess import preprocess
    from .models.sizes import counting_sizes
    from .pipeline.api import encode, methods
    from .pipeline.errors import ConfigError
    from .pipeline.reduce import reduce
    from .pipeline.stream import stream
    from .stages.dataset import IterableRecordDataset, RecordDataset
    from .stages.failure import SourceError
    from .stages.record import VideoRecord, load
    from .stages.reduction import Reduction

__version__ = "0.1.0"

_HOME = {
    "Asker": ".models.asking",
    "ConfigError": ".pipeline.errors",
    "IterableRecordDataset": ".stages.dataset",
    "RecordDataset": ".stages.dataset",
    "Reduction": ".stages.reduction",
    "SourceError": ".stages.failure",
    "VideoRecord": ".stages.record",
    "counting_sizes": ".models.sizes",
    "encode": ".pipeline.api",
    "load": ".stages.record",
    "load_llm": ".models.load",
    "load_model": ".models.load",
    "methods": ".pipeline.api",
    "prepare": ".models.load",
    "preprocess": ".models.preprocess",
    "reduce": ".pipeline.reduce",
    "stream": ".pipeline.stream",
}

__all__ = [
    "Asker",
    "ConfigError",
    "IterableRecordDataset",
    "RecordDataset",
    "Reduction",
    "SourceError",
    "VideoRecord",
    "counting_sizes",
    "encode",
    "load",
    "load_llm",
    "load_model",
    "methods",
    "prepare",
    "preprocess",
    "reduce",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
