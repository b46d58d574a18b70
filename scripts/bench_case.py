"""One case of `bench_methods`, in a process of its own: `bench_case.py METHOD SIZE` prints one JSON object.

Times are medians; memory is the peak resident size of the first decide and apply over what was held before it (the
high-water mark is reset through /proc/self/clear_refs, freed memory is given back first). Linux only.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from bench_floors import NOTES, Case, floor_bytes, floor_flops
from bench_reference import AUTHORS, DECIDE_ONLY, FLOOR_AIM, GRIDS, NO_AIM, TINY, hyper_of
from bench_scenes import make_grid
from torch import Tensor

from vidcomp.models.types import TokenGrid
from vidcomp.pipeline.presets import method_tree
from vidcomp.pipeline.reduce import split
from vidcomp.stages.mergers.omnizip import OmniZip
from vidcomp.stages.methods import Method, assemble
from vidcomp.stages.reduction import Reduction

C1_SIDE = 2048
C2_BYTES = 512 << 20
C2_MOVED = 1 << 30  # read and written
C1_FLOP = 2 * C1_SIDE**3
UNSTEADY = 1.25  # between C1 before and after: something else ran
LONG_S = 6.0  # a first run of so much is the only one
WARM_S = 1.5  # a first run below it is a warm-up
SHORT_S = 0.3  # a first run below it is repeated more often
REPEATS = 3
MORE = 9
PROFILED = 3  # operators that a note names


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def calibrate() -> tuple[float, float]:
    """C1 and C2, seconds: a 2048 x 2048 matmul and a clone of 512 MiB, medians of three."""
    a, b = (torch.rand(C1_SIDE, C1_SIDE) for _ in "ab")
    c1 = statistics.median(seconds(lambda: torch.mm(a, b)) for _ in range(REPEATS))
    large = torch.ones(C2_BYTES // 4)
    return c1, statistics.median(seconds(large.clone) for _ in range(REPEATS))


def build(name: str, size: str) -> Method:
    """The method by its preset, with the settings of the comparison."""
    tree = method_tree(name)
    segmenter, merger = (split(tree[kind]) for kind in ("segmenter", "merger"))
    return assemble(name, segmenter, merger, tree.get("stand_ins", {}), hyper_of(name, size))


# -- the work ----------------------------------------------------------------------------------------------


@torch.no_grad()
def decide(method: Method, grid: TokenGrid) -> list[tuple[Reduction, Tensor]]:
    """The reductions, each with what it is to be applied to."""
    found = [(method.decide(grid)[0], grid.data)]
    if isinstance(method.merger, OmniZip) and grid.audio is not None:
        found.append((method.merger.reduce_audio(grid), grid.audio))
    return found


def apply(found: list[tuple[Reduction, Tensor]]) -> list[Tensor]:
    """The kept tokens."""
    return [reduction.apply(data) for reduction, data in found]


def once(method: Method, grid: TokenGrid) -> tuple[float, float, int]:
    """Seconds to decide and to apply, and how many rows were kept of the video."""
    start = time.perf_counter()
    found = decide(method, grid)
    decided = time.perf_counter()
    apply(found)
    return decided - start, time.perf_counter() - decided, len(found[0][0])


def measure(method: Method, grid: TokenGrid) -> dict[str, float]:
    """Times, memory and rows."""
    held_mb = settle()
    runs = [once(method, grid)]
    extra_mb = resident("VmHWM") - held_mb
    first = sum(runs[0][:2])
    if first < WARM_S:
        runs = [once(method, grid) for _ in range(MORE if first < SHORT_S else REPEATS)]
    elif first < LONG_S:
        runs += [once(method, grid) for _ in range(REPEATS - 1)]
    decided, applied = (statistics.median(run[i] for run in runs) for i in (0, 1))
    spread = max(run[0] for run in runs) / min(run[0] for run in runs)
    return {
        "decide_s": decided,
        "apply_s": applied,
        "spread": spread,
        "runs": len(runs),
        "extra_mb": extra_mb,
        "kept": runs[0][2],
    }


# -- memory ------------------------------------------------------------------------------------------------


def settle() -> float:
    """Resident MB, once all that is free was given back and the high-water mark was brought down to it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return resident("VmRSS")


def resident(field: str) -> float:
    """`VmRSS` or `VmHWM`, in MB."""
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024 / 1e6


# -- what dominates ----------------------------------------------------------------------------------------


def dominant(method: Method, grid: TokenGrid) -> str:
    """The operators that deciding spends most of its time in, and what it spends outside torch."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        total_us = 1e6 * seconds(lambda: decide(method, grid))
    spent = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profile.key_averages()}
    outside = max(0.0, 1 - sum(spent.values()) / total_us)
    most = sorted(spent, key=lambda key: -spent[key])[:PROFILED]
    named = [f"{key} {100 * spent[key] / total_us:.0f} %" for key in most if spent[key] > 0.05 * total_us]
    return ", ".join([*named, *([f"outside torch {100 * outside:.0f} %"] if outside > 0.05 else [])])


# -- one row -----------------------------------------------------------------------------------------------


def run(name: str, size: str) -> dict[str, Any]:
    """All that is measured of one method at one size, and what it comes to."""
    method = build(name, size)
    once(method, make_grid(name, TINY))
    before = calibrate()
    grid = make_grid(name, GRIDS[size])
    row: dict[str, Any] = {"source": grid.count, "input_mb": grid.data.nbytes / 1e6, **measure(method, grid)}
    after = calibrate()
    c1, c2 = (min(pair) for pair in zip(before, after, strict=True))
    flops = floor_flops(Case(method, grid, row["kept"]))
    row |= {"c1_s": c1, "c2_s": c2, "unsteady": max(before[0], after[0]) > UNSTEADY * c1, "floor_gflop": flops / 1e9}
    row["floor_s"] = floor_bytes(grid) / (C2_MOVED / c2) + flops / (C1_FLOP / c1)
    row |= compared(name, size, row)
    row["note"] = NOTES.get(name, "")
    if row["missed"]:
        row["dominant"] = dominant(method, grid)
    return row


def compared(name: str, size: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Ratios to the calibration, to the floor and to the authors, and which aims are missed."""
    total_c1 = (row["decide_s"] + row["apply_s"]) / row["c1_s"]
    out = {"total_c1": total_c1, "decide_floor": row["decide_s"] / row["floor_s"], "missed": []}
    if name not in NO_AIM and out["decide_floor"] > FLOOR_AIM:
        out["missed"].append("floor")
    if authors := AUTHORS.get(name, {}).get(size):
        ours = row["decide_s"] / row["c1_s"] if name in DECIDE_ONLY else total_c1
        out |= {"authors_c1": authors, "speedup": authors / ours}
        if ours > authors:
            out["missed"].append("authors")
    return out


def main(name: str, size: str) -> int:
    """Print the row, or why there is none."""
    torch.set_num_threads(1)
    try:
        row = run(name, size)
    except Exception as e:  # whatever it is, the table says it
        row = {"failed": f"{type(e).__name__}: {' '.join(str(e).split())[:160]}"}
    print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
