"""The decode child as a process: light, killable, replaced when it fails, and never left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from media import B_FRAMES, make_clip

from vidcomp.stages import decode_talk
from vidcomp.stages.decode import DecodeError, Decoder, Source
from vidcomp.stages.decode_process import Process
from vidcomp.stages.wire import Patience

HANGS = "import ctypes; ctypes.PyDLL(None).sleep(600)"  # in C, holding the GIL
CRASHES = "import os; os.kill(os.getpid(), 11)"
RAISES = "raise RuntimeError('out of luck')"
BABBLES = "print('no message at all' * 9, flush=True); import time; time.sleep(600)"


def child(script: str) -> list[str]:
    """Words for a child that is not ours."""
    return [sys.executable, "-c", script]


def children() -> set[str]:
    """Process ids of our children, threads' and zombies included."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def pid_of(decoder: Decoder) -> int:
    assert decoder._process is not None
    return decoder._process._popen.pid


def gone(pid: int, within_s: float = 30.0) -> bool:
    """Whether a process ends (a zombie has ended)."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "a.mp4", count=40, options=B_FRAMES)


@pytest.fixture
def small_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four frames of a clip in a slot."""
    monkeypatch.setattr(decode_talk, "SLOT_BYTES", 64 * 48 * 3 * 4)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def interrupted(source: Source) -> None:
    for _ in source.frames(np.arange(40)):
        raise KeyboardInterrupt


def works(decoder: Decoder, clip: Path) -> bool:
    """Whether every frame can be read."""
    source = decoder.open(clip)
    return sum(len(batch) for batch in source.frames(np.arange(40))) == 40


def test_the_child_imports_nothing_heavy() -> None:
    code = "import sys, vidcomp.stages.decode_child; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "sklearn", "scipy", "ray", "pydantic"} & set(done.stdout.split())


def test_the_child_ignores_the_working_folder(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("av.py", "numpy.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit('taken from the working folder')")
    monkeypatch.chdir(tmp_path)
    with Decoder() as decoder:
        assert works(decoder, clip)


def test_one_child_serves_many_videos_and_is_replaced_in_time(clip: Path) -> None:
    with Decoder(recycle_after=2) as decoder:
        pids = []
        for _ in range(4):
            assert works(decoder, clip)
            pids.append(pid_of(decoder))
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_refused_file_does_not_cost_the_child(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("text")
    with Decoder() as decoder:
        decoder.open(clip)
        pid = pid_of(decoder)
        for name in ("text.mp4", "gone.mp4"):
            with pytest.raises(DecodeError):
                decoder.open(tmp_path / name)
        assert works(decoder, clip)
        assert pid_of(decoder) == pid


def test_a_hung_child_is_killed_at_its_deadline_and_the_next_video_works(clip: Path) -> None:
    with Decoder(deadline_s=0.5) as decoder:
        ours, decoder._argv = decoder._argv, child(HANGS)
        begun = time.monotonic()
        with pytest.raises(DecodeError, match=r"within 0\.5 s") as caught:
            decoder.open(clip)
        assert caught.value.reason == "timeout"
        assert 0.5 <= time.monotonic() - begun < 60
        assert not children()
        decoder._argv, decoder.deadline_s = ours, None
        assert works(decoder, clip)


@pytest.mark.usefixtures("small_slots")
def test_a_child_that_stops_in_the_middle_of_a_video_is_killed_at_the_deadline(clip: Path) -> None:
    with Decoder(deadline_s=4.0) as decoder:
        frames = decoder.open(clip).frames(np.arange(40))
        next(frames)
        os.kill(pid_of(decoder), signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(DecodeError) as caught:
            list(frames)
        assert caught.value.reason == "timeout"
        assert 3.9 <= time.monotonic() - begun < 60
        assert works(decoder, clip)


@pytest.mark.usefixtures("small_slots")
def test_a_slow_consumer_is_no_hang(clip: Path) -> None:
    with Decoder(deadline_s=3.0) as decoder:
        source = decoder.open(clip)
        for _ in source.frames(np.arange(40)):
            time.sleep(0.4)  # four seconds in all
        assert source.outcome.status == "ok"


@pytest.mark.parametrize(
    ("script", "says"), [(CRASHES, "SIGSEGV"), (RAISES, "exit 1: RuntimeError: out of luck"), (BABBLES, "lost its way")]
)
def test_a_crash_is_told_in_one_line(clip: Path, script: str, says: str) -> None:
    with Decoder() as decoder:
        decoder._argv = child(script)
        with pytest.raises(DecodeError, match=says) as caught:
            decoder.open(clip)
        assert caught.value.reason == "crashed"
        assert "\n" not in str(caught.value)


def test_a_child_that_died_before_it_was_asked_tells_why(tmp_path: Path) -> None:
    process = Process(child(RAISES))
    process._popen.wait()
    request = {"do": "open", "path": str(tmp_path)}
    with pytest.raises(DecodeError, match="exit 1: RuntimeError: out of luck"), process.exchange():
        process.ask(Patience(5), request)
    process.close()


def test_a_child_that_cannot_start(clip: Path) -> None:
    with Decoder() as decoder:
        decoder._argv = ["/nowhere/python"]
        with pytest.raises(DecodeError, match="cannot be started"):
            decoder.open(clip)


@pytest.mark.usefixtures("small_slots")
def test_a_death_in_the_middle_of_a_video_costs_that_video_only(clip: Path) -> None:
    with Decoder() as decoder:
        frames = decoder.open(clip).frames(np.arange(40))
        next(frames)
        os.kill(pid_of(decoder), signal.SIGKILL)
        with pytest.raises(DecodeError, match="SIGKILL"):
            list(frames)
        assert works(decoder, clip)


def test_a_death_between_videos_costs_nothing(clip: Path) -> None:
    with Decoder() as decoder:
        source = decoder.open(clip)
        os.kill(pid_of(decoder), signal.SIGKILL)
        assert gone(pid_of(decoder))
        assert sum(len(batch) for batch in source.frames(np.arange(40))) == 40


def test_the_end_of_the_thread_that_started_the_child_costs_nothing(clip: Path) -> None:
    with Decoder() as decoder:
        for _ in range(2):
            thread = threading.Thread(target=decoder.open, args=(clip,))
            thread.start()
            thread.join()
            assert works(decoder, clip)


@pytest.mark.usefixtures("small_slots")
def test_an_iterator_left_early_leaves_a_working_decoder(clip: Path) -> None:
    with Decoder() as decoder:
        source = decoder.open(clip)
        for _ in source.frames(np.arange(40)):
            break
        with pytest.raises(KeyboardInterrupt):
            interrupted(source)
        assert works(decoder, clip)


@pytest.mark.usefixtures("small_slots")
def test_a_later_use_ends_an_unfinished_one(clip: Path) -> None:
    with Decoder() as decoder:
        first = decoder.open(clip).frames(np.arange(40))
        next(first)
        assert works(decoder, clip)
        with pytest.raises(RuntimeError, match="one decoder for each"):
            next(first)
        assert works(decoder, clip)


def test_cancel_ends_a_wait_from_another_thread(clip: Path) -> None:
    with Decoder() as decoder:
        ours, decoder._argv = decoder._argv, child(HANGS)
        timer = threading.Timer(0.3, decoder.cancel)
        timer.start()
        with pytest.raises(DecodeError) as caught:
            decoder.open(clip)
        timer.join()
        assert caught.value.reason == "crashed"
        decoder._argv = ours
        assert works(decoder, clip)
        decoder.cancel()  # with no one waiting
        assert works(decoder, clip)


def test_what_is_cancelled_is_not_tried_again(clip: Path) -> None:
    with Decoder() as decoder:
        decoder.open(clip)
        os.kill(pid_of(decoder), signal.SIGSTOP)
        timer = threading.Timer(0.2, decoder.cancel)
        timer.start()
        with pytest.raises(DecodeError, match="SIGKILL"):
            decoder.open(clip)
        timer.join()


def test_nothing_leaks_over_many_videos(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("text")
    with Decoder(recycle_after=8) as decoder:
        assert works(decoder, clip)
        before = len(os.listdir("/proc/self/fd"))
        for n in range(30):
            if n % 3 == 2:
                with pytest.raises(DecodeError):
                    decoder.open(tmp_path / "text.mp4")
            else:
                assert works(decoder, clip)
            if n % 10 == 9:
                decoder.cancel()
        assert works(decoder, clip)
        assert len(os.listdir("/proc/self/fd")) == before
        child_fds = len(os.listdir(f"/proc/{pid_of(decoder)}/fd"))
    assert child_fds <= 8


def test_a_decoder_that_is_dropped_takes_its_child_along(clip: Path) -> None:
    decoder = Decoder()
    decoder.open(clip)
    pid = pid_of(decoder)
    del decoder
    gc.collect()
    assert gone(pid)


def run_script(code: str, *words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, *words], stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("state", ["idle", "hung"])
def test_the_child_dies_with_its_parent(sent: signal.Signals, state: str) -> None:
    script = (
        "import os, ctypes, vidcomp.stages.decode_child as c\n"
        "def wait(fd): os.write(9, b'!'); return real(fd) if IDLE else ctypes.PyDLL(None).sleep(600)\n"
        "replies, real, c.receive = c.own_stdout, c.receive, wait\n"
        "c.own_stdout = lambda: os.dup2(replies(), 9); c.main()"
    ).replace("IDLE", str(state == "idle"))
    code = (
        "import os, sys, time; from vidcomp.stages.decode_process import Process\n"
        "p = Process([sys.executable, '-c', sys.argv[1]])\n"
        "os.set_blocking(p._replies, True); os.read(p._replies, 1)\n"
        "print(p._popen.pid, flush=True); time.sleep(600)"
    )
    with run_script(code, script) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(sent)
        parent.wait(10)
    assert gone(pid)


def test_a_fork_neither_uses_nor_ends_the_child_of_its_parent() -> None:
    code = (
        "import os, sys; from vidcomp.stages.decode_process import Process\n"
        "p = Process([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pid = os.fork()\n"
        "if not pid: usable = p.idle; p.kill(); p.close(); os._exit(usable)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), p._popen.poll())"
    )
    with run_script(code) as parent:
        out, err = parent.communicate(timeout=60)
    assert (out.split(), err) == (["0", "None"], "")


def test_what_the_child_prints_does_not_reach_the_pipe_or_the_screen(
    clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Decoder() as decoder:
        decoder._argv = child(
            "import os, runpy, sys; import vidcomp.stages.decode_child as c\n"
            "probe = c.probe\n"
            "def loud(file): os.write(1, b'to stdout'); os.write(2, b'to stderr'); return probe(file)\n"
            "c.probe = loud; c.main()"
        )
        assert decoder.open(clip).info.frames == 40
    assert capfd.readouterr() == ("", "")


def test_memory_does_not_grow_with_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_talk, "SLOT_BYTES", 1 << 20)
    path = make_clip(tmp_path / "a.mp4", count=200, size=(640, 360), options={"preset": "ultrafast"})
    with Decoder(threads=1) as decoder:
        source = decoder.open(path)
        read = 0
        for batch in source.frames(np.arange(200)):
            assert batch.data.nbytes <= 1 << 20
            read += batch.data.nbytes
        status = Path(f"/proc/{pid_of(decoder)}/status").read_text()
        peak_kb = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert read == 200 * 640 * 360 * 3 > 130 << 20
    assert peak_kb < 80 << 10  # of which 45 MiB are its libraries
