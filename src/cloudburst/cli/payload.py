"""``cloudburst payload``: check, pack and store what is to run."""

from __future__ import annotations

from pathlib import Path

import click

from cloudburst import archive, names
from cloudburst.cli.options import stack_option, verbose_option
from cloudburst.config import payload_settings
from cloudburst.console import echo
from cloudburst.ensemble import Stack


@click.group()
def payload() -> None:
    """Check, pack and store payloads: the code that jobs run."""


@payload.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path(names.PAYLOAD_NAME),
    show_default=True, help="The archive to write.",
)  # fmt: skip
@click.option("-f", "--function", help="Also check that this function is there, such as worker.work.")
@verbose_option
def build(directory: Path, output: Path, function: str | None) -> None:
    """Pack DIRECTORY into an archive, unless it would not run. Prints its digest.

    The same contents give the same archive.

    \b
    cloudburst payload build model/ --function worker.work
    """
    if directory.is_dir():
        payload_settings(directory)
    built = archive.build(directory, output, function=function)
    echo(f"{output}: {built.files} files, {built.size:,} bytes", err=True)
    echo(built.sha256)


@payload.command()
@click.argument("source", metavar="ZIP|DIRECTORY", type=click.Path(path_type=Path))
@click.option(
    "--as", "as_name", default=names.PAYLOAD_NAME, show_default=True, help="Its name in the file store."
)
@stack_option
def post(source: Path, as_name: str, stack_name: str | None) -> None:
    """Store a payload for jobs that stock RQ clients enqueue. Prints its digest.

    Jobs that start afterwards run it; no worker has to be restarted.

    \b
    cloudburst payload post model/
    """
    echo(Stack.connect(stack_name).post(source, as_name))


@payload.command()
@click.argument("name", metavar="[NAME]", default=names.PAYLOAD_NAME)
@stack_option
def lock(name: str, stack_name: str | None) -> None:
    """Print the Pipfile.lock of a payload: its own, or the one that was made for it.

    NAME is the payload's digest or its first 8 characters or more, a name in the file store, or an ensemble
    [default: worker.zip]. Put the lock beside the Pipfile, and the same versions are installed next time.

    \b
    cloudburst payload lock floods > model/Pipfile.lock
    """
    stack = Stack.connect(stack_name)
    digest = stack.payload(name)
    echo(f"payload {digest}", err=True)
    echo(stack.payload_lock(digest), nl=False)
