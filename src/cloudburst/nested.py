"""JSON that was stored by whoever, read and written without recursion: nothing stored is unreadable.

Lists and objects are accepted ``DEPTH_LIMIT`` deep. What others, or older versions, have stored deeper is
read with its deepest part as a text, the JSON of that part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

DEPTH_LIMIT = 100
"""Lists and objects inside of each other. Python reads about 990, fewer where a function is deep in calls."""

_FOLDED = DEPTH_LIMIT + 10
"""From here on parts are texts: a job's data holds its description three levels deep."""

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def loads(data: str | bytes) -> Any:
    """The value; ValueError when it is not JSON, or has a number of more than 4,300 digits."""
    text = data if isinstance(data, str) else data.decode()
    try:
        return json.loads(_folded(text) if text.count("[") + text.count("{") > _FOLDED else text)
    except RecursionError as error:
        raise ValueError("lists and objects that are never closed") from error


def read(data: str | bytes) -> Any:
    """The value, or where ``loads`` finds none the text as it is."""
    try:
        return loads(data)
    except ValueError:
        return data if isinstance(data, str) else data.decode(errors="backslashreplace")


def dumps(value: Any) -> str:
    """JSON of a value made of dicts, lists and scalars."""
    try:
        return json.dumps(value)
    except RecursionError:
        return "".join(_pieces(value))


def _folded(text: str) -> str:
    parts: list[str] = []
    depth = done = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == _FOLDED + 1:
                parts.append(text[done : token.start()])
                done = token.start()
        elif token[0] in "]}":
            depth -= 1
            if depth == _FOLDED:
                parts.append(json.dumps(text[done : token.end()]))
                done = token.end()
    return "".join(parts) + text[done:]


def _pieces(value: Any) -> Iterator[str]:
    """The stack holds values to be written, and tuples of one text each that is written as it is."""
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple):
            yield item[0]
        elif isinstance(item, list):
            stack.append(("]",))
            for place in range(len(item) - 1, -1, -1):
                stack += [item[place], (", " if place else "",)]
            yield "["
        elif isinstance(item, dict):
            stack.append(("}",))
            for place, (key, part) in reversed(list(enumerate(item.items()))):
                stack += [part, (f"{', ' if place else ''}{json.dumps(str(key))}: ",)]
            yield "{"
        else:
            yield json.dumps(item)
