"""Tasks on Ray Data: one actor pool does them, and hands parts of them to another pool, of plain Ray tasks.

What crosses the object store is what those parts yield, a few objects at a time, and JSON. Ray Data starts an actor
that died anew and leaves out what it was doing; what of several does not come back is done again, alone on its actor,
and is `Lost` if that does not come back either: every task has one end, whatever Ray makes of it.

For a process of its own (`host.py`): Ray changes signal handlers, prints, and may take the process down with it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import ray
import ray.data
from ray.exceptions import ActorDiedError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .actor import Actor, Crew, Ears, Node, Orders, line_of
from .events import AgainError, Done, Event, Heard, Lost, Message, RunnerError
from .parts import StreamLostError
from .replies import replies

AHEAD = 2  # objects that a stream may be ahead of its reader
AT_ONCE = 2  # tasks in flight on an actor: one is read or stored while the other is computed
LOOK_S = 5.0  # for the cluster to answer


def elsewhere(cpus: float, generate: Callable[..., Iterator[Any]], *words: Any) -> Iterator[Any]:
    """See `parts.Stream`: a Ray task, which is cancelled when the iterator is closed before its end."""
    refs = _remote(generate, cpus).remote(*words)
    ended = False
    try:
        for ref in refs:
            yield ray.get(ref)
        ended = True
    except RayTaskError as error:
        ended = True
        raise error.cause if isinstance(error.cause, Exception) else error from None
    except RayError as error:
        raise StreamLostError(line_of(error)) from None
    finally:
        if not ended:
            with contextlib.suppress(RayError):
                ray.cancel(refs, force=False)


@lru_cache
def _remote(generate: Callable[..., Iterator[Any]], cpus: float) -> Any:
    """Made once: a new one is sent to every worker again, and the processes of the one before are of no use to it."""
    options = {"num_cpus": cpus, "max_retries": 0, "num_returns": "streaming"}
    return ray.remote(generate).options(**options, _generator_backpressure_num_objects=AHEAD)


class RayRunner:
    """See `events.Runner`. `crew_of(nodes)` of the whole cluster: its actors. Joins the cluster at `address`;
    None: starts one of `own_cpus` on this machine."""

    def __init__(
        self, orders: Orders, crew_of: Callable[[Sequence[Node]], Crew], *, address: str | None, own_cpus: int
    ) -> None:
        self.orders, self.crew_of = orders, crew_of
        own: dict[str, Any] = {"num_cpus": own_cpus, "include_dashboard": False} if address is None else {}
        try:
            ray.init(address=address or "local", **own, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = f"at {address}" if address else "can be started on this machine"
            fix = "does it ask for a token (RAY_AUTH_MODE)? see docs/clusters.md" if address else "see docs/clusters.md"
            raise RunnerError("ray", f"no Ray cluster {where} ({line_of(error)}): {fix}") from None
        quiet()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._ears: Any = ray.remote(Ears).options(num_cpus=0, scheduling_strategy=here).remote()

    def run(self, tasks: Sequence[Message]) -> Iterator[Event]:
        """See `events.Runner`."""
        left = yield from self._pass(tasks, AT_ONCE)
        if left and len(tasks) > 1:
            left = yield from self._pass(left, 1)
        for task in left:
            yield Lost(task["number"], "its worker or its node died")

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        ray.shutdown()

    def _pass(self, tasks: Sequence[Message], at_once: int) -> Generator[Event, None, Sequence[Message]]:
        """Do tasks; what does not come back is returned. Raises what Ray breaks off with."""
        crew = self.crew_of(nodes())
        left, late = {task["number"]: task for task in tasks}, dict[int, float]()
        for reply in replies(self._dataset(tasks, crew, at_once), partial(check_room, crew)):
            if reply is None:
                yield from self._heard(left, late)
            elif "fatal" in reply:
                raise RunnerError(reply["fatal"], reply["message"])
            elif left.pop(number := reply.pop("number"), None) is not None:
                yield Done(number, reply)
        for number in late.keys() & left.keys():
            del left[number]
            yield Lost(number, f"it took longer than {late[number]:.0f} s", late=True)
        return list(left.values())

    def _dataset(self, tasks: Sequence[Message], crew: Crew, at_once: int) -> Any:
        """Lazy: Ray Data takes it up when it is read. A block for each task: a lost one takes no other with it."""
        data = ray.data.from_items([{"task": json.dumps(task)} for task in tasks], override_num_blocks=len(tasks))
        return data.map_batches(
            Actor,
            fn_constructor_args=(self.orders, elsewhere, self._ears),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(
                size=min(crew.actors, len(tasks)),
                max_tasks_in_flight_per_actor=at_once,
                max_concurrent_calls_per_actor=at_once,
                enable_true_multi_threading=True,
            ),
            num_cpus=crew.cpus,
            num_gpus=crew.gpus,
            max_restarts=-1,
            max_task_retries=0,  # Ray would do for ever what kills its actor
        )

    def _heard(self, left: Mapping[int, Message], late: dict[int, float]) -> Iterator[Heard]:
        """What has been said of tasks since the last time; AgainError where nobody can be told any more."""
        said: list[tuple[int, Message]] = []
        try:
            said = ray.get(self._ears.take.remote(), timeout=LOOK_S)
        except ActorDiedError:  # then its workers take the run for ended
            raise AgainError("what hears of its workers has died") from None
        except RayError:
            pass
        for number, message in said:
            if "late_s" in message:
                late[number] = message["late_s"]
            elif number in left:
                yield Heard(number, message)


def nodes() -> list[Node]:
    """Those that are alive."""
    found: Sequence[Mapping[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    has = [node["Resources"] for node in found if node["Alive"]]
    return [Node(each.get("CPU", 0.0), each.get("GPU", 0.0)) for each in has]


def check_room(crew: Crew) -> None:
    """AgainError where a crew has no room any more: actors keep their CPUs when a node dies, and what is left must have
    some for the streams that they wait for."""
    if not crew.fits(left := nodes()):
        cpus = sum(node.cpus for node in left)
        raise AgainError(f"the cluster has {cpus:g} CPUs left, too few for its {crew.actors} workers")


def quiet() -> None:
    """No progress bars; blocks that fail, and times in which none is done, are ours to account for."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    context.max_errored_blocks = -1
    context.execution_no_progress_timeout_s = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
