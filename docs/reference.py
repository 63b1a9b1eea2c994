#!/usr/bin/env python3
"""Write docs/reference.md: every command's own help. `make docs` runs this; a test compares."""

from pathlib import Path

import click

from cloudburst.cli import cloudburst

HEAD = """# Reference

Every command and its options, as `--help` shows them. Made by `make docs`; do not edit.
What stock RQ clients may ask of the workers stands in [RQ features](rq.md).
"""


def text(command: click.Command, parent: click.Context | None, name: str, level: int) -> str:
    """The help of a command and of its subcommands, as Markdown."""
    context = click.Context(command, parent=parent, info_name=name, terminal_width=90, max_content_width=90)
    parts = [f"{'#' * level} {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"]
    if isinstance(command, click.Group):
        found = [(sub, command.get_command(context, sub)) for sub in command.list_commands(context)]
        parts += [text(one, context, sub, level + 1) for sub, one in found if one]
    return "\n".join(parts)


def reference() -> str:
    """All of docs/reference.md."""
    return f"{HEAD}\n{text(cloudburst, None, 'cloudburst', 2)}"


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(reference(), encoding="utf-8")
