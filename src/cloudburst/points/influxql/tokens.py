"""Cuts InfluxQL into words, names, texts, numbers, spans of time and symbols, one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn, TypeVar

from cloudburst.points.influxql.syntax import QueryError, outside

T = TypeVar("T")

NESTING_LIMIT = 100
"""Operators and parentheses of one column or condition, or subqueries: calls within calls read them."""

UNITS = {"ns": 1, "u": 10**3, "µ": 10**3, "ms": 10**6, "s": 10**9}
UNITS |= {"m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9, "w": 7 * 86_400 * 10**9}

_TOKEN = re.compile(
    r"""\s*+(?:
    (?P<span>(?>(?:[0-9]{1,19}(?:ns|ms|[uµsmhdw]))+)(?![\w.]))
    |(?P<number>(?>[0-9]{0,40}\.[0-9]{1,40}|[0-9]{1,19})(?![\w.]))
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*+)
    |"(?P<quoted>(?>(?:[^"\\\n]++|\\.)*))"
    |'(?P<text>(?>(?:[^'\\\n]++|\\.)*))'
    |(?P<symbol><=|>=|<>|!=|=~|!~|::|[-+*/%()=<>,;.])
    |(?P<end>\Z))""",
    re.VERBOSE,
)
_SPAN = re.compile("([0-9]+)([a-zµ]+)")
_ESCAPED = re.compile(r"\\(.)")


class Tokens:
    """The text from some place on. Each reading takes time in proportion to what it reads."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self.nested = 0
        self._advance()

    def at(self, *choices: str) -> bool:
        """Whether a word or symbol of these comes next."""
        return self._kind in ("word", "symbol") and self._value.upper() in choices

    def at_kind(self, *kinds: str) -> bool:
        return self._kind in kinds

    def accept(self, *choices: str) -> str:
        """Take the next word (in upper case) or symbol if it is of these, else give ""."""
        found = self._value.upper() if self.at(*choices) else ""
        if found:
            self._advance()
        return found

    def expect(self, *choices: str) -> str:
        return self.accept(*choices) or self.unexpected(" or ".join(choices))

    def name(self, wanted: str) -> str:
        """An identifier; what Grafana's editor puts behind it, ``::tag``, says nothing new."""
        if not self.at_kind("word", "quoted"):
            self.unexpected(wanted)
        name = self.text()
        if self.accept("::"):
            self.expect("TAG", "FIELD")
        return name

    def text(self) -> str:
        """What comes next, whatever it is, without the backslashes of what is quoted."""
        value = self._value
        if self._kind in ("text", "quoted"):
            value = _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], value)
        self._advance()
        return value

    def number(self) -> float:
        """An ``int`` if it has no dot."""
        sign = -1 if self.accept("-") else 1
        if not self.at_kind("number"):
            self.unexpected("a number")
        text = self.text()
        number = sign * (float(text) if "." in text else int(text))
        if isinstance(number, int) and not -(2**63) <= number < 2**63:
            raise QueryError(f"error parsing query: {number} is no integer of 64 bits")
        return number

    def span(self) -> int:
        """ns."""
        if not self.at_kind("span"):
            self.unexpected("a span of time, such as 10s")
        return sum(int(count) * UNITS[unit] for count, unit in _SPAN.findall(self.text()))

    def several(self, read: Callable[[], T]) -> list[T]:
        found = [read()]
        while self.accept(","):
            found.append(read())
        return found

    def nest(self) -> None:
        self.nested += 1
        if self.nested > NESTING_LIMIT:
            raise QueryError(f"error parsing query: more than {NESTING_LIMIT} things are in each other")

    def unexpected(self, wanted: str) -> NoReturn:
        found = "the end" if self._kind == "end" else self._value[:40]
        raise outside(f"error parsing query: found {found}, expected {wanted} at character {self._start + 1}")

    def _advance(self) -> None:
        found = _TOKEN.match(self._text, self._position)
        if found is None or found.lastgroup is None:
            rest = self._text[self._position :].strip()[:40]
            what = (
                "a text that is not closed, or a sign or number" if rest[0] in "'\"" else "a sign or number"
            )
            raise outside(f"error parsing query: found {rest}, {what} that is not known here")
        self._kind, self._value = found.lastgroup, found[found.lastgroup]
        self._start, self._position = self._position, found.end()
