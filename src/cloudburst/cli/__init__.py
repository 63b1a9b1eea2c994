"""The command line: stdout is data, stderr is talk, errors are one line with an exit code of their own."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback

import click

from cloudburst import names
from cloudburst.cli.listed import Entry, Listed
from cloudburst.cli.options import is_verbose, verbose_option
from cloudburst.console import echo, prepare
from cloudburst.errors import CloudburstError

EXIT_INTERRUPTED = 130

_OF_OPERATORS = (
    *("up", "down", "status", "audit", "watch", "elastic"),
    *("scale", "logs", "drain", "undrain", "backup", "restore"),
)

STACK_COMMANDS = {
    **{name: Entry(f"cloudburst.cli.stack:{name}", "stack") for name in _OF_OPERATORS},
    "export": Entry("cloudburst.cli.stackfile:export"),
    "import": Entry("cloudburst.cli.stackfile:import_"),
}


@click.group(cls=Listed, entries=STACK_COMMANDS)
def stack() -> None:
    """Start, stop and show a stack: queue, file store, points, queue-dash and a worker."""


COMMANDS = {
    "submit": Entry("cloudburst.cli.ensembles:submit"),
    "status": Entry("cloudburst.cli.status:status"),
    "show": Entry("cloudburst.cli.show:show"),
    "watch": Entry("cloudburst.cli.ensembles:watch"),
    "results": Entry("cloudburst.cli.results:results"),
    "failures": Entry("cloudburst.cli.results:failures"),
    "retry": Entry("cloudburst.cli.ensembles:retry"),
    "upgrade": Entry("cloudburst.cli.upgrade:upgrade"),
    "cancel": Entry("cloudburst.cli.ensembles:cancel"),
    "logs": Entry("cloudburst.cli.results:logs"),
    "replay": Entry("cloudburst.cli.replay:replay", "worker"),
    "audit": Entry("cloudburst.cli.audit:audit"),
    "payload": Entry("cloudburst.cli.payload:payload"),
    "stack": Entry("cloudburst.cli:stack"),
}


@click.group(
    cls=Listed,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(names.VERSION, prog_name="cloudburst", message="%(prog)s %(version)s")
@verbose_option
def cloudburst() -> None:
    """Run ensembles: one Python simulation over thousands to millions of scenarios.

    \b
    Start a stack:     ./buildstack.sh --local
    Run an ensemble:   cloudburst submit floods --payload model/ -f worker.work --jobs jobs.jsonl --watch
    See its results:   cloudburst results floods
    """


def main() -> None:
    """Entry point of ``cloudburst``."""
    prepare()
    try:
        code = cloudburst.main(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except CloudburstError as error:
        if is_verbose():
            echo(traceback.format_exc(), err=True)
        _tell(f"cloudburst: {error}", error)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        _tell("interrupted", error.__cause__ or error)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:  # such as a full disk that stdout leads to
        if is_verbose():
            echo(traceback.format_exc(), err=True)
        where = f"{error.filename}: " if error.filename else ""
        _tell(f"cloudburst: {where}{error.strerror or error}", error)
        code = CloudburstError.exit_code
    sys.exit(code)


def _tell(message: str, error: BaseException) -> None:
    """Print the message and what was noted about the error on its way here."""
    for line in (message, *getattr(error, "__notes__", ())):
        echo(line, err=True)
