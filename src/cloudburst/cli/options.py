"""Options and types that several commands share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cloudburst import log, names
from cloudburst.pace import seconds

F = TypeVar("F", bound=Callable[..., Any])


def stack_option(command: F) -> F:
    """``--stack NAME``, passed as ``stack_name``, and ``--verbose``."""
    stack = click.option(
        "--stack",
        "stack_name",
        metavar="NAME",
        help=f"Name of the stack [default: $CLOUDBURST_STACK, else {names.LOCAL_STACK}].",
    )
    return stack(verbose_option(command))


def verbose_option(command: F) -> F:
    """``--verbose``, before the command or behind it; ``is_verbose`` tells."""
    return click.option(
        "-v", "--verbose", is_flag=True, expose_value=False, callback=_configure,
        help="Say more, and show tracebacks of errors.",
    )(command)  # fmt: skip


def is_verbose() -> bool:
    """Whether the user wants to see everything."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def _configure(_: click.Context, __: click.Parameter, verbose: bool) -> None:
    if verbose:
        log.configure(verbose=True)


class Duration(click.ParamType[float]):
    """A time such as ``90s``, ``15min``, ``1h30m``; in seconds without a unit."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero
        """Whether 0 means something."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            found = seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if found == 0 and not self._zero:
            self.fail(f"{value!r} is no time: use 90s, 15min or 2h", param, ctx)
        return found
