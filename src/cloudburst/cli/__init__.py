"""The command line."""

from __future__ import annotations

import sys

import click

from cloudburst.cli.stack import stack
from cloudburst.errors import CloudburstError


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CloudburstError as error:
            click.echo(f"cloudburst: {error}", err=True)
            sys.exit(error.exit_code)


@click.group(cls=_Group)
def main() -> None:
    """Runs ensembles: one Python simulation over thousands to millions of scenarios."""


main.add_command(stack)
