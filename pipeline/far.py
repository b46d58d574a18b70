"""The same stages on a cluster: reading in one pool of tasks, encoding in another of actors. Knows no ray.

A video is read where a CPU is free, and its model-size chunks go to the actor that encodes it; that actor decides,
stores and accounts just as one process does, so the records are the same bytes.
"""

from __future__ import annotations

import math
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .runners.actor import Crew, Node, Orders
from .runners.apart import Apart
from .runners.parts import Stream
from .runners.worker import Say, Work
from .same_code import check_code, code_here
from .same_folder import Mark
from .tasks import fatal, hello, prepare

if TYPE_CHECKING:
    from .config import Recipe
    from .encode import VideoEncoder
    from .run import How
    from .runners.events import Message, Runner

CLUSTER = (sys.executable, "-P", "-m", "vidcomp.pipeline.cli.cluster")
STALL_S = 900.0  # a worker that has not got one chunk further in that time hangs
CONNECT_S = 5.0
SILENCE_S = 1800.0  # a run of which nothing is heard for so long: its cluster gives it no worker, or hangs


# -- where the run is started ------------------------------------------------------------------------


class OnCluster(Apart):
    """See `events.Runner`; OUT is marked for as long as the run goes."""

    def __init__(self, recipe: Recipe, out: Path, how: How, command: Sequence[str] = CLUSTER) -> None:
        self.mark = Mark.leave(out)
        told = {
            **hello(recipe, out, how.force),
            "code": code_here(),
            "mark": self.mark.path.name,
            "folder": os.getcwd(),
            "workers": how.workers or None,
            "address": how.address,
            "deadline_s": how.deadline_s,
        }
        super().__init__(command, told, silence_s=SILENCE_S)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.mark.remove()


def ray_runner(recipe: Recipe, out: Path, how: How) -> Runner:
    """A runner on Ray; ConfigError where it is not installed, or cannot be reached so."""
    if find_spec("ray") is None:
        raise ConfigError("--engine ray needs Ray: pip install 'vidcomp[ray]'")
    if how.address is not None and "://" in how.address:
        raise ConfigError(f"--address {how.address}: join from one of its nodes, with the head's host:port or auto")
    refuse_unreachable(how.address)
    decode = recipe.decode.model_copy(update={"threads": recipe.decode.threads or 1})  # as many as are asked of a node
    return OnCluster(recipe.model_copy(update={"decode": decode}), out, how)


def refuse_unreachable(address: str | None) -> None:
    """ConfigError where nobody listens at host:port: Ray itself would try for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as e:
        raise ConfigError(f"--address {address}: nobody answers there ({e}): start the cluster, or check it") from None


# -- the process that leads the run ------------------------------------------------------------------


def lead(told: Mapping[str, Any]) -> Runner:
    """The runner that `OnCluster`'s process hosts."""
    from .config import Recipe
    from .runners.ray import RayRunner

    recipe, workers = Recipe.model_validate(told["recipe"]), told["workers"]
    return RayRunner(
        Orders(far_work, told, fatal, told["deadline_s"], STALL_S),
        partial(crew_of, recipe, workers or (1 if told["address"] is None else None)),
        address=told["address"],
        own_cpus=(workers or 1) * (recipe.compute.threads + reading_cpus(recipe)),
    )


def reading_cpus(recipe: Recipe) -> int:
    """What one video that is read takes of a node."""
    return recipe.decode.threads * recipe.decode.processes


def crew_of(recipe: Recipe, workers: int | None, nodes: Sequence[Node]) -> Crew:
    """So many workers as are asked for, or one for each GPU, or for as many CPUs as one and what reads for it take;
    in any case no more than leave room for one that reads. More workers than GPUs share these."""
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    threads, reading = recipe.compute.threads, reading_cpus(recipe)
    on_gpu = recipe.compute.device.startswith("cuda") or (recipe.compute.device == "auto" and gpus >= 1)
    if on_gpu and gpus < 1:
        raise ConfigError("the cluster has no GPU: add a node with one, or --set compute.device=cpu")
    wanted = workers or max(int(gpus) if on_gpu else int(cpus // (threads + reading)), 1)
    crew = Crew(wanted, threads, 1.0 / math.ceil(wanted / gpus) if on_gpu else 0.0, reading)
    if (room := crew.room(nodes)) < 1:
        has = f"{cpus:g} CPUs on {len(nodes)} nodes"
        raise ConfigError(
            f"the cluster has {has}, where a worker ({threads}) and what reads for it ({reading}) must fit"
        )
    return replace(crew, actors=min(wanted, room))


# -- what an actor does ------------------------------------------------------------------------------


def far_work(told: Mapping[str, Any], stream: Stream) -> Work:
    """`tasks.prepare` with a reader that reads elsewhere, for several threads."""
    check_code(told["code"])
    check_folder(Path(told["out"]), told["mark"])
    import torch

    torch.set_num_threads(told["recipe"]["compute"]["threads"])
    work = prepare(told, Building(told, stream))

    def do(task: Message, say: Say) -> Mapping[str, Any]:
        path = task["path"]
        return work({**task, "path": path and os.path.join(told["folder"], path)}, say)

    return do


def check_folder(out: Path, mark: str) -> None:
    """`ConfigError` unless this machine sees the folder of the run."""
    if not (out / mark).exists():
        node = os.uname().nodename
        raise ConfigError(f"{out} is not the same folder on node {node}: put OUT on storage that all nodes share")


@dataclass
class Building:
    """Builds the one encoder of a process, whichever thread is first to need it."""

    told: Mapping[str, Any]
    stream: Stream
    _lock: Lock = field(default_factory=Lock, init=False)
    _built: VideoEncoder | None = field(default=None, init=False)

    def __call__(self, recipe: Recipe, identity: Mapping[str, Any]) -> VideoEncoder:
        with self._lock:
            if self._built is None:
                self._built = self._build(recipe, identity)
            return self._built

    def _build(self, recipe: Recipe, identity: Mapping[str, Any]) -> VideoEncoder:
        from .encode import VideoEncoder
        from .far_embed import OneAtATime
        from .far_read import FarReader

        reader = FarReader(self.stream, self.told["recipe"], self.told["code"], reading_cpus(recipe))
        encoder = VideoEncoder(recipe, identity, reader)
        encoder.embedder = OneAtATime.of(encoder.embedder)
        return encoder
