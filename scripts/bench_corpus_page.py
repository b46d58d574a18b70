"""The figures of `bench_corpus` as lines, and as a section of docs/corpora.md."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "corpora.md"
BEGIN, END = "<!-- figures -->\n", "<!-- /figures -->"
LIBRARIES: Final = ("torch", "av", "ray")
QUIET: Final = 0.1  # of the machine, that others may take
Figures = Mapping[str, Any]


def scaling(found: Figures) -> Iterator[str]:
    """Videos a second with one and two workers."""
    one, two = found["one"], found["two"]
    yield (
        f"one worker {one.rate:.2f} videos/s, two {two.rate:.2f}: {two.rate / one.rate:.2f} x{noise(one, two)}; "
        f"two processes that only compute get {found['busy']:.2f} x as much done as one"
    )


def plain(found: Figures) -> Iterator[str]:
    """The same files without vidcomp."""
    yield (
        f"a plain loop (PyAV decodes every frame, the same model, all kept in memory, nothing reduced or written): "
        f"{found['rate']:.2f} videos/s, {found['peak_mib']:.0f} MiB; vidcomp in one process "
        f"{found['own'].rate:.2f} videos/s{noise(found['own'])}"
    )


def ray(found: Mapping[int, Figures]) -> Iterator[str]:
    """Ray beside the pool, by the length of the videos."""
    for seconds, ran_by in found.items():
        local, far = ran_by["local"], ran_by["ray"]
        each = "; ".join(
            f"{name} {ran.start_s:.1f} s until the first is through, then {ran.work_s:.1f} s{noise(ran)}"
            for name, ran in (("local", local), ("Ray", far))
        )
        more = far.work_s / local.work_s - 1
        yield f"{local.inputs} videos of {seconds} s: {each}: Ray takes {more:+.0%} beyond its start-up"


def memory(found: Figures) -> Iterator[str]:
    """What the processes hold over a long run."""
    ran = found["ran"]
    held = [f"{role} {first:.0f} -> {last:.0f} MiB" for role, (first, last) in sorted(ran.held.items())]
    yield f"memory over {ran.inputs} videos, second tenth -> last tenth of the time: {', '.join(held)}"


def rerun(found: Figures) -> Iterator[str]:
    """A finished run once more."""
    yield (
        f"a finished run over {found['inputs']} videos: {found['rerun_s']:.2f} s after start-up "
        f"({found['rerun_cpu_s']:.2f} s of CPU), of which listing the inputs {found['listing_s']:.2f} s"
    )


def noise(*runs: Any) -> str:
    """A remark where others took so much of the machine that figures suffer."""
    most = max(ran.others for ran in runs)
    return f" (others took {most:.0%} of the machine meanwhile)" if most > QUIET else ""


def write(lines: list[str]) -> None:
    """Fill the section."""
    page = PAGE.read_text(encoding="utf-8")
    head, found, rest = page.partition(BEGIN)
    if not found or END not in rest:
        raise ValueError(f"{PAGE.name} has no section of figures")
    text = "".join(f"- {line}\n" for line in lines)
    figures = f"## Figures\n\n`scripts/bench_corpus`, on {machine()}\n\n{text}"
    PAGE.write_text(head + BEGIN + figures + END + rest.partition(END)[2], encoding="utf-8")


def machine() -> str:
    """Where and with what."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    libraries = ", ".join(f"{name} {release(name)}" for name in LIBRARIES)
    return f"{(names or ['an unknown processor'])[0]}, {cores} cores, shared; {libraries}:"


def release(name: str) -> str:
    """A library's version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
