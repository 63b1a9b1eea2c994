"""Groups of commands that are imported when they are used: a client has not what all of them need."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import click

from cloudburst import extras
from cloudburst.errors import ConfigError


class Entry(NamedTuple):
    """Where a command is, as ``module:name``, and which extra of the package it needs."""

    where: str
    extra: str = ""


class Listed(click.Group):
    """Lists its commands in the order in which they are given: that in which they are used."""

    def __init__(self, *arguments: Any, entries: Mapping[str, Entry], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.where.partition(":")
        try:
            with extras.needed(entry.extra, f"`{ctx.command_path} {cmd_name}`"):
                found: click.Command = getattr(importlib.import_module(module), name)
        except ConfigError as error:
            return _absent(cmd_name, entry.extra, error)
        return found


def _absent(name: str, extra: str, error: ConfigError) -> click.Command:
    """Takes whatever it is given, and says what is missing."""

    def refuse(**_: Any) -> NoReturn:
        raise error

    return click.Command(
        name,
        callback=refuse,
        params=[click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        add_help_option=False,
        short_help=f"(not installed here: cloudburst[{extra}])",
    )
