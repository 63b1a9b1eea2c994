"""The payload's modules: they are found first, and functions are found in them and nowhere else."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import logging
import os
import sys
from typing import Any, Callable, Dict, List

WRAPPED = ("__wrapped__", "func", "py_func", "pyfunc", "__func__", "callback")
"""Where wrappers keep what they wrap: functools, numba, numpy, methods, click."""

WRAPPERS = 100
"""Around one function; more are not looked through."""


class Broken(Exception):
    """The function cannot be called at all: its module does not import, or does not have it."""


class Payload:
    """The user's modules: finds functions in them, and nowhere else."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.realpath(directory)
        self._functions: Dict[str, Callable[..., Any]] = {}

    def knows(self, name: str) -> bool:
        """Whether that function was found before, and so its module is imported."""
        return name in self._functions

    def function(self, name: str) -> Callable[..., Any]:
        """The function of that dotted name (Broken, or what its module raises while it is imported)."""
        found = self._functions.get(name)
        if found is None:
            found = self._functions[name] = self._find(name)
        return found

    def _find(self, name: str) -> Callable[..., Any]:
        parts = name.split(".")
        if len(parts) < 2:
            raise Broken("%r names no module: use module.function, such as worker.work" % name)
        if self.has("cloudburst.py") or self.has(os.path.join("cloudburst", "__init__.py")):
            raise Broken(
                "the payload has a module called cloudburst, which is the name of CloudBurst's own in jobs: "
                "rename it"
            )
        if parts[0] == "__main__":
            raise Broken("functions of __main__.py cannot be run: put them into a module of another name")
        spec = importlib.util.find_spec(parts[0])
        if spec is None:
            raise Broken("the payload has no module %r (function %r)" % (parts[0], name))
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
        if not any(place and self.contains(place) for place in places):
            raise Broken(
                "%r is not a module of the payload (function %r): only the payload's own functions are run; "
                "rename the module if it has the name of an installed one" % (parts[0], name)
            )
        module, rest = importlib.import_module(parts[0]), parts[1:]
        while len(rest) > 1 and hasattr(module, "__path__") and not hasattr(module, rest[0]):
            module, rest = importlib.import_module(module.__name__ + "." + rest[0]), rest[1:]
        if hasattr(module, "__path__") and len(rest) > 1:
            with contextlib.suppress(ModuleNotFoundError):
                module, rest = importlib.import_module(module.__name__ + "." + rest[0]), rest[1:]
        target: Any = module
        for attribute in rest:
            if not hasattr(target, attribute):
                own = (n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__)
                here = sorted(n for n in own if callable(getattr(module, n)) and not n.startswith("_"))
                raise Broken(
                    "module %r has no function %r; it has: %s"
                    % (module.__name__, ".".join(rest), ", ".join(here) or "none")
                )
            target = getattr(target, attribute)
        if not callable(target):
            raise Broken("%r is not a function but a %s" % (name, type(target).__name__))
        if not self.defines(target):
            raise Broken(
                "%r is not defined in the payload but in %r: only the payload's own functions are run; "
                "write one that calls it"
                % (name, getattr(target, "__module__", None) or type(target).__module__)
            )
        function: Callable[..., Any] = target
        return function

    def defines(self, function: Any) -> bool:
        """Whether it, or what it wraps as decorators and functools.partial do, is the payload's own code."""
        waiting: List[Any] = [function]
        seen: List[Any] = []
        while waiting and len(seen) < WRAPPERS:
            found = waiting.pop()
            if any(found is other for other in seen):
                continue
            seen.append(found)
            module = sys.modules.get(str(getattr(found, "__module__", "")))
            code = getattr(found, "__code__", None)
            for file in (getattr(module, "__file__", None), getattr(code, "co_filename", None)):
                if isinstance(file, str) and self.contains(file):
                    return True
            waiting += [getattr(found, name) for name in WRAPPED if callable(getattr(found, name, None))]
            for cell in getattr(found, "__closure__", None) or ():
                with contextlib.suppress(ValueError):  # it is empty
                    waiting += [cell.cell_contents] if callable(cell.cell_contents) else []
        return False

    def has(self, name: str) -> bool:
        """Whether a file of that relative name comes with the payload."""
        return not os.path.isabs(name) and os.path.exists(os.path.join(self.directory, name))

    def contains(self, path: str) -> bool:
        """Whether the file belongs to the payload."""
        return os.path.realpath(path).startswith(self.directory + os.sep)


def preload(modules: list[str]) -> set[str]:
    """Import modules of the environment; the names of all that came with them.

    One that cannot be imported is no error yet: the job that needs it will say so.
    """
    before = set(sys.modules)
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 (whatever a module does when it is imported)
            logging.getLogger("cloudburst").warning(
                "preload: %s cannot be imported (%s: %s)", name, type(error).__name__, error
            )
    return set(sys.modules) - before


def find_first(payload_dir: str, ahead: set[str]) -> None:
    """From now on the payload's modules are found first, also where one of that name has come ``ahead``."""
    directory = os.path.realpath(payload_dir)
    sys.argv = [os.path.join(payload_dir, "worker")]
    sys.path.insert(0, directory)
    files = {name.partition(".")[0] for name in os.listdir(directory)}
    for top in files & {name.partition(".")[0] for name in ahead}:
        spec = importlib.machinery.PathFinder.find_spec(top, [directory])
        if spec is not None and spec.origin is not None:  # a mere directory of that name hides nothing
            for name in [name for name in ahead if name.partition(".")[0] == top]:
                sys.modules.pop(name, None)
