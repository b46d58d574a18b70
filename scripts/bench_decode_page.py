"""The figures of `bench_decode`: as lines, in docs/bench_decode.json, and as a table in docs/decode.md."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import av
from bench_decode_clips import CLIPS
from bench_decode_race import QUIET

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
FIGURES: Final = DOCS / "bench_decode.json"
PAGE: Final = DOCS / "decode.md"
DIGITS: Final = 4  # significant
PEERS: Final = ("plain", "seek", "decord", "torchcodec")
SEEKING: Final = ("seek", "decord", "torchcodec")
LIBRARIES: Final = ("av", "decord", "torchcodec", "torch")
UPLOAD_AIM, PLAIN_AIM, SEEK_AIM = 2.5, 4.0, 1.2  # issue 4's: times as fast
LEAST, LEAST_PLAIN = 1.0, 1 / 1.05
Row = dict[str, Any]  # by reader; `source`: how many frames the file has
Figures = dict[str, dict[str, Row]]  # by file and samples
COLUMNS: Final = (
    ("file", "<9"),
    ("samples", "<9"),
    ("frames", ">12"),
    ("vidcomp", ">13"),
    ("PyAV", ">13"),
    ("PyAV seek", ">13"),
    ("decord", ">13"),
    ("torchcodec", ">13"),
    ("FFmpeg null", ">13"),
    ("x peer", ">6"),
    ("x PyAV", ">6"),
    ("CPU x peer", ">10"),
    ("note", "<"),
)


# -- what the figures say ----------------------------------------------------------------------------------


def best(row: Row, peers: tuple[str, ...] = PEERS, of: str = "wall_s") -> float:
    """The least that a peer took that gives the right frames."""
    return min((row[peer][of] for peer in peers if right(row.get(peer, {}))), default=float("nan"))


def right(reader: Row) -> bool:
    """Whether it gave the right frames."""
    return "wall_s" in reader and not reader["wrong"]


def speed(row: Row, peers: tuple[str, ...], of: str = "wall_s") -> float:
    """How many times as fast as the best of the peers vidcomp is."""
    own = row["vidcomp"].get(of)
    return best(row, peers, of) / own if own else float("nan")


def missed(name: str, samples: str, row: Row) -> Iterator[str]:
    """The aims that are not reached."""
    ratio, plain, seeking = (speed(row, peers) for peers in (PEERS, ("plain",), SEEKING))
    sparse = (name, samples) == ("long", "0.1 fps")
    if row["vidcomp"].get("wrong", 1):
        yield "NOT BIT-IDENTICAL"
    if name == "upload" and not ratio >= UPLOAD_AIM:
        yield f"under {UPLOAD_AIM} x the best peer"
    if sparse and not plain >= PLAIN_AIM:
        yield f"under {PLAIN_AIM:g} x PyAV"
    if sparse and not seeking >= SEEK_AIM:
        yield f"under {SEEK_AIM} x the best seeking peer"
    if not ratio >= LEAST:
        yield "slower than the best peer"
    if not plain >= LEAST_PLAIN:
        yield "slower than 1.05 x PyAV's time"


def failures(row: Row) -> Iterator[str]:
    """Readers without a time."""
    for reader in ("vidcomp", *PEERS, "ffmpeg"):
        why = row.get(reader, {}).get("failed", "")
        if why and not why.startswith("over "):
            known = why if reader == "vidcomp" else "cannot be used" if why.startswith("cannot") else "cannot read it"
            yield f"{reader} {known}"


# -- showing -----------------------------------------------------------------------------------------------


def heading() -> str:
    """The titles of the lines."""
    return "  ".join(f"{title:{width}}" for title, width in COLUMNS)


def line(name: str, samples: str, row: Row) -> str:
    """One line of the table."""
    return "  ".join(f"{cell:{width}}" for cell, (_, width) in zip(cells(name, samples, row), COLUMNS, strict=True))


def cells(name: str, samples: str, row: Row) -> list[str]:
    """A row of the table."""
    own = row["vidcomp"]
    times = [time(row.get(reader, {})) for reader in ("vidcomp", *PEERS, "ffmpeg")]
    ratios = [f"{speed(row, PEERS):.2f}", f"{speed(row, ('plain',)):.2f}", f"{speed(row, PEERS, 'cpu_s'):.2f}"]
    note = "; ".join([*missed(name, samples, row), *failures(row)])
    return [name, samples, f"{own['frames']} of {row['source']}", *times, *ratios, note]


def time(reader: Row) -> str:
    """Wall and CPU seconds."""
    if "wall_s" not in reader:
        why = reader.get("failed", "-")
        return f"> {why.split()[1]}" if why.startswith("over ") else "–"
    wrong = f" {reader['wrong']} wrong" if reader["wrong"] else ""
    disturbed = "!" if reader["others"] > QUIET else ""
    return f"{reader['wall_s']:.2f}{disturbed} ({reader['cpu_s']:.1f}){wrong}"


def legend() -> str:
    """What the columns are."""
    return """\
Wall seconds (CPU seconds of all its processes), best of at least two; `!`: others took over a tenth of the machine
meanwhile, so that CPU seconds tell more; `>`: given up after so long; FFmpeg null makes no pictures. x peer: how many
times as fast as the best peer that gives the right frames; x PyAV: as plain PyAV; CPU x peer: the least CPU seconds of
such a peer over vidcomp's."""


# -- keeping -----------------------------------------------------------------------------------------------


def here() -> Row:
    """What figures must have in common to stand in one table."""
    return {"cpu": cpu_model(), "cores": len(os.sched_getaffinity(0)), **{name: release(name) for name in LIBRARIES}}


def release(name: str) -> str:
    """A library's version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def earlier() -> Figures:
    """The figures kept, if they were measured with the same libraries on the same processor."""
    kept = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {}
    return kept["files"] if here().items() <= kept.items() else {}


def write(kept: Figures) -> None:
    """Keep the figures, and put the table into the page."""
    text = json.dumps({**here(), "files": rounded(kept)}, indent=1, sort_keys=True)
    FIGURES.write_text(text + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(page, "bench", section(kept)), encoding="utf-8")


def rounded(value: Any) -> Any:
    """Floats to the digits that they are good for."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def filled(page: str, name: str, text: str) -> str:
    """The page with `text` between the marks of a section."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"{PAGE.name} has no section {name}")
    return head + begin + text + end + rest.partition(end)[2]


def section(kept: Figures) -> str:
    """The table, the files, and where it was measured."""
    rows = [(name, samples, row) for name in CLIPS for samples, row in sorted(kept.get(name, {}).items())]
    titles = [title for title, _ in COLUMNS]
    lines = [titles, ["---"] * len(titles), *(cells(*row) for row in rows)]
    table = "".join(f"| {' | '.join(each)} |\n" for each in lines)
    files = "".join(f"- `{name}`: {described(name)}\n" for name in CLIPS)
    return f"{machine()}\n\n{table}\n{legend()}\n\n{files}"


def machine() -> str:
    """Where and with what."""
    facts = here()
    libraries = ", ".join(f"{name} {facts[name]}" for name in LIBRARIES)
    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"{facts['cpu']}, {facts['cores']} cores, shared; {libraries}; PyAV's libavcodec {ffmpeg}."


def described(name: str) -> str:
    """A file in words."""
    clip = CLIPS[name]
    return f"{clip.about}; {clip.size[0]} x {clip.size[1]}, 30 frames a second, {60 * 2 * clip.share:g} s."


def cpu_model() -> str:
    """What the processor calls itself."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        found = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return found[0] if found else "unknown"
