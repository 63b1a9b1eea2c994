"""Options and types that several commands share."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cloudburst import log, names

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 1, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|)")


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
    """A time such as ``90s``, ``15min``, ``2h``; in seconds without a unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(str(value).strip())
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is no time: use 90s, 15min or 2h", param, ctx)
        return float(match[1]) * _UNITS[match[2]]
