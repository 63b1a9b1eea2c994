"""What the worker is told of an exception: one line, a fingerprint, and a traceback.

An exception is an object of the user's: its text may be endless, its methods may raise or never return, and
its properties may lie. So it is looked at with the methods of ``BaseException`` itself, for a bounded time;
what is made of it has a bounded size; and if all else fails, its type is told.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import traceback
import types
from typing import Any, Iterator, List, Tuple

from .advice import where_to_write
from .callbacks import JobTimeoutException, time_limit
from .forks import Gone
from .frames import ERROR_LIMIT, TRACEBACK_LIMIT
from .payload import Broken, Payload
from .values import Refused

FOLDER = os.path.dirname(os.path.abspath(__file__))

DESCRIBE_S = 5.0
"""Seconds that an exception may take to say what it is."""

TEXT_CHARS = 8 * 1024
"""Of one exception's own text that are shown in the traceback, and of a child's output."""

SHOWN_FRAMES = 40
"""At each end of a traceback."""

CHAIN = 10
"""Exceptions that are shown of a chain of causes, and of a group."""

_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|[\d,]+| at [^)]*")
"""What differs between refusals of one kind."""

_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())
"""Python 3.11 brings them."""


def ours(filename: str) -> bool:
    """Whether a file is part of this folder: its frames tell a user nothing."""
    return os.path.dirname(filename) == FOLDER


def _between(filename: str) -> bool:
    """Whether it is what lies between a module of the user's and one that it imports."""
    return ours(filename) or filename == importlib.__file__ or filename.startswith("<frozen importlib.")


def clip(text: str, limit: int) -> str:
    """The text as at most that many bytes of UTF-8; of a longer one the first and the last part.

    What is no Unicode becomes escape sequences.
    """
    size = str.__len__(text)
    # Each character has a byte at least, so parts of that many characters hold what will be shown.
    first, last = (
        str.__getitem__(text, slice(0, limit)),
        str.__getitem__(text, slice(max(limit, size - limit), size)),
    )
    data, end = (part.encode("utf-8", "backslashreplace") for part in (first, last))
    if size <= limit and len(data) <= limit:
        return data.decode()
    end = data + end if size <= limit * 2 else end
    room = (limit - 40) // 2
    kept = data[:room].decode("utf-8", "ignore"), end[-room:].decode("utf-8", "ignore")
    return kept[0] + "\n... %d characters ...\n" % (size - len(kept[0]) - len(kept[1])) + kept[1]


class Failure:
    """``error``, ``fingerprint`` and ``traceback`` of an exception."""

    def __init__(self, error: BaseException, payload: Payload) -> None:
        kind = type.__dict__["__name__"].__get__(type(error))[:200]
        self.error, self.traceback = kind, "%s, of which no more can be told\n" % kind
        self.fingerprint = _digest(kind)
        for step in (self._tell, self._place, self._trace, self._head):
            with contextlib.suppress(BaseException), time_limit(DESCRIBE_S):
                step(kind, error, payload)

    def _tell(self, kind: str, error: BaseException, _payload: Payload) -> None:
        text = _text(error)
        if _by_us(error):
            self.error = self.traceback = clip(text, ERROR_LIMIT)
            self.fingerprint = _digest(kind, _VARYING.sub("", self.error))
        else:
            self.error = "%s: %s" % (kind, clip(text, 300).replace("\n", " "))

    def _place(self, kind: str, error: BaseException, payload: Payload) -> None:
        """Its kind is where it was raised, not what it says: that may differ from job to job."""
        own, stack = _frames(error, payload)
        if _by_us(error) or not stack:
            return
        last = (own or stack)[-1]
        file, name = _file(last), last.tb_frame.f_code.co_name
        where = file.replace(payload.directory, "") if own else os.path.basename(file)
        self.fingerprint = _digest(kind, where, name, "" if ours(file) else str(last.tb_lineno))

    def _trace(self, _kind: str, error: BaseException, payload: Payload) -> None:
        if not _by_us(error):
            own, stack = _frames(error, payload)
            begin = next((tb for tb in stack if not ours(_file(tb))), None) if own else None
            self.traceback = clip("".join(_chain(error, begin)), TRACEBACK_LIMIT)

    def _head(self, _kind: str, error: BaseException, payload: Payload) -> None:
        if not _by_us(error):
            self.error = clip(_headline(error, payload), ERROR_LIMIT).replace("\n", " ")


def _by_us(error: BaseException) -> bool:
    """Whether it is a refusal of ours, whose text says all there is to say."""
    return issubclass(type(error), (Broken, Gone, Refused))


def _digest(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode("utf-8", "replace")).hexdigest()[:8]


def _get(error: BaseException, name: str) -> Any:
    """An attribute that every exception has, whatever its class makes of it."""
    return BaseException.__dict__[name].__get__(error)


def _file(tb: types.TracebackType) -> str:
    return tb.tb_frame.f_code.co_filename


def _frames(error: BaseException, payload: Payload) -> Tuple[List[Any], List[Any]]:
    """Entries of its traceback, the payload's and all; the outermost first."""
    stack = []
    tb = _get(error, "__traceback__")
    while tb is not None:
        stack.append(tb)
        tb = tb.tb_next
    files = {file: payload.contains(file) for file in {_file(tb) for tb in stack}}
    return [tb for tb in stack if files[_file(tb)]], stack


def _text(error: BaseException) -> str:
    """What it says of itself."""
    try:
        return str(error)
    except JobTimeoutException:
        raise
    except BaseException as failed:  # noqa: BLE001 (a method of the user's)
        return "<its __str__ raises %s>" % type.__dict__["__name__"].__get__(type(failed))


# -- the one line ---------------------------------------------------------------------------------------


def _headline(error: BaseException, payload: Payload) -> str:
    kind = type(error)
    text = _telling(_text(error)[:TEXT_CHARS])
    if issubclass(kind, SystemExit):
        return "SystemExit: the function called sys.exit(%s); let it return or raise instead" % text
    line = "%s: %s" % (kind.__name__, text) if text else kind.__name__
    answer = _answer(error)
    for more in (answer if answer not in line else "", _last_line(_childs_output(error)[1])):
        line = "%s: %s" % (line, more) if more else line
    if isinstance(error, ModuleNotFoundError) and error.name:
        return "%s: %s" % (line, _missing(error.name, error, payload))
    if issubclass(kind, ImportError) and "cannot open shared object file" in text:
        return "%s: the node lacks a system library: name its package in cloudburst.toml, apt = [...]" % line
    name = getattr(error, "filename", None)
    if issubclass(kind, FileNotFoundError) and isinstance(name, str) and payload.has(name):
        return "%s: each job runs in a directory of its own; open Path(__file__).parent / %r" % (line, name)
    advice = where_to_write(error, str(error), payload)
    return "%s: %s" % (line, advice) if advice else line


def _telling(text: str) -> str:
    """The first line, with those after it while it is nothing but punctuation, a number or a title."""
    found = ""
    for line in text.strip().split("\n")[:20]:
        found = (found + " " + line.strip()).strip()
        if not found.endswith(":") and sum(map(str.isalpha, found)) > 2:
            break
        if found and found[0].isalnum() and not found.endswith(":"):  # a key, a code
            break
    return found[:300]


def _answer(error: BaseException) -> str:
    """What a server said, in the exceptions that clients of HTTP services raise; "" of all others."""
    body = getattr(error, "body", None)
    if body is None:
        body = getattr(getattr(error, "response", None), "text", None)
    if isinstance(body, bytes):
        body = body[:TEXT_CHARS].decode("utf-8", "replace")
    if not isinstance(body, str):
        return ""
    body = body[:TEXT_CHARS]
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(body)
        for name in ("message", "error", "detail", "error_description"):
            if isinstance(told, dict) and isinstance(told.get(name), str):
                return _telling(told[name])
    return "" if body.lstrip().startswith("<") else _telling(body)


def _childs_output(error: BaseException) -> Tuple[str, str]:
    """Which output of a child process an exception of subprocess has, and its last part."""
    if issubclass(type(error), (subprocess.CalledProcessError, subprocess.TimeoutExpired)):
        for name in ("stderr", "stdout"):
            said = getattr(error, name)
            if isinstance(said, (bytes, str)) and said.strip():
                said = said[-TEXT_CHARS:]
                return name, said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return "", ""


def _last_line(text: str) -> str:
    return text.strip().split("\n")[-1].strip()[:300]


def _missing(module: str, error: BaseException, payload: Payload) -> str:
    """Who imports the module that is not there, and what to do about it."""
    files = [_file(tb) for tb in _frames(error, payload)[1]]
    importer = next((name for name in reversed(files) if not ours(name) and not name.startswith("<")), "")
    top = module.split(".", maxsplit=1)[0]
    if module != top and top in sys.modules:
        return "the %s that is installed has none; see its version in the Pipfile.lock" % top
    advice = 'add the package that brings it to the Pipfile, such as %s = "*"' % top
    _, installed, inside = importer.rpartition(os.sep + "site-packages" + os.sep)
    if installed:
        return "%s needs %s without saying so: %s" % (inside.split(os.sep)[0].split(".")[0], top, advice)
    who = os.path.relpath(importer, payload.directory) if payload.contains(importer) else "the payload"
    return "%s imports it: %s" % (who, advice)


# -- the traceback --------------------------------------------------------------------------------------


def _chain(error: BaseException, shown: Any, depth: int = 0) -> Iterator[str]:
    """The exception as Python shows it, after what it was raised from; ``shown`` is where to begin."""
    links: List[Tuple[BaseException, str]] = []
    seen = set()
    found: Any = error
    joint = ""
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        links.append((found, joint))
        cause, context = _get(found, "__cause__"), _get(found, "__context__")
        if cause is not None:
            found, joint = cause, "The above exception was the direct cause of the following exception:"
        else:
            found = None if _get(found, "__suppress_context__") else context
            joint = "During handling of the above exception, another exception occurred:"
    for number, (link, joint) in enumerate(reversed(links)):
        left_out = len(links) - CHAIN
        if left_out > 0 and CHAIN // 2 <= number < CHAIN // 2 + left_out:
            if number == CHAIN // 2:
                yield "... %d more exceptions ...\n\n" % left_out
            continue
        tb = _get(link, "__traceback__")
        yield from _one(link, shown if link is error and shown is not None else tb, depth)
        if joint:
            yield "\n%s\n\n" % joint


def _one(error: BaseException, tb: Any, depth: int) -> Iterator[str]:
    if tb is not None:
        yield "Traceback (most recent call last):\n"
        yield from _stack(tb)
    yield from _last_part(error)
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, (list, tuple)):
        for note in notes[:CHAIN]:
            yield (
                clip(note, TEXT_CHARS // 8) if isinstance(note, str) else "<a note that is no text>"
            ) + "\n"
    name, said = _childs_output(error)
    if said:
        yield "The end of its %s:\n%s\n" % (name, said.strip())
    members = _GROUP.exceptions.__get__(error) if issubclass(type(error), _GROUP) else ()
    for member in members[:CHAIN] if depth < 3 else ():
        text = clip("".join(_chain(member, None, depth + 1)), TEXT_CHARS)
        yield "".join("  | %s\n" % line for line in text.splitlines()) + "  +---\n"
    if len(members) > CHAIN:
        yield "  | and %d more\n" % (len(members) - CHAIN)


def _stack(tb: Any) -> Iterator[str]:
    stack = []
    while tb is not None:
        stack.append(tb)
        tb = tb.tb_next
    left_out = len(stack) - 2 * SHOWN_FRAMES
    if left_out <= 0:
        parts = [traceback.extract_tb(stack[0])]
    else:
        parts = [
            traceback.extract_tb(stack[0], limit=SHOWN_FRAMES),
            traceback.extract_tb(stack[-SHOWN_FRAMES]),
        ]
    for number, part in enumerate(parts):
        if number:
            yield "  ... %d more calls ...\n" % left_out
        shown = [entry for entry in part if not _between(entry.filename)]
        for entry in traceback.StackSummary.from_list(shown or part).format():
            yield clip(entry, 2000)


def _last_part(error: BaseException) -> List[str]:
    """Its type and what it says; of a SyntaxError the place, too."""
    kind = type(error)
    if issubclass(kind, SyntaxError):
        with contextlib.suppress(Exception):
            if len(error.text or "") < TEXT_CHARS:  # type: ignore[attr-defined]
                lines = traceback.format_exception_only(kind, error)
                return [clip(line, 2000) for line in lines[:20]]
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = "%s.%s" % (kind.__module__, name)
    text = clip(_text(error), TEXT_CHARS)
    return ["%s: %s\n" % (name, text) if text else name + "\n"]
