"""The Lua scripts of ``lua/``, each with what it shares with others, called by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from redis.exceptions import NoScriptError

from cloudburst.rqwire.connection import Redis

Call = tuple[str, Sequence[Any]]
"""Name of a script and its arguments."""

T = TypeVar("T")

Asking = Generator[Call, Any, T]
"""A call and what becomes of its reply: yields the call, is sent the reply, returns what that means."""

PARTS = {
    "claim": ("anyway", "dependents", "stock", "past"),
    "beat": ("anyway",),
    "finish": ("anyway", "dependents", "stock"),
    "give_back": ("anyway", "dependents", "stock", "foreign"),
    "reap": ("anyway", "dependents", "stock", "foreign"),
    "abandon": ("anyway", "dependents"),
    "unclaim": ("anyway", "stock"),
    "close": ("anyway", "dependents"),
    "heartbeat": ("anyway",),
    "death": ("anyway",),
    "build_take": ("anyway",),
    "build_change": ("anyway",),
    "node_wish": ("anyway",),
    "series": ("anyway",),
    "repair_job": ("stock",),
    "open": ("past",),
    "upgrade": ("past",),
}
"""What a script needs beside the prelude, and others do not."""


@cache
def source(name: str) -> str:
    """Text of one script: the prelude, the parts that it needs, then ``lua/<name>.lua``."""
    folder = resources.files("cloudburst.rqwire") / "lua"
    parts = ("prelude", *PARTS.get(name, ()), name)
    return "".join((folder / f"{part}.lua").read_text("utf-8") for part in parts)


@cache
def digest(name: str) -> str:
    """What Redis calls the script of that name."""
    return hashlib.sha1(source(name).encode()).hexdigest()  # noqa: S324 (Redis' own choice)


class Scripts:
    """Calls scripts on one connection; a Redis that forgot them is given them again."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._loaded: set[str] = set()

    def __call__(self, name: str, *args: Any) -> Any:
        """Call one script; its reply."""
        return self.together([(name, args)])[0]

    def together(self, calls: Sequence[Call]) -> list[Any]:
        """Call several in one round trip, in their order; their replies.

        Raises the first error of any, after all have been called; and what redis-py raises.
        """
        replies = self.answers(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def ask(self, *asking: Asking[Any]) -> list[Any]:
        """Several in one round trip, in their order; what each returns. Raises as ``together``."""
        replies = self.together([next(one) for one in asking])
        return [_answered(one, reply) for one, reply in zip(asking, replies, strict=True)]

    def answers(self, calls: Sequence[Call]) -> list[Any]:
        """As ``together``; a script that was refused has the error as its reply."""
        for name, _ in calls:  # otherwise those that Redis does not know yet would be called after the others
            if name not in self._loaded:
                self._client.script_load(source(name))
                self._loaded.add(name)
        with self._client.pipeline(transaction=False) as pipe:
            for name, args in calls:
                pipe.evalsha(digest(name), 0, *args)
            replies: list[Any] = pipe.execute(raise_on_error=False)
        for place, (name, args) in enumerate(calls):
            if isinstance(replies[place], NoScriptError):
                replies[place] = self._client.eval(source(name), 0, *args)
        return replies


def _answered(asking: Asking[T], reply: Any) -> T:
    try:
        asking.send(reply)
    except StopIteration as end:
        answer: T = end.value
        return answer
    raise RuntimeError("whoever asks makes one call")
