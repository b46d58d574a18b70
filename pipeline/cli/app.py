"""The commands, and how every one of them ends: exit codes 0, 1, 2, 130, 143, and one line for whatever went wrong."""

from __future__ import annotations

import logging

import typer

from ...stages.failure import SourceError
from ...stages.safefile import DamagedFileError
from ..corpus import SourceListError
from ..errors import RUN_ERRORS
from ..report.lines import ReaderGoneError, put
from . import ask, encode, export, failures, inspect, methods, report, status, stream, verify
from .ending import INTERRUPTED, TERMINATED, Terminated, leave_streams, open_streams, signals
from .screen import complain

log = logging.getLogger(__name__)

USAGE, INPUT_FAILED = 1, 2

app = typer.Typer(
    name="vidcomp",
    help="Compress a video's visual tokens once, ask a video LLM many times.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (encode, stream, ask, inspect, status, failures, verify, export, report, methods):
    app.command(name=command.__name__.rpartition(".")[2])(command.command)


@app.callback()
def root() -> None:
    """Compress a video's visual tokens once, ask a video LLM many times."""


def run(arguments: list[str]) -> int:
    """The exit code of `vidcomp ARGUMENTS`."""
    open_streams()
    with signals():
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            complain(f"interrupted{after(arguments)}")
            return INTERRUPTED
        except Terminated:
            complain(f"terminated{after(arguments)}")
            return TERMINATED
        finally:
            leave_streams()


def after(arguments: list[str]) -> str:
    """What an interruption leaves, for the commands that leave something."""
    if arguments[:1] == ["stream"]:
        return ": nothing is torn; what has closed is kept, the same command goes on behind it"
    if arguments[:1] not in (["encode"], ["export"]) and "--retry" not in arguments:
        return ""
    again = "with --force it starts over" if "--force" in arguments else "the same command goes on where it stopped"
    return f": nothing is torn; {again}"


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="vidcomp", standalone_mode=False)
        put(None)
    except typer.TyperException as e:
        complain(" ".join(e.format_message().split()) or "give a command; see vidcomp --help")
        return USAGE
    except typer.Exit as e:
        return e.exit_code
    except (*RUN_ERRORS, SourceListError) as e:
        complain(str(e))
        return USAGE
    except (SourceError, DamagedFileError) as e:
        complain(str(e))
        return INPUT_FAILED
    except ReaderGoneError:
        return INTERRUPTED
    except OSError as e:
        complain(f"{e.filename or 'reading or writing'}: {e.strerror or e}: check the path, its permissions, the disk")
        return USAGE
    except Exception as e:
        log.debug("a command raised", exc_info=True)
        what = " ".join(f"{type(e).__name__}: {e}".split())
        complain(f"internal error ({what}): please report this")
        return USAGE
    if code == INTERRUPTED:  # what typer makes of Ctrl-C
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0
