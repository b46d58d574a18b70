"""Reading feeds in tests: what they told, picked apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vidcomp.stages.ingest import Event, Feed, Picture, Sound, UrlFeed
from vidcomp.stages.sample import Sampling

QUICK: dict[str, Any] = {"open_timeout_s": 10.0, "read_timeout_s": 1.0, "backoff": (0.01, 0.04)}
ALL = Sampling(every=1)


def told(feed: Feed, until: Callable[[list[Event]], bool] = lambda events: False) -> list[Event]:
    """Events until `until` of all so far, or the end; the feed is then closed."""
    events = list[Event]()
    reading = feed.events()
    for event in reading:
        events.append(event)
        if until(events):
            break
    reading.close()
    feed.close()
    return events


def read(url: str, rule: Sampling, **settings: Any) -> list[Event]:
    """Everything a feed tells; it gives up at the first loss."""
    return told(UrlFeed(url, rule, **{"max_retries": 0, **settings}))


def lost(times: int = 1) -> Callable[[list[Event]], bool]:
    """Until a connection has been lost so often."""
    return lambda events: kinds(events).count("Lost") == times


def of(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def kinds(events: list[Event]) -> list[str]:
    """Names of the events, without pictures and sound."""
    return [type(event).__name__ for event in events if not isinstance(event, (Picture, Sound))]
