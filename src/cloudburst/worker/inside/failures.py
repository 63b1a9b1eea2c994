"""What the worker is told of an exception."""

from __future__ import annotations

import hashlib
import os
import sys
import traceback

from .advice import where_to_write
from .payload import Broken, Payload
from .values import Refused

FOLDER = os.path.dirname(os.path.abspath(__file__))


def ours(filename: str) -> bool:
    """Whether a file is part of this folder: its frames tell a user nothing."""
    return os.path.dirname(filename) == FOLDER


class Failure:
    """What the worker is told of an exception: one line, a fingerprint, the user's part of the traceback."""

    def __init__(self, error: BaseException, payload: Payload) -> None:
        self.error = _headline(error, payload)
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if payload.contains(frame.filename)]
        place = "%s:%s:%s" % (own[-1].filename, own[-1].name, own[-1].lineno) if own else str(error)
        kind = "%s.%s|" % (type(error).__module__, type(error).__qualname__)
        place = place.replace(payload.directory, "")
        self.fingerprint = hashlib.sha256((kind + place).encode("utf-8", "replace")).hexdigest()[:8]
        if isinstance(error, (Broken, Refused)):
            self.traceback = str(error)
        else:
            tb = error.__traceback__
            while tb is not None and ours(tb.tb_frame.f_code.co_filename):
                tb = tb.tb_next
            shown = tb if own else error.__traceback__
            self.traceback = "".join(traceback.format_exception(type(error), error, shown))


def _headline(error: BaseException, payload: Payload) -> str:
    text = str(error).strip().split("\n")[0][:300]
    if isinstance(error, (Broken, Refused)):
        return str(error)
    if isinstance(error, SystemExit):
        return "SystemExit: the function called sys.exit(%s); let it return or raise instead" % text
    line = "%s: %s" % (type(error).__name__, text) if text else type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name:
        return "%s: %s" % (line, _missing(error.name, error, payload))
    if isinstance(error, ImportError) and "cannot open shared object file" in text:
        return "%s: the node lacks a system library: name its package in cloudburst.toml, apt = [...]" % line
    name = getattr(error, "filename", None)
    if isinstance(error, FileNotFoundError) and isinstance(name, str) and payload.has(name):
        return "%s: each job runs in a directory of its own; open Path(__file__).parent / %r" % (line, name)
    advice = where_to_write(error, str(error), payload)
    return "%s: %s" % (line, advice) if advice else line


def _missing(module: str, error: BaseException, payload: Payload) -> str:
    """Who imports the module that is not there, and what to do about it."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
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
