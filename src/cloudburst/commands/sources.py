"""Where packages come from: the sources of a Pipfile, with logins filled in and the mirror in place."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Source:
    """One package index. Its URL may hold a password, and stays out of ``repr``."""

    name: str
    url: str = field(repr=False)
    verify_ssl: bool = True

    @property
    def host(self) -> str:
        """Host, and port if there is one."""
        return urllib.parse.urlsplit(self.url).netloc.rpartition("@")[2]


def is_default(url: str) -> bool:
    """Whether it is the index that everybody uses who names none."""
    from pipenv.utils.internet import is_pypi_url  # takes half a second, and few need it

    return bool(is_pypi_url(url))


def sources(entries: Iterable[Mapping[str, Any]], variables: Mapping[str, str], mirror: str) -> list[Source]:
    """``[[source]]`` tables as they are to be used; ``mirror`` (unless "") stands in for the default."""
    return [
        Source(
            str(entry.get("name", "")),
            mirror if mirror and is_default(entry["url"]) else filled(entry["url"], variables),
            bool(entry.get("verify_ssl", True)),
        )
        for entry in entries
        if entry.get("url")
    ]


def filled(text: str, variables: Mapping[str, str]) -> str:
    """``text`` with values in place of ``${NAME}`` and ``$NAME``, as pipenv does it."""
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], match[0]), text)


def named(values: object) -> Iterator[str]:
    """Names of the variables in all texts of a TOML or JSON value."""
    if isinstance(values, str):
        for match in _VARIABLE.finditer(values):
            yield match[1] or match[2]
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from named(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from named(value)
