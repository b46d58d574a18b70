"""A finished run once more, over so many inputs: `bench_corpus_rerun.py COUNT FOLDER` prints its seconds as JSON.

Inputs, rows and records are made by vidcomp's own classes, but were never videos: a finished run opens none of them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from vidcomp.pipeline.corpus import items
from vidcomp.pipeline.job import Job
from vidcomp.pipeline.manifest import Manifest
from vidcomp.pipeline.presets import build_recipe
from vidcomp.pipeline.run import How, Run
from vidcomp.stages.store import record_key


def finish(folder: Path, count: int) -> None:
    """What a run over `folder/in` would have left in `folder/out`."""
    (folder / "in").mkdir()
    for n in range(count):
        (folder / "in" / f"{n:06}.mp4").write_text(str(n))
    job = Job(build_recipe(), folder / "out")
    manifest = Manifest(folder / "out")
    for item in items([str(folder / "in")]):
        recipe = job.digest_of(item)
        key = record_key(item.name, recipe)
        facts = {"tokens_in": 1960, "tokens_out": 196, "device": "auto", "threads": 1, "content": key, "source_s": 9.5}
        seconds = dict.fromkeys(("decode", "embed", "reduce", "store", "total"), 0.125)
        row = {"path": item.name, "recipe": recipe, "status": "ok", "key": key, "stamp": item.stamp_text}
        manifest.note({**row, **facts, "seconds": seconds, "cached": False, "at_s": 1.7e9})
        job.store.path(key).write_bytes(key.encode())


def main() -> None:
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    finish(folder, count)
    began, busy = time.monotonic(), time.process_time()
    found = items([str(folder / "in")])
    listed = time.monotonic()
    run = Run(Job(build_recipe(), folder / "out"), How())
    cached = sum(result.cached for result in run.results(found))
    ended, busy = time.monotonic(), time.process_time() - busy
    assert cached == count
    spent = {"listing_s": listed - began, "rerun_s": ended - began, "rerun_cpu_s": busy}
    print(json.dumps({"inputs": count, **spent}))


if __name__ == "__main__":
    main()
