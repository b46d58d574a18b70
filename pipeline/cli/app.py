"""The commands, and how every one of them ends: exit codes 0, 1, 2, 130, 143, and one line for whatever went wrong."""

from __future__ import annotations

import io
import logging
import signal
import sys
from types import FrameType
from typing import Any

import typer

from ...stages.failure import SourceError
from ...stages.safefile import DamagedFileError
from ..corpus import SourceListError
from ..errors import CONFIG_ERRORS
from . import ask, encode, inspect, methods, verify
from .screen import complain

log = logging.getLogger(__name__)

USAGE, INPUT_FAILED, INTERRUPTED, TERMINATED = 1, 2, 130, 143

app = typer.Typer(
    name="vidcomp",
    help="Compress a video's visual tokens once, ask a video LLM many times.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (encode, ask, inspect, verify, methods):
    app.command(name=command.__name__.rpartition(".")[2])(command.command)


@app.callback()
def root() -> None:
    """Compress a video's visual tokens once, ask a video LLM many times."""


class Terminated(BaseException):
    """SIGTERM, raised in the main thread so that every `finally` runs."""


def run(arguments: list[str]) -> int:
    """The exit code of `vidcomp ARGUMENTS`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that is no UTF-8 can still be told
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        complain("interrupted: nothing is torn; the same command goes on where it stopped")
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="vidcomp", standalone_mode=False)
    except typer.TyperException as e:
        complain(" ".join(e.format_message().split()) or "give a command; see vidcomp --help")
        return USAGE
    except typer.Exit as e:
        return e.exit_code
    except (*CONFIG_ERRORS, SourceListError) as e:
        complain(str(e))
        return USAGE
    except (SourceError, DamagedFileError) as e:
        complain(str(e))
        return INPUT_FAILED
    except BrokenPipeError:
        return INTERRUPTED
    except OSError as e:
        complain(f"{e.filename or 'reading or writing'}: {e.strerror or e}: check the path, its permissions, the disk")
        return USAGE
    except Exception as e:
        log.debug("a command raised", exc_info=True)
        complain(f"internal error ({type(e).__name__}: {e}): please report this")
        return USAGE
    if code == INTERRUPTED:  # what typer makes of Ctrl-C
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _terminate(signum: int, frame: FrameType | None) -> Any:
    raise Terminated
