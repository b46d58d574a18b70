"""Numbers of a run over HTTP, read as Prometheus reads them."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from vidcomp.pipeline.cli.watch import line as line_of
from vidcomp.pipeline.errors import ConfigError
from vidcomp.pipeline.item import Item
from vidcomp.pipeline.metrics import exposition, serve
from vidcomp.pipeline.result import Result
from vidcomp.pipeline.run import Run
from vidcomp.pipeline.stats import Stats

from .conftest import Cli

# The text format as its specification has it: a comment, or a name, labels, and a number that Go can read.
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")
TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (?:counter|gauge|histogram|summary|untyped)")


def parsed(text: str) -> dict[tuple[str, str], float]:
    """{(name, labels): value}; a `TYPE` stands once, before all samples of its name, and these stand together."""
    assert text.endswith("\n")
    found: dict[tuple[str, str], float] = {}
    typed: list[str] = []
    for line in text.splitlines():
        if (kind := TYPE.fullmatch(line)) is not None:
            assert kind[1] not in typed
            typed.append(kind[1])
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample is not None, line
        assert sample[1] == typed[-1]
        assert (sample[1], sample[2] or "") not in found
        found[sample[1], sample[2] or ""] = float(sample[3])
    return found


def stats() -> Stats:
    """Of a run with 3 of 4 inputs done."""
    counted = Stats(4, 2, "local", size_left=40)
    seconds = {"decode": 1.5, "embed": 0.5, "reduce": 0.25, "store": 0.125}
    made = {"status": "ok", "cached": False, "record": "a", "tokens_in": 392, "tokens_out": 38, "seconds": seconds}
    counted.count(Result(made, {"source_s": 2.0}), Item("a.mp4", size=10))
    counted.count(Result({**made, "cached": True}), Item("b.mp4", size=10))
    counted.count(Result({"status": "failed:corrupt", "cached": False, "record": None}), Item("c.mp4", size=10))
    return counted


@pytest.fixture
def server() -> Iterator[tuple[str, Stats]]:
    told = stats()
    with serve(0, told.to_json) as port:
        yield f"http://127.0.0.1:{port}", told


def get(url: str) -> tuple[str, Mapping[str, str]]:
    with urlopen(url, timeout=60) as answer:
        return answer.read().decode(), dict(answer.headers)


@pytest.mark.parametrize("path", ["/metrics", "/", "/metrics?format=text"])
def test_a_real_get(server: tuple[str, Stats], path: str) -> None:
    text, headers = get(server[0] + path)
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = parsed(text)
    whole = {name: found[f"vidcomp_{name}", ""] for name in ("inputs", "done", "cached", "failed", "tokens_in")}
    assert whole == {"inputs": 4, "done": 3, "cached": 1, "failed": 1, "tokens_in": 392}
    assert found["vidcomp_inputs_by_status", 'status="ok"'] == 2
    assert found["vidcomp_inputs_by_status", 'status="failed:corrupt"'] == 1
    assert found["vidcomp_stage_seconds", 'stage="decode"'] == 1.5


def test_every_get_tells_of_now(server: tuple[str, Stats]) -> None:
    before = parsed(get(server[0])[0])["vidcomp_done", ""]
    server[1].count(Result({"status": "partial", "cached": True, "record": "b"}), Item("d.mp4", size=10))
    after = parsed(get(server[0])[0])
    assert (before, after["vidcomp_done", ""]) == (3, 4)
    assert after["vidcomp_inputs_by_status", 'status="partial"'] == 1


def test_nothing_but_metrics_is_served(server: tuple[str, Stats]) -> None:
    with pytest.raises(HTTPError) as told:
        get(f"{server[0]}/etc/passwd")
    assert told.value.code == 404
    told.value.close()


def test_what_is_under_way_counts_for_the_time_that_is_left() -> None:
    going = Stats(2, 1, "local", size_left=400)
    assert (going.to_json()["under_way"], going.to_json()["eta_s"]) == ([], None)
    going.started_s -= 60
    long, short = Item("long.mp4", size=300), Item("short.mp4", size=100)
    going.hear(long, "embed", 0.4)  # an earlier run has left it there
    going.hear(short, "decode", 1.0)  # is nothing yet
    assert (going.to_json()["under_way"], going.to_json()["eta_s"]) == ([0.4], None)
    going.hear(long, "embed", 0.5)
    going.hear(long, "reduce", 0.45)
    going.hear(short, "embed", 0.0)
    told = going.to_json()
    assert (told["under_way"], told["result_s"]) == ([0.0, 0.5], None)
    assert told["eta_s"] == pytest.approx(60 * 250 / 30, rel=0.01)
    assert line_of(told).startswith("0 of 2 (0 failed), 2 under way at 0% to 50%: ")
    going.lose(short)
    assert going.to_json()["under_way"] == [0.5]
    going.count(Result({"status": "ok", "cached": False, "record": "a"}), long)
    assert going.to_json()["under_way"] == []
    assert going.to_json()["result_s"] == pytest.approx(time.time(), abs=60)


def test_what_is_not_known_yet_is_left_out() -> None:
    found = parsed(exposition(Stats(4, 0, "local").to_json()))
    assert ("vidcomp_eta_s", "") not in found
    assert found["vidcomp_done", ""] == 0


def test_a_port_that_cannot_be_listened_on_is_one_line(cli: Cli, clip: Path, here: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        for port in (taken.getsockname()[1], 65536, -1):
            with pytest.raises(ConfigError, match=f"--metrics-port {port}: cannot be listened on"), serve(port, dict):
                pass
        said = cli("encode", clip, "--metrics-port", taken.getsockname()[1])
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert not (here / "vidcomp-out" / "manifest.jsonl").exists()


def test_the_port_is_free_afterwards() -> None:
    with serve(0, dict) as port:
        pass
    with pytest.raises(URLError):
        get(f"http://127.0.0.1:{port}")
    with serve(port, stats().to_json) as again:
        assert again == port


def test_a_client_that_goes_away_is_not_told(server: tuple[str, Stats], capfd: pytest.CaptureFixture[str]) -> None:
    port = int(server[0].rpartition(":")[2])
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the end is a reset
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
    assert parsed(get(server[0])[0])
    assert "Traceback" not in capfd.readouterr().err


def test_a_status_may_come_up_in_the_middle_of_a_reading() -> None:
    told = stats()

    class Read(str):
        """A status during whose reading the run's own thread has its turn."""

        def startswith(self, *words: Any) -> bool:
            told.count(Result({"status": f"failed:{told.done}", "cached": True, "record": None}), Item("e.mp4"))
            return super().startswith(*words)

    told.statuses[Read("failed:timeout")] = 1
    assert parsed(exposition(told.to_json()))["vidcomp_inputs_by_status", 'status="failed:timeout"'] == 1


def test_a_run_is_served_while_it_goes(cli: Cli, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[tuple[str, str], float]] = []
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    real = Run.results

    def results(run: Run, items: Any) -> Iterator[Result]:
        for result in real(run, items):
            seen.append(parsed(get(f"http://127.0.0.1:{port}/metrics")[0]))
            yield result

    monkeypatch.setattr(Run, "results", results)
    (here / "bad.mp4").write_bytes(b"no video")
    assert cli("encode", clip, "bad.mp4", "--workers", "0", "--metrics-port", port).code == 2
    assert [found["vidcomp_done", ""] for found in seen] == [1, 2]
    assert seen[-1]["vidcomp_inputs_by_status", 'status="failed:not_video"'] == 1
    with pytest.raises(URLError):
        get(f"http://127.0.0.1:{port}/metrics")
