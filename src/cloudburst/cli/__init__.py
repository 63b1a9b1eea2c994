"""The command line: stdout is data, stderr is talk, errors are one line with an exit code of their own."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback

import click

from cloudburst import log, names
from cloudburst.cli.ensembles import cancel, failures, logs, results, retry, status, submit, watch
from cloudburst.cli.payload import payload
from cloudburst.cli.stack import stack
from cloudburst.errors import CloudburstError

EXIT_INTERRUPTED = 130

COMMANDS = (submit, status, watch, results, failures, retry, cancel, logs, payload, stack)


class InOrder(click.Group):
    """Lists its commands as they were added: in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(names.VERSION, prog_name="cloudburst")
@click.option("-v", "--verbose", is_flag=True, help="Say more, and show tracebacks of errors.")
def cloudburst(verbose: bool) -> None:
    """Run ensembles: one Python simulation over thousands to millions of scenarios.

    \b
    Start a stack:     ./buildstack.sh --local
    Run an ensemble:   cloudburst submit floods --payload model/ -f worker.work --jobs jobs.jsonl --watch
    See its results:   cloudburst results floods
    """
    if verbose:
        log.configure(verbose=True)


for command in COMMANDS:
    cloudburst.add_command(command)


def main() -> None:
    """Entry point of ``cloudburst``."""
    try:
        sys.exit(cloudburst.main(standalone_mode=False))
    except CloudburstError as error:
        if {"-v", "--verbose"} & set(sys.argv):
            traceback.print_exc()
        click.echo(f"cloudburst: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
