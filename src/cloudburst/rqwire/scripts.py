"""The Lua scripts of ``lua/``, each with the shared prelude, called by digest."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from redis.commands.core import Script

from cloudburst.rqwire.connection import Redis


@cache
def source(name: str) -> str:
    """Text of one script: the prelude, then ``lua/<name>.lua``."""
    folder = resources.files("cloudburst.rqwire") / "lua"
    return (folder / "prelude.lua").read_text("utf-8") + (folder / f"{name}.lua").read_text("utf-8")


class Scripts:
    """Calls scripts on one connection; a Redis that forgot them is given them again."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._scripts: dict[str, Script] = {}

    def __call__(self, name: str, *args: Any) -> Any:
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self._client.register_script(source(name))
        return script(args=args)
