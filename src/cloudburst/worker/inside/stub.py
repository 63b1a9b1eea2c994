"""The module that user code imports as ``cloudburst.results``."""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any


def load_results(path: str) -> Any:
    """The module that user code imports as ``cloudburst.results``; the package itself is not needed."""
    spec = importlib.util.spec_from_file_location("cloudburst.results", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    package = types.ModuleType("cloudburst")
    package.__path__ = []
    setattr(package, "results", module)  # noqa: B010 (a module has no such attribute to a type checker)
    sys.modules["cloudburst"] = package
    sys.modules["cloudburst.results"] = module
    spec.loader.exec_module(module)
    return module
