"""Live sources as events: a network stream in a child that can be killed, raw frames from a pipe.

The rooms: `ingest_events` (what is told), `ingest_url` and `ingest_talk` (the parent's end), `ingest_raw` (frames on a
descriptor), `ingest_child` and what it imports (`ingest_source`, `_read`, `_clock`, `_pictures`, `_sound`,
`_voice`).
"""

from __future__ import annotations

from .ingest_events import (
    Ended,
    EndReason,
    Event,
    Feed,
    Jumped,
    Lost,
    LostReason,
    Opened,
    Picture,
    Resized,
    Retry,
    Sound,
)
from .ingest_raw import RawFeed
from .ingest_url import UrlFeed

__all__ = [
    "EndReason",
    "Ended",
    "Event",
    "Feed",
    "Jumped",
    "Lost",
    "LostReason",
    "Opened",
    "Picture",
    "RawFeed",
    "Resized",
    "Retry",
    "Sound",
    "UrlFeed",
]
