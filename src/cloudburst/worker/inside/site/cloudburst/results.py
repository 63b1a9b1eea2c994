"""In its place comes ``points/line.py`` of CloudBurst, which needs the standard library only."""

import importlib.util
import os
import sys

_spec = importlib.util.spec_from_file_location(
    __name__, os.path.abspath(os.path.join(__file__, *[os.pardir] * 5, "points", "line.py"))
)
if _spec is None or _spec.loader is None:
    raise ImportError("CloudBurst is not installed as it should be: %s" % __file__)
sys.modules[__name__] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[__name__])
