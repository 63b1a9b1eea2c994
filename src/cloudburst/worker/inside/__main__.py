"""Start of what runs in the payload's own interpreter: ``python <this file> ARGUMENTS``.

An executor has five arguments (see ``executor``), a run in the foreground one (see ``foreground``), and the
guard of a worker none (see ``guard``).

This folder does not stay on ``sys.path``, and is a package by a name of its own: a payload may have modules
that are called as ours are, and even one that is called ``cloudburst``.
"""

import importlib.util
import os
import sys

NAME = "_cloudburst_inside"


def load() -> None:
    """Make the folder of this file importable as the package of that name."""
    folder = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        NAME, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    if spec is None or spec.loader is None:
        raise ImportError(folder)
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    del sys.path[0]
    load()
    module = {1: ".guard", 2: ".foreground"}.get(len(sys.argv), ".executor")
    begin = importlib.import_module(NAME + module)
    sys.exit(begin.main())
