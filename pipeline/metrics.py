"""A run's numbers as Prometheus reads them, over HTTP on a port of this machine. Standard library only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .errors import ConfigError

POLL_S = 0.05  # between two looks whether to end
PLAIN = (
    "inputs",
    "done",
    "cached",
    "failed",
    "tokens_in",
    "tokens_out",
    "videos_per_s",
    "video_hours_per_hour",
    "eta_s",
)


@contextmanager
def serve(port: int, read: Callable[[], Mapping[str, Any]]) -> Iterator[int]:
    """Answers `/metrics` with what `read` gives, on all of this machine's addresses; the port (0: any that is free)."""

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # a client that hangs up is no news
                super().handle()

        def do_GET(self) -> None:
            known = self.path.split("?")[0] in ("/", "/metrics")
            body = exposition(read()).encode() if known else b"see /metrics\n"
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged."""

    try:
        server = ThreadingHTTPServer(("", port), Handler)
    except (OSError, OverflowError) as e:
        raise ConfigError(f"--metrics-port {port}: cannot be listened on ({e}): take another") from None
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def exposition(stats: Mapping[str, Any]) -> str:
    """The text format: a gauge each, statuses and stages by label."""
    lines = []
    for name in PLAIN:
        if stats[name] is not None:
            lines += [f"# TYPE vidcomp_{name} gauge", f"vidcomp_{name} {stats[name]}"]
    lines.append("# TYPE vidcomp_inputs_by_status gauge")
    lines += [f'vidcomp_inputs_by_status{{status="{status}"}} {n}' for status, n in sorted(stats["statuses"].items())]
    lines.append("# TYPE vidcomp_stage_seconds gauge")
    lines += [f'vidcomp_stage_seconds{{stage="{stage}"}} {s}' for stage, s in stats["stage_seconds"].items()]
    return "\n".join(lines) + "\n"
