"""``cloudburst stack export`` and ``import``: a stack in one file, for a colleague or another machine."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import IO

import click

from cloudburst import config
from cloudburst.cli.options import verbose_option
from cloudburst.console import echo
from cloudburst.errors import ConfigError
from cloudburst.stack import stackfile


@click.command()
@click.argument("name", metavar="STACK")
@verbose_option
def export(name: str) -> None:
    """Write what it takes to submit to a stack and to read from it to stdout, as one file.

    It holds addresses, the credentials of a client and the stack's certificate authority, and no password of
    its operator. Whoever has the file can run code on the stack: send it as you would send a password.

    \b
    cloudburst stack export swarm > floods.stack
    """
    if sys.stdout.isatty():
        raise ConfigError(
            f"the file holds passwords and would be shown: cloudburst stack export {name} > {name}.stack"
        )
    text = stackfile.exported(os.environ, name)
    _for_this_user_only()
    sys.stdout.write(text)
    if stackfile.only_here(config.endpoints(os.environ, name)):
        echo(f"stack {name} listens on this machine alone: the file is of use here only", err=True)


@click.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--name", metavar="STACK", help="Its name here [default: the one that it has there].")
@verbose_option
def import_(file: IO[bytes], name: str | None) -> None:
    """Make a stack known here from the FILE that `cloudburst stack export` wrote; - for stdin.

    \b
    cloudburst stack import floods.stack
    """
    data = file.read(stackfile.MOST_BYTES + 1)
    if len(data) > stackfile.MOST_BYTES:
        raise ConfigError(f"{file.name}: larger than the file of any stack")
    where = stackfile.imported(os.environ, data.decode("utf-8-sig", "replace"), file.name, name)
    echo(f"stack {where.stack} is known here; see it: cloudburst status --stack {where.stack}", err=True)
    echo(f'from Python: Stack.connect("{where.stack}")', err=True)


def _for_this_user_only() -> None:
    """The shell has made the file, as a rule for everybody to read."""
    with contextlib.suppress(OSError):  # a file of somebody else's, or a file system without modes
        descriptor = sys.stdout.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)
