"""What is printed for people: all of it passes here, and is harmless when it has."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from cloudburst.terminal import harmless


class Terminal(Console):
    """A console that prints texts as they are, without markup, and obeys nothing that stands in them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"highlight": False, "markup": False, "emoji": False} | options))

    def on_broken_pipe(self) -> None:
        """Leave it to the entry point, as every other write does."""
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(harmless(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, Text) and (shown := harmless(renderable.plain)) != renderable.plain:
            renderable = Text(shown, style=renderable.style, end=renderable.end)
        return super().render(renderable, options)


def talking() -> Terminal:
    """For what is said beside the data: on stderr, in lines that are not broken."""
    return Terminal(stderr=True, soft_wrap=True)


def echo(text: object = "", *, err: bool = False, nl: bool = True, bold: bool = False) -> None:
    """Print a text for people on stdout, or with ``err`` on stderr."""
    click.secho(harmless(str(text)), err=err, nl=nl, bold=bold or None)


def document() -> TextIO:
    """Where documents go, such as CSV: stdout, as they are for programs and files, harmless on a terminal."""
    return cast(TextIO, _Shown()) if sys.stdout.isatty() else sys.stdout


class _Shown(io.TextIOBase):
    def write(self, text: str) -> int:
        return sys.stdout.write(harmless(text))


def prepare() -> None:
    """Let stdout and stderr take any text: what their encoding does not have is shown as ``\\xe4``."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
