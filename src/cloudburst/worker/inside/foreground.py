"""Runs one job in the foreground, in the payload's own interpreter, for ``cloudburst replay``.

It is started as ``python __main__.py ORDER``, in the job's scratch directory and with the job's variables.
ORDER is a JSON file:

==============  ======================================================================
payload         directory of the payload
preload         modules that are imported before those of the payload can be found
data            job data as JSON
seed            the seed of the job's ensemble
index           the job's place in it
set_generators  whether generators of random numbers get their state from the two
debug           whether to stop at the function's first line, and where it raises
show_points     whether to print points to stderr, beside counting them
answer          where to write how it ended, as JSON
==============  ======================================================================

stdin, stdout and stderr are the user's.
"""

from __future__ import annotations

import bdb
import contextlib
import faulthandler
import inspect
import json
import os
import pdb
import re
import signal
import sys
import time
import traceback
from typing import Any, Callable, Dict, Optional

from .failures import Failure, ours
from .logs import capture
from .output import line_buffered
from .payload import Payload, find_first, preload
from .privileges import obey_modes
from .seeds import Seeds, numbered
from .stub import collect, load_results
from .values import decode, encode, plain
from .variables import put

LEFT = 130
"""Exit status when the user interrupted the job or left the debugger."""

NOT_STEPPED = ["__main__", __name__, "asyncio", "asyncio.*", "concurrent.*", "selectors", "importlib.*"]
"""Modules whose code is not what the user wants to step through."""

_MEASUREMENT = re.compile(r"(?:\\.|[^, ])*")


class Points:
    """Counts the points that the job writes, by measurement."""

    def __init__(self, show: bool) -> None:
        self.counts: Dict[str, int] = {}
        self._show = show

    def take(self, lines: str) -> None:
        """Take some lines of line protocol."""
        for line in lines.splitlines():
            match = _MEASUREMENT.match(line)
            name = match.group() if match else line
            self.counts[name] = self.counts.get(name, 0) + 1
            if self._show:
                print("point: " + line, file=sys.stderr)  # noqa: T201 (what -v asks for)


def call(function: Callable[..., Any], args: Any, kwargs: Any, debug: bool) -> Any:
    """What the function returns; with ``debug``, the user steps through it from its first line on."""
    stepping = Stepping() if debug else contextlib.nullcontext()
    if not inspect.iscoroutinefunction(function):
        with stepping:
            return function(*args, **kwargs)
    import asyncio

    async def awaited() -> Any:
        with stepping:
            return await function(*args, **kwargs)

    return asyncio.run(awaited())


class Stepping:
    """While it is entered, the debugger stops: first at the first line of what is called next."""

    def __enter__(self) -> None:
        debugger = pdb.Pdb(skip=NOT_STEPPED)
        debugger.reset()
        sys.settrace(debugger.trace_dispatch)

    def __exit__(self, *_: Any) -> None:
        sys.settrace(None)


def without_ours(error: BaseException) -> BaseException:
    """The same error; its traceback begins where the user's part does."""
    debuggers = {bdb.__file__, pdb.__file__}
    found = error.__traceback__
    while found is not None and (
        ours(found.tb_frame.f_code.co_filename) or found.tb_frame.f_code.co_filename in debuggers
    ):
        found = found.tb_next
    return error.with_traceback(found or error.__traceback__)


def run(order: Dict[str, Any], results: Any, written: str) -> Dict[str, Any]:
    """How the job ended: state, value or error; KeyboardInterrupt and BdbQuit are let through."""
    payload = Payload(order["payload"])
    points = Points(order["show_points"])
    results.install(points.take)
    started = time.perf_counter()
    answer: Dict[str, Any] = {"state": "finished", "points": points.counts}
    try:
        name, args, kwargs = decode(order["data"].encode(), False)
        seeds = Seeds(payload) if order["set_generators"] else None
        function = payload.function(name)
        if seeds is not None:
            seeds.before(order["seed"], order["index"])
        value = plain(call(function, args, kwargs, order["debug"]))
        encode(value)
        answer["value"] = value
    except (KeyboardInterrupt, bdb.BdbQuit):
        raise
    except BaseException as error:  # noqa: BLE001 (sys.exit of user code is a failure too)
        failure = Failure(without_ours(error), payload)
        answer.update(state="failed", error=failure.error, fingerprint=failure.fingerprint)
        sys.stdout.flush()
        print(failure.traceback.rstrip(), file=sys.stderr)  # noqa: T201
        if order["debug"]:
            look_around(error)
    answer["seconds"] = time.perf_counter() - started
    results.uninstall(collect(written))
    return answer


def look_around(error: BaseException) -> None:
    """Let the user look at what has been raised, in the frames where it was."""
    found: Optional[Any] = error.__traceback__
    while found is not None and ours(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    if found is not None:
        pdb.post_mortem(found)


def main() -> int:
    """The exit status: 0 when the answer tells how the job ended."""
    try:
        return _answer()
    except Exception:  # noqa: BLE001 (ours, not the user's)
        traceback.print_exc()
        return 2


def _answer() -> int:
    with open(sys.argv[1], encoding="utf-8") as file:
        order = json.load(file)
    obey_modes()
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        line_buffered(stream)
    capture()
    written = os.path.join(os.path.dirname(os.path.abspath(sys.argv[1])), "points")
    results = load_results(written)
    put("CLOUDBURST_SEED", str(numbered(order["seed"], order["index"])))
    ahead = preload(order["preload"])
    find_first(order["payload"], ahead)
    try:
        answer = run(order, results, written)
    except (KeyboardInterrupt, bdb.BdbQuit):
        return LEFT
    with open(order["answer"], "w", encoding="utf-8") as file:
        json.dump(answer, file)
    return 0
